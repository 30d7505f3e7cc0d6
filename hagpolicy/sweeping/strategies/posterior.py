"""`Posterior`: expected rewards of configs by kind of prompt, and how sure they are."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from hagpolicy.analysis.rule import ERRORS, WIDER
from hagpolicy.data.additive import fit_additive
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.ties import choose_best

# Draws from the posterior, to value sets of configs.
DRAWS = 1000
# Labels with fewer prompts than this are one kind together: their own means would be luck.
MIN_KIND = 10
# Prompts without labels: at most so many clusters, of words hashed to so many columns.
CLUSTERS, WORDS = 8, 2048


def assign_kinds(prompts: Sequence[Prompt], seed: int = 0) -> np.ndarray:
    """int64 (n_prompts,): number of the kind of each prompt.

    Kinds are the task labels, rare ones together. Where all prompts have one label they are clusters
    of prompts that share words, which is all that is known of them before a policy is fitted.
    """
    labels = np.array([prompt.task for prompt in prompts], dtype=str)
    names, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) == 1:
        index = _cluster([prompt.text for prompt in prompts], seed)
        counts = np.bincount(index)
    rare = counts < MIN_KIND
    number = np.where(rare, len(counts), np.cumsum(~rare) - 1)
    return np.asarray(np.unique(number[index], return_inverse=True)[1], dtype=np.int64)


def _cluster(texts: Sequence[str], seed: int) -> np.ndarray:
    """int64 (n_prompts,): spherical k-means (Dhillon and Modha, *Machine Learning* 42, 2001) over the words.

    Scikit-learn's k-means is not spherical, and is nothing that a sweep needs otherwise.
    """
    counts = np.zeros((len(texts), WORDS))
    for row, text in enumerate(texts):
        for word in set(re.findall(r"\w+", text.lower())):
            counts[row, zlib.crc32(word.encode("utf-8", "replace")) % WORDS] += 1.0
    share = (counts > 0).mean(axis=0)
    # Words of every other prompt are its form, not its subject; words of one prompt alone join nothing.
    weights = counts * np.where((share < 0.5) & (share * len(texts) >= 2), -np.log(np.maximum(share, 1e-12)), 0.0)
    points = weights @ np.linalg.eigh(weights.T @ weights)[1][:, -CLUSTERS:]
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    number = max(min(CLUSTERS, len(texts) // (3 * MIN_KIND)), 1)
    rng = np.random.default_rng([abs(seed), 3])
    tries = [_cluster_spherically(points, number, rng) for _ in range(8)]
    return max(tries, key=lambda found: found[1])[0]


def _cluster_spherically(points: np.ndarray, number: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """(cluster of each point, int64 (n_prompts,); how near they are to their centres, the larger the nearer)."""
    centres = points[rng.choice(len(points), number, replace=False)]
    for _ in range(25):
        near = points @ centres.T
        owner = near.argmax(axis=1)
        centres = np.zeros_like(centres)
        np.add.at(centres, owner, points)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    return owner, float(near.max(axis=1).sum())


@dataclass(frozen=True)
class Posterior:
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
        noise: variance of one sample around what is expected of it.
        n_prompts: how many there are.
    """

    weights: np.ndarray
    means: np.ndarray
    errors: np.ndarray
    draws: np.ndarray
    noise: float
    n_prompts: int

    @classmethod
    def of(cls, Y: np.ndarray, kinds: np.ndarray, groups: np.ndarray, seed: int) -> Posterior:
        """The posterior after the cells seen so far.

        Args:
            Y: float64 (n_prompts, n_configs), mean rewards, NaN = not seen. Prompts differ in what
                was tried on them, so effects are those of an additive fit over the seen cells.
            kinds: int64 (n_prompts,).
            groups: int64 (n_prompts,): prompts of one group and kind count once.
            seed: of the draws.
        """
        level, effects = fit_additive(Y)
        residuals, kind = _average_by_group(Y - level[:, None] - effects, kinds, groups)
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
        # One standard error more than estimated: a config is lost for good, so doubt is on its side.
        each = (shift**2 - noise / np.maximum(counts, 1.0))[usable] * free
        moved = max(float(each.mean() + each.std() / np.sqrt(each.size)), 0.0) if n_kinds > 1 and each.size else 0.0
        own = moved / (moved + noise / np.maximum(counts, 1.0)) * (counts > 0)
        means = np.where(known, middle + trust * (effects - middle) + own * shift, -np.inf)
        errors = np.sqrt(trust * overall + moved * (1.0 - own))
        normal = np.random.default_rng(seed).normal(size=(DRAWS, *means.shape))
        weights = np.bincount(kinds, minlength=n_kinds) / len(kinds)
        return cls(weights, means, errors, means + errors * normal, noise, len(kinds))

    def expect_best(self, configs: Sequence[int]) -> float:
        """Expected reward where each kind gets the best of `configs`, as far as it is known."""
        return float(self.weights @ self.means[:, list(configs)].max(axis=1))

    def expect_after_sampling(self, configs: Sequence[int], samples: np.ndarray, common: int) -> float:
        """Expected reward of what will be shipped after more samples of some configs.

        A preposterior analysis (Raiffa and Schlaifer, *Applied Statistical Decision Theory*, 1961): for
        every draw of the configs' expected rewards, samples are drawn, the posterior that they would
        lead to chooses for each kind, and the draw itself is the reward. That gain over the best single
        config counts with the chance that the gate can tell it from noise.

        Args:
            configs: indices.
            samples: float64 (n_kinds, len(configs)): how many there will be, above 0.
            common: how many of them every prompt has.
        """
        rewards, prior = self.draws[:, :, list(configs)], self.means[:, list(configs)]
        error = np.sqrt(self.noise / samples)
        trust = self.errors[:, list(configs)] ** 2 / (self.errors[:, list(configs)] ** 2 + error**2)
        seen = rewards + error * np.random.default_rng(0).normal(size=rewards.shape)
        chosen = (prior + trust * (seen - prior)).argmax(axis=2)
        got = np.take_along_axis(rewards, chosen[:, :, None], axis=2)[:, :, 0]
        single = float((self.weights @ prior).max())
        gain = max(float(got.mean(axis=0) @ self.weights) - single, 0.0)
        error_of_gain = WIDER * np.sqrt(2.0 * self.noise / (self.n_prompts * common))
        return single + gain * NormalDist().cdf(gain / error_of_gain - ERRORS)

    def expect_losses(self, configs: Sequence[int]) -> np.ndarray:
        """float64 (len(configs),): expected loss in the best of the set with each of them taken out."""
        drawn = self.draws[:, :, list(configs)]
        if drawn.shape[2] == 1:
            return np.full(1, np.inf)
        order = np.sort(drawn, axis=2)
        ahead = np.where(drawn >= order[:, :, -1:], order[:, :, -1:] - order[:, :, -2:-1], 0.0)
        return np.asarray(np.einsum("dkj,k->j", ahead, self.weights) / len(drawn))

    def find_dominated(self, configs: Sequence[int], level: float) -> np.ndarray:
        """bool (len(configs),): behind the best of `configs` for every kind, each by more than the
        one-sided bound of this level. Prompts are paired: their own level is taken out."""
        means, errors = self.means[:, list(configs)], self.errors[:, list(configs)]
        leader = choose_best(means)
        rows = np.arange(len(means))
        bound = NormalDist().inv_cdf(1.0 - level)
        behind = means - means[rows, leader][:, None]
        error = np.sqrt(errors**2 + (errors[rows, leader] ** 2)[:, None])
        return np.asarray((behind + bound * error < 0.0).all(axis=0))

    def estimate_chances(self, configs: Sequence[int]) -> np.ndarray:
        """float64 (n_kinds, len(configs)): how likely each of them is the best one for the kind."""
        best = self.draws[:, :, list(configs)].argmax(axis=2)
        return np.stack([np.bincount(column, minlength=len(configs)) for column in best.T]) / len(best)


def _average_by_group(residuals: np.ndarray, kinds: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean residuals of each group and kind, float64 (n, n_configs) with NaN for the unseen, and the
    kind of each of these rows, int64 (n,)."""
    pairs, index = np.unique(np.column_stack([groups, kinds]), axis=0, return_inverse=True)
    seen = ~np.isnan(residuals)
    total, count = (np.zeros((len(pairs), residuals.shape[1])) for _ in range(2))
    np.add.at(total, index.ravel(), np.where(seen, residuals, 0.0))
    np.add.at(count, index.ravel(), seen)
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan), pairs[:, 1]
