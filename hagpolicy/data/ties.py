"""Which of several is the best where some tie."""

from __future__ import annotations

import numpy as np

__all__ = ["TIED", "choose_best"]

# Values this near are equal: sums of the same rewards in another order differ by less, and nothing told differs.
TIED = 1e-9


def choose_best(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """int64: index of the largest value along an axis; of those within `TIED` of it the first, so that exact ties
    go to the space's order, whatever the order of the prompts that were averaged.

    Args:
        values: float, without NaN; -inf is never chosen beside a number.
        axis: along which is chosen.
    """
    values = np.asarray(values)
    return np.asarray((values >= values.max(axis=axis, keepdims=True) - TIED).argmax(axis=axis), dtype=np.int64)
