"""Drafts from a memory of earlier answers: what followed the last two tokens most often, and so on.

The memory counts the trigrams of earlier answers (the trigram part of ADED, arXiv 2407.12021; its tree of drafts is
left out). A draft is the line of likeliest tokens behind the last two. It is verified by transformers' own assisted
generation in one forward pass, which keeps the tokens that the config itself would have written: the text stays what
it is. Where the memory knows nothing, the draft is that of prompt lookup.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import Tensor
from transformers.generation.candidate_generator import CandidateGenerator

from hagpolicy._files import format_json, parse_json, read_regular, write_bytes, write_text
from hagpolicy.artefacts.folder import KINDS, Artefact
from hagpolicy.errors import EngineError

__all__ = ["DraftMemory", "drafting", "load_memories"]

HEAD, COUNTS = KINDS["draft_source"]
FORMAT = 1
_LARGEST_HEAD = 1 << 20


@dataclass(frozen=True)
class DraftMemory:
    """Trigrams of earlier answers.

    Attributes:
        trigrams: int32 (n, 3): distinct, in order.
        counts: int64 (n,): how often each occurred.
    """

    trigrams: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, answers: Iterable[Sequence[int]]) -> DraftMemory:
        """The memory of some answers, each as token ids with those before it that are to lead to its first."""
        counted = Counter(triple for ids in answers for triple in zip(ids, ids[1:], ids[2:], strict=False))
        ordered = sorted(counted)
        trigrams = np.array(ordered, dtype=np.int32).reshape(-1, 3)
        return cls(trigrams, np.array([counted[one] for one in ordered], dtype=np.int64))

    @cached_property
    def _likeliest(self) -> dict[tuple[int, int], int]:
        """The token that followed two others most often, the least id of several."""
        found: dict[tuple[int, int], tuple[int, int]] = {}
        for (one, two, token), count in zip(self.trigrams.tolist(), self.counts.tolist(), strict=True):
            if count > found.get((one, two), (0, 0))[0]:
                found[one, two] = count, token
        return {pair: token for pair, (_, token) in found.items()}

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """Up to so many tokens that are likely to follow; none where the last two never occurred."""
        line = list(tokens[-2:])
        if len(line) < 2:
            return []
        for _ in range(most):
            token = self._likeliest.get((line[-2], line[-1]))
            if token is None:
                break
            line.append(token)
        return line[2:]

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        write_bytes(folder / COUNTS, save({"trigrams": self.trigrams, "counts": self.counts}))
        write_text(folder / HEAD, format_json({"format_version": FORMAT}))

    @classmethod
    def load(cls, folder: Path) -> DraftMemory:
        """What `save` wrote.

        Raises:
            ValueError, KeyError, OSError: files that do not hold it.
        """
        head = parse_json(read_regular(folder / HEAD, _LARGEST_HEAD))
        arrays = load_file(folder / COUNTS)
        trigrams, counts = arrays["trigrams"], arrays["counts"]
        if head["format_version"] != FORMAT or trigrams.ndim != 2 or trigrams.shape != (len(counts), 3):
            raise ValueError("another format, or arrays of other shapes")
        return cls(trigrams, counts)


def load_memories(artefacts: Mapping[str, Artefact]) -> dict[str, DraftMemory]:
    """The memories of some artefacts, by name.

    Raises:
        EngineError: one that cannot be read.
    """
    memories = {}
    for name, artefact in artefacts.items():
        try:
            memories[name] = DraftMemory.load(artefact.folder)
        except Exception as error:  # safetensors has error types of its own
            raise EngineError(f"the memory of drafts {name!r} of {artefact.folder} cannot be read: {error}") from error
    return memories


class MemoryCandidates(CandidateGenerator):  # type: ignore[misc]  # transformers has no types
    """Drafts from a memory, as transformers' assisted generation asks for them.

    Args:
        lookup: transformers' own prompt lookup, which has number, limit and end tokens, and drafts where the memory
            knows nothing.
        memory: of earlier answers.
    """

    def __init__(self, lookup: Any, memory: DraftMemory) -> None:
        self._lookup, self._memory = lookup, memory

    def get_candidates(self, input_ids: Tensor, **given: Any) -> tuple[Tensor, Any]:
        """int64 (1, tokens and draft); no logits, so that each token of a draft is compared with the one chosen."""
        # The pass that verifies a draft gives one token more.
        most = min(self._lookup.num_output_tokens, self._lookup.max_length - input_ids.shape[1] - 1)
        draft = self._memory.propose(input_ids[0, -2:].tolist(), most)
        ends = self._lookup.eos_token_id
        stop = [] if ends is None else torch.as_tensor(ends).reshape(-1).tolist()
        line = draft[: next((at for at, token in enumerate(draft) if token in stop), len(draft))]
        if not line:
            found: tuple[Tensor, Any] = self._lookup.get_candidates(input_ids, **given)
            return found
        return torch.cat([input_ids, input_ids.new_tensor([line])], dim=1), None


@contextlib.contextmanager
def drafting(model: Any, memory: DraftMemory | None) -> Iterator[None]:
    """A context in which the model's own `generate`, asked to draft by prompt lookup, drafts from a memory.

    Args:
        model: a decoder of transformers.
        memory: None: nothing is changed.
    """
    if memory is None:
        yield
        return
    make = model._get_candidate_generator  # transformers has no public place for a generator of one's own
    model._get_candidate_generator = lambda *args, **kwargs: MemoryCandidates(make(*args, **kwargs), memory)
    try:
        yield
    finally:
        del model._get_candidate_generator
