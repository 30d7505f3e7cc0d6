"""The interface of a learner: embeddings to the expected reward of every config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from hagpolicy.fitting.graphs.builder import GraphBuilder


class FittedLearner(ABC):
    """What a learner became on some training prompts."""

    @abstractmethod
    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs): expected rewards, from float32 features (n, n_features)."""

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append the nodes that compute the same from the float32 tensor `features` (batch,
        n_features); returns the name of a float64 tensor (batch, n_configs).

        Without it the learner is compared and never ships; its class says so by `exports = False`.
        """
        raise NotImplementedError


class Learner(ABC):
    """Regresses the expected reward of every config. Constructors only store arguments.

    Attributes:
        name: such as "ridge".
        exports: what it becomes has an `export`; False: it is compared with the others and never ships.
        carries_vectors: True when the fitted learner holds the training prompts' vectors.
    """

    name: str
    exports: bool = True
    carries_vectors: bool = False

    def for_features(self, *, any_scale: bool) -> list[Learner]:
        """The learners that are fitted on some features: this one, but for one that depends on what they are.

        Args:
            any_scale: whether they are vectors in units of any kind, see `Encoder`.
        """
        return [self]

    @abstractmethod
    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        """Fit on training prompts.

        Args:
            features: float32 (n, n_features), from the exported encoder graph.
            targets: float64 (n, n_configs), mean reward over samples; complete.
            groups: int64 (n,): prompts that stay together in inner splits.
            seed: of everything random.
        """


def split_advantages(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets (n, n_configs) without their row means, and the row means (n,).

    The row mean is the prompt's difficulty: it is most of the variance and says nothing about which
    config to choose, so it is predicted apart.
    """
    level = targets.mean(axis=1)
    return targets - level[:, None], level


def find_spread(targets: np.ndarray) -> np.ndarray:
    """float64 (n_targets,): standard deviations of targets (n, n_targets), none far below the usual one, never 0."""
    spread = targets.std(axis=0)
    usual = float(np.median(spread))
    return np.maximum(spread, 0.1 * usual) if usual > 0.0 else np.ones_like(spread)


@dataclass(frozen=True)
class Scaling:
    """Centres the features and brings them to unit mean square, all columns by one factor.

    One factor, because the columns' relative sizes are the encoder's knowledge of what matters.
    """

    centre: np.ndarray
    factor: float

    @classmethod
    def of(cls, features: np.ndarray) -> Scaling:
        """From training features (n, n_features)."""
        wide = features.astype(np.float64)
        centre = wide.mean(axis=0)
        spread = float(np.sqrt(((wide - centre) ** 2).mean()))
        return cls(centre, 1.0 / spread if spread > 0.0 else 1.0)

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_features)."""
        return np.asarray((features.astype(np.float64) - self.centre) * self.factor)
