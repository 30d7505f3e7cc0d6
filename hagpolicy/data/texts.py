"""The answers of a table's cells, read where they are stored when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy.data.completion import UNKNOWN

__all__ = ["CellAnswer", "ScannedTexts", "Texts"]


@dataclass(frozen=True)
class CellAnswer:
    """The answer of one cell.

    Attributes:
        text: as it was generated, reasoning in tags and all.
        finish: "stop", "length" (cut at the limit) or "error".
        tokens: new tokens; NaN where they were not counted.
        reason: why it has no reward; "" where it has one.
        reasoning: what was thought, where it came apart from the text.
    """

    text: str
    finish: str = "stop"
    tokens: float = UNKNOWN
    reason: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class ScannedTexts:
    """Some answers of a table, as `Texts.scan` comes upon them.

    Attributes:
        prompts, configs, samples: int64 (n,), the cells.
        texts: n texts.
        finishes: how they ended: "stop", "length" or "error".
    """

    prompts: np.ndarray
    configs: np.ndarray
    samples: np.ndarray
    texts: Sequence[str]
    finishes: Sequence[str]


class Texts(ABC):
    """Texts of the cells of a table, indexed as its rewards are; None where a cell is not generated.

    `texts[i, j, k]` is a text; any other index of numpy gives an object array of them. What is asked for at once is
    read at once, and nothing is kept.

    Attributes:
        shape: (n_prompts, n_configs, n_samples).
    """

    shape: tuple[int, int, int]

    def __getitem__(self, index: Any) -> Any:
        found = self.read(index)
        return _text(found) if not isinstance(found, np.ndarray) else _texts(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return _texts(self.read(slice(None)))

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, index: Any) -> Any:
        """A `CellAnswer`, or None, for an index of one cell; else an object array of them.

        Raises:
            IndexError: an index outside.
            StoreError: what holds them cannot be read.
        """
        places = np.arange(int(np.prod(self.shape))).reshape(self.shape)[index]
        found = self._read(np.unravel_index(np.atleast_1d(places).ravel(), self.shape))
        if not isinstance(places, np.ndarray):
            return found[0]
        array = np.empty(places.size, dtype=object)
        array[:] = found
        return array.reshape(places.shape)

    @abstractmethod
    def scan(self) -> Iterator[ScannedTexts]:
        """All answers, each once and in any order, some at a time: for what is computed of a whole table.

        Raises:
            StoreError: what holds them cannot be read.
        """

    @abstractmethod
    def _read(self, where: tuple[np.ndarray, ...]) -> Sequence[CellAnswer | None]:
        """The answers of some cells, by their prompts, configs and samples, each int64 (n,)."""

    @abstractmethod
    def take(self, rows: np.ndarray, columns: np.ndarray) -> Texts:
        """Those of some prompts and configs, each by its numbers."""


def _text(answer: CellAnswer | None) -> str | None:
    return None if answer is None else answer.text


def _texts(answers: np.ndarray) -> np.ndarray:
    array = np.empty(answers.shape, dtype=object)
    array.ravel()[:] = [_text(answer) for answer in answers.ravel()]
    return array
