"""The mean of what several learners predict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.graphs.builder import GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner

STANDARD = ("ridge", "mlp")


class FittedBlend(FittedLearner):
    """values = mean of the parts' values.

    Args:
        parts: at least one, fitted on the same prompts.
    """

    def __init__(self, parts: Sequence[FittedLearner]) -> None:
        self.parts = parts

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        return np.asarray(sum(part.predict(features) for part in self.parts) / len(self.parts))

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append every part, their sum in the same order, and the division."""
        total, *rest = [part.export(graph, features) for part in self.parts]
        for one in rest:
            total = graph.node("Add", [total, one])
        return graph.node("Div", [total, graph.constant(float(len(self.parts)), "parts", np.float64)])


class Blend(Learner):
    """Several learners averaged: their errors differ, and nothing is paid for choosing one of them.

    An average of regressions errs no more than its parts do on average, by the spread among them (Krogh and
    Vedelsby, *Neural network ensembles, cross validation, and active learning*, NeurIPS 1994).

    Args:
        parts: at least one, by name or as a `Learner`; None: ridge and MLP. LightGBM beside them gained
            nothing more (benchmarks/claims/fitting/text_learners.py); nearest neighbours would carry the training
            prompts' vectors into every bundle.

    Raises:
        InvalidInput: no part, or an unknown name.
    """

    name = "blend"

    def __init__(self, parts: Sequence[str | Learner] | None = None) -> None:
        from hagpolicy.fitting.learners.registry import get_learner

        self.parts = tuple(get_learner(part) for part in (STANDARD if parts is None else parts))
        if not self.parts:
            raise InvalidInput("parts", "at least one learner", "none")
        if parts is not None:
            self.name = f"{self.name} of {', '.join(part.name for part in self.parts)}"
        self.carries_vectors = any(part.carries_vectors for part in self.parts)

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedBlend:
        """See `Learner.fit`."""
        return FittedBlend([part.fit(features, targets, groups, seed) for part in self.parts])
