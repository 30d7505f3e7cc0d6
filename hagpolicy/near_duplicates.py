"""Prompts that are nearly equal: not independent, though no one declared it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hagpolicy._extras import require
from hagpolicy.prompts import Prompt, join_labels, normalised

SHINGLE = 5
SIMILAR = 0.8


def similar_pairs(prompts: Sequence[Prompt], threshold: float = SIMILAR) -> np.ndarray:
    """int64 (n_pairs, 2): pairs of prompts whose sets of 5-character shingles overlap by at least
    `threshold` (Jaccard; Broder, "On the resemblance and containment of documents", 1997)."""
    sparse = require("scipy.sparse", "fit", "finding near-duplicates")
    columns: dict[str, int] = {}
    rows = [
        [columns.setdefault(shingle, len(columns)) for shingle in _shingles(normalised(prompt.text).casefold())]
        for prompt in prompts
    ]
    sizes = np.array([len(row) for row in rows])
    indices = np.concatenate([np.array(row, dtype=np.int64) for row in rows])
    matrix = sparse.csr_matrix(
        (np.ones(len(indices), dtype=np.int32), indices, np.concatenate([[0], np.cumsum(sizes)])),
        shape=(len(rows), len(columns)),
    )
    pairs = []
    for start in range(0, len(rows), 512):
        shared = (matrix[start : start + 512] @ matrix.T).tocoo()
        first, second = shared.row + start, shared.col
        alike = (first < second) & (shared.data >= threshold * (sizes[first] + sizes[second] - shared.data))
        pairs.append(np.column_stack([first[alike], second[alike]]))
    return np.concatenate(pairs).astype(np.int64)


def join_groups(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """int64 (n_prompts,): the groups with the pairs joined as well."""
    labels: list[list[tuple[str, int]]] = [[("group", int(group))] for group in groups]
    for number, (first, second) in enumerate(pairs):
        labels[first].append(("pair", number))
        labels[second].append(("pair", number))
    return join_labels(labels)


def _shingles(text: str) -> set[str]:
    return {text[at : at + SHINGLE] for at in range(max(1, len(text) - SHINGLE + 1))}
