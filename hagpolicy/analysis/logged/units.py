"""Means over logged calls whose units are not independent within: their errors and intervals."""

from __future__ import annotations

import math

import numpy as np

from hagpolicy.analysis.rule import ERRORS
from hagpolicy.results import Estimate

__all__ = ["clip_estimate", "compute_error", "estimate_mean", "number_units"]


def number_units(unit: np.ndarray) -> np.ndarray:
    """int64 (n,): the units of calls, int64 (n,), numbered from 0 without gaps."""
    return np.unique(unit, return_inverse=True)[1].reshape(-1)


def compute_error(deviations: np.ndarray, units: np.ndarray) -> float:
    """Standard error of a mean over calls, from what each call adds to it; infinite for a single unit.

    Deviations of a unit are summed before they are squared, so calls of a unit may depend on each other in any way
    (Liang and Zeger, *Biometrika* 73, 1986).

    Args:
        deviations: float64 (n,), of each call from the mean, with mean 0: the influence of the call.
        units: int64 (n,), from 0 without gaps.
    """
    sums = np.bincount(units, weights=deviations)
    if len(sums) < 2:
        return math.inf
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1.0))) / len(deviations)


def estimate_mean(values: np.ndarray, units: np.ndarray, low: float, high: float) -> Estimate:
    """Mean of values, float64 (n,), and its 95 % interval over units, both cut to the range in which the truth lies."""
    mean = float(values.mean())
    return clip_estimate(mean, compute_error(values - mean, units), low, high)


def clip_estimate(value: float, error: float, low: float, high: float) -> Estimate:
    """A value and its 95 % interval, both cut to the range [low, high] in which the truth lies.

    Args:
        value: the estimate.
        error: its standard error; infinite: the interval is the range.
        low: end of the range.
        high: end of the range.
    """
    half = ERRORS * error
    return Estimate(*np.clip([value, value - half, value + half], low, high).tolist())
