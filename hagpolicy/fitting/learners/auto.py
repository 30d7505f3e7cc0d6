"""`learner="auto"`: which learners are fitted where none is named."""

from __future__ import annotations

import numpy as np

from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.fitting.learners.blend import Blend
from hagpolicy.fitting.learners.forest import Forest
from hagpolicy.fitting.learners.linear import Ridge

__all__ = ["Auto"]


class Auto(Learner):
    """The blend on what an encoder makes of texts; on vectors that are given, ridge and a forest that compete.

    On texts one learner: a mean gains as much as the best of those that compete, and the estimate need not pay for a
    choice among them (benchmarks/claims/fitting/learner_choice.py; of which parts: text_learners.py, where
    MLP adds to ridge on real sweeps and takes a little from it in worlds made for few directions). In vectors of any
    scale either single columns matter and what they do together, which a forest finds (algorithm_selection.py there),
    or all of them together, as in an embedding, which ridge does.
    """

    name = "auto"

    def for_features(self, *, any_scale: bool) -> list[Learner]:
        """See `Learner.for_features`."""
        return [Ridge(), Forest()] if any_scale else [Blend()]

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        """The blend, where nothing is known of the features."""
        return Blend().fit(features, targets, groups, seed)
