"""Groups: prompts that are not independent, declared, equal, or so nearly equal that no one declared it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput

SHINGLE = 5
SIMILAR = 0.8


def number_groups(prompts: Sequence[Prompt]) -> np.ndarray:
    """int64 (n_prompts,): a number for each set of prompts that stay together.

    Prompts with the same declared group or the same normalised text are joined, transitively.
    Numbers follow the order of first appearance.
    """
    # By hand, not by scipy as in `join_groups`: every table has groups, and most installs that make one have no scipy.
    labels = [_labels(prompt) for prompt in prompts]
    holders: dict[tuple[str, str], list[int]] = {}
    for item, own in enumerate(labels):
        for label in own:
            holders.setdefault(label, []).append(item)
    numbers = np.full(len(labels), -1, dtype=np.int64)
    count = 0
    for first in range(len(labels)):
        if numbers[first] < 0:
            waiting = [first]
            while waiting:
                item = waiting.pop()
                numbers[item] = count
                for label in labels[item]:
                    waiting += holders.pop(label, ())  # whoever holds it has been found
            count += 1
    return numbers


def check_group_numbers(groups: Any, prompts: Sequence[Prompt]) -> np.ndarray:
    """int64 (n_prompts,): the numbers that are given, which may join more prompts than these declare.

    Raises:
        InvalidInput: no whole numbers, not one a prompt, or two of prompts of equal text or one declared group.
    """
    given = np.array(groups)
    if given.shape != (len(prompts),) or given.dtype.kind not in "iu":
        got = f"shape {given.shape} of {given.dtype}"
        raise InvalidInput("groups", f"whole numbers of shape ({len(prompts)},)", got)
    declared = number_groups(prompts)
    of_first = given[np.unique(declared, return_index=True)[1]][declared]
    apart = np.flatnonzero(given != of_first)
    if len(apart):
        got = f"{given[apart[0]]} for prompt {apart[0]}, {of_first[apart[0]]} for one of the same text or group"
        do = "Give groups=None for those that the prompts declare."
        raise InvalidInput("groups", "one number for prompts that belong together", got, do)
    return given.astype(np.int64)


def _labels(prompt: Prompt) -> list[tuple[str, str]]:
    """Labels of a prompt, its normalised text and its declared group; prompts with a common one are joined."""
    text = ("text", prompt.normalised)
    return [text] if prompt.group is None else [text, ("group", prompt.group)]


def find_similar_pairs(prompts: Sequence[Prompt], threshold: float = SIMILAR) -> np.ndarray:
    """int64 (n_pairs, 2): pairs of prompts whose sets of 5-character shingles overlap by at least
    `threshold` (Jaccard; Broder, "On the resemblance and containment of documents", 1997)."""
    sparse = require("scipy.sparse", "fit", "finding near-duplicates")
    columns: dict[str, int] = {}
    rows = [
        [columns.setdefault(shingle, len(columns)) for shingle in _shingles(prompt.normalised.casefold())]
        for prompt in prompts
    ]
    sizes = np.array([len(row) for row in rows])
    numbers = np.repeat(np.arange(len(rows)), sizes)
    indices, weights = _merge_equal_columns(numbers, np.concatenate([np.array(row, dtype=np.int64) for row in rows]))
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


def _merge_equal_columns(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
