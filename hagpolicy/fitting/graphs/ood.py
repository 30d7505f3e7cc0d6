"""The out-of-distribution score of a prompt: its distance to the nearest of a few centroids of the training prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# The mean of n token vectors scatters by about 1/n around its kind's centre, were tokens independent;
# they are not, and n to the power 0.5 told code, base64 and other scripts from word problems better
# than 0 (which only finds short prompts) and 1 (which only finds long ones).
LENGTH_POWER = 0.5
# Held-out training prompts set the thresholds; they get this much room, so that practically no
# prompt of the same kind (at most 1 in 100, see tests/fitting/test_graph.py) falls back.
ROOM = 1.1
UNKNOWN_ROOM = 0.1
FOLDS = 5
MAX_CENTROIDS = 16
PROMPTS_PER_CENTROID = 20
# A column that never varied in training must not put the first prompt that moves it infinitely
# far: no column's spread counts as less than this share of the median column's.
LEAST_SPREAD = 0.2


@dataclass(frozen=True, eq=False)
class OutOfDistribution:
    """What the graph needs to tell a prompt unlike the training prompts.

    Attributes:
        spread: float64 (n_features,): features are divided by it.
        centroids: float64 (n_centroids, n_features), in divided features.
        distance: a prompt is out of distribution beyond this distance to its nearest centroid.
        unknown: a prompt is out of distribution beyond this share of unknown tokens.
        length: the encoder's `length`: squared distances are multiplied by the token count to the
            power 0.5; None: they are used as they are.
    """

    spread: np.ndarray
    centroids: np.ndarray
    distance: float
    unknown: float
    length: tuple[int, float] | None = None

    def score(self, features: np.ndarray, unknown: np.ndarray) -> np.ndarray:
        """float32 (n,): above 1 means unlike everything seen in training.

        Args:
            features: float32 (n, n_features).
            unknown: float32 (n,), share of unknown tokens.
        """
        squared = _nearest(features.astype(np.float64), self.spread, self.centroids, self.length)
        ratio = (squared / self.distance**2).astype(np.float32)
        return np.asarray(np.maximum(ratio, unknown / np.float32(self.unknown)))


def fit_ood(
    features: np.ndarray,
    unknown: np.ndarray,
    groups: np.ndarray,
    seed: int,
    length: tuple[int, float] | None = None,
) -> OutOfDistribution:
    """Centroids and thresholds from training prompts.

    The distance threshold lies above the largest distance of a prompt to centroids that were made
    without its group, in five folds: distances to centroids made with it would be too small.

    Args:
        features: float32 (n, n_features).
        unknown: float32 (n,), share of unknown tokens in [0, 1].
        groups: int64 (n,): prompts that stay together.
        seed: of the folds and of k-means.
        length: the encoder's `length`.
    """
    features = features.astype(np.float64)
    spread = features.std(axis=0)
    typical = float(np.median(spread))
    spread = np.maximum(spread, LEAST_SPREAD * typical if typical > 0 else 1.0)
    scaled = features / spread
    rng = np.random.default_rng(seed)
    held = np.zeros(len(scaled))
    for inside, outside in _folds(groups, rng):
        held[outside] = _nearest(features[outside], spread, _centroids(scaled[inside], rng), length)
    # With one group there is nothing to hold out: the distances to its own centroids are all there is.
    centroids = _centroids(scaled, rng)
    largest = float(held.max()) or float(_nearest(features, spread, centroids, length).max())
    unknown_limit = float(unknown.max()) + UNKNOWN_ROOM
    return OutOfDistribution(spread, centroids, ROOM * float(np.sqrt(largest)) or 1.0, unknown_limit, length)


def _nearest(
    features: np.ndarray, spread: np.ndarray, centroids: np.ndarray, length: tuple[int, float] | None
) -> np.ndarray:
    """float64 (n,): squared distance to the nearest centroid, weighted by length."""
    squared = _squared(features / spread, centroids).min(axis=1)
    if length is not None:
        column, factor = length
        squared = squared * np.exp(LENGTH_POWER / factor * features[:, column])
    return np.asarray(squared)


def _folds(groups: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks (inside, outside) of up to five folds that keep groups together; none for one group."""
    names, numbers = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return
    fold = rng.permutation(len(names)) % min(FOLDS, len(names))
    for number in range(fold.max() + 1):
        outside = fold[numbers] == number
        yield ~outside, outside


def _centroids(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """k-means (Lloyd, seeded as k-means++): float64 (k, n_features), k by the number of points."""
    count = int(np.clip(len(points) // PROMPTS_PER_CENTROID, 1, MAX_CENTROIDS))
    chosen = [points.mean(axis=0)] if count == 1 else [points[int(rng.integers(len(points)))]]
    while len(chosen) < count:
        weight = _squared(points, np.stack(chosen)).min(axis=1)
        if not weight.sum() > 0:
            break  # fewer distinct points than centroids
        chosen.append(points[int(rng.choice(len(points), p=weight / weight.sum()))])
    centroids = np.stack(chosen)
    for _ in range(25):
        nearest = _squared(points, centroids).argmin(axis=1)
        parts = [points[nearest == number] for number in range(len(centroids))]
        moved = np.stack([part.mean(axis=0) if len(part) else centroids[k] for k, part in enumerate(parts)])
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _squared(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """float64 (n, k): squared distances, never below 0."""
    cross = points @ centroids.T
    return np.asarray(np.maximum((points**2).sum(axis=1)[:, None] - 2 * cross + (centroids**2).sum(axis=1), 0.0))
