"""The rule by which a policy ships, in numbers: what other modules and all texts say of it is taken from here.

A policy ships where the lower end of its gain's interval is above 0 and enough independent groups depart from the
single best config (SBS); else SBS ships.
"""

from __future__ import annotations

from hagpolicy.results import Estimate

# Candidates are fitted on all folds of groups but one and scored on that one.
N_FOLDS = 5
# Bootstrap draws over groups.
N_BOOT = 2000
# Share of the draws between the ends of an interval, and the standard errors from its middle to an end.
LEVEL = 0.95
ERRORS = 1.96
# Fewer independent groups than this prove nothing, and a bootstrap over them is too narrow.
MIN_GROUPS = 20
# Fewer groups that depart from SBS: their differences are too skewed for an interval.
MIN_DEPARTING = 10
# An interval of choices that were learned on the other folds is of the groups that a draw leaves out, some 37 %
# of them, and comes out sqrt(1 / 0.368 - 1) times as wide as one that takes prompts for independent.
WIDER = 1.31
GATE_ERRORS = ERRORS * WIDER
# A gain of so many standard errors is proven with probability 0.8: 0.84 errors more are exceeded so often.
DETECTABLE_ERRORS = GATE_ERRORS + 0.84


def may_ship(gain: Estimate, departing: int) -> bool:
    """Whether a policy ships: a lower end above 0, and enough groups that depart.

    Args:
        gain: over SBS, paying for all choices.
        departing: independent groups with a prompt for which it departs from SBS, out of fold.
    """
    return gain.low > 0.0 and departing >= MIN_DEPARTING
