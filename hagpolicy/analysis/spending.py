"""The gate's error spent over several looks at a growing table, so that looking early costs no false alarms.

How much may be spent by the time a share t of the prompts is seen is fixed beforehand: error × t² (Lan and DeMets,
*Biometrika* 70, 1983; the power family of Kim and DeMets, *Biometrika* 74, 1987). What each look may spend follows
from that and from the looks before it, whose sums of the same prompts it shares (the recursion of Armitage, McPherson
and Rowe, *Journal of the Royal Statistical Society A* 132, 1969).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from hagpolicy.analysis.rule import GATE_ERROR
from hagpolicy.data.looks import Look

POWER = 2.0
# Of the gate's error, kept for a table that grows beyond what was planned.
KEPT = 0.1
_STEP = 0.006
_WIDTH = 6.0


def plan_errors(shares: Sequence[float], error: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The error of each look by itself, and the error spent by it and those before, each (n_looks,).

    Args:
        shares: of the prompts seen at each look, rising, in (0, 1].
        error: to be spent by the time that all are seen, in (0, 0.5).
    """
    spent = tuple(error * share**POWER for share in shares)
    grid = np.arange(-_WIDTH, _WIDTH + _STEP, _STEP)
    density = np.zeros(0)  # of the sum so far, where no look has ended the sweep
    errors: list[float] = []
    before, already = 0.0, 0.0
    for share, total in zip(shares, spent, strict=True):
        steps = (grid[:, None] - grid[None, :]) if len(density) else grid[:, None]
        kernel = np.exp(-0.5 * steps**2 / (share - before)) / math.sqrt(2.0 * math.pi * (share - before))
        density = kernel @ (density * _STEP) if len(density) else kernel[:, 0]
        tail = np.cumsum(density[::-1])[::-1] * _STEP
        at = int(np.argmax(tail <= total - already))
        errors.append(1.0 - NormalDist().cdf((float(grid[at]) - _STEP / 2.0) / math.sqrt(share)))
        density = np.where(grid < grid[at], density, 0.0)
        before, already = share, total
    return tuple(errors), spent


def compute_error_left(looks: Sequence[Look], n_prompts: int) -> float:
    """The error of each step of the gate on a table that was looked at before.

    On the prompts of the last look it is that look's own; on others what the looks have left of `rule.GATE_ERROR`.

    Args:
        looks: in their order; none: `rule.GATE_ERROR`.
        n_prompts: of the table.
    """
    if not looks:
        return GATE_ERROR
    if looks[-1].prompts == n_prompts:
        return looks[-1].error
    return GATE_ERROR - max(look.spent for look in looks)


def compute_conditional_power(gain: float, spread: float, share: float, error: float) -> float:
    """Probability to prove a gain when all prompts are seen, from what a share of them shows.

    The drift is taken one-sidedly high, 0.84 standard errors above what was seen: learners gain by further prompts, and
    a sweep is to end only where that does not help (conditional power: Lan, Simon and Halperin, *Sequential Analysis*
    1, 1982).

    Args:
        gain: seen.
        spread: its standard error, above 0.
        share: of the prompts, in (0, 1).
        error: of the last look.
    """
    seen = gain / spread
    drift = (seen + 0.84) / math.sqrt(share)
    need = NormalDist().inv_cdf(1.0 - error) - seen * math.sqrt(share) - drift * (1.0 - share)
    return 1.0 - NormalDist().cdf(need / math.sqrt(1.0 - share))
