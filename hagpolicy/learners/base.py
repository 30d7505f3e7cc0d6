"""The interface of a learner: embeddings to the expected reward of every config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hagpolicy.graphs.builder import GraphBuilder


class FittedLearner(ABC):
    """What a learner became on some training prompts."""

    @abstractmethod
    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs): expected rewards, from float32 features (n, n_features)."""

    @abstractmethod
    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append the nodes that compute the same from the float32 tensor `features` (batch,
        n_features); returns the name of a float64 tensor (batch, n_configs)."""


class Learner(ABC):
    """Regresses the expected reward of every config. Constructors only store arguments.

    Attributes:
        name: such as "ridge".
        carries_vectors: True when the fitted learner holds the training prompts' vectors.
    """

    name: str
    carries_vectors: bool = False

    @abstractmethod
    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        """Fit on training prompts.

        Args:
            features: float32 (n, n_features), from the exported encoder graph.
            targets: float64 (n, n_configs), mean reward over samples; complete.
            groups: int64 (n,): prompts that stay together in inner splits.
            seed: of everything random.
        """
