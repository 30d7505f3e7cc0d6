"""The gate: which contender is best, what it gains in truth, and whether it may ship."""

from __future__ import annotations

import numpy as np

from hagpolicy.analysis.comparison import Comparison, ComparisonRow
from hagpolicy.analysis.rule import may_ship
from hagpolicy.analysis.selection import OutOfBag, Selection, select_family
from hagpolicy.fitting.crossfit import Contender
from hagpolicy.results import Candidate


def gate(
    contenders: list[Contender], comparisons: list[Comparison]
) -> tuple[Contender | None, list[Candidate], list[dict[str, ComparisonRow]]]:
    """The best contender (None where none beats SBS), what the gate made of it at each point, and the
    rows of the learners and of the policy for each comparison."""
    references = np.array([comparison.reference for comparison in comparisons])
    default, boot = comparisons[0].default, comparisons[0].boot
    baselines = None if default is None else np.array([comparison.Y[:, default] for comparison in comparisons])

    out_of_bag = _out_of_bag(contenders, comparisons)

    def chosen_among(some: list[int]) -> tuple[int | None, tuple[Selection, ...]]:
        gains = np.array([contenders[number].gains for number in some])
        mine = None if out_of_bag is None else OutOfBag(out_of_bag.gains[:, some], out_of_bag.references)
        return select_family(gains, references, boot, baselines, mine)

    def row(contender: Contender, selected: Selection, point: int, note: str) -> ComparisonRow:
        choices = contender.choices[point, :, selected.index or 0]
        choices = np.full_like(choices, -1) if selected.index is None else choices
        cost = comparisons[point].mean_cost(choices)
        return ComparisonRow(selected.value, selected.gain, selected.over_baseline, note, cost)

    rows: list[dict[str, ComparisonRow]] = [{} for _ in comparisons]
    for name in dict.fromkeys(item.learner.name for item in contenders):
        mine = [number for number, item in enumerate(contenders) if item.learner.name == name]
        number, best = chosen_among(mine)
        for point, selection in enumerate(best):
            rows[point][name] = row(contenders[mine[number or 0]], selection, point, "before the gate")
    everyone = list(range(len(contenders)))
    number, selections = chosen_among(everyone) if contenders else (None, (None,) * len(comparisons))
    winner = None if number is None else contenders[number]
    candidates = []
    for point, (comparison, selected) in enumerate(zip(comparisons, selections, strict=True)):
        sbs = comparison.score_sbs("ships the single best config")
        gain = sbs.gain if selected is None else selected.gain
        candidate = Candidate("sbs", gain, 0.0, 0, False)
        rows[point]["policy"] = sbs
        if winner is not None and selected is not None and selected.index is not None:
            candidate = _gated(winner, selected, point)
            if candidate.shipped:
                rows[point]["policy"] = row(winner, selected, point, candidate.name)
        candidates.append(candidate)
    return winner, candidates, rows


def _out_of_bag(contenders: list[Contender], comparisons: list[Comparison]) -> OutOfBag | None:
    """Gains in each draw over the draw's own SBS, on left-out prompts; None where SBS is not chosen in draws."""
    boot = comparisons[0].boot
    drawn = [comparison.resampled for comparison in comparisons if comparison.resampled is not None]
    if not contenders or len(drawn) < len(comparisons) or not len(boot.leaving):
        return None
    found = np.empty((len(boot.leaving), len(contenders), *contenders[0].margins.shape))
    for number, contender in enumerate(contenders):
        for point, (resampled, over) in enumerate(zip(drawn, contender.over, strict=True)):
            found[:, number, point] = resampled.left_out(boot, over.__getitem__)
    return OutOfBag(found, np.column_stack([resampled.value for resampled in drawn]))


def _gated(winner: Contender, selected: Selection, point: int) -> Candidate:
    """The gate: a lower end above 0, and enough independent groups that depart."""
    assert selected.index is not None
    departing = len(np.unique(winner.training.groups[winner.departs[point, :, selected.index]]))
    margin = float(winner.margins[point, selected.index])
    return Candidate(winner.name, selected.gain, margin, departing, may_ship(selected.gain, departing))
