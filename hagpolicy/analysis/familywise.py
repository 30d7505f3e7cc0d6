"""Which of many differences are real, with 5 % for a single false one among them all."""

from __future__ import annotations

import numpy as np

from hagpolicy.analysis.rule import MIN_DEPARTING, MIN_GROUPS, N_BOOT

__all__ = ["mark_differences"]

# Nominal chance of a false mark in a family; it leaves room for scores that are not quite as likely one way as the
# other, so that 5 % can be promised.
CHANCE = 0.04
# What is flipped at once, in numbers, so that a large family needs no more memory than this.
_AT_ONCE = 20_000_000


def mark_differences(scores: np.ndarray, n_groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """bool (k,): the differences that are not zero, by a rule under which, where all of them are zero, any is
    called so with probability 5 % at most.

    The signs of all scores of a group are flipped together, at random: where a difference is zero, its scores are as
    likely one way as the other, so the largest of the standardised sums over a flip tells how large the largest of
    so many gets by chance (the max-t method of Westfall and Young, *Resampling-Based Multiple Testing*, 1993; sign
    flips as in Winkler et al., *NeuroImage* 92, 2014). It makes use of what the differences have in common and
    controls the chance of a false mark among those that are zero, whatever the others are.

    Args:
        scores: float64 (n_groups, k): what each independent group adds to each difference, 0 where it tells nothing.
        n_groups: int64 (k,), the groups that each difference is of. With fewer than `rule.MIN_GROUPS`, or where fewer
            than `rule.MIN_DEPARTING` groups differ at all, a difference is never marked, and counts among no family.
        seed: of the flips.
    """
    scale = np.sqrt((scores**2).sum(axis=0))
    differing = (np.abs(scores) > 1e-12 * np.maximum(scale, 1e-300)).sum(axis=0)
    judged = np.flatnonzero((n_groups >= MIN_GROUPS) & (differing >= MIN_DEPARTING) & (scale > 1e-12))
    marked = np.zeros(scores.shape[1], dtype=bool)
    if not len(judged):
        return marked
    unit = scores[:, judged] / scale[judged]
    largest, rng = np.zeros(N_BOOT), np.random.default_rng(seed)
    step = max(1, min(N_BOOT, _AT_ONCE // max(unit.shape)))
    for start in range(0, N_BOOT, step):
        signs = rng.integers(0, 2, (min(step, N_BOOT - start), len(unit))) * 2.0 - 1.0
        largest[start : start + len(signs)] = np.abs(signs @ unit).max(axis=1)
    # The table itself is one of the flips, so that the chance is at most so much and not about so much.
    bound = np.quantile(np.append(largest, np.inf), 1.0 - CHANCE, method="higher")
    marked[judged] = np.abs(unit.sum(axis=0)) > bound
    return marked
