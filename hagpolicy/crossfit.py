"""Candidates fitted on all folds but one and scored on that one, in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hagpolicy.encoders.base import Encoder
from hagpolicy.estimates import choices_of, crossfit_sbs, taken
from hagpolicy.graphs.novelty import Novelty, fit_novelty
from hagpolicy.learners.base import FittedLearner, Learner


@dataclass(frozen=True)
class Training:
    """The training prompts of one encoder as arrays; what every candidate is fitted on.

    Attributes:
        encoder: of the prompts.
        features: float32 (n_prompts, n_features), from the encoder's graph.
        unknown: float32 (n_prompts,), share of unknown tokens.
        Y: float64 (n_prompts, n_configs), mean rewards that candidates are compared by.
        targets: float64 (n_prompts, n_configs), mean rewards that learners learn from: those of `Y`
            and of the samples that were added where the choice was uncertain.
        groups: int64 (n_prompts,).
        folds: int64 (n_prompts,).
        seed: of everything random.
    """

    encoder: Encoder
    features: np.ndarray
    unknown: np.ndarray
    Y: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    seed: int

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Masks (n_prompts,) of training and test prompts, one pair a fold."""
        for fold in np.unique(self.folds):
            yield self.folds != fold, self.folds == fold

    def novelty(self, rows: np.ndarray) -> Novelty:
        """What tells prompts unlike those in `rows`, bool (n_prompts,)."""
        return fit_novelty(self.features[rows], self.unknown[rows], self.groups[rows], self.seed, self.encoder.length)

    def fitted(self, learner: Learner, rows: np.ndarray) -> FittedLearner:
        """The learner fitted on the prompts in `rows`, bool (n_prompts,)."""
        targets, Y = self.targets[rows], self.Y[rows]
        if not np.array_equal(targets, Y):
            # Added samples went where the choice was uncertain, so what they say of a config's mean is
            # skewed: they teach how prompts differ, the common samples say how good a config is.
            targets = targets - targets.mean(axis=0) + Y.mean(axis=0)
        return learner.fit(self.features[rows], targets, self.groups[rows], self.seed)

    @cached_property
    def unlike(self) -> np.ndarray:
        """bool (n_prompts,): unlike the prompts of the other folds; such a prompt falls back to SBS."""
        found = np.zeros(len(self.Y), dtype=bool)
        for train, test in self.parts():
            found[test] = self.novelty(train).score(self.features[test], self.unknown[test]) > 1.0
        return found


@dataclass(frozen=True)
class Contender:
    """A candidate before selection: out-of-fold gains over SBS, float64 (n_prompts,), and its choices."""

    training: Training
    learner: Learner
    margin: float
    gains: np.ndarray
    departs: np.ndarray

    @property
    def name(self) -> str:
        """Learner and encoder."""
        return f"{self.learner.name} on {self.training.encoder.name}"


def cross_fit(training: Training, learner: Learner, margins: Sequence[float]) -> list[Contender]:
    """One contender a margin: fitted on all folds but one, scored on that one, in turn."""
    Y = training.Y
    sbs = crossfit_sbs(Y, training.folds)
    # In float32, as the graph decides: what is evaluated is what is deployed, ties included.
    values = np.empty(Y.shape, dtype=np.float32)
    for train, test in training.parts():
        values[test] = training.fitted(learner, train).predict(training.features[test])
    found = []
    for margin in margins:
        choices = np.where(training.unlike, sbs, choices_of(values, sbs, float(np.float32(margin))))
        gains = taken(Y, choices) - taken(Y, sbs)
        found.append(Contender(training, learner, margin, gains, choices != sbs))
    return found
