"""An encoder from an ONNX file and a tokenizer.json of one's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._digest import digest_bytes
from hagpolicy._files import read_regular
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.graphs.builder import FLOAT, INT64, UINT8, GraphBuilder
from hagpolicy.policy.inputs import TokenInputs
from hagpolicy.policy.tokenizer import TOKENIZER_FILE

# What exporters call the two inputs.
_IDS, _MASK = ("ids", "input_ids"), ("mask", "attention_mask")
# Parts of a tokenizer.json that a policy has no use for: it reads every typed text as text, and whole.
_UNUSED: dict[str, Any] = {
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "post_processor": None,
    "decoder": None,
}
_MOST_BYTES = 512 << 20


class OnnxEncoder(Encoder):
    """Features that an ONNX file computes from token ids.

    The graph has one or two inputs, both (batch, tokens): `ids` or `input_ids`, int64, and `mask` or
    `attention_mask`, of any type, 1 for a token and 0 for padding; and a first output, float32 (batch, n_features).
    Its operators are those that a bundle may hold (`hagpolicy.policy.graph.operators`), and the tokenizer's parts
    those of `hagpolicy.policy.tokenizer`; special and added tokens, padding and truncation are left out.

    Args:
        model: the path of the .onnx file.
        tokenizer: the path of its tokenizer.json; None: beside the model.
        name: shown in tables; None: the file's name without its ending.

    Raises:
        InvalidInput: a file that cannot be read, or a graph with other inputs.
        BundleError: a tokenizer of unknown parts.
    """

    def __init__(self, model: str | Path, tokenizer: str | Path | None = None, *, name: str | None = None) -> None:
        self.path = Path(model)
        self.name = name or self.path.stem
        self._model = _read(self.path)
        self._tokenizer = strip_tokenizer(_read(Path(tokenizer) if tokenizer else self.path.parent / TOKENIZER_FILE))
        self._inputs = TokenInputs(self._tokenizer)
        self.export(GraphBuilder())

    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """Inputs `ids` int64 and `mask` uint8, both (batch, tokens); no token is unknown. See `Encoder.export`."""
        ids = graph.input("ids", INT64, ["batch", "tokens"])
        mask = graph.input("mask", UINT8, ["batch", "tokens"])
        given: dict[str, str] = {}
        for name, dtype in self._wanted.items():
            if name in _IDS:
                given[name] = ids
            elif name in _MASK:
                given[name] = mask if dtype == UINT8 else graph.cast(mask, dtype)
        if set(given) != set(self._wanted) or not set(_IDS) & set(given):
            expected = f"the inputs {_IDS[1]} and {_MASK[1]} alone"
            raise InvalidInput(f"encoder {self.path}", expected, ", ".join(self._wanted) or "none")
        features = graph.cast(graph.include(self._model, given)[0], FLOAT)
        rows = graph.node("Shape", [features], start=0, end=1)
        return features, graph.node("ConstantOfShape", [rows])  # of float32 zeros

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """`ids` and `mask`, in the prompts' order; see `Encoder.inputs`."""
        return self._inputs.ordered(prompts)

    def spec(self) -> dict[str, Any]:
        """Name, kind of inputs and the digest of the file."""
        return {"name": self.name, "inputs": "tokens", "model": digest_bytes(self._model)}

    def files(self) -> dict[str, bytes]:
        """The tokenizer, as far as a policy uses it."""
        return {TOKENIZER_FILE: self._tokenizer}

    @cached_property
    def _wanted(self) -> dict[str, int]:
        """Type of each input of the file, by name."""
        part = GraphBuilder()._read_part(self._model)
        own = {item.name for item in part.graph.initializer}
        return {item.name: item.type.tensor_type.elem_type for item in part.graph.input if item.name not in own}


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise InvalidInput("encoder", "an .onnx file with its tokenizer.json beside it", str(error)) from error


def strip_tokenizer(data: bytes) -> bytes:
    """A tokenizer.json without the parts that a policy has no use for."""
    try:
        values = json.loads(data)
    except ValueError as error:
        raise InvalidInput(TOKENIZER_FILE, "JSON", str(error)) from error
    if not isinstance(values, dict):
        raise InvalidInput(TOKENIZER_FILE, "a JSON object", type(values).__name__)
    return json.dumps({**values, **_UNUSED}, ensure_ascii=False).encode("utf-8")
