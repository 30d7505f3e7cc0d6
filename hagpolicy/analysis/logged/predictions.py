"""Expected rewards for the doubly robust estimate: given, or the mean of each config in the calls of other units."""

from __future__ import annotations

import numpy as np

from hagpolicy.analysis.logged.units import number_units
from hagpolicy.analysis.rule import N_FOLDS
from hagpolicy.data.decisions import LoggedDecisions
from hagpolicy.errors import InvalidInput

__all__ = ["complete_predictions"]


def complete_predictions(
    decisions: LoggedDecisions, known: np.ndarray, given: np.ndarray | None, seed: int
) -> np.ndarray:
    """float64 (n, n_configs + 1): expected reward of each config for each call, the last column for unchanged.

    What is not given is the mean reward of the config in the calls of the other folds, each weighted by the inverse of
    its propensity, so that it is of all prompts and not of those for which the config is usually chosen; of a config
    that was not drawn there it is their mean reward. All calls of a unit are in one fold.

    Args:
        decisions: n calls.
        known: bool (n,): the calls to learn from, at least one.
        given: float64 (n, n_configs) or (n, n_configs + 1), in [0, 1]; None: nothing.
        seed: of the folds.

    Raises:
        InvalidInput: predictions of another shape, or out of range.
    """
    n, k = len(decisions), len(decisions.space)
    if given is None:
        return _average_others(decisions, known, seed)
    given = np.asarray(given)
    if given.shape not in ((n, k), (n, k + 1)) or given.dtype.kind not in "fiu":
        expected = f"rewards to expect, of shape ({n}, {k}), or ({n}, {k + 1}) with one for unchanged"
        raise InvalidInput("predictions", expected, f"{given.dtype} of shape {given.shape}")
    if not ((given >= 0.0) & (given <= 1.0)).all():
        raise InvalidInput("predictions", "rewards to expect, in [0, 1]", "others")
    given = given.astype(np.float64)
    return given if given.shape[1] == k + 1 else np.column_stack([given, _average_others(decisions, known, seed)[:, k]])


def _average_others(decisions: LoggedDecisions, known: np.ndarray, seed: int) -> np.ndarray:
    k = len(decisions.space) + 1
    units = number_units(decisions.unit)
    order = np.random.default_rng(seed).permutation(int(units.max()) + 1)
    fold = (order % N_FOLDS)[units]
    cell = (fold * k + decisions.chosen % k)[known]  # -1 is the last column
    weights, rewards = 1.0 / decisions.propensity[known], decisions.reward[known]
    others, drawn, plain, count = (
        sums.sum(axis=0) - sums
        for values in (weights * rewards, weights, rewards, np.ones(len(rewards)))
        for sums in [np.bincount(cell, weights=values, minlength=N_FOLDS * k).reshape(N_FOLDS, k)]
    )
    everywhere = plain.sum(axis=1, keepdims=True) / np.maximum(count.sum(axis=1, keepdims=True), 1.0)
    means = np.where(count > 0.0, others / np.where(count > 0.0, drawn, 1.0), everywhere)
    return np.asarray(np.clip(means, 0.0, 1.0)[fold])
