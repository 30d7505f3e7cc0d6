"""Groups: prompts that are not independent, declared, equal, or so nearly equal that no one declared it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.data.prompts import Prompt, normalise

SHINGLE = 5
SIMILAR = 0.8


def group_ids(prompts: Sequence[Prompt]) -> np.ndarray:
    """int64 (n_prompts,): a number for each set of prompts that stay together.

    Prompts with the same declared group or the same normalised text are joined, transitively.
    Numbers follow the order of first appearance.
    """
    labels: list[list[Any]] = []
    for prompt in prompts:
        keys: list[Any] = [("text", normalise(prompt.text))]
        if prompt.group is not None:
            keys.append(("group", prompt.group))
        labels.append(keys)
    return join_labels(labels)


def join_labels(labels: Sequence[Sequence[Any]]) -> np.ndarray:
    """int64 (n,): items that share a label, directly or through others, get one number."""
    parent: list[int] = list(range(len(labels)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    owner: dict[Any, int] = {}
    for item, keys in enumerate(labels):
        for key in keys:
            first = root(owner.setdefault(key, item))
            parent[max(first, root(item))] = min(first, root(item))
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(item), len(numbers)) for item in range(len(labels))], dtype=np.int64)


def similar_pairs(prompts: Sequence[Prompt], threshold: float = SIMILAR) -> np.ndarray:
    """int64 (n_pairs, 2): pairs of prompts whose sets of 5-character shingles overlap by at least
    `threshold` (Jaccard; Broder, "On the resemblance and containment of documents", 1997)."""
    sparse = require("scipy.sparse", "fit", "finding near-duplicates")
    columns: dict[str, int] = {}
    rows = [
        [columns.setdefault(shingle, len(columns)) for shingle in _shingles(normalise(prompt.text).casefold())]
        for prompt in prompts
    ]
    sizes = np.array([len(row) for row in rows])
    numbers = np.repeat(np.arange(len(rows)), sizes)
    indices, weights = _joined(numbers, np.concatenate([np.array(row, dtype=np.int64) for row in rows]))
    cells = np.unique(numbers * len(weights) + indices)
    where = (cells // len(weights), cells % len(weights))
    matrix = sparse.csr_matrix((np.ones(len(cells), dtype=np.int32), where), shape=(len(rows), len(weights)))
    weighted = matrix.multiply(weights).tocsr()
    pairs = []
    for start in range(0, len(rows), 512):
        shared = (weighted[start : start + 512] @ matrix.T).tocoo()
        first, second = shared.row + start, shared.col
        alike = (first < second) & (shared.data >= threshold * (sizes[first] + sizes[second] - shared.data))
        pairs.append(np.column_stack([first[alike], second[alike]]))
    return np.concatenate(pairs).astype(np.int64)


def _joined(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns that stand in exactly the same rows made one: (number for each entry, columns in each).

    Instructions that many prompts begin with would otherwise cost their length times the square of
    the prompts. Equal sums of random 64-bit marks of the rows tell equal sets of rows.
    """
    marks = np.random.default_rng(0).integers(2**63, size=int(rows.max()) + 1, dtype=np.uint64)
    keys = np.zeros(int(columns.max()) + 1, dtype=np.uint64)
    np.add.at(keys, columns, marks[rows])
    _, number, count = np.unique(keys, return_inverse=True, return_counts=True)
    return number[columns], count.astype(np.int32)


def join_groups(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """int64 (n_prompts,): the groups with the pairs joined as well, numbered by first appearance."""
    sparse, graph = (require(f"scipy.sparse{part}", "fit", "joining groups") for part in ("", ".csgraph"))
    names, numbers = np.unique(groups, return_inverse=True)
    # One node a prompt, one a group.
    first = np.concatenate([np.arange(len(groups)), pairs[:, 0]])
    second = np.concatenate([len(groups) + numbers, pairs[:, 1]])
    size = len(groups) + len(names)
    links = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=(size, size))
    labels = graph.connected_components(links, directed=False)[1][: len(groups)]
    _, at, label = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(at.argsort().argsort()[label], dtype=np.int64)


def _shingles(text: str) -> set[str]:
    return {text[at : at + SHINGLE] for at in range(max(1, len(text) - SHINGLE + 1))}
