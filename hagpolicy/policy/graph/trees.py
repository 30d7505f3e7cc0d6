"""Checks of a tree ensemble's lists, which onnxruntime follows without looking: a wrong number would read foreign
memory, a circle would never end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MAX_DEPTH = 64
MAX_TARGETS = 4096


def check_ensemble(lists: Mapping[str, np.ndarray], n_features: int, n_targets: int) -> None:
    """Accept trees whose every leaf is reached on one way, and has a value.

    Args:
        lists: attributes of a TreeEnsembleRegressor: nodes tree by tree, each tree's numbered from 0, its root.
            `nodes_modes` is 0 for a leaf and 1 for a comparison.
        n_features: of the input.
        n_targets: of the output.

    Raises:
        ValueError: anything else.
    """
    nodes = {name.removeprefix("nodes_"): values for name, values in lists.items() if name.startswith("nodes_")}
    target = {name.removeprefix("target_"): values for name, values in lists.items() if name.startswith("target_")}
    if not 1 <= n_targets <= MAX_TARGETS:
        raise ValueError(f"expected 1 to {MAX_TARGETS} targets, got {n_targets}")
    if len({len(part) for part in nodes.values()}) > 1 or len({len(part) for part in target.values()}) > 1:
        raise ValueError("expected lists of one length")
    trees, numbers = nodes["treeids"], nodes["nodeids"]
    roots = np.flatnonzero(numbers == 0)
    sizes = np.diff(np.append(roots, len(trees)))
    starts = np.repeat(roots, sizes) if len(roots) and roots[0] == 0 else numbers
    if not np.array_equal(np.arange(len(trees)) - starts, numbers) or not np.array_equal(
        np.repeat(np.arange(len(roots)), sizes), trees
    ):
        raise ValueError("expected the nodes of each tree numbered from 0")
    if ((nodes["featureids"] < 0) | (nodes["featureids"] >= n_features)).any():
        raise ValueError(f"expected comparisons of {n_features} features, got others")
    _check_branches(nodes, starts, np.repeat(sizes, sizes), roots)
    leaves = np.flatnonzero(nodes["modes"] == 0)
    _check_leaves(target, roots, sizes, leaves, n_targets)


def _check_branches(nodes: Mapping[str, np.ndarray], starts: np.ndarray, sizes: np.ndarray, roots: np.ndarray) -> None:
    """From the roots down, level by level, every node is met once."""
    children = np.stack([nodes["truenodeids"], nodes["falsenodeids"]])
    if ((children < 0) | (children >= sizes)).any():
        raise ValueError("expected branches to nodes of the same tree, got others")
    children = children + starts
    inner = nodes["modes"] == 1
    level, met = roots, np.zeros(len(starts), np.int64)
    for _ in range(MAX_DEPTH):
        np.add.at(met, level, 1)
        if len(level) > len(starts) or (met > 1).any():
            break
        level = children[:, level[inner[level]]].ravel()
        if not len(level):
            break
    if (met != 1).any():
        raise ValueError(f"expected trees of at most {MAX_DEPTH} levels, got circles, loose nodes or more levels")


def _check_leaves(
    target: Mapping[str, np.ndarray],
    roots: np.ndarray,
    sizes: np.ndarray,
    leaves: np.ndarray,
    n_targets: int,
) -> None:
    """Values belong to leaves, in their order, and no leaf is without."""
    if ((target["treeids"] < 0) | (target["treeids"] >= len(roots))).any():
        raise ValueError("expected values of leaves, got those of other trees")
    if ((target["nodeids"] < 0) | (target["nodeids"] >= sizes[target["treeids"]])).any():
        raise ValueError("expected values of leaves, got those of other nodes")
    if ((target["ids"] < 0) | (target["ids"] >= n_targets)).any():
        raise ValueError(f"expected values of {n_targets} targets, got others")
    rows = roots[target["treeids"]] + target["nodeids"]
    if (np.diff(rows * n_targets + target["ids"]) <= 0).any() or not np.array_equal(np.unique(rows), leaves):
        raise ValueError("expected values of all leaves and of nothing else, in their order")
