"""The rule by which a policy ships, in numbers: what other modules and all texts say of it is taken from here.

The gate has two steps. The single best config (SBS) replaces what runs today, the default, where the lower end of its
gain over it is above 0; what that leaves is the reference, and a policy that chooses per prompt ships where the lower
end of its gain over the reference is above 0. In both, enough independent groups must differ. Where the default is not
known, SBS is the reference, and nothing is proven over what runs today.
"""

from __future__ import annotations

# Candidates are fitted on all folds of groups but one and scored on that one.
N_FOLDS = 5
# Candidates are averaged over so many foldings of the same prompts: one alone decides many verdicts by its luck.
N_FOLDINGS = 5
# Bootstrap draws over groups.
N_BOOT = 2000
# Share of the draws between the ends of an interval, and the standard errors from its middle to an end.
LEVEL = 0.95
ERRORS = 1.96
# Fewer independent groups than this prove nothing, and a bootstrap over them is too narrow.
MIN_GROUPS = 20
# Fewer groups that depart from the reference: their differences are too skewed for an interval.
MIN_DEPARTING = 10
# Share of the draws below the end that a step of the gate asks to be above 0: the probability, at most, that it lets
# pass what gains nothing. Set apart from the intervals that are reported (`LEVEL`).
GATE_ERROR = 0.025
# An interval of choices that were learned on the other folds is of the groups that a draw leaves out, some 37 %
# of them, and comes out sqrt(1 / 0.368 - 1) times as wide as one that takes prompts for independent.
WIDER = 1.31
# The gate narrows its draws to the scatter of a mean over all groups, and asks twice: a draw that does not choose the
# candidate scores 0, and one that does is judged on other groups. Together that is a bar of so many standard errors: a
# candidate that gains 2.8 of them passes in 71 of 100 tables, not in 80 (`tests/analysis/test_sizing.py`).
GATE_ERRORS = 2.25
# A gain of so many standard errors is proven with probability 0.8: 0.84 errors more are exceeded so often.
DETECTABLE_ERRORS = GATE_ERRORS + 0.84


def may_ship(low: float, departing: int) -> bool:
    """Whether a per-prompt policy ships: a lower end above 0, and enough groups that depart.

    Args:
        low: lower end of its gain over the reference at the gate's error, paying for all choices.
        departing: independent groups with a prompt for which it departs from the reference, out of fold.
    """
    return low > 0.0 and departing >= MIN_DEPARTING
