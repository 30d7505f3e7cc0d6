"""Learners of texts that were tried in place of the package's, and are in none of its policies.

What they gain is told by `benchmarks/claims/fitting/text_learners.py`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.fitting.learners.base import FittedLearner, Learner, Scaling, split_advantages
from hagpolicy.fitting.learners.linear import PENALTIES

INNER_FOLDS = 3


class FittedLogits(FittedLearner):
    """values = 1 / (1 + exp(−(features @ weights + intercept))) + shift.

    Args:
        scaling: of the features.
        weights: float64 (n_features + 1, n_configs), the intercept last.
        shift: float64 (n_configs,), which gives the configs their means.
    """

    def __init__(self, scaling: Scaling, weights: np.ndarray, shift: np.ndarray | float = 0.0) -> None:
        self.scaling, self.weights, self.shift = scaling, weights, shift

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        logits = self.scaling.apply(features) @ self.weights[:-1] + self.weights[-1]
        return np.asarray(1.0 / (1.0 + np.exp(-logits)) + self.shift)


class Binomial(Learner):
    """Logits linear in the features; what all configs share and what they differ by have penalties of their own."""

    name, exports = "binomial", False

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLogits:
        """See `Learner.fit`; targets in [0, 1]."""
        scaling = Scaling.of(features)
        X, folds = scaling.apply(features), assign_folds(groups, INNER_FOLDS, seed)
        steps = np.logspace(0.0, -2.5, 6)
        level = min(steps, key=lambda one: _score_logits(X, targets, folds, 30.0, one))
        apart = min([30.0, *steps], key=lambda one: _score_logits(X, targets, folds, one, level))
        fitted = FittedLogits(scaling, _fit_logits(X, targets, apart, level))
        return FittedLogits(scaling, fitted.weights, (targets - fitted.predict(features)).mean(axis=0))


def _score_logits(X: np.ndarray, Y: np.ndarray, folds: np.ndarray, apart: float, level: float) -> float:
    """Negative log-likelihood on the folds left out, summed."""
    total = 0.0
    for fold in np.unique(folds):
        weights = _fit_logits(X[folds != fold], Y[folds != fold], apart, level)
        logits = X[folds == fold] @ weights[:-1] + weights[-1]
        total += float((np.logaddexp(0.0, logits) - Y[folds == fold] * logits).sum())
    return total


def _fit_logits(X: np.ndarray, Y: np.ndarray, apart: float, level: float) -> np.ndarray:
    """float64 (n_features + 1, n_configs): weights of the least penalised loss, the intercept last."""
    n_features, n_configs = X.shape[1], Y.shape[1]

    def lose(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(n_features + 1, n_configs)
        logits = X @ weights[:-1] + weights[-1]
        shared = weights[:-1].mean(axis=1, keepdims=True)
        own = weights[:-1] - shared
        loss = (np.logaddexp(0.0, logits) - Y * logits).sum() / Y.size
        loss += 0.5 * (apart * (own**2).sum() / n_configs + level * (shared**2).sum())
        residuals = (1.0 / (1.0 + np.exp(-logits)) - Y) / Y.size
        gradient = X.T @ residuals + (apart * own + level * shared) / n_configs
        return float(loss), np.vstack([gradient, residuals.sum(axis=0)]).ravel()

    start = np.zeros((n_features + 1, n_configs))
    chance = np.clip(Y.mean(axis=0), 0.01, 0.99)
    start[-1] = np.log(chance / (1.0 - chance))
    found = minimize(lose, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 60})
    return np.asarray(found.x.reshape(n_features + 1, n_configs))


class FittedLinear(FittedLearner):
    """values = features @ weights + intercept, of scaled features."""

    def __init__(self, scaling: Scaling, weights: np.ndarray, intercept: np.ndarray) -> None:
        self.scaling, self.weights, self.intercept = scaling, weights, intercept

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        return np.asarray(self.scaling.apply(features) @ self.weights + self.intercept)


class FullRank(Learner):
    """Ridge on advantages and on the level, each with its own penalty, in all directions across configs."""

    name, exports = "full rank", False

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLinear:
        """See `Learner.fit`."""
        scaling = Scaling.of(features)
        X, folds = scaling.apply(features), assign_folds(groups, INNER_FOLDS, seed)
        relative, level = split_advantages(targets)
        weights = _fit_ridge(X, relative, folds) + _fit_ridge(X, level[:, None], folds)
        return FittedLinear(scaling, weights, targets.mean(axis=0))


def _fit_ridge(X: np.ndarray, Y: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """float64 (n_features, n_targets): weights on centred features at the penalty that is best on inner folds."""
    lost = np.zeros(len(PENALTIES))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        x_mean, y_mean = X[train].mean(axis=0), Y[train].mean(axis=0)
        found = _solve_ridge(X[train] - x_mean, Y[train] - y_mean)
        lost += [float(((Y[test] - y_mean - (X[test] - x_mean) @ one) ** 2).sum()) for one in found]
    return _solve_ridge(X - X.mean(axis=0), Y - Y.mean(axis=0))[int(lost.argmin())]


def _solve_ridge(X: np.ndarray, Y: np.ndarray) -> list[np.ndarray]:
    """Weights of centred data, one for each of `PENALTIES`."""
    u, s, rotation = np.linalg.svd(X, full_matrices=False)
    projected = u.T @ Y
    return [rotation.T @ ((s / (s**2 + penalty * len(X)))[:, None] * projected) for penalty in PENALTIES]


class Shrunk(Learner):
    """A learner that learns from posterior means of the prompts' advantages.

    Args:
        base: the learner.
        noise: float64 (n_configs,), variance of a cell's mean.
        alike: float64 (n_configs, n_configs), the prior's correlations; None: its covariance is estimated.
    """

    exports = False

    def __init__(self, base: Learner, noise: np.ndarray, alike: np.ndarray | None = None) -> None:
        self.base, self.noise, self.alike, self.name = base, noise, alike, f"shrunk {base.name}"

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        """See `Learner.fit`."""
        relative, level = split_advantages(targets)
        centre = np.eye(relative.shape[1]) - 1.0 / relative.shape[1]
        noise, mean = centre @ np.diag(self.noise) @ centre, relative.mean(axis=0)
        signal = _make_positive(np.cov(relative.T, bias=True) - noise)
        if self.alike is not None:
            alike = centre @ self.alike @ centre
            signal = alike * np.trace(signal) / np.trace(alike)
        keep = signal @ np.linalg.pinv(signal + noise, rcond=1e-10, hermitian=True)
        return self.base.fit(features, mean + (relative - mean) @ keep.T + level[:, None], groups, seed)


def _make_positive(matrix: np.ndarray) -> np.ndarray:
    """The nearest positive semidefinite matrix to a symmetric one."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.maximum(values, 0.0) @ vectors.T)
