"""`Records`: columns that only grow, found by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np


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
