"""`learner="auto"`: which learner is fitted where none is named."""

from __future__ import annotations

import numpy as np

from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.fitting.learners.blend import Blend
from hagpolicy.fitting.learners.stack import Stack

__all__ = ["Auto"]


class Auto(Learner):
    """The blend on what an encoder makes of texts, the stack on vectors that are given.

    One learner, not several that compete: in simulated worlds the mean of three gains as much as the best of four, and
    the estimate need not pay for a choice among them (benchmarks/claims/fitting/learner_choice.py). In vectors of any
    scale single columns and what they do together matter, which trees find and the blend's parts do not
    (benchmarks/claims/fitting/algorithm_selection.py); on texts the stack gains what the blend does, at several times
    its cost.
    """

    name = "auto"

    def for_features(self, *, any_scale: bool) -> Learner:
        """See `Learner.for_features`."""
        return Stack() if any_scale else Blend()

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        """The blend, where nothing is known of the features."""
        return Blend().fit(features, targets, groups, seed)
