"""Learners by name, loaded late."""

from __future__ import annotations

import difflib
import importlib

from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.learners.base import FittedLearner, Learner

__all__ = ["AUTO", "LEARNERS", "FittedLearner", "Learner", "get_learner", "get_learners"]

LEARNERS: dict[str, tuple[str, str]] = {
    "constant": ("hagpolicy.fitting.learners.linear", "Constant"),
    "ridge": ("hagpolicy.fitting.learners.linear", "Ridge"),
    "knn": ("hagpolicy.fitting.learners.neighbours", "NearestNeighbours"),
    "mlp": ("hagpolicy.fitting.learners.mlp", "Perceptron"),
    "lightgbm": ("hagpolicy.fitting.learners.trees", "BoostedTrees"),
    "blend": ("hagpolicy.fitting.learners.blend", "Blend"),
}

# One learner, not several that compete: in simulated worlds the mean of three gains as much as the best of four, and
# the estimate need not pay for a choice among them (benchmarks/claims/fitting/learner_choice.py).
AUTO = ("blend",)


def get_learner(spec: str | Learner) -> Learner:
    """A learner by its name, or the one given.

    Raises:
        InvalidInput: an unknown name, with the nearest known ones.
        MissingExtra: the learner's package is not installed.
    """
    if isinstance(spec, Learner):
        return spec
    if spec not in LEARNERS:
        near = difflib.get_close_matches(str(spec), LEARNERS, n=1)
        do = f"Did you mean {near[0]!r}?" if near else ""
        raise InvalidInput("learner", f"'auto' or one of {', '.join(LEARNERS)}", spec, do)
    module, name = LEARNERS[spec]
    learner: Learner = getattr(importlib.import_module(module), name)()
    return learner


def get_learners(spec: str | Learner | list[str | Learner]) -> list[Learner]:
    """The learners that compete: one, several, or that of "auto"."""
    if spec == "auto":
        return [get_learner(name) for name in AUTO]
    return [get_learner(item) for item in (spec if isinstance(spec, list) else [spec])]
