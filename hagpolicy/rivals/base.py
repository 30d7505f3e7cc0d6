"""The interface of a rival: another way to choose a config for each prompt, judged in the same ladder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from hagpolicy.table import SweepTable


@dataclass(frozen=True)
class Chosen:
    """What a rival chose for some prompts.

    Attributes:
        indices: int64 (n,), numbers of configs in the space; -1 where it could not say, which is judged as
            the single best config of the training prompts and counted as a fallback.
        tokens: float64 (n,), tokens that choosing cost at call time, prompt and answer; None: no LLM is asked.
        seconds: float64 (n,), time that choosing took at call time; None where it was not measured.
    """

    indices: np.ndarray
    tokens: np.ndarray | None = None
    seconds: np.ndarray | None = None


class Rival(ABC):
    """Chooses a config of the table's space for each test prompt.

    Attributes:
        name: of its line in the ladder, such as "turn".
        told: what it is told that a policy is not, such as "told the task"; "" for nothing.
    """

    name: str
    told: str = ""

    @abstractmethod
    def choose(self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> Chosen:
        """Choices for the test prompts. May learn from the training rows of `values` and `table`, and must
        look at no reward of a test row.

        Args:
            table: prompts, space and samples.
            values: float64 (n_prompts, n_configs), what is to be maximised (mean reward, or another objective).
            train: bool (n_prompts,), the prompts to learn from.
            test: bool (n_prompts,), the prompts to choose for.
            seed: of everything random.
        """
