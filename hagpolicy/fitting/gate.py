"""Step 3 of `fit`, the gate: which learner is best, what it gains in truth, and whether it may ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.comparison import Comparison, ComparisonRow
from hagpolicy.analysis.rule import may_ship
from hagpolicy.analysis.selection import OutOfBag, Selection, select_family
from hagpolicy.fitting.crossfit import CrossFittedLearner
from hagpolicy.results import Candidate


@dataclass(frozen=True, eq=False)
class Gated:
    """What selection and gate came to.

    Attributes:
        winner: the best learner on its encoder; None where none beats SBS anywhere.
        candidates: at each point of the dial, the winner or "sbs", its gain, and whether it ships.
        rows: at each point, the rows of the learners and of the policy, by name.
    """

    winner: CrossFittedLearner | None
    candidates: tuple[Candidate, ...]
    rows: tuple[dict[str, ComparisonRow], ...]


def gate(learners: Sequence[CrossFittedLearner], comparisons: Sequence[Comparison]) -> Gated:
    """The best of some cross-fitted learners, and what the gate made of it at each point of the dial.

    Args:
        learners: on the prompts of the comparisons; none: SBS ships.
        comparisons: one for each point.
    """
    sbs_rows = [comparison.score_sbs("ships the single best config") for comparison in comparisons]
    if not learners:
        candidates = tuple(Candidate("sbs", sbs.gain, 0.0, 0, False) for sbs in sbs_rows)
        return Gated(None, candidates, tuple({"policy": sbs} for sbs in sbs_rows))
    rows: list[dict[str, ComparisonRow]] = [{} for _ in comparisons]
    out_of_bag = _out_of_bag(learners, comparisons)
    for name in dict.fromkeys(one.learner.name for one in learners):
        mine = [number for number, one in enumerate(learners) if one.learner.name == name]
        best, selections = _select(learners, comparisons, out_of_bag, mine)
        shown = best or learners[mine[0]]
        for point, selected in enumerate(selections):
            rows[point][name] = _build_row(shown, selected, comparisons[point], point, "before the gate")
    winner, selections = _select(learners, comparisons, out_of_bag, range(len(learners)))
    judged = [_judge(winner, selected, point) for point, selected in enumerate(selections)]
    for point, (candidate, selected) in enumerate(zip(judged, selections, strict=True)):
        rows[point]["policy"] = sbs_rows[point]
        if winner is not None and candidate.shipped:
            rows[point]["policy"] = _build_row(winner, selected, comparisons[point], point, candidate.name)
    return Gated(winner, tuple(judged), tuple(rows))


def _select(
    learners: Sequence[CrossFittedLearner],
    comparisons: Sequence[Comparison],
    out_of_bag: OutOfBag | None,
    numbers: Sequence[int],
) -> tuple[CrossFittedLearner | None, tuple[Selection, ...]]:
    """The best of the learners of some numbers, None where none beats SBS anywhere, and its gains at each point."""
    gains = np.array([learners[number].gains for number in numbers])
    references = np.array([comparison.reference for comparison in comparisons])
    default = comparisons[0].default
    defaults = None if default is None else np.array([comparison.Y[:, default] for comparison in comparisons])
    theirs = None if out_of_bag is None else OutOfBag(out_of_bag.gains[:, list(numbers)], out_of_bag.references)
    best, selections = select_family(gains, references, comparisons[0].boot, defaults, theirs)
    return (None if best is None else learners[numbers[best]]), selections


def _build_row(
    learner: CrossFittedLearner, selected: Selection, comparison: Comparison, point: int, note: str
) -> ComparisonRow:
    """The row of a learner at one point of the dial."""
    choices = learner.choices[point, :, selected.index or 0]
    choices = np.full_like(choices, -1) if selected.index is None else choices
    cost = comparison.mean_cost(choices)
    return ComparisonRow(selected.value, selected.gain, selected.over_default, note, cost)


def _judge(winner: CrossFittedLearner | None, selected: Selection, point: int) -> Candidate:
    """The candidate at one point, which ships for a lower end above 0 and enough groups that depart (`may_ship`)."""
    if winner is None or selected.index is None:
        return Candidate("sbs", selected.gain, 0.0, 0, False)
    departing = len(np.unique(winner.training.groups[winner.departs[point, :, selected.index]]))
    margin = float(winner.margins[point, selected.index])
    return Candidate(winner.name, selected.gain, margin, departing, may_ship(selected.gain, departing))


def _out_of_bag(learners: Sequence[CrossFittedLearner], comparisons: Sequence[Comparison]) -> OutOfBag | None:
    """Gains in each draw over the draw's own SBS, on left-out prompts; None where SBS is not chosen in draws."""
    boot = comparisons[0].boot
    drawn = [comparison.resampled for comparison in comparisons if comparison.resampled is not None]
    if len(drawn) < len(comparisons) or not len(boot.leaving):
        return None
    found = np.empty((len(boot.leaving), len(learners), *learners[0].margins.shape))
    for number, learner in enumerate(learners):
        for point, (resampled, over) in enumerate(zip(drawn, learner.over, strict=True)):
            found[:, number, point] = resampled.out_of_bag_means(boot, over.__getitem__)
    return OutOfBag(found, np.column_stack([resampled.value for resampled in drawn]))
