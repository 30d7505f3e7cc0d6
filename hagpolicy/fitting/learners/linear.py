"""Constant and ridge: values that are affine in the features."""

from __future__ import annotations

import numpy as np

from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.fitting.graphs.builder import DOUBLE, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner, Scaling, find_spread, split_advantages

INNER_FOLDS = 5
# Penalty per training prompt, on features of unit mean square: from "predict the mean" to almost none.
PENALTIES = np.logspace(3, -3, 19)
# Where only the directions are wanted, a middle penalty does.
PILOT_PENALTY = 0.1
# Beyond so many targets their covariance is not decomposed as a whole, which takes the cube of their number.
MANY_TARGETS = 64


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
        product = graph.node("MatMul", [graph.cast(features, DOUBLE), graph.constant(self.weights, "weights")])
        return graph.node("Add", [product, graph.constant(self.intercept, "intercept")])


class Constant(Learner):
    """The configs' mean rewards for every prompt: its policy is the single best config."""

    name = "constant"

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> Affine:
        """Take the column means of `targets` (n, n_configs)."""
        return Affine(np.zeros((features.shape[1], targets.shape[1])), targets.mean(axis=0))


class Ridge(Learner):
    """Reduced-rank ridge regression of all configs at once (Mukherjee and Zhu, *Statistical Analysis
    and Data Mining* 4, 2011).

    What prompts do to configs is mostly shared: what suits one repetition penalty suits another. So
    the fitted advantages are held to few directions across configs, each config weighed by the
    inverse of its variance, as a config drawn once is much noisier than one drawn eight times.
    Penalty and rank are chosen by cross-validation over groups inside the training prompts; the
    largest penalty leaves nothing but the means.
    """

    name = "ridge"

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> Affine:
        """See `Learner.fit`."""
        scaling = Scaling.of(features)
        X = scaling.apply(features)
        relative, level = split_advantages(targets)
        W = _reduced_rank_ridge(X, relative, groups, seed) + _reduced_rank_ridge(X, level[:, None], groups, seed)
        weights = W * scaling.factor
        return Affine(weights, targets.mean(axis=0) - scaling.centre @ weights)


def _reduced_rank_ridge(X: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """float64 (n_features, n_targets): weights on centred features, at the best penalty and rank."""
    spread = find_spread(targets)
    T = targets / spread
    folds = assign_folds(groups, min(INNER_FOLDS, len(np.unique(groups))), seed)
    explained = np.zeros((len(PENALTIES), T.shape[1]))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if train.any():
            explained += _explained(X[train], T[train], X[test], T[test])
    # Row 0 is the largest penalty, column 0 rank one: prefer the simpler among equals.
    number, rank = np.unravel_index(int(explained.argmax()), explained.shape)
    if explained[number, rank] <= 0.0:
        return np.zeros((X.shape[1], T.shape[1]))
    path = _Path(X, T)
    weights, directions = path.at(PENALTIES[number])
    kept = directions[:, : rank + 1]
    return np.asarray(path.rotation.T @ (weights @ kept @ kept.T) * spread)


def find_shared_directions(X: np.ndarray, targets: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(projection, back), float64 (n_targets, k) and (k, n_targets): directions in which prompts move configs together.

    The principal directions of a ridge fit, each config weighed by the inverse of its spread.
    `targets @ projection` are k columns within [-1, 1] that can be learned in place of all targets;
    times `back` they give the targets' predictable part.

    Args:
        X: float64 (n, n_features), centred and scaled.
        targets: float64 (n, n_targets), centred by column.
        rank: k at most.
    """
    spread = find_spread(targets)
    directions = _Path(X, targets / spread).at(PILOT_PENALTY)[1][:, :rank]
    size = np.abs((targets / spread) @ directions).max(axis=0)
    size = np.where(size > 0.0, size, 1.0)
    return directions / spread[:, None] / size, (directions * size).T * spread


class _Path:
    """Ridge fits of centred data at any penalty, from one singular value decomposition."""

    def __init__(self, X: np.ndarray, T: np.ndarray) -> None:
        self.x_mean, self.t_mean = X.mean(axis=0), T.mean(axis=0)
        u, self.s, self.rotation = np.linalg.svd(X - self.x_mean, full_matrices=False)
        self.projected = u.T @ (T - self.t_mean)
        self.n = len(X)
        rank, n_targets = self.projected.shape
        # What is fitted lies in the span of `rank` directions: with many targets only these are rotated.
        self._spanned = np.linalg.qr(self.projected.T) if n_targets > max(rank, MANY_TARGETS) else None

    def at(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights on rotated features (k, n_targets), and the fitted values' principal directions
        across targets (n_targets, n_directions), the strongest first; those left out have no weights."""
        damped = self.s**2 + penalty * self.n
        if self._spanned is not None:
            basis, coordinates = self._spanned
            directions = basis @ np.linalg.svd(coordinates * (self.s**2 / damped))[0]
        else:
            fitted = (self.s**2 / damped)[:, None] * self.projected
            directions = np.linalg.eigh(fitted.T @ fitted)[1][:, ::-1]
        return (self.s / damped)[:, None] * self.projected, directions


def _explained(X: np.ndarray, T: np.ndarray, X_test: np.ndarray, T_test: np.ndarray) -> np.ndarray:
    """float64 (n_penalties, n_targets): how much less squared error than predicting the mean, on the
    test part, for every penalty and every rank from one; a rank that the fit does not reach adds nothing."""
    path = _Path(X, T)
    rotated, centred = (X_test - path.x_mean) @ path.rotation.T, T_test - path.t_mean
    rows = []
    for penalty in PENALTIES:
        weights, directions = path.at(penalty)
        predicted = rotated @ (weights @ directions)
        # Directions are orthonormal, so each adds its own share to what is explained.
        rows.append(np.cumsum((2.0 * (centred @ directions) * predicted - predicted**2).sum(axis=0)))
    return np.pad(np.array(rows), ((0, 0), (0, T.shape[1] - len(rows[0]))), "edge")
