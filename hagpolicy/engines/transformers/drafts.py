"""Drafts from a memory of earlier answers: what followed the last two tokens most often, and so on.

The memory counts the trigrams of earlier answers (the trigram part of ADED, arXiv 2407.12021; its tree of drafts is
left out). A draft is the line of likeliest tokens behind the last two. It is verified by transformers' own assisted
generation in one forward pass, which keeps the tokens that the config itself would have written: the text stays what
it is. Where the memory knows nothing, the draft is that of prompt lookup.

A memory that was built stays as it is, so that what is measured with it does not depend on the order of the prompts;
one that grows learns from each answer it drafted for.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

__all__ = ["DraftMemory", "GrowingMemory", "drafting", "load_memories"]

HEAD, COUNTS = KINDS["draft_source"]
FORMAT = 1
_LARGEST_HEAD = 1 << 20
MOST_LEARNED = 1 << 17
"""Trigrams that a growing memory learns at most."""
# One for all memories, held for microseconds: a lock of its own could be neither copied nor pickled.
_LEARNING = threading.Lock()


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
        return _order(counted)

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
        return _draw_line(self.find_likeliest, tokens, most)

    def find_likeliest(self, pair: tuple[int, int]) -> int | None:
        """The token that followed two others most often; None where they never occurred."""
        return self._likeliest.get(pair)

    def count(self, triple: tuple[int, int, int]) -> int:
        """How often three tokens followed each other."""
        low, high = 0, len(self.trigrams)
        for column, token in enumerate(triple):
            part = self.trigrams[low:high, column]
            low, high = (low + int(np.searchsorted(part, token, side=side)) for side in ("left", "right"))
        return int(self.counts[low]) if low < high else 0

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


class GrowingMemory:
    """A memory that learns from answers while it is used, from several threads too.

    What it began with stays. Of what it learned it holds so many trigrams at most: those that no answer has had for
    longest are forgotten.

    Args:
        first: what it begins with; it is not changed.
        most: trigrams that it learns at most, at least 1.
    """

    def __init__(self, first: DraftMemory, most: int = MOST_LEARNED) -> None:
        self._first, self._most = first, most
        # Counts of what was learned, the one that was seen last at the end; the same by the two tokens before.
        self._learned: OrderedDict[tuple[int, int, int], int] = OrderedDict()
        self._followers: dict[tuple[int, int], set[int]] = {}
        self._likeliest: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        """Trigrams that it has learned and not forgotten."""
        return len(self._learned)

    def learn(self, ids: Sequence[int]) -> None:
        """Count the trigrams of an answer: token ids with those before it that are to lead to its first."""
        with _LEARNING:
            for triple in zip(ids, ids[1:], ids[2:], strict=False):
                pair = triple[:2]
                self._learned[triple] = self._learned.get(triple, 0) + 1
                self._learned.move_to_end(triple)
                self._followers.setdefault(pair, set()).add(triple[2])
                self._likeliest.pop(pair, None)
            while len(self._learned) > self._most:
                self._forget(self._learned.popitem(last=False)[0])

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """Up to so many tokens that are likely to follow, as of `DraftMemory.propose`."""
        with _LEARNING:
            return _draw_line(self._find_likeliest, tokens, most)

    def freeze(self) -> DraftMemory:
        """All that it holds, as a memory that stays as it is."""
        with _LEARNING:
            learned = dict(self._learned)
        known = zip(self._first.trigrams.tolist(), self._first.counts.tolist(), strict=True)
        return _order(Counter({(one, two, token): count for (one, two, token), count in known}) + Counter(learned))

    def _forget(self, triple: tuple[int, int, int]) -> None:
        pair = triple[:2]
        self._followers[pair].remove(triple[2])
        self._likeliest.pop(pair, None)
        if not self._followers[pair]:
            del self._followers[pair]

    def _find_likeliest(self, pair: tuple[int, int]) -> int | None:
        """The token that followed two others most often, the least id of several."""
        first = self._first.find_likeliest(pair)
        if pair not in self._followers:
            return first
        if pair not in self._likeliest:
            known = self._followers[pair] | (set() if first is None else {first})
            self._likeliest[pair] = min(known, key=lambda token: (-self._count((*pair, token)), token))
        return self._likeliest[pair]

    def _count(self, triple: tuple[int, int, int]) -> int:
        return self._learned.get(triple, 0) + self._first.count(triple)


def _draw_line(find_likeliest: Callable[[tuple[int, int]], int | None], tokens: Sequence[int], most: int) -> list[int]:
    """The likeliest tokens behind the last two, each after the one before."""
    line = list(tokens[-2:])
    if len(line) < 2:
        return []
    for _ in range(most):
        token = find_likeliest((line[-2], line[-1]))
        if token is None:
            break
        line.append(token)
    return line[2:]


def _order(counted: Mapping[tuple[int, int, int], int]) -> DraftMemory:
    """The memory of counted trigrams."""
    ordered = sorted(counted)
    trigrams = np.array(ordered, dtype=np.int32).reshape(-1, 3)
    return DraftMemory(trigrams, np.array([counted[one] for one in ordered], dtype=np.int64))


def load_memories(model: Any, artefacts: Mapping[str, Artefact]) -> dict[str, DraftMemory]:
    """The memories of some artefacts, by name.

    Args:
        model: a decoder of transformers.
        artefacts: by name.

    Raises:
        EngineError: one that cannot be read, or that has tokens which the model has not.
    """
    memories: dict[str, DraftMemory] = {}
    size = model.get_input_embeddings().weight.shape[0] if artefacts else 0
    for name, artefact in artefacts.items():
        try:
            memories[name] = DraftMemory.load(artefact.folder)
        except Exception as error:  # safetensors has error types of its own
            raise EngineError(f"the memory of drafts {name!r} of {artefact.folder} cannot be read: {error}") from error
        tokens = memories[name].trigrams
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < size:
            got = f"tokens {tokens.min()} to {tokens.max()}, where it has {size:,}"
            raise EngineError(f"the memory of drafts {name!r} of {artefact.folder} is of another model: {got}")
    return memories


class MemoryCandidates(CandidateGenerator):  # type: ignore[misc]  # transformers has no types
    """Drafts from a memory, as transformers' assisted generation asks for them.

    Args:
        lookup: transformers' own prompt lookup, which has number, limit and end tokens, and drafts where the memory
            knows nothing.
        memory: of earlier answers.
    """

    def __init__(self, lookup: Any, memory: DraftMemory | GrowingMemory) -> None:
        self._lookup, self._memory, self._written, self._begin = lookup, memory, None, -1

    def get_candidates(self, input_ids: Tensor, **given: Any) -> tuple[Tensor, Any]:
        """int64 (1, tokens and draft); no logits, so that each token of a draft is compared with the one chosen."""
        if self._begin < 0:
            self._begin = input_ids.shape[1]
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

    def update_candidate_strategy(self, input_ids: Tensor, scores: Tensor, num_matches: int) -> None:
        """Note what is written so far, after each pass."""
        self._written = input_ids

    def read_answer(self) -> list[int]:
        """Token ids of the answer behind the two before it; none where no pass was made."""
        ids: list[int] = [] if self._written is None else self._written[0, max(self._begin - 2, 0) :].tolist()
        return ids


@contextlib.contextmanager
def drafting(model: Any, memory: DraftMemory | GrowingMemory | None) -> Iterator[None]:
    """A context in which the model's own `generate`, asked to draft by prompt lookup, drafts from a memory.

    A memory that grows learns at its end from the answers that were drafted.

    Args:
        model: a decoder of transformers.
        memory: None: nothing is changed.
    """
    if memory is None:
        yield
        return
    make = model._get_candidate_generator  # transformers has no public place for a generator of one's own
    made: list[MemoryCandidates] = []

    def make_from_memory(*args: Any, **kwargs: Any) -> MemoryCandidates:
        made.append(MemoryCandidates(make(*args, **kwargs), memory))
        return made[-1]

    model._get_candidate_generator = make_from_memory
    try:
        yield
    finally:
        del model._get_candidate_generator
    if isinstance(memory, GrowingMemory):
        for one in made:
            memory.learn(one.read_answer())
