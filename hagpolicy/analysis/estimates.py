"""Functions on arrays of rewards: folds, choices, the single best config of other folds, oracles.

Everything here works on a matrix of mean rewards `Y`, float64 (n_prompts, n_configs), and the
groups of the prompts, int64 (n_prompts,). Intervals are in `bootstrap.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hagpolicy.data.ties import choose_best

# Random halves that a split-sample oracle is averaged over.
SPLITS = 50


def assign_folds(groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """int64 (n_prompts,): a fold for each prompt; groups stay together, folds are balanced in prompts.

    Groups are shuffled, then the largest first each goes to the fold that holds the fewest prompts.
    """
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    load = np.zeros(n_folds)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold = int(load.argmin())
        fold_of[group] = fold
        load[fold] += sizes[group]
    return fold_of[index]


def choose_configs(values: np.ndarray, reference: int | np.ndarray, margin: float) -> np.ndarray:
    """int64 (n,): the best config of each row where it beats the reference by more than the margin,
    else the reference; ties go to the first in the space's order.

    Args:
        values: float (n, n_configs).
        reference: index, or int (n,).
        margin: in units of reward, at least 0.
    """
    best = choose_best(values)
    rows = np.arange(len(values))
    reference = np.broadcast_to(reference, best.shape)
    return np.where(values[rows, best] - values[rows, reference] > margin, best, reference)


def take_chosen(Y: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """float64 (n_prompts,): Y at the chosen config of each prompt."""
    return np.asarray(Y[np.arange(len(Y)), choices])


def crossfit_sbs(Y: np.ndarray, folds: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """int64 (n_prompts,): for each prompt the config that is best on average outside its fold.

    Args:
        Y: float64 (n_prompts, n_configs).
        folds: int64 (n_prompts,).
        labels: a label for each prompt; then the best of its own label outside its fold, or of all
            prompts where the label has none there. None: one best for all.

    With one fold nothing lies outside it: then the choice is made on all prompts.
    """
    choice = np.empty(len(Y), dtype=np.int64)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        train = train if train.any() else test
        overall = int(choose_best(Y[train].mean(axis=0)))
        choice[test] = overall
        for label in np.unique(labels[test]) if labels is not None else []:
            same = train & (labels == label)
            if same.any():
                choice[test & (labels == label)] = int(choose_best(Y[same].mean(axis=0)))
    return choice


def split_vbs(
    rewards: np.ndarray,
    deterministic: np.ndarray,
    *,
    estimator: Callable[[np.ndarray], np.ndarray] | None = None,
    needs: int = 1,
    seed: int = 0,
) -> np.ndarray | None:
    """float64 (n_prompts,): value of the best config of each prompt, chosen on one half of the
    samples and scored on the other, both ways, over random halves; a lower bound of the VBS.

    Ties on the choosing half are broken at random. A deterministic config's outcomes stand in both
    halves, whatever their number. A sampled cell with too few samples for two halves is not chosen,
    which keeps the bound low. None where a prompt has no other sampled cell, and without sampled
    configs: there the outcomes would be chosen and scored on themselves.

    Args:
        rewards: float64 (n_prompts, n_configs, n_samples), NaN = missing.
        deterministic: bool (n_configs,): deterministic configs.
        estimator: values of the samples in a mask, bool (n_prompts, n_configs, n_samples), as float64
            (n_prompts, n_configs); None: their mean reward.
        needs: samples that each half must hold.
        seed: of splits and ties.
    """
    present = ~np.isnan(rewards)
    counts = present.sum(axis=2)
    usable = deterministic | (counts >= 2 * needs)
    if not len(rewards) or not (usable & ~deterministic).any(axis=1).all() or (counts < 1).any():
        return None
    estimate = estimator if estimator is not None else lambda kept: _average_kept(rewards, kept)
    rng = np.random.default_rng(seed)
    total = np.zeros(len(rewards))
    whole = estimate(present)
    for _ in range(SPLITS):
        # Rank the present samples of each cell at random: the first half of them chooses.
        key = np.where(present, rng.random(rewards.shape), 2.0)
        rank = key.argsort(axis=2).argsort(axis=2)
        first = rank < (counts // 2)[:, :, None]
        halves = [np.where(deterministic, whole, estimate(half)) for half in (first & present, ~first & present)]
        for chooser, judge in (halves, halves[::-1]):
            # Ties at random: equal means must not be decided by the space's order.
            noise = rng.random(chooser.shape)
            chooser = np.where(usable, chooser, -np.inf)
            top = chooser >= chooser.max(axis=1, keepdims=True) - 1e-12
            total += take_chosen(judge, np.where(top, noise, -1.0).argmax(axis=1))
    return total / (2 * SPLITS)


def _average_kept(rewards: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """float64 (n_prompts, n_configs): mean reward of the kept samples, 0 where none is."""
    return np.asarray(np.where(kept, rewards, 0.0).sum(axis=2) / np.maximum(kept.sum(axis=2), 1))
