"""What an objective is: a weighted sum of heads, and a place on a dial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hagpolicy.analysis.objectives.heads import Cells, Head
from hagpolicy.data.table import SweepTable


@dataclass(frozen=True)
class Objective(ABC):
    """What is to be maximised, as a weighted sum of heads.

    Attributes:
        dial: the argument of `Policy.predict` that moves it, "price" or "n"; "" for none.
        unit: of the dial: "token" or "second" for a price, "" otherwise.
        at: where on the dial this one stands.
    """

    dial: ClassVar[str] = ""

    @property
    def unit(self) -> str:
        """What a price is paid for; "" where nothing is."""
        return ""

    @property
    def at(self) -> float:
        """Where on the dial it stands."""
        return 0.0

    @property
    @abstractmethod
    def name(self) -> str:
        """Name for people, such as "pass@4"."""

    @property
    @abstractmethod
    def written(self) -> str:
        """Text that `get_objectives` reads, such as "pass@4"."""

    @property
    @abstractmethod
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights."""

    @property
    def needs(self) -> int:
        """Scored samples that a sampled config's cell must have."""
        return max(head.needs for head, _ in self.terms)

    @property
    def splits(self) -> bool:
        """Half of the samples estimate the same as all of them, so that a split-sample VBS is a lower bound."""
        return all(head.splits for head, _ in self.terms)

    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs), NaN where there are too few samples."""
        return np.asarray(sum(weight * head.estimate(cells) for head, weight in self.terms if weight))

    def values(self, table: SweepTable) -> np.ndarray:
        """float64 (n_prompts, n_configs) of a table's common samples, NaN where there are too few.

        Raises:
            InvalidInput: the table lacks what the objective is made of.
        """
        return self.estimate(Cells.of(table, common=True))

    def __str__(self) -> str:
        return self.name
