"""Constraints met by masks: the tokens of a row's logits that leave no way to meet its constraint are ruled out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from hagpolicy.engines.constraints.guide import Guide
from hagpolicy.engines.transformers.rows import RowSettings

__all__ = ["GuideProcessor", "RowMasks", "describe_guide"]


def describe_guide(guide: Guide) -> dict[str, str]:
    """What a receipt says of a guide: nothing where it keeps the promise."""
    return {} if guide.exact else {"constrain": f"masked without counting what remains: {guide.why}"}


class RowMasks:
    """The constraints of the cells of a batch, and how far each has come.

    Args:
        guides: (cells,): of each cell that is masked; None for the others.
        limits: (cells,): most new tokens.
    """

    def __init__(self, guides: Sequence[Guide | None], limits: Sequence[int]) -> None:
        self._guides, self._limits = guides, limits
        self._states: list[Any] = [None if guide is None else guide.start() for guide in guides]
        self._lifted: set[int] = set()

    def find(self, cells: Tensor, open_: Tensor) -> list[tuple[int, int]]:
        """(row, cell) of the rows that are open and masked.

        Args:
            cells: int64 (rows,): the cell of each row.
            open_: bool (rows,).
        """
        pairs = zip(cells.tolist(), open_.tolist(), strict=True)
        return [(row, cell) for row, (cell, is_open) in enumerate(pairs) if is_open and self._guides[cell] is not None]

    def keep(self, masked: Sequence[tuple[int, int]], settings: RowSettings, logits: Tensor) -> dict[int, Tensor]:
        """Copies of the logits of those rows, of which a ban of n-grams may leave nothing."""
        if not masked or not settings.by_ngram:
            return {}
        banned = {row for rows in settings.by_ngram.values() for row in rows.tolist()}
        return {row: logits[row].clone() for row, _ in masked if row in banned}

    def apply(
        self, masked: Sequence[tuple[int, int]], lengths: Sequence[int], logits: Tensor, kept: dict[int, Tensor]
    ) -> None:
        """Rule tokens out, in place.

        Args:
            masked: see `find`.
            lengths: (rows,): tokens of each row's answer so far.
            logits: float32 (rows, vocabulary), penalised.
            kept: what `keep` gave before: where the ban of n-grams leaves no token of the constraint, it is lifted.
        """
        for row, cell in masked:
            guide = self._guides[cell]
            assert guide is not None
            allowed = guide.allow(self._states[cell], self._limits[cell] - lengths[row])
            ruled_out = _to_ruled_out(allowed, logits)
            logits[row].masked_fill_(ruled_out, -torch.inf)
            if row in kept and bool(logits[row].amax() == -torch.inf):
                logits[row] = kept[row].masked_fill_(ruled_out, -torch.inf)
                self._lifted.add(cell)

    def advance(self, masked: Sequence[tuple[int, int]], tokens: Tensor, chosen: Tensor) -> Tensor:
        """bool (rows,): rows whose constraint is met and can go on with nothing.

        Args:
            masked: see `find`.
            tokens: int64 (rows,): chosen for each row.
            chosen: bool (rows,): whether the row goes on with it; no end tokens.
        """
        complete = torch.zeros_like(chosen)
        new, goes_on = tokens.tolist(), chosen.tolist()
        for row, cell in masked:
            guide = self._guides[cell]
            if guide is not None and goes_on[row]:
                self._states[cell] = guide.advance(self._states[cell], new[row])
                complete[row] = guide.is_complete(self._states[cell])
        return complete

    def describe(self, cell: int) -> dict[str, str]:
        """What the receipt of a cell says of its mask."""
        guide = self._guides[cell]
        lifted = {"no_repeat_ngram_size": "lifted where it left no token of the constraint"}
        return {} if guide is None else {**describe_guide(guide), **(lifted if cell in self._lifted else {})}


class GuideProcessor(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """The same for the model's own `generate`: rows of one constraint.

    Args:
        guide: of the constraint.
        width: columns of the prompts.
        limit: most new tokens.
    """

    def __init__(self, guide: Guide, width: int, limit: int) -> None:
        self._guide, self._width, self._limit = guide, width, limit
        self._states: dict[tuple[int, ...], Any] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) of the tokens that may follow the answers in `input_ids` (rows, tokens)."""
        for row, answer in enumerate(input_ids[:, self._width :].tolist()):
            remaining = self._limit - len(answer)
            if remaining < 1:
                continue
            allowed = self._guide.allow(self._find_state(tuple(answer)), remaining)
            # A beam that has no way on, or a draft that is not to be taken: what follows it counts for nothing.
            if allowed.any():
                scores[row] = scores[row].masked_fill(_to_ruled_out(allowed, scores), -torch.inf)
        return scores

    def _find_state(self, answer: tuple[int, ...]) -> Any:
        if not self._guide.exact:  # its states cannot be kept for another time
            state = self._guide.start()
            for token in answer:
                state = self._guide.advance(state, token)
            return state
        if answer not in self._states:
            before = self._find_state(answer[:-1]) if answer else None
            self._states[answer] = self._guide.advance(before, answer[-1]) if answer else self._guide.start()
        return self._states[answer]


def _to_ruled_out(allowed: np.ndarray, scores: Tensor) -> Tensor:
    """bool (vocabulary,) on the scores' device."""
    return torch.from_numpy(~allowed).to(scores.device)
