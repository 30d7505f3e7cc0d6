"""Extremely randomised trees on all configs at once, exported so that the graph sums exactly what is summed here."""

from __future__ import annotations

from typing import Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.fitting.graphs.builder import DOUBLE, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner, find_spread, split_advantages
from hagpolicy.fitting.learners.trees import LEAF_GRID, round_down_to_float32

TREES = 100
LEAST_IN_LEAF = 2
FEATURES = 0.5
# Leaves of all trees times configs: what a bundle holds of them is about nine bytes each.
MOST_VALUES = 1_000_000
LEAST_LEAVES = 8


class FittedForest(FittedLearner):
    """values = scale × the sum over trees of the value of the leaf that a prompt falls in + intercept.

    Args:
        forest: of scikit-learn; gives the leaves.
        leaves: for each tree, float64 (n_nodes, n_configs), multiples of `LEAF_GRID`; their sums stay within ±1.
        scale: of the sums.
        intercept: float64 (n_configs,).
    """

    def __init__(self, forest: Any, leaves: list[np.ndarray], scale: float, intercept: np.ndarray) -> None:
        self.forest, self.leaves, self.scale, self.intercept = forest, leaves, scale, intercept

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        total = np.zeros((len(features), len(self.intercept)))
        if len(features):
            for tree, nodes in zip(self.leaves, self.forest.apply(features).T, strict=True):
                total += tree[nodes]
        return np.asarray(total * self.scale + self.intercept)

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append one tree ensemble with all configs as targets, and the scale in float64."""
        trees = [one.tree_ for one in self.forest.estimators_]
        attributes = _build_attributes(trees, self.leaves)
        sums = graph.node("TreeEnsembleRegressor", [features], domain="ai.onnx.ml", **attributes)
        scaled = graph.node("Mul", [graph.cast(sums, DOUBLE), graph.constant(self.scale, "scale", np.float64)])
        return graph.node("Add", [scaled, graph.constant(self.intercept, "intercept")])


class Forest(Learner):
    """Extremely randomised trees (Geurts, Ernst and Wehenkel, *Machine Learning* 63, 2006), one forest for all configs.

    Trees part the prompts by how the configs differ there, each config weighed by the inverse of its spread; a leaf's
    value is the mean of its prompts' rewards. They take features of any scale, and what interacts. A forest for each
    pair of configs, as in SATzilla, gains no more (benchmarks/claims/fitting/pairwise_voting.py).

    Args:
        trees: how many. More of them predict more slowly.
    """

    name = "forest"

    def __init__(self, trees: int = TREES) -> None:
        self.trees = trees

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedForest:
        """See `Learner.fit`."""
        ensemble = require("sklearn.ensemble", "fit", "the forest learner")
        relative, _ = split_advantages(targets)
        leaves = int(np.clip(MOST_VALUES // (self.trees * targets.shape[1]), LEAST_LEAVES, max(len(features), 2)))
        forest = ensemble.ExtraTreesRegressor(
            self.trees,
            min_samples_leaf=LEAST_IN_LEAF,
            max_features=FEATURES,
            max_leaf_nodes=max(leaves, 2),
            random_state=seed % 2**32,
            n_jobs=1,
        ).fit(features, relative / find_spread(relative))
        centred = targets - targets.mean(axis=0)
        scale = float(np.abs(centred).max()) or 1.0
        values = [
            _average_leaves(tree.tree_.node_count, nodes, centred / (scale * self.trees))
            for tree, nodes in zip(forest.estimators_, forest.apply(features).T, strict=True)
        ]
        return FittedForest(forest, values, scale, targets.mean(axis=0))


def _average_leaves(n_nodes: int, nodes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 (n_nodes, n_targets), on the grid: the mean target of each node's prompts; 0 where there are none.

    Args:
        n_nodes: of the tree.
        nodes: int64 (n,): the leaf of each prompt.
        targets: float64 (n, n_targets).
    """
    sums = np.zeros((n_nodes, targets.shape[1]))
    np.add.at(sums, nodes, targets)
    counts = np.bincount(nodes, minlength=n_nodes)
    means = sums / np.maximum(counts, 1)[:, None]
    return np.asarray(np.rint(means / LEAF_GRID) * LEAF_GRID)


def _build_attributes(trees: list[Any], leaves: list[np.ndarray]) -> dict[str, Any]:
    """Attributes of one TreeEnsembleRegressor, nodes and leaves in the order of scikit-learn, a parent before its
    children."""
    numbers, modes, features, thresholds, left, right, owners = [], [], [], [], [], [], []
    target: dict[str, list[np.ndarray]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for number, (tree, values) in enumerate(zip(trees, leaves, strict=True)):
        inner = tree.children_left >= 0
        owners.append(np.full(tree.node_count, number))
        numbers.append(np.arange(tree.node_count))
        modes += ["BRANCH_LEQ" if one else "LEAF" for one in inner]
        features.append(np.where(inner, tree.feature, 0))
        thresholds += [round_down_to_float32(one) if is_inner else 0.0 for one, is_inner in
                       zip(tree.threshold.tolist(), inner.tolist(), strict=True)]  # fmt: skip
        left.append(np.where(inner, tree.children_left, 0))
        right.append(np.where(inner, tree.children_right, 0))
        ends, width = np.flatnonzero(~inner), values.shape[1]
        target["treeids"].append(np.full(len(ends) * width, number))
        target["nodeids"].append(np.repeat(ends, width))
        target["ids"].append(np.tile(np.arange(width), len(ends)))
        target["weights"].append(values[ends].ravel())
    nodes = {"treeids": owners, "nodeids": numbers, "featureids": features, "truenodeids": left, "falsenodeids": right}
    return {
        **{f"nodes_{name}": np.concatenate(parts).tolist() for name, parts in nodes.items()},
        "nodes_values": thresholds,
        "nodes_modes": modes,
        **{f"target_{name}": np.concatenate(parts).tolist() for name, parts in target.items()},
        "n_targets": leaves[0].shape[1],
        "post_transform": "NONE",
    }
