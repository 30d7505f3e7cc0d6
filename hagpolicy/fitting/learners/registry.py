"""Learners by name, loaded late."""

from __future__ import annotations

from hagpolicy._names import Registry
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.plugins import get_plugin

LEARNERS: Registry[type[Learner]] = Registry(
    "learner",
    {
        "auto": "hagpolicy.fitting.learners.auto:Auto",
        "constant": "hagpolicy.fitting.learners.linear:Constant",
        "ridge": "hagpolicy.fitting.learners.linear:Ridge",
        "knn": "hagpolicy.fitting.learners.neighbours:NearestNeighbours",
        "mlp": "hagpolicy.fitting.learners.mlp:Perceptron",
        "lightgbm": "hagpolicy.fitting.learners.trees:BoostedTrees",
        "forest": "hagpolicy.fitting.learners.forest:Forest",
        "blend": "hagpolicy.fitting.learners.blend:Blend",
        "rules": "hagpolicy.fitting.learners.rules:Rules",
    },
)


def get_learner(spec: str | Learner) -> Learner:
    """A learner by its name, or the one given.

    Raises:
        InvalidInput: an unknown name, with the nearest known one; or a learner without a name.
        MissingExtra: the learner's package is not installed.
    """
    return get_plugin(LEARNERS, Learner, spec)  # type: ignore[type-abstract]


def get_learners(spec: str | Learner | list[str | Learner]) -> list[Learner]:
    """The learners that compete: one, or several."""
    return [get_learner(item) for item in (spec if isinstance(spec, list) else [spec])]
