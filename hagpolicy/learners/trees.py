"""Gradient-boosted trees (LightGBM), exported so that the graph sums exactly what LightGBM sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.learners.base import FittedLearner, Learner, advantages

if TYPE_CHECKING:
    from hagpolicy.graphs.builder import GraphBuilder

# All configs' trees together: what keeps a prediction within twice the cost of tokenising the prompt.
TREES = 600
# What the trees of one config take up of the signal in the training targets, when all have spoken.
TAKEN_UP = 0.7
LEAVES = 4
# Leaves on this grid sum exactly in float32, in any order: sums of rewards stay below 2.
LEAF_GRID = 2.0**-23


class FittedTrees(FittedLearner):
    """One booster for each config's advantage, and one for the row mean, summed in the graph.

    Args:
        boosters: n_configs + 1 LightGBM boosters with leaves on `LEAF_GRID`.
    """

    def __init__(self, boosters: list[Any]) -> None:
        self.boosters = boosters

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs), by native LightGBM."""
        wide = features.astype(np.float64)
        parts = np.stack([booster.predict(wide, num_threads=1) for booster in self.boosters], axis=1)
        return np.asarray(parts[:, :-1] + parts[:, -1:])

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append one tree ensemble with n_configs + 1 targets, and the sum."""
        from hagpolicy.graphs.builder import DOUBLE

        attributes = ensemble_attributes([booster.dump_model() for booster in self.boosters])
        sums = graph.node("TreeEnsembleRegressor", [features], domain="ai.onnx.ml", **attributes)
        wide = graph.cast(sums, DOUBLE)
        configs = len(self.boosters) - 1
        relative, level = graph.node_multi(
            "Split", [wide, graph.constant([configs, 1], "sizes", np.int64)], 2, axis=1
        )
        return graph.node("Add", [relative, level])


class BoostedTrees(Learner):
    """LightGBM (Ke et al., NeurIPS 2017) with few small trees, as many as the speed allows.

    Args:
        trees: number of trees of all configs together. More of them predict more slowly.
    """

    name = "lightgbm"

    def __init__(self, trees: int = TREES) -> None:
        self.trees = trees

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedTrees:
        """See `Learner.fit`."""
        lightgbm = require("lightgbm", "fit", "the lightgbm learner")
        relative, level = advantages(targets)
        columns = np.hstack([relative, level[:, None]])
        rounds = max(1, self.trees // columns.shape[1])
        options = {
            "objective": "regression",
            "learning_rate": 1.0 - (1.0 - TAKEN_UP) ** (1.0 / rounds),
            "num_leaves": LEAVES,
            "min_data_in_leaf": max(5, len(features) // 20),
            "lambda_l2": 5.0,
            "feature_fraction": 0.5,
            "max_bin": 31,
            "use_missing": False,
            "seed": seed,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        wide = features.astype(np.float64)
        data = lightgbm.Dataset(wide, label=columns[:, 0], params=options, free_raw_data=False).construct()
        boosters = []
        for column in columns.T:
            data.set_label(np.ascontiguousarray(column))
            booster = lightgbm.train(options, data, num_boost_round=rounds)
            boosters.append(_on_grid(booster))
        return FittedTrees(boosters)


def _on_grid(booster: Any) -> Any:
    """Round every leaf to a multiple of `LEAF_GRID`, in the booster itself."""
    for number, tree in enumerate(booster.dump_model()["tree_info"]):
        for leaf, value in _leaves(tree["tree_structure"]):
            booster.set_leaf_output(number, leaf, round(value / LEAF_GRID) * LEAF_GRID)
    return booster


def _leaves(node: dict[str, Any]) -> list[tuple[int, float]]:
    if "leaf_value" in node:
        return [(node.get("leaf_index", 0), node["leaf_value"])]
    return _leaves(node["left_child"]) + _leaves(node["right_child"])


def float32_below(threshold: float) -> float:
    """The largest float32 that is not above `threshold`.

    A float32 feature is at most the threshold exactly when it is at most this. LightGBM reads
    |x| ≤ 1e-35 as zero, but only for features with zeros marked as missing, which are not used here.
    """
    near = np.float32(threshold)
    if float(near) > threshold:
        near = np.nextafter(near, np.float32(-np.inf), dtype=np.float32)
    return float(near)


def ensemble_attributes(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes of one TreeEnsembleRegressor: the trees of model t add to target t."""
    nodes: dict[str, list[Any]] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    target: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}

    def add(node: dict[str, Any], tree: int, number: int, output: int) -> int:
        """Append a node and all below it; returns the next free node number."""
        row = len(nodes["treeids"])
        leaf = "leaf_value" in node
        inner = {
            "treeids": tree,
            "nodeids": number,
            "featureids": 0 if leaf else node["split_feature"],
            "values": 0.0 if leaf else float32_below(node["threshold"]),
            "modes": "LEAF" if leaf else "BRANCH_LEQ",
            "truenodeids": 0,
            "falsenodeids": 0,
        }
        for name, value in inner.items():
            nodes[name].append(value)
        if leaf:
            for name, value in {"treeids": tree, "nodeids": number, "ids": output, "weights": node["leaf_value"]}.items():
                target[name].append(value)
            return number + 1
        nodes["truenodeids"][row] = number + 1
        after = add(node["left_child"], tree, number + 1, output)
        nodes["falsenodeids"][row] = after
        return add(node["right_child"], tree, after, output)

    tree = 0
    for output, model in enumerate(models):
        for info in model["tree_info"]:
            add(info["tree_structure"], tree, 0, output)
            tree += 1
    return {
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in target.items()},
        "n_targets": len(models),
        "post_transform": "NONE",
    }
