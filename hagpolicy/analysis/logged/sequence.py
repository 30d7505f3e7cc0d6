"""`compute_sequence`: the interval of policy - default in an experiment, which holds at every look at once.

Units come one after the other, and each is assigned to the policy with a known probability p. Unit by unit,

    z = (y - c) / p for the policy's, -(y - c) / (1 - p) for the default's

has the mean of the difference between the arms, whatever c is that the units before determine; taking
c = (1 - p) × (mean of the policy's so far) + p × (mean of the default's so far) makes it the doubly robust
pseudo-outcome, whose variance is least (Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro, *ACM/IMS Journal of Data
Science* 1, 2024). With v the sum of the squared errors of predicting z by its mean so far, in units of its range s,

    Σ over bets f of w × exp(f × Σ(z - difference) / s - ψ(f) × v),   ψ(f) = -log(1 - f) - f

is a nonnegative supermartingale for the true difference (the empirical Bernstein process of Howard, Ramdas, McAuliffe
and Sekhon, *Annals of Statistics* 49, 2021; mixed over a grid of bets as in Waudby-Smith and Ramdas, *Journal of the
Royal Statistical Society B* 86, 2024). It ever exceeds 2 / error with a probability of at most error / 2 (Ville), and
so for the other side: the differences for which neither did are the interval. The bets are fixed beforehand, so that no
number of units has to be planned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.rule import LEVEL
from hagpolicy.errors import InvalidInput

__all__ = ["SequencePath", "compute_sequence"]

# Each half of the one before: at any number of units up to millions one of them is near the best.
_BETS = 0.5 ** np.arange(1, 11)
_PRICES = -np.log1p(-_BETS) - _BETS
# Steps of Newton's method, after which the boundary is exact to nine digits, and values that fit a cache.
_STEPS, _AT_ONCE = 3, 4096


@dataclass(frozen=True, eq=False)
class SequencePath:
    """The difference policy - default after each unit, with an interval that holds after all of them at once.

    Attributes:
        value: float64 (..., n), the estimate, in [-1, 1].
        low: float64 (..., n), lower end: of the mean difference over the units so far.
        high: float64 (..., n), upper end.
        highest_low: float64 (..., n), the highest lower end so far. Where the difference does not change with time all
            of the intervals hold it, so this one and the next are an interval too.
        lowest_high: float64 (..., n), the lowest upper end so far; may lie below `highest_low` where it does change.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    highest_low: np.ndarray
    lowest_high: np.ndarray


def compute_sequence(
    by_policy: np.ndarray, reward: np.ndarray, share: float, error: float = 1.0 - LEVEL
) -> SequencePath:
    """The interval of policy - default after each unit; looking after every one costs nothing.

    Args:
        by_policy: bool (..., n), arm of each unit in the order in which they count; leading axes are experiments.
        reward: float64 (..., n), in [0, 1], of each unit: one number, which no longer changes.
        share: in (0, 1), the probability with which each unit was assigned to the policy, independent of all else.
        error: in (0, 1), probability, at most, that the truth is ever outside.

    Raises:
        InvalidInput: other shapes, or a value out of its range.
    """
    by_policy, reward = np.asarray(by_policy), np.asarray(reward, dtype=np.float64)
    if by_policy.dtype.kind != "b" or by_policy.shape != reward.shape or not reward.ndim:
        raise InvalidInput("by_policy", f"True or False, of the shape of reward, {reward.shape}", by_policy.shape)
    if not ((reward >= 0.0) & (reward <= 1.0)).all():
        raise InvalidInput("reward", "rewards in [0, 1]; leave units without one out", "others")
    for name, value in (("share", share), ("error", error)):
        if not 0.0 < value < 1.0:
            raise InvalidInput(name, "a probability in (0, 1)", value)
    outcomes, ends = _make_outcomes(by_policy, reward, share)
    count = np.arange(1, reward.shape[-1] + 1)
    mean = np.cumsum(outcomes, axis=-1) / count
    scale = 1.0 / min(share, 1.0 - share)
    # Within this range of predictions an outcome errs by at most the scale to either side.
    predicted = np.clip(_shift(mean * count) / count, ends - scale, scale - ends)
    spent = np.cumsum(((outcomes - predicted) / scale) ** 2, axis=-1)
    width = scale * _find_boundary(spent, math.log(2.0 / error)) / count
    low, high = np.clip(mean - width, -1.0, 1.0), np.clip(mean + width, -1.0, 1.0)
    return SequencePath(
        np.clip(mean, -1.0, 1.0), low, high, np.maximum.accumulate(low, axis=-1), np.minimum.accumulate(high, axis=-1)
    )


def _make_outcomes(by_policy: np.ndarray, reward: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The pseudo-outcome of each unit, and how far it could have been from 0 to either side, as known before."""
    arms = []
    for mine in (by_policy, ~by_policy):
        before, total = _shift(np.cumsum(mine, axis=-1)), _shift(np.cumsum(mine * reward, axis=-1))
        arms.append((total + 0.5) / (before + 1.0))
    centre = (1.0 - share) * arms[0] + share * arms[1]
    outcomes = np.where(by_policy, (reward - centre) / share, (centre - reward) / (1.0 - share))
    farthest = np.maximum(centre, 1.0 - centre) / min(share, 1.0 - share)
    return outcomes, farthest


def _shift(sums: np.ndarray) -> np.ndarray:
    """Running sums without the last one that entered them."""
    return np.concatenate([np.zeros((*sums.shape[:-1], 1)), sums], axis=-1)[..., :-1]


def _find_boundary(spent: np.ndarray, level: float) -> np.ndarray:
    """float64, of the shape of `spent`: the sum x at which log Σ w exp(f x - ψ(f) v) reaches a level.

    Newton's method from above: the function is convex and rises, so every step stays above the root and the boundary
    errs to the safe side.
    """
    flat = spent.reshape(-1)
    parts = [_find_roots(flat[start : start + _AT_ONCE], level) for start in range(0, len(flat), _AT_ONCE)]
    return np.concatenate([np.zeros(0), *parts]).reshape(spent.shape)


def _find_roots(spent: np.ndarray, level: float) -> np.ndarray:
    """float64 (n,), for `spent`, float64 (n,)."""
    bets = _BETS[:, None]
    above = level + math.log(len(_BETS)) + _PRICES[:, None] * spent
    x = (above / bets).min(axis=0)  # where one of the bets alone reaches the level
    for _ in range(_STEPS):
        terms = np.exp(bets * x - above)
        total = terms.sum(axis=0)
        x = x - np.log(total) * total / (_BETS @ terms)
    return np.asarray(x)
