"""Constant and ridge: values that are affine in the features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hagpolicy.learners.base import FittedLearner, Learner, Scaling, advantages

if TYPE_CHECKING:
    from hagpolicy.graphs.builder import GraphBuilder

INNER_FOLDS = 5
# Penalty per training prompt, on features of unit mean square: from almost none to "predict the mean".
PENALTIES = np.logspace(-4, 4, 25)


class Affine(FittedLearner):
    """values = features @ weights + intercept, in float64.

    Args:
        weights: float64 (n_features, n_configs).
        intercept: float64 (n_configs,).
    """

    def __init__(self, weights: np.ndarray, intercept: np.ndarray) -> None:
        self.weights = weights
        self.intercept = intercept

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        return np.asarray(features.astype(np.float64) @ self.weights + self.intercept)

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append cast, product and sum in float64."""
        from hagpolicy.graphs.builder import DOUBLE

        product = graph.node("MatMul", [graph.cast(features, DOUBLE), graph.constant(self.weights, "weights")])
        return graph.node("Add", [product, graph.constant(self.intercept, "intercept")])


class Constant(Learner):
    """The configs' mean rewards for every prompt: its policy is the single best config."""

    name = "constant"

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> Affine:
        """Take the column means of `targets` (n, n_configs)."""
        return Affine(np.zeros((features.shape[1], targets.shape[1])), targets.mean(axis=0))


class Ridge(Learner):
    """Ridge regression (Hoerl and Kennard, *Technometrics* 12, 1970) of all configs at once.

    One penalty for all advantages and one for the row mean, each chosen by cross-validation over
    groups inside the training prompts; the largest one leaves nothing but the means.
    """

    name = "ridge"

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> Affine:
        """See `Learner.fit`."""
        scaling = Scaling.of(features)
        X = scaling.apply(features)
        relative, level = advantages(targets)
        W = _ridge(X, relative, groups, seed) + _ridge(X, level[:, None], groups, seed)
        intercept = targets.mean(axis=0)
        weights = W * scaling.factor
        return Affine(weights, intercept - scaling.centre @ weights)


def _ridge(X: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """float64 (n_features, n_targets): weights on centred features, at the best penalty."""
    from hagpolicy.estimates import fold_numbers

    folds = fold_numbers(groups, min(INNER_FOLDS, len(np.unique(groups))), seed)
    error = np.zeros(len(PENALTIES))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if not train.any():
            continue
        x_mean, t_mean = X[train].mean(axis=0), targets[train].mean(axis=0)
        u, s, v = np.linalg.svd(X[train] - x_mean, full_matrices=False)
        projected = u.T @ (targets[train] - t_mean)
        rotated = (X[test] - x_mean) @ v.T
        for number, penalty in enumerate(PENALTIES * int(train.sum())):
            fitted = rotated @ ((s / (s**2 + penalty))[:, None] * projected)
            error[number] += ((targets[test] - t_mean - fitted) ** 2).sum()
    # The largest penalty among equals: prefer to predict the mean.
    best = PENALTIES[::-1][int(error[::-1].argmin())] * len(X)
    u, s, v = np.linalg.svd(X, full_matrices=False)
    weights: np.ndarray = v.T @ ((s / (s**2 + best))[:, None] * (u.T @ (targets - targets.mean(axis=0))))
    return weights
