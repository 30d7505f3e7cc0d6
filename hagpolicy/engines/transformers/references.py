"""Reference answers that have a share in each next token: p = λ · kNN + (1 − λ) · LM.

A store holds, for every token of some reference answers, the state in which the frozen model was before it: what goes
into the layer that makes the logits. Where the model generates, the entries with the nearest states (squared Euclidean
distance, exactly) give a distribution over their tokens, softmax(−distance / temperature); it has a share of λ in
the next token (Khandelwal et al., arXiv 1911.00172; from a few reference answers to a task: Reference Trustable
Decoding, arXiv 2409.20181). Penalties and truncation come after it, as they come after the model's own logits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import LogitsProcessor

from hagpolicy._files import format_json, parse_json, read_regular, write_bytes, write_text
from hagpolicy.artefacts.folder import KINDS, Artefact
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import split_pin
from hagpolicy.engines.transformers.rows import find_positions
from hagpolicy.errors import EngineError

__all__ = ["CellReferences", "HeadInput", "ReferenceProcessor", "ReferenceStore", "load_stores", "mixing"]

HEAD, ENTRIES = KINDS["reference"]
FORMAT = 1
_LARGEST_HEAD = 1 << 20
# Entries that are compared at once: the distances of a batch are kept for so many.
CHUNK = 1 << 18


@dataclass(frozen=True)
class ReferenceStore:
    """The entries of some reference answers, and how they are read.

    Attributes:
        states: float32 (entries, width): the model's, before each token.
        tokens: int64 (entries,).
        neighbours: how many of the nearest entries count.
        temperature: of their distances, above 0.
    """

    states: Tensor
    tokens: Tensor
    neighbours: int
    temperature: float

    def find(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest entries of some states: squared distances less |state|², and tokens, (rows, neighbours) each.

        Args:
            hidden: float32 (rows, width).
        """
        found: tuple[Tensor, Tensor] | None = None
        for states, tokens in zip(self.states.split(CHUNK), self.tokens.split(CHUNK), strict=True):
            # |state|² is left out: the same for all entries, the softmax over them does not see it.
            distances = torch.addmm(states.square().sum(1), hidden, states.T, alpha=-2.0)
            near, at = distances.topk(min(self.neighbours, len(states)), largest=False)
            known = tokens[at]
            if found is not None:
                near, known = torch.cat([found[0], near], 1), torch.cat([found[1], known], 1)
                near, at = near.topk(min(self.neighbours, near.shape[1]), largest=False)
                known = known.gather(1, at)
            found = near, known
        assert found is not None  # a store has entries
        return found

    def mix(self, logits: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
        """float32 (rows, vocabulary): log of λ · kNN + (1 − λ) · LM.

        Args:
            logits: float (rows, vocabulary): the model's.
            hidden: float (rows, width): what they were made of.
            weight: float32 (rows, 1): λ of each.
        """
        distances, tokens = self.find(hidden.float())
        share = (-distances / self.temperature).softmax(1)
        mixed = logits.float().log_softmax(1) + torch.log1p(-weight)
        total = torch.zeros_like(mixed).scatter_add_(1, tokens, share).gather(1, tokens)
        # A token of several entries is written several times with one value.
        return mixed.scatter(1, tokens, torch.logaddexp(mixed.gather(1, tokens), total.log() + weight.log()))

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        tensors = {"states": self.states.float(), "tokens": self.tokens.to(torch.int32)}
        write_bytes(folder / ENTRIES, save({name: value.cpu().contiguous() for name, value in tensors.items()}))
        head = {"format_version": FORMAT, "neighbours": self.neighbours, "temperature": self.temperature}
        write_text(folder / HEAD, format_json(head))

    @classmethod
    def load(cls, folder: Path, device: Any = "cpu") -> ReferenceStore:
        """What `save` wrote.

        Raises:
            ValueError, KeyError, OSError: files that do not hold it.
        """
        head = parse_json(read_regular(folder / HEAD, _LARGEST_HEAD))
        tensors = load_file(folder / ENTRIES, device=str(device))
        states, tokens = tensors["states"].float(), tensors["tokens"].long()
        neighbours, temperature = int(head["neighbours"]), float(head["temperature"])
        if head["format_version"] != FORMAT or states.dim() != 2 or tokens.shape != states.shape[:1]:
            raise ValueError("another format, or arrays of other shapes")
        if not len(tokens) or neighbours < 1 or not temperature > 0.0 or int(tokens.min()) < 0:
            raise ValueError("no entries, no neighbours, no positive temperature, or a token below 0")
        return cls(states, tokens, neighbours, temperature)


def load_stores(model: Any, artefacts: Mapping[str, Artefact]) -> dict[str, ReferenceStore]:
    """The stores of some artefacts, by name, on the model's device.

    Raises:
        EngineError: one that cannot be read, or that was made with a model of another width or vocabulary.
    """
    stores = {}
    for name, artefact in artefacts.items():
        try:
            store = ReferenceStore.load(artefact.folder, model.device)
        except Exception as error:  # safetensors has error types of its own
            raise EngineError(f"the references {name!r} of {artefact.folder} cannot be read: {error}") from error
        head = model.get_output_embeddings()
        shape = None if head is None else tuple(head.weight.shape)
        if shape is None or store.states.shape[1] != shape[1] or int(store.tokens.max()) >= shape[0]:
            made = f"states of {store.states.shape[1]} numbers and tokens up to {int(store.tokens.max())}"
            raise EngineError(f"the references {name!r} of {artefact.folder} are of another model: {made}, not {shape}")
        stores[name] = store
    return stores


class HeadInput:
    """What goes into the layer that makes a model's logits; a context, in which the model is called.

    Args:
        model: a decoder of transformers.

    Attributes:
        states: float (rows, positions, width): of the last call.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.states: Tensor

    def __enter__(self) -> HeadInput:
        self._handle = self._model.get_output_embeddings().register_forward_pre_hook(self._keep)
        return self

    def __exit__(self, *_: Any) -> None:
        self._handle.remove()

    def _keep(self, module: Any, given: tuple[Tensor, ...]) -> None:
        self.states = given[0]


class CellReferences:
    """The stores that the cells of a batch are generated with, and their shares.

    Args:
        stores: by name.
        configs: (cells,): of the cells.
        device: of the batch.
    """

    def __init__(self, stores: Mapping[str, ReferenceStore], configs: Sequence[DecodingConfig], device: Any) -> None:
        names = [split_pin(config.canonical().reference)[0] for config in configs]
        used = list(dict.fromkeys(name for name in names if name))
        self._stores = [stores[name] for name in used]
        self._which = torch.tensor([used.index(name) if name else -1 for name in names], device=device)
        self._weight = torch.tensor([config.reference_weight for config in configs], device=device)

    def __bool__(self) -> bool:
        return bool(self._stores)

    def mix(self, cells: Tensor, open_: Tensor, logits: Tensor, hidden: Tensor) -> Tensor:
        """The logits of rows, written in place where a row has a store.

        Args:
            cells: int64 (rows,): the cell of each.
            open_: bool (rows,): rows that are still generated.
            logits: float32 (rows, vocabulary).
            hidden: float (rows, width): what they were made of.
        """
        which = self._which[cells].masked_fill(~open_, -1)
        for number, store in enumerate(self._stores):
            rows = find_positions(which == number)
            if len(rows):
                logits[rows] = store.mix(logits[rows], hidden[rows], self._weight[cells[rows], None])
        return logits


@contextlib.contextmanager
def mixing(model: Any, store: ReferenceStore | None, weight: float) -> Iterator[None]:
    """A context in which whatever calls the model gets logits with a store's share, `generate` with beams and drafts
    among them: at every position, and before any processor.

    Args:
        model: a decoder of transformers.
        store: None: nothing is changed.
        weight: λ.
    """
    if store is None:
        yield
        return
    with HeadInput(model) as head:

        def mix(module: Any, given: Any, out: Any) -> Any:
            logits = out.logits
            hidden = head.states[:, -logits.shape[1] :].flatten(0, 1)
            share = torch.full((len(hidden), 1), weight, device=logits.device)
            out.logits = store.mix(logits.flatten(0, 1), hidden, share).view(logits.shape)
            return out

        handle = model.register_forward_hook(mix)
        try:
            yield
        finally:
            handle.remove()


class ReferenceProcessor(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """The share of a store for transformers' own `generate(logits_processor=[…])`, beams among it; a context.

    `generate` puts a processor of the caller's behind its own repetition penalty and its ban of repeated n-grams: with
    these the engine, which mixes before, writes another text. It does not draft with it.

    Args:
        model: that generates.
        store: of the folder that `ReferenceStore.load` reads.
        weight: λ in [0, 1].
    """

    def __init__(self, model: Any, store: ReferenceStore, weight: float) -> None:
        self._store, self._weight, self._head = store, weight, HeadInput(model)

    def __enter__(self) -> ReferenceProcessor:
        self._head.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._head.__exit__(*error)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary), logits or their logarithms of probability, with the store's share."""
        share = torch.full((len(scores), 1), self._weight, device=scores.device)
        return self._store.mix(scores, self._head.states[:, -1], share)
