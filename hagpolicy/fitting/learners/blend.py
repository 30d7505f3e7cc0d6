"""The mean of what several learners predict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hagpolicy.fitting.graphs.builder import GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner
from hagpolicy.fitting.learners.combination import Combination


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


class Blend(Combination):
    """Several learners averaged: their errors differ, and nothing is paid for choosing one of them.

    An average of regressions errs no more than its parts do on average, by the spread among them (Krogh and
    Vedelsby, *Neural network ensembles, cross validation, and active learning*, NeurIPS 1994).

    Args:
        parts: see `Combination`; None: ridge, LightGBM and MLP. Nearest neighbours are not among these: they would
            carry the training prompts' vectors into every bundle.
    """

    name = "blend"
    standard = ("ridge", "lightgbm", "mlp")

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedBlend:
        """See `Learner.fit`."""
        return FittedBlend([part.fit(features, targets, groups, seed) for part in self.parts])
