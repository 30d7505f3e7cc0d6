"""The training prompts of one encoder, and learners fitted on all of their folds but one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hagpolicy.analysis.objectives.targets import Targets
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.graphs.ood import OutOfDistribution, fit_ood
from hagpolicy.fitting.learners.base import FittedLearner, Learner


@dataclass(frozen=True, eq=False)
class Training:
    """The training prompts of one encoder as arrays; what every candidate is fitted on.

    Attributes:
        encoder: of the prompts.
        features: float32 (n_prompts, n_features), from the encoder's graph.
        unknown: float32 (n_prompts,), share of unknown tokens.
        targets: what candidates are compared by and what learners learn from, which are the common samples and
            those that were added where the choice was uncertain.
        groups: int64 (n_prompts,).
        folds: int64 (n_prompts,).
        seed: of everything random.
    """

    encoder: Encoder
    features: np.ndarray
    unknown: np.ndarray
    targets: Targets
    groups: np.ndarray
    folds: np.ndarray
    seed: int

    def split_folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Masks (n_prompts,) of training and test prompts, one pair a fold."""
        for fold in np.unique(self.folds):
            yield self.folds != fold, self.folds == fold

    def fit_ood(self, rows: np.ndarray) -> OutOfDistribution:
        """The out-of-distribution score fitted on the prompts in `rows`, bool (n_prompts,)."""
        return fit_ood(self.features[rows], self.unknown[rows], self.groups[rows], self.seed, self.encoder.length)

    def fit_heads(self, learner: Learner, rows: np.ndarray) -> dict[str, FittedLearner]:
        """The learner fitted on the prompts in `rows`, bool (n_prompts,), once for each head."""
        heads = {}
        for name, common, full in zip(self.targets.names, self.targets.common, self.targets.full, strict=True):
            shifted, Y = full[rows], common[rows]
            if not np.array_equal(shifted, Y):
                # Added samples went where the choice was uncertain, so what they say of a config's mean is
                # skewed: they teach how prompts differ, the common samples say how good a config is.
                shifted = shifted - shifted.mean(axis=0) + Y.mean(axis=0)
            heads[name] = learner.fit(self.features[rows], shifted, self.groups[rows], self.seed)
        return heads

    def predict_out_of_fold(self, learner: Learner) -> np.ndarray:
        """float32 (n_heads, n_prompts, n_configs): every prompt by a learner that has not seen its fold.

        Raises:
            InvalidInput: the learner predicts what is no finite number for each prompt and config.
        """
        found = np.empty(self.targets.common.shape, dtype=np.float32)
        for train, test in self.split_folds():
            for number, head in enumerate(self.fit_heads(learner, train).values()):
                predicted = head.predict(self.features[test])
                _check(learner, predicted, found[number, test].shape)
                found[number, test] = predicted
        return found

    @cached_property
    def out_of_distribution(self) -> np.ndarray:
        """bool (n_prompts,): unlike the prompts of the other folds; such a prompt falls back to SBS."""
        found = np.zeros(len(self.features), dtype=bool)
        for train, test in self.split_folds():
            found[test] = self.fit_ood(train).score(self.features[test], self.unknown[test]) > 1.0
        return found


def _check(learner: Learner, predicted: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse predictions that are no finite number for each prompt and config."""
    name = f"predictions of learner {learner.name}"
    if np.shape(predicted) != shape:
        raise InvalidInput(name, f"shape {shape}, a row a prompt and a column a config", f"shape {np.shape(predicted)}")
    if not np.isfinite(predicted).all():
        raise InvalidInput(name, "finite numbers", "NaN or infinity")
