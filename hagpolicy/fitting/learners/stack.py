"""Learners that share the say by what each has shown on prompts that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hagpolicy._extras import require
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.fitting.graphs.builder import GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, find_spread, split_advantages
from hagpolicy.fitting.learners.combination import Combination

INNER_FOLDS = 3
# A part with less of the say is left out: it would cost every prediction its time.
LEAST_WEIGHT = 0.05
# A part that says next to nothing, as a share of what came, would be given all the more weight for what is noise in it.
LEAST_SAID, MOST_WEIGHT = 1e-3, 2.0


class FittedStack(FittedLearner):
    """values = means + the weighted sum of what each part says beyond the means.

    Args:
        parts: fitted on the same prompts; none where nothing was learnt.
        weights: of the parts, above 0.
        means: float64 (n_configs,).
    """

    def __init__(self, parts: Sequence[FittedLearner], weights: Sequence[float], means: np.ndarray) -> None:
        self.parts, self.weights, self.means = parts, weights, means
        self.rest = means * (1.0 - sum(weights))

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        total = np.tile(self.rest, (len(features), 1))
        for part, weight in zip(self.parts, self.weights, strict=True):
            total = total + part.predict(features) * weight
        return np.asarray(total)

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append the parts, weighted, and their sum in the same order."""
        from hagpolicy.fitting.learners.linear import Affine, take_one

        if not self.parts:
            return Affine(np.zeros((1, len(self.means))), self.means).export(graph, take_one(graph, features))
        total = graph.constant(self.rest, "rest")
        for part, weight in zip(self.parts, self.weights, strict=True):
            factor = graph.constant(float(weight), "weight", np.float64)
            total = graph.node("Add", [total, graph.node("Mul", [part.export(graph, features), factor])])
        return total


class Stack(Combination):
    """Several learners, weighted by non-negative least squares on inner folds (Breiman, *Stacked regressions*, *Machine
    Learning* 24, 1996).

    The weights follow from how well each part foretells, out of fold, by how much configs differ: a part that knows
    nothing has none, and where no part does the means are left. Their sum is not held to 1, so that what is foretold
    is neither too bold nor too shy.

    Args:
        parts: see `Combination`; None: ridge, forest and MLP.
    """

    name = "stack"
    standard = ("ridge", "forest", "mlp")

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedStack:
        """See `Learner.fit`."""
        weights = self._weigh(features, targets, groups, seed)
        kept = [(part, weight) for part, weight in zip(self.parts, weights.tolist(), strict=True) if weight]
        fitted = [part.fit(features, targets, groups, seed) for part, _ in kept]
        return FittedStack(fitted, [weight for _, weight in kept], targets.mean(axis=0))

    def _weigh(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
        """float64 (n_parts,): of each part's advantages in those that came out, each config by its inverse spread."""
        optimize = require("scipy.optimize", "fit", "the stack learner")
        none = np.zeros(len(self.parts))
        n_groups = len(np.unique(groups))
        if n_groups < 2:
            return none
        folds = assign_folds(groups, min(INNER_FOLDS, n_groups), seed)
        relative, _ = split_advantages(targets)
        said, came = np.zeros((len(self.parts), *targets.shape)), np.zeros(targets.shape)
        for fold in np.unique(folds):
            train, test = folds != fold, folds == fold
            centre = relative[train].mean(axis=0)
            came[test] = relative[test] - centre
            for number, part in enumerate(self.parts):
                found = part.fit(features[train], targets[train], groups[train], seed).predict(features[test])
                said[number, test] = split_advantages(found)[0] - centre
        spread = find_spread(relative)
        columns, wanted = (said / spread).reshape(len(self.parts), -1).T, (came / spread).ravel()
        columns[:, np.linalg.norm(columns, axis=0) < LEAST_SAID * np.linalg.norm(wanted)] = 0.0
        weights = optimize.nnls(columns, wanted)[0]
        return np.where(weights >= LEAST_WEIGHT, np.minimum(weights, MOST_WEIGHT), none)
