"""Ends rows of a batch as soon as their text holds a string that stops them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from hagpolicy.data.stopping import find_stop

__all__ = ["StopCriterion", "StopWatch"]

# A token may hold a part of a character: so many more of them are read than the string has bytes.
MARGIN = 4


class StopWatch:
    """Looks at the last tokens of answers, as many as the longest string can have.

    Args:
        tokenizer: of the model.
        stops: the strings of each cell, (cells,); none for a cell that nothing stops.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[Sequence[str]]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._width = MARGIN + max((len(one.encode()) for stop in stops for one in stop), default=0)

    def check(self, cells: Tensor, tokens: Tensor, lengths: Tensor, open_: Tensor) -> Tensor:
        """bool (rows,): rows that are open and whose answers hold one of their strings by now.

        Args:
            cells: int64 (rows,): the cell of each row.
            tokens: int64 (cells, steps): their answers so far.
            lengths: int64 (cells,): of these.
            open_: bool (rows,): rows whose answer goes on.
        """
        found = torch.zeros_like(open_)
        rows = [row for row in open_.nonzero().squeeze(1).tolist() if self._stops[int(cells[row])]]
        if rows:
            ends = lengths[cells[rows]]
            last = [
                tokens[cell, max(end - self._width, 0) : end].tolist()
                for cell, end in zip(cells[rows].tolist(), ends.tolist(), strict=True)
            ]
            texts = self._tokenizer.batch_decode(last, skip_special_tokens=True)
            for row, text in zip(rows, texts, strict=True):
                found[row] = find_stop(text, self._stops[int(cells[row])]) >= 0
        return found


class StopCriterion(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """The same for the model's own `generate`: the strings are looked for in the answer alone, not in the prompt.

    Args:
        tokenizer: of the model.
        stop: the strings.
        width: columns of the prompt.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], width: int) -> None:
        self._tokenizer, self._stop, self._width = tokenizer, stop, width

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """bool (rows,): rows that are to end."""
        texts = self._tokenizer.batch_decode(input_ids[:, self._width :].tolist(), skip_special_tokens=True)
        return torch.tensor([find_stop(text, self._stop) >= 0 for text in texts], device=input_ids.device)
