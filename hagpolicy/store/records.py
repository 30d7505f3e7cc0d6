"""`Records`: columns that only grow, found by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Records:
    """Records in the order they came in, with the row of each key; a later record of a key counts.

    Args:
        numbers: names of columns of numbers; None in them is NaN.
        objects: names of columns of anything else.

    Attributes:
        rows: row of the latest record of each key.
    """

    def __init__(self, numbers: Sequence[str], objects: Sequence[str] = ()) -> None:
        self.rows: dict[str, int] = {}
        self._numbers: dict[str, list[np.ndarray]] = {name: [] for name in numbers}
        self._objects: dict[str, list[Any]] = {name: [] for name in objects}
        self._length = 0

    def add(self, keys: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> None:
        """Append records: as many values in every column as there are keys."""
        self.rows.update(zip(keys, range(self._length, self._length + len(keys)), strict=True))
        self._length += len(keys)
        for name, parts in self._numbers.items():
            parts.append(np.array(columns[name], dtype=np.float64))
        for name, values in self._objects.items():
            values.extend(columns[name])

    def forget(self, keys: Sequence[str]) -> None:
        """Drop the records of some keys, known or not."""
        for key in keys:
            self.rows.pop(key, None)

    def column(self, name: str) -> np.ndarray:
        """float64 (n_records,): a column of numbers."""
        parts = self._numbers[name]
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0] if parts else np.empty(0)

    def value(self, name: str, row: int) -> Any:
        """One value of a column of objects."""
        return self._objects[name][row]

    def __len__(self) -> int:
        return self._length
