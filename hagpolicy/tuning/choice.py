"""The configs of a sweep that complement each other, in the order in which each adds most; with held-out estimates.

Greedy choice of a set whose value has diminishing returns comes to at least 1 − 1/e of the best set's (Nemhauser,
Wolsey and Fisher, *Mathematical Programming* 14, 1978). The value of a set here is the expected reward where each kind
of prompt gets the best of it, under a posterior that shrinks what the samples show by the evidence for it: what a
policy can learn, and not the luck of single prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.data.ties import choose_best
from hagpolicy.results import Estimate
from hagpolicy.sweeping.strategies.posterior import Posterior

LEAST_GAIN = 0.01
"""Of reward: a config that is expected to add less is not worth its share of a sweep."""
LEAST_CHANCE = 0.05
"""A config that is the best for some kind with less probability is needed by no prompt."""


@dataclass(frozen=True)
class HeldOut:
    """What sets of a growing number of configs are worth on prompts that they were not chosen on.

    Attributes:
        gains: of the first 1, 2, … configs over the first alone, each kind getting the best of them.
        chosen: mean reward of the set that the whole procedure chooses, its size included.
        over_single_best: gain of that set over the first config.
        over_default: the same over the default; None where it is not known.
        best_over_default: gain of the first config over the default; None likewise.
    """

    gains: tuple[Estimate, ...]
    chosen: Estimate
    over_single_best: Estimate
    over_default: Estimate | None
    best_over_default: Estimate | None


def order_configs(posterior: Posterior, configs: Sequence[int], first: Sequence[int] = ()) -> list[int]:
    """The configs in the order in which each adds most, after those of `first`.

    Args:
        posterior: of their rewards.
        configs: indices.
        first: indices that stand already; not among those returned.
    """
    order, left = list(first), [config for config in configs if config not in first]
    while left:
        expected = np.array([posterior.expect_best([*order, config]) for config in left])
        mean = posterior.weights @ posterior.means[:, left]
        # Where none adds anything, the best on average goes first.
        best = left[int(np.lexsort((-mean, -np.round(expected, 12)))[0])]
        order.append(best)
        left.remove(best)
    return order[len(first) :]


def count_worthwhile(posterior: Posterior, order: Sequence[int], most: int) -> int:
    """How many of the first configs are worth it: each adds at least `LEAST_GAIN` to what those before it come to."""
    values = [posterior.expect_best(order[:size]) for size in range(1, min(most, len(order)) + 1)]
    return next((size for size, gain in enumerate(np.diff(values), 1) if gain < LEAST_GAIN), len(values))


def estimate_held_out(
    Y: np.ndarray,
    kinds: np.ndarray,
    groups: np.ndarray,
    foldings: np.ndarray,
    boot: GroupBootstrap,
    *,
    most: int,
    default: int | None,
    seed: int,
) -> HeldOut:
    """What the procedure's sets are worth on the prompts of each fold, chosen on the others; averaged over foldings.

    Args:
        Y: float64 (n_prompts, n_configs), mean rewards, complete.
        kinds: int64 (n_prompts,), kind of each prompt.
        groups: int64 (n_prompts,).
        foldings: int64 (n_foldings, n_prompts).
        boot: draws over the groups.
        most: configs in a set.
        default: index of the default.
        seed: of the posterior's draws.
    """
    sizes = min(most, Y.shape[1])
    values = np.zeros((len(Y), sizes))
    chosen = np.zeros(len(Y))
    for folds in foldings:
        for fold in np.unique(folds):
            test = folds == fold
            train = ~test if not test.all() else test
            posterior = Posterior.of(Y[train], kinds[train], groups[train], seed)
            order = order_configs(posterior, range(Y.shape[1]))
            sets = [order[: size + 1] for size in range(sizes)]
            picked = np.column_stack([_take_best(posterior, some, Y[test], kinds[test]) for some in sets])
            values[test] += picked / len(foldings)
            chosen[test] += picked[:, count_worthwhile(posterior, order, most) - 1] / len(foldings)
    return HeldOut(
        gains=tuple(boot.mean(column - values[:, 0], learned=True) for column in values.T),
        chosen=boot.mean(chosen, learned=True),
        over_single_best=boot.mean(chosen - values[:, 0], learned=True),
        over_default=None if default is None else boot.mean(chosen - Y[:, default], learned=True),
        best_over_default=None if default is None else boot.mean(values[:, 0] - Y[:, default], learned=True),
    )


def find_needless(posterior: Posterior, configs: Sequence[int]) -> list[int]:
    """The configs that are the best one for some kind with probability below `LEAST_CHANCE`, for every kind."""
    likely = posterior.estimate_chances(configs).max(axis=0)
    return [config for config, chance in zip(configs, likely, strict=True) if chance < LEAST_CHANCE]


def _take_best(posterior: Posterior, configs: Sequence[int], Y: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """float64 (n,): rewards of the config of a set that is best for each prompt's kind; of a kind that the posterior
    has not seen, of the one that is best on average."""
    means = posterior.means[:, list(configs)]
    overall = int(choose_best(posterior.weights @ means))
    known = np.append(choose_best(means), overall)
    best = known[np.minimum(kinds, len(means))]
    return np.asarray(Y[np.arange(len(Y)), np.array(configs)[best]])
