"""A small transformer as the encoder: the mean of its last hidden states, in the policy's own graph."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy._digest import digest, digest_bytes
from hagpolicy._extras import require
from hagpolicy._files import read_regular
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import HagError, InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.onnx_file import strip_tokenizer
from hagpolicy.fitting.encoders.tuning import tune_model
from hagpolicy.fitting.graphs.bert import BertWeights, append_bert
from hagpolicy.fitting.graphs.builder import FLOAT, INT64, UINT8, GraphBuilder
from hagpolicy.policy.graph.model import Graph
from hagpolicy.policy.inputs import MAX_WINDOW, WindowInputs
from hagpolicy.policy.session import open_session
from hagpolicy.policy.tokenizer import TOKENIZER_FILE

Precision = Literal["float32", "int8"]
"""Of the weights in the graph."""

# Architectures whose graph is written here, by transformers' word for them.
ARCHITECTURES = ("bert",)
_ACTIVATIONS = ("gelu", "relu")
# Largest difference from torch of a feature, as a share of the largest one; of int8 the least cosine.
TOLERANCE, LEAST_COSINE = 1e-4, 0.99
_TOKENIZER_BYTES = 32 << 20
# Read by both, when the encoder is first used; the last one is longer than any window.
_CHECKED = (".", "7", "What is 17 * 23?", "List ten birds\nthat cannot fly.", "Ünïcödé 日本語", "word and " * 1500)


@dataclass(frozen=True, eq=False)
class LoadedTransformer:
    """A transformer and its tokenizer, as far as a policy needs them.

    Attributes:
        weights: of the transformer.
        tokenizer: bytes of the tokenizer.json of a bundle.
        marks: ids of [CLS] and [SEP].
        unknown: the id of what the vocabulary does not have.
        model: the transformer in torch, in float32 on the CPU, for evaluation.
    """

    weights: BertWeights
    tokenizer: bytes
    marks: tuple[int, int]
    unknown: int
    model: Any


class TransformerEncoder(Encoder):
    """The mean of a small transformer's last hidden states over the tokens that it reads, [CLS] and [SEP] included.

    Of the BERT family, such as all-MiniLM-L6-v2, bge-small or e5-small, with a WordPiece tokenizer. Its graph is a part
    of the policy's: where that predicts, numpy, tokenizers and onnxruntime are enough. When it is first used it is
    compared with torch, which must give the same within 1e-4 of the largest feature.

    A prompt is read as by any policy (of a chat the last user message; head and tail of a very long one); of what is
    read, tokens beyond the window are left out before its last quarter.

    Args:
        source: a folder that transformers can load, with tokenizer.json, or a name on the hub.
        tuned: the transformer learns too, on the training prompts alone: in every fold of the comparison one is tuned
            anew, so that what is measured has seen nothing of the fold, and one on all prompts for what ships. With a
            few hundred prompts that takes minutes on a GPU, and hours on a CPU. See `tuning.tune_model`.
        precision: "float32"; "int8": less than a third of the size, and faster where processors multiply
            bytes.
        window: tokens that are read of a prompt at most, [CLS] and [SEP] not counted.
        revision: of a hub name; None: the newest.
        name: shown in tables; None: that of the folder or on the hub, and what was chosen above.

    Raises:
        InvalidInput: another precision, or a window that is no whole number in [1, 1024]; when it is first used,
            another architecture, a window beyond its positions, or what transformers cannot load.
        MissingExtra: when it is first used, torch or transformers is not installed.
        BundleError: when it is first used, a tokenizer of unknown parts.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        tuned: bool = False,
        precision: Precision = "float32",
        window: int = 254,
        revision: str | None = None,
        name: str | None = None,
    ) -> None:
        if precision not in get_args(Precision):
            raise InvalidInput("precision", f"one of {', '.join(get_args(Precision))}", precision)
        if not is_whole(window, 1, MAX_WINDOW):
            raise InvalidInput("window", f"a whole number in [1, {MAX_WINDOW}]", window)
        self.tuned, self.source, self.precision, self.window, self.revision = (
            tuned,
            str(source),
            precision,
            window,
            revision,
        )
        self.name = name or Path(self.source).name + " tuned" * tuned + " int8" * (precision == "int8")

    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """Inputs `ids` int64 and `mask` uint8, both (batch, tokens); see `Encoder.export`."""
        return self._append(graph, self._checked)

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """`ids` and `mask` of one prompt after the other; see `Encoder.inputs`."""
        return self._inputs.ordered(prompts)

    def spec(self) -> dict[str, Any]:
        """Name, kind of inputs, what is read of them, and the digest of the weights."""
        first, last = self._loaded.marks
        return {
            "name": self.name,
            "inputs": "window",
            "window": self.window,
            "before": [first],
            "after": [last],
            "precision": self.precision,
            "tuned": self.tuned,
            "weights": _digest_state(self._loaded.weights.state),
        }

    def files(self) -> dict[str, bytes]:
        """The tokenizer, as far as a policy uses it."""
        return {TOKENIZER_FILE: self._loaded.tokenizer}

    def exact(self) -> TransformerEncoder | None:
        """See `Encoder.exact`."""
        if self.precision == "float32":
            return None
        found = copy.copy(self)
        found.__dict__.pop("_checked", None)
        found.precision, found.name = "float32", f"{self.name} in float32"
        return found

    def tune(self, prompts: Sequence[Any], targets: np.ndarray, groups: np.ndarray, seed: int) -> TransformerEncoder:
        """The same encoder with a transformer that was tuned on n prompts; see `Encoder.tune`."""
        model, _ = tune_model(self._loaded.model, self.inputs(prompts), targets, groups, seed)
        found = copy.copy(self)
        found.__dict__.pop("_checked", None)
        weights = replace(self._loaded.weights, state=_read_state(model))
        found.__dict__["_loaded"] = replace(self._loaded, weights=weights, model=model)
        return found

    def run_torch(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """float32 (n, width): the features of n prompts as torch computes them, in float32."""
        torch = require("torch", "sweep", "a transformer encoder")
        rows = []
        with torch.inference_mode():
            for arrays in self.inputs(prompts):
                ids, mask = torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["mask"].astype(np.int64))
                states = self._loaded.model(input_ids=ids, attention_mask=mask).last_hidden_state
                rows.append(states.mean(dim=1).numpy())
        return np.concatenate(rows)

    def _append(self, graph: GraphBuilder, loaded: LoadedTransformer) -> tuple[str, str]:
        ids = graph.input("ids", INT64, ["batch", "tokens"])
        mask = graph.input("mask", UINT8, ["batch", "tokens"])
        states = append_bert(graph, loaded.weights, ids, mask, int8=self.precision == "int8")
        one = graph.constant(np.array([1]), "axis")
        share = graph.node("Unsqueeze", [graph.cast(mask, FLOAT), one])
        count = graph.node("ReduceSum", [graph.cast(mask, FLOAT), one], keepdims=1)
        sums = graph.node("Squeeze", [graph.node("MatMul", [share, states]), one])
        # [CLS] and [SEP] are no tokens of the prompt.
        marked = np.zeros((len(loaded.weights.state["embeddings.word_embeddings.weight"]), 1), dtype=np.float32)
        marked[loaded.unknown] = 1.0
        strange = graph.node("MatMul", [share, graph.node("Gather", [graph.constant(marked, "unknown"), ids])])
        own = graph.node("Sub", [count, graph.constant(np.array(len(loaded.marks), np.float32))])
        own = graph.node("Max", [own, graph.constant(np.array(1.0, np.float32))])
        axes = graph.constant(np.array([1]), "axis")
        unknown = graph.node("Squeeze", [graph.node("Div", [graph.node("Squeeze", [strange, one]), own]), axes])
        return graph.node("Div", [sums, count]), unknown

    @cached_property
    def _inputs(self) -> WindowInputs:
        (first, last) = self._loaded.marks
        return WindowInputs(self._loaded.tokenizer, self.window, [first], [last])

    @cached_property
    def _loaded(self) -> LoadedTransformer:
        loaded = load_transformer(self.source, self.revision)
        if self.window + len(loaded.marks) > loaded.weights.n_positions:
            most = loaded.weights.n_positions - len(loaded.marks)
            raise InvalidInput("window", f"at most {most} tokens, which {self.source} can tell apart", self.window)
        return loaded

    @cached_property
    def _checked(self) -> LoadedTransformer:
        """What was loaded, after its graph was compared with torch."""
        graph, prompts = GraphBuilder(), [Prompt(text) for text in _CHECKED]
        graph.output(self._append(graph, self._loaded)[0], "features", FLOAT, ["batch", "n_features"])
        model = graph.model("encoder").SerializeToString()
        session = open_session(Graph(model, self._inputs.most_tokens))
        found = np.concatenate([session.run(["features"], arrays)[0] for arrays in self.inputs(prompts)])
        check_agreement(self.name, self.precision, found, self.run_torch(prompts))
        return self._loaded


def check_agreement(name: str, precision: Precision, found: np.ndarray, expected: np.ndarray) -> None:
    """Compare a graph's features with torch's, both float32 (n, n_features).

    Raises:
        HagError: of float32, they differ by more than 1e-4 of the largest; of int8, the cosine of a prompt's features
            is below 0.99.
    """
    if precision == "float32":
        difference = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
        if not difference <= TOLERANCE:
            said = f"the graph of encoder {name} differs from torch by {difference:.2g} of its scale"
            raise HagError(f"{said}: not exported")
        return
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float(((found * expected).sum(axis=1) / np.maximum(norms, 1e-12)).min())
    if not cosine >= LEAST_COSINE:
        do = "Use precision='float32': its weights do not bear 8 bits."
        raise HagError(f"the int8 graph of encoder {name} is unlike torch, cosine {cosine:.3f}: not exported. {do}")


def load_transformer(source: str, revision: str | None = None) -> LoadedTransformer:
    """A transformer and its tokenizer, from a folder or the hub.

    Raises:
        InvalidInput: what transformers cannot load; another architecture; weights that are no safetensors.
        MissingExtra: torch or transformers is not installed.
    """
    require("torch", "sweep", "a transformer encoder")
    transformers = require("transformers", "sweep", "a transformer encoder")
    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        _check_architecture(source, config)
        # Weights in pickle could run code.
        options |= {"use_safetensors": True, "dtype": "float32", "attn_implementation": "eager"}
        model = transformers.AutoModel.from_pretrained(source, **options).eval()
        path = require("transformers.utils", "sweep", "a transformer encoder").cached_file(
            source, TOKENIZER_FILE, revision=revision
        )
        tokenizer = strip_tokenizer(read_regular(Path(path).resolve(), _TOKENIZER_BYTES))
    except InvalidInput:
        raise
    except Exception as error:  # safetensors, tokenizers and the hub's client have error types of their own
        expected = "a folder with safetensors and tokenizer.json, or a hub name, that transformers can load"
        raise InvalidInput("encoder", expected, f"{source}: {error!s:.300}") from error
    state = _read_state(model)
    sizes = config.num_hidden_layers, config.num_attention_heads
    weights = BertWeights(state, *sizes, float(config.layer_norm_eps), config.hidden_act)
    first, last, unknown = _find_marks(source, tokenizer)
    return LoadedTransformer(weights, tokenizer, (first, last), unknown, model)


def _read_state(model: Any) -> dict[str, np.ndarray]:
    """The weights that features are made with, by name."""
    parts = model.state_dict().items()
    return {name: part.numpy().copy() for name, part in parts if name.startswith(("embeddings.", "encoder."))}


def _check_architecture(source: str, config: Any) -> None:
    if config.model_type not in ARCHITECTURES:
        do = "Export it as an .onnx file, or give its vectors: PrecomputedEncoder(embed=…)."
        expected = f"an architecture of {', '.join(ARCHITECTURES)}"
        raise InvalidInput("encoder", expected, f"{config.model_type} ({source})", do)
    if config.hidden_act not in _ACTIVATIONS:
        raise InvalidInput("encoder", f"an activation of {', '.join(_ACTIVATIONS)}", f"{config.hidden_act} ({source})")
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None) or config.is_decoder:
        raise InvalidInput("encoder", "an encoder with a table of positions", source)


def _find_marks(source: str, tokenizer: bytes) -> tuple[int, int, int]:
    """The ids of [CLS], [SEP] and the unknown token."""
    model = json.loads(tokenizer).get("model", {})
    vocabulary = model.get("vocab", {})
    names = "[CLS]", "[SEP]", model.get("unk_token")
    missing = [name for name in names if not isinstance(vocabulary, Mapping) or name not in vocabulary]
    if missing:
        raise InvalidInput("encoder", f"a vocabulary with {', '.join(map(str, missing))}", source)
    first, last, unknown = (vocabulary[name] for name in names)
    return first, last, unknown


def _digest_state(state: Mapping[str, np.ndarray]) -> str:
    return digest({name: [list(part.shape), digest_bytes(part.tobytes())] for name, part in state.items()})
