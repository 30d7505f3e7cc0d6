"""What a sweep folder stores of a cell, as rows (`CellRecord`, `ScoreRecord`) and as columns that grow (`Records`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FINISHES = ("stop", "length", "error")


def _column(kind: str, *, optional: bool = False) -> Any:
    """A field that is a column of this Arrow type in a segment; an optional one lacks in files of earlier versions."""
    return field(metadata={"arrow": kind, "optional": optional})


def _sparse_column(kind: str) -> Any:
    """An optional column that a segment has only where one of its records has a value."""
    return field(default=None, metadata={"arrow": kind, "optional": True, "sparse": True})


# Not frozen: a sweep makes millions of them, and a frozen one takes three times as long to make.
@dataclass(slots=True)
class CellRecord:
    """A generated cell as it is stored: what it is, what came back, and its first reward.

    Attributes:
        cell: its key, see `cells.compute_cell_key`.
        prompt: digest of the prompt.
        prompt_id: the caller's name for the prompt.
        task: of the prompt.
        config: digest of the config.
        max_tokens: limit on new tokens.
        sample: number of the sample, from 0.
        seed: of the cell's random stream.
        text: what was generated; "" where the engine failed.
        tokens: new tokens; None where they were not counted.
        prompt_tokens: tokens of the prompt; None where they were not counted.
        seconds: the cell's share of its unit's wall time; NaN where it was not measured.
        finish: "stop", "length" or "error".
        error: why the engine failed; None where it did not.
        reward: in [0, 1]; NaN where it cannot be scored; None where it is scored later.
        reason: why it cannot be scored.
        answer: what the scorer extracted from the text.
        scorer: identity of the scorer, such as "chrf@1"; None where it is scored later.
        answers_agree: whether equal answers of the scorer mean the same answer; None where it is scored later.
        receipt: settings that were not honoured as sent, as a JSON object.
        threads: with which it was computed; None where their number changed in its midst, or is not known.
        reasoning: what was thought, where it came apart from the text; None where nothing did.
    """

    cell: str = _column("string")
    prompt: str = _column("string")
    prompt_id: str | None = _column("string")
    task: str = _column("string")
    config: str = _column("string")
    max_tokens: int = _column("int32")
    sample: int = _column("int32")
    seed: int = _column("int64")
    text: str = _column("string")
    tokens: int | None = _column("int32")
    prompt_tokens: int | None = _column("int32")
    seconds: float = _column("float64")
    finish: str = _column("string")
    error: str | None = _column("string")
    reward: float | None = _column("float64")
    reason: str | None = _column("string")
    answer: str | None = _column("string")
    scorer: str | None = _column("string")
    answers_agree: bool | None = _column("bool_", optional=True)
    receipt: str = _column("string")
    threads: int | None = field(default=None, metadata={"arrow": "int32", "optional": True})
    reasoning: str | None = _sparse_column("string")


@dataclass(slots=True)
class ScoreRecord:
    """A reward that was computed later from a stored text; attributes as those of `CellRecord`."""

    cell: str = _column("string")
    reward: float = _column("float64")
    reason: str | None = _column("string")
    answer: str | None = _column("string")
    scorer: str = _column("string")
    answers_agree: bool = _column("bool_", optional=True)


class Records:
    """Records in the order they came in, with the row of each key; a later record of a key counts.

    Args:
        numbers: names of columns of numbers.
        texts: names of columns of texts, which most records lack.

    Attributes:
        rows: row of the latest record of each key.
    """

    def __init__(self, numbers: Sequence[str], texts: Sequence[str] = ()) -> None:
        self.rows: dict[str, int] = {}
        self._numbers: dict[str, list[np.ndarray]] = {name: [] for name in numbers}
        self._texts: dict[str, dict[int, str]] = {name: {} for name in texts}
        self._length = 0

    def add(
        self, keys: Sequence[str], numbers: Mapping[str, np.ndarray], texts: Mapping[str, Sequence[str | None]]
    ) -> None:
        """Append records: as many values in every column as there are keys; a number that is missing is NaN."""
        self.rows.update(zip(keys, range(self._length, self._length + len(keys)), strict=True))
        for name, parts in self._numbers.items():
            parts.append(np.asarray(numbers[name], dtype=np.float64))
        for name, known in self._texts.items():
            known.update((self._length + i, text) for i, text in enumerate(texts[name]) if text is not None)
        self._length += len(keys)

    def forget(self, keys: Sequence[str]) -> None:
        """Drop the records of some keys, known or not."""
        if not self.rows.keys().isdisjoint(keys):
            for key in keys:
                self.rows.pop(key, None)

    def find(self, keys: Iterable[Sequence[str]]) -> np.ndarray:
        """int64, one row for every list of keys, all of one length: the record of each key, -1 where there is none."""
        lists = list(keys)
        width = len(lists[0]) if lists else 0
        found = (self.rows.get(key, -1) for some in lists for key in some)
        return np.fromiter(found, dtype=np.int64, count=len(lists) * width).reshape(len(lists), width)

    def column(self, name: str) -> np.ndarray:
        """float64 (n_records,): a column of numbers."""
        parts = self._numbers[name]
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0] if parts else np.empty(0)

    def value(self, name: str, row: int) -> str | None:
        """One value of a column of texts."""
        return self._texts[name].get(row)

    def __len__(self) -> int:
        return self._length
