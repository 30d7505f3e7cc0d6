"""What a config is worth beside others: where it is the best of a set, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from hagpolicy.estimates import additive_fit

# Draws from the posterior, to value sets of configs.
DRAWS = 1000
# Labels with fewer prompts than this are one kind together: their own means would be luck.
MIN_KIND = 10


def kinds_of(labels: np.ndarray) -> np.ndarray:
    """int64 (n_prompts,): number of the kind of each prompt, from its task label; rare labels are one kind."""
    names, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rare = counts < MIN_KIND
    number = np.where(rare, len(names), np.cumsum(~rare) - 1)
    return np.asarray(np.unique(number[index], return_inverse=True)[1], dtype=np.int64)


@dataclass(frozen=True)
class Worth:
    """Expected rewards of the configs by kind of prompt, as far as the cells seen so far tell.

    An empirical-Bayes estimate (Efron and Morris, *JASA* 70, 1975): a config's mean, and on top what
    each kind does to it, both shrunk by the evidence that there is such a thing at all. Shrunk, the
    luck of the samples counts as no skill: the best of a set under the posterior is worth in
    expectation what choosing on one half of the samples and scoring on the other half shows.

    Attributes:
        weights: float64 (n_kinds,): share of the prompts.
        means: float64 (n_kinds, n_configs): expected reward; -inf for a config never seen.
        errors: float64 (n_kinds, n_configs): its standard error.
        draws: float64 (DRAWS, n_kinds, n_configs): from that posterior.
    """

    weights: np.ndarray
    means: np.ndarray
    errors: np.ndarray
    draws: np.ndarray

    @classmethod
    def of(cls, Y: np.ndarray, kinds: np.ndarray, groups: np.ndarray, seed: int) -> Worth:
        """From what was seen.

        Args:
            Y: float64 (n_prompts, n_configs), mean rewards, NaN = not seen. Prompts differ in what
                was tried on them, so effects are those of an additive fit over the seen cells.
            kinds: int64 (n_prompts,).
            groups: int64 (n_prompts,): prompts of one group and kind count once.
            seed: of the draws.
        """
        level, effects = additive_fit(Y)
        residuals, kind = _by_group(Y - level[:, None] - effects, kinds, groups)
        seen = ~np.isnan(residuals)
        known = seen.any(axis=0)
        n_kinds = int(kinds.max()) + 1
        counts, sums = (np.zeros((n_kinds, Y.shape[1])) for _ in range(2))
        np.add.at(counts, kind, seen)
        np.add.at(sums, kind, np.where(seen, residuals, 0.0))
        shift = sums / np.maximum(counts, 1.0)
        noise = max(float(np.nanvar(residuals)), 1e-12)
        overall = noise / np.maximum(counts.sum(axis=0), 1.0)
        spread = max(float(np.var(effects[known]) - overall[known].mean()), 0.0)
        trust = spread / (spread + overall)
        middle = float(effects[known].mean())
        # Kinds move configs by about this much; what is taken out as means leaves less to be seen.
        usable = counts > 2
        free = (n_kinds / max(n_kinds - 1, 1)) * (known.sum() / max(known.sum() - 1, 1))
        moved = float((shift**2 - noise / np.maximum(counts, 1.0))[usable].mean() * free) if usable.any() else 0.0
        moved = max(moved, 0.0) if n_kinds > 1 else 0.0
        own = moved / (moved + noise / np.maximum(counts, 1.0)) * (counts > 0)
        means = np.where(known, middle + trust * (effects - middle) + own * shift, -np.inf)
        errors = np.sqrt(trust * overall + moved * (1.0 - own))
        normal = np.random.default_rng(seed).normal(size=(DRAWS, *means.shape))
        return cls(np.bincount(kinds, minlength=n_kinds) / len(kinds), means, errors, means + errors * normal)

    def value(self, configs: Sequence[int]) -> float:
        """Expected reward where each kind gets the best of `configs`, as far as it is known."""
        return float(self.weights @ self.means[:, list(configs)].max(axis=1))

    def losses(self, configs: Sequence[int]) -> np.ndarray:
        """float64 (len(configs),): expected loss in the best of the set with each of them taken out."""
        drawn = self.draws[:, :, list(configs)]
        if drawn.shape[2] == 1:
            return np.full(1, np.inf)
        order = np.sort(drawn, axis=2)
        ahead = np.where(drawn >= order[:, :, -1:], order[:, :, -1:] - order[:, :, -2:-1], 0.0)
        return np.asarray(np.einsum("dkj,k->j", ahead, self.weights) / len(drawn))

    def dominated(self, configs: Sequence[int], level: float) -> np.ndarray:
        """bool (len(configs),): behind the best of `configs` for every kind, each by more than the
        one-sided bound of this level. Prompts are paired: their own level is taken out."""
        means, errors = self.means[:, list(configs)], self.errors[:, list(configs)]
        leader = means.argmax(axis=1)
        rows = np.arange(len(means))
        bound = NormalDist().inv_cdf(1.0 - level)
        behind = means - means[rows, leader][:, None]
        error = np.sqrt(errors**2 + (errors[rows, leader] ** 2)[:, None])
        return np.asarray((behind + bound * error < 0.0).all(axis=0))

    def chances(self, configs: Sequence[int]) -> np.ndarray:
        """float64 (n_kinds, len(configs)): how likely each of them is the best one for the kind."""
        best = self.draws[:, :, list(configs)].argmax(axis=2)
        return np.stack([np.bincount(column, minlength=len(configs)) for column in best.T]) / len(best)


def _by_group(residuals: np.ndarray, kinds: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean residuals of each group and kind, float64 (n, n_configs) with NaN for the unseen, and the
    kind of each of these rows, int64 (n,)."""
    pairs, index = np.unique(np.column_stack([groups, kinds]), axis=0, return_inverse=True)
    seen = ~np.isnan(residuals)
    total, count = (np.zeros((len(pairs), residuals.shape[1])) for _ in range(2))
    np.add.at(total, index.ravel(), np.where(seen, residuals, 0.0))
    np.add.at(count, index.ravel(), seen)
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan), pairs[:, 1]
