"""Gradient-boosted trees (LightGBM), exported so that the graph sums exactly what LightGBM sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.fitting.graphs.builder import DOUBLE, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner, Scaling, split_advantages
from hagpolicy.fitting.learners.linear import find_shared_directions

# Directions across configs that get a booster each, beside the one of the row mean: what suits one
# config suits its like, and boosting every config alone would cost more and learn less.
RANK = 3
# Trees of one booster; all together they keep a prediction within twice the cost of tokenising.
ROUNDS = 60
# What a booster's trees take up of the signal in the training targets, all of them together.
TAKEN_UP = 0.7
LEAVES = 4
# Leaves on this grid sum exactly in float32, in any order: targets are held to [-1, 1], sums stay below 2.
LEAF_GRID = 2.0**-23


class FittedTrees(FittedLearner):
    """One booster a direction across configs, and one for the row mean: values = trees @ back + intercept.

    Args:
        boosters: k LightGBM boosters with leaves on `LEAF_GRID`.
        back: float64 (k, n_configs).
        intercept: float64 (n_configs,).
    """

    def __init__(self, boosters: list[Any], back: np.ndarray, intercept: np.ndarray) -> None:
        self.boosters, self.back, self.intercept = boosters, back, intercept

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs), by native LightGBM."""
        wide = features.astype(np.float64)
        sums = np.stack([booster.predict(wide, num_threads=1) for booster in self.boosters], axis=1)
        return np.asarray(sums @ self.back + self.intercept)

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append one tree ensemble with k targets, and the way back to configs in float64."""
        attributes = build_ensemble_attributes([booster.dump_model() for booster in self.boosters])
        sums = graph.node("TreeEnsembleRegressor", [features], domain="ai.onnx.ml", **attributes)
        product = graph.node("MatMul", [graph.cast(sums, DOUBLE), graph.constant(self.back, "back")])
        return graph.node("Add", [product, graph.constant(self.intercept, "intercept")])


class BoostedTrees(Learner):
    """LightGBM (Ke et al., NeurIPS 2017) with few small trees.

    Args:
        rounds: trees of each booster. More of them predict more slowly.
    """

    name = "lightgbm"

    def __init__(self, rounds: int = ROUNDS) -> None:
        self.rounds = rounds

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedTrees:
        """See `Learner.fit`."""
        lightgbm = require("lightgbm", "fit", "the lightgbm learner")
        relative, level = split_advantages(targets)
        centred = relative - relative.mean(axis=0)
        projection, back = find_shared_directions(Scaling.of(features).apply(features), centred, RANK)
        columns = np.column_stack([centred @ projection, level - level.mean()])
        options = {
            "objective": "regression",
            "learning_rate": 1.0 - (1.0 - TAKEN_UP) ** (1.0 / self.rounds),
            "num_leaves": LEAVES,
            "min_data_in_leaf": max(5, len(features) // 20),
            "lambda_l2": 5.0,
            "feature_fraction": 0.3,
            "max_bin": 31,
            "use_missing": False,
            "seed": seed,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        data = lightgbm.Dataset(features.astype(np.float64), label=columns[:, 0], params=options, free_raw_data=False)
        boosters = []
        for column in columns.T:
            data.construct().set_label(np.ascontiguousarray(column))
            boosters.append(_on_grid(lightgbm.train(options, data, num_boost_round=self.rounds)))
        everywhere = np.ones((1, targets.shape[1]))
        return FittedTrees(boosters, np.vstack([back, everywhere]), targets.mean(axis=0))


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


def round_down_to_float32(threshold: float) -> float:
    """The largest float32 that is not above `threshold`.

    A float32 feature is at most the threshold exactly when it is at most this. LightGBM reads
    |x| ≤ 1e-35 as zero, but only for features with zeros marked as missing, which are not used here.
    """
    near = np.float32(threshold)
    if float(near) > threshold:
        near = np.nextafter(near, np.float32(-np.inf), dtype=np.float32)
    return float(near)


def build_ensemble_attributes(models: list[dict[str, Any]]) -> dict[str, Any]:
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
            "values": 0.0 if leaf else round_down_to_float32(node["threshold"]),
            "modes": "LEAF" if leaf else "BRANCH_LEQ",
            "truenodeids": 0,
            "falsenodeids": 0,
        }
        for name, value in inner.items():
            nodes[name].append(value)
        if leaf:
            outer = {"treeids": tree, "nodeids": number, "ids": output, "weights": float(node["leaf_value"])}
            for name, value in outer.items():
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
