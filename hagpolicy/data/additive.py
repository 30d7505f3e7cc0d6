"""The additive model of a table: an effect of each prompt and one of each config."""

from __future__ import annotations

import numpy as np

_ROUNDS_OF_FIT = 200


def fit_additive(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Additive effects of prompts and of configs over the observed cells: Y is about level + effect.

    The least-squares fit, found by alternating; where nothing is missing it is row means and column
    means. So a config that was tried on hard prompts only is not taken for a bad one.

    Args:
        Y: float64 (n_prompts, n_configs), NaN = not observed.

    Returns:
        level, float64 (n_prompts,), with mean 0 over the observed cells of a complete table, and
        effect, float64 (n_configs,); NaN for a row or column without any observed cell.
    """
    seen = ~np.isnan(Y)
    filled = np.where(seen, Y, 0.0)
    rows, columns = np.maximum(seen.sum(axis=1), 1), np.maximum(seen.sum(axis=0), 1)
    level, effect = np.zeros(len(Y)), filled.sum(axis=0) / columns
    for _ in range(_ROUNDS_OF_FIT):
        before = effect
        level = (filled.sum(axis=1) - seen @ effect) / rows
        # What all rows share belongs to the configs: their effects are then mean rewards.
        level = level - level[seen.any(axis=1)].mean() if seen.any() else level
        effect = (filled.sum(axis=0) - level @ seen) / columns
        if np.abs(effect - before).max(initial=0.0) < 1e-9:
            break
    return np.where(seen.any(axis=1), level, np.nan), np.where(seen.any(axis=0), effect, np.nan)
