"""k nearest neighbours on integer codes, so that distances and ties are exact."""

from __future__ import annotations

import numpy as np

from hagpolicy.fitting.graphs.builder import DOUBLE, INT32, UINT8, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner, Scaling, split_advantages

NEIGHBOURS = (5, 10, 20, 40, 80)
PRIORS = (0.0, 5.0, 20.0, 80.0)
CODE_LIMIT = 127


class FittedNeighbours(FittedLearner):
    """Mean of the k nearest training prompts, shrunk to the overall mean.

    Args:
        codes: int8 (n_train, n_features): centred, scaled and rounded training features.
        centre: float64 (n_features,).
        factor: from centred features to codes.
        targets: float64 (n_train, n_configs): what is averaged; already shrunk.
        k: number of neighbours.
    """

    def __init__(self, codes: np.ndarray, centre: np.ndarray, factor: float, targets: np.ndarray, k: int) -> None:
        self.codes, self.centre, self.factor, self.targets, self.k = codes, centre, factor, targets, k

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        nearest = self.nearest(round_to_codes(features, self.centre, self.factor))
        return np.asarray(self.targets[nearest].mean(axis=1))

    def nearest(self, codes: np.ndarray) -> np.ndarray:
        """int64 (n, k): nearest training prompts, the earlier one first on ties."""
        return _distances(codes, self.codes).argsort(axis=1, kind="stable")[:, : self.k]

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append integer distances, top k and the mean of the neighbours' targets."""
        wide = self.codes.astype(np.int32)
        centred = graph.node("Sub", [graph.cast(features, DOUBLE), graph.constant(self.centre, "centre")])
        scaled = graph.node("Round", [graph.node("Mul", [centred, graph.constant(self.factor, "factor", np.float64)])])
        limits = [graph.constant(sign * CODE_LIMIT, "limit", np.float64) for sign in (-1, 1)]
        clipped = graph.node("Clip", [scaled, *limits])
        # uint8 with a zero point: the one form of the integer product that every onnxruntime has.
        shifted = graph.cast(graph.node("Add", [clipped, graph.constant(128.0, "shift", np.float64)]), UINT8)
        zero = graph.constant(128, "zero", np.uint8)
        dots = graph.node("MatMulInteger", [shifted, graph.constant(self.codes.T.copy(), "codes"), zero])
        # The query's own square is the same for all neighbours and is left out.
        squares = graph.constant((wide**2).sum(axis=1), "squares", np.int32)
        distance = graph.node("Sub", [squares, graph.node("Mul", [dots, graph.constant(2, "two", np.int32)])])
        k = graph.constant(np.array([self.k], dtype=np.int64), "k")
        nearest = graph.node_multi("TopK", [graph.cast(distance, INT32), k], 2, largest=0, axis=1)[1]
        gathered = graph.node("Gather", [graph.constant(self.targets, "targets"), nearest], axis=0)
        return graph.node("ReduceMean", [gathered], axes=[1], keepdims=0)


class NearestNeighbours(Learner):
    """k nearest neighbours (Cover and Hart, *IEEE Trans. Inf. Theory* 13, 1967), shrunk to the mean.

    k and the weight of the mean are chosen by leaving out each training prompt with its group.
    """

    name = "knn"
    carries_vectors = True

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedNeighbours:
        """See `Learner.fit`."""
        scaling = Scaling.of(features)
        X = scaling.apply(features)
        largest = float(np.abs(X).max())
        factor = scaling.factor * (CODE_LIMIT / largest if largest > 0.0 else 1.0)
        codes = round_to_codes(features, scaling.centre, factor)
        relative, level = split_advantages(targets)
        distance = _distances(codes, codes)
        distance[groups[:, None] == groups[None, :]] = np.iinfo(np.int32).max
        order = distance.argsort(axis=1, kind="stable")
        # A prompt has as many neighbours as there are prompts outside its group: no k may reach further.
        most = len(groups) - int(np.unique(groups, return_counts=True)[1].max())
        k, prior = _choose(order, relative, most)
        k_level, prior_level = _choose(order, level[:, None], most)
        del k_level  # one neighbourhood for both; the level takes its own shrinkage
        shrink, shrink_level = k / (k + prior), k / (k + prior_level)
        mean = relative.mean(axis=0)
        shrunk = mean + shrink * (relative - mean) + (level.mean() + shrink_level * (level - level.mean()))[:, None]
        return FittedNeighbours(codes, scaling.centre, factor, shrunk, k)


def round_to_codes(features: np.ndarray, centre: np.ndarray, factor: float) -> np.ndarray:
    """int8 (n, n_features): centred, scaled, rounded half to even, clipped to ±127."""
    scaled = np.rint((features.astype(np.float64) - centre) * factor)
    return np.asarray(np.clip(scaled, -CODE_LIMIT, CODE_LIMIT), dtype=np.int8)


def _distances(queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """int64 (n_queries, n_codes): squared distances less the query's own square.

    Computed in float64, where sums of products of codes are exact.
    """
    wide = codes.astype(np.float64)
    exact = (wide**2).sum(axis=1) - 2.0 * (queries.astype(np.float64) @ wide.T)
    return np.asarray(exact, dtype=np.int64)


def _choose(order: np.ndarray, targets: np.ndarray, most: int) -> tuple[int, float]:
    """Neighbours, `most` at most, and weight of the mean with the least squared error, the most shrunk
    among equals."""
    if most < 1:  # one group: nothing to learn the weight from
        return 1, max(PRIORS)
    mean = targets.mean(axis=0)
    running = np.cumsum(targets[order[:, : max(NEIGHBOURS)]] - mean, axis=1)
    best, least = (1, 0.0), np.inf
    for k in [k for k in NEIGHBOURS if k <= most] or [1]:
        for prior in PRIORS:
            error = float(((targets - mean - running[:, k - 1] / (k + prior)) ** 2).sum())
            if error <= least:
                best, least = (k, prior), error
    return best
