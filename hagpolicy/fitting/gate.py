"""Step 3 of `fit`, the gate: what it compares with, which learner is best, what it gains, and whether it may ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hagpolicy.analysis.comparison import Comparison, ComparisonRow
from hagpolicy.analysis.rule import MIN_DEPARTING, may_ship
from hagpolicy.analysis.selection import Selection, select_family
from hagpolicy.fitting.crossfit import CrossFittedLearner
from hagpolicy.results import Candidate, Estimate


@dataclass(frozen=True, eq=False)
class Gated:
    """What selection and gate came to.

    Attributes:
        winner: the best learner on its encoder; None where none beats the reference anywhere.
        candidates: at each point of the dial, the winner or the reference, its gain, and whether it ships.
        rows: at each point, the rows of the learners and of the policy, by name.
    """

    winner: CrossFittedLearner | None
    candidates: tuple[Candidate, ...]
    rows: tuple[dict[str, ComparisonRow], ...]


def gate(learners: Sequence[CrossFittedLearner], comparisons: Sequence[Comparison]) -> Gated:
    """The best of some cross-fitted learners, and what the gate made of it at each point of the dial.

    The first step is the comparisons' own (`Comparison.single_best`): it leaves the reference that learners depart from
    and are compared with.

    Args:
        learners: on the prompts of the comparisons; none: the reference ships.
        comparisons: one for each point.
    """
    standing = [comparison.score_reference() for comparison in comparisons]
    rows: list[dict[str, ComparisonRow]] = [{} for _ in comparisons]
    if not learners:
        return _keep_reference(comparisons, standing, rows)
    out_of_bag = _out_of_bag(learners, comparisons)
    for name in dict.fromkeys(one.learner.name for one in learners):
        mine = [number for number, one in enumerate(learners) if one.learner.name == name]
        best, selections = _select(learners, comparisons, out_of_bag, mine)
        shown = best or learners[mine[0]]
        note = "before the gate" if shown.learner.exports else "without an export: it never ships"
        for point, selected in enumerate(selections):
            rows[point][name] = _build_row(shown, selected, comparisons[point], point, note)
        # Each encoder by itself where several compete, so that what is chosen among them is seen to differ.
        alone = mine if len({learners[number].name for number in mine}) == len(mine) > 1 else []
        for number in alone:
            own = learners[number]
            for point, selected in enumerate(_select(learners, comparisons, out_of_bag, [number])[1]):
                rows[point][own.name] = _build_row(own, selected, comparisons[point], point, note)
    able = [number for number, one in enumerate(learners) if one.learner.exports]
    if not able:
        return _keep_reference(comparisons, standing, rows)
    winner, selections = _select(learners, comparisons, out_of_bag, able)
    judged = [_judge(winner, selected, comparisons[point], point) for point, selected in enumerate(selections)]
    for point, (candidate, selected) in enumerate(zip(judged, selections, strict=True)):
        rows[point]["policy"] = standing[point]
        if winner is not None and candidate.shipped:
            rows[point]["policy"] = _build_row(winner, selected, comparisons[point], point, candidate.name)
    return Gated(winner, tuple(judged), tuple(rows))


def _keep_reference(
    comparisons: Sequence[Comparison], standing: Sequence[ComparisonRow], rows: Sequence[dict[str, ComparisonRow]]
) -> Gated:
    """The reference ships at every point, beside the rows of what was only compared."""
    candidates = tuple(_nothing(comparison) for comparison in comparisons)
    return Gated(None, candidates, tuple({**mine, "policy": row} for mine, row in zip(rows, standing, strict=True)))


def _select(
    learners: Sequence[CrossFittedLearner],
    comparisons: Sequence[Comparison],
    out_of_bag: np.ndarray | None,
    numbers: Sequence[int],
) -> tuple[CrossFittedLearner | None, tuple[Selection, ...]]:
    """The best of the learners of some numbers, None where none beats the reference anywhere, and its gains at each
    point."""
    gains = np.array([learners[number].gains for number in numbers])
    theirs = None if out_of_bag is None else out_of_bag[:, list(numbers)]
    references = np.array([comparison.drawn_reference.config for comparison in comparisons])
    best, selections = select_family(gains, comparisons[0].boot, theirs, references, comparisons[0].error)
    return (None if best is None else learners[numbers[best]]), selections


def _build_row(
    learner: CrossFittedLearner, selected: Selection, comparison: Comparison, point: int, note: str
) -> ComparisonRow:
    """The row of a learner at one point of the dial."""
    standing = -1 if comparison.over == "single_best" else comparison.reference
    choices = np.full((1, len(comparison.Y)), standing)
    if selected.index is not None:
        choices = learner.choices[:, point, :, selected.index]
    costs = [cost for one in choices if (cost := comparison.mean_cost(one)) is not None]
    row = comparison.score_selection(selected, note)
    row = replace(row, cost=float(np.mean(costs)) if costs else None, values=comparison.take_values(choices))
    few = selected.index is not None and _count_departing(learner, selected.index, point) < MIN_DEPARTING
    return replace(row, gain=replace(row.gain, reliable=not few))


def _judge(winner: CrossFittedLearner | None, selected: Selection, comparison: Comparison, point: int) -> Candidate:
    """The candidate at one point, which ships for a lower end above 0 and enough groups that depart (`may_ship`)."""
    if winner is None or selected.index is None:
        return replace(_nothing(comparison), gain=selected.gain)
    departing = _count_departing(winner, selected.index, point)
    gain = replace(selected.gain, reliable=departing >= MIN_DEPARTING)
    margin = float(winner.margins[point, selected.index])
    return Candidate(winner.name, gain, margin, departing, may_ship(selected.low, departing), comparison.over)


def _nothing(comparison: Comparison) -> Candidate:
    """What stands for a candidate where none beats the reference."""
    name = "sbs" if comparison.over == "single_best" else "default"
    return Candidate(name, Estimate(0.0, 0.0, 0.0), 0.0, 0, False, comparison.over)


def _count_departing(learner: CrossFittedLearner, index: int, point: int) -> int:
    """Independent groups with a prompt for which a learner departs from the reference at one margin."""
    return len(np.unique(learner.training.groups[learner.departs[point, :, index]]))


def _out_of_bag(learners: Sequence[CrossFittedLearner], comparisons: Sequence[Comparison]) -> np.ndarray | None:
    """float64 (n_leaving, n_learners, n_points, n_margins): gains in each draw over the draw's own reference, on
    left-out prompts; None for one group."""
    boot = comparisons[0].boot
    if not len(boot.leaving):
        return None
    found = np.empty((len(boot.leaving), len(learners), *learners[0].margins.shape))
    for number, learner in enumerate(learners):
        for point, (comparison, over) in enumerate(zip(comparisons, learner.over, strict=True)):
            found[:, number, point] = comparison.drawn_reference.out_of_bag_means(boot, over.__getitem__)
    return found
