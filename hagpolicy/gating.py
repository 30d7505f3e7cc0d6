"""The gate: which contender is best, what it gains in truth, and whether it may ship."""

from __future__ import annotations

import numpy as np

from hagpolicy.crossfit import Contender
from hagpolicy.ladder import Entry, Ladder
from hagpolicy.results import Candidate
from hagpolicy.selection import Selection, Unseen, select_family

# Independent groups that must depart from SBS: with fewer, their differences are too skewed for an interval.
MIN_DEPARTING = 10


def gate(
    contenders: list[Contender], ladders: list[Ladder]
) -> tuple[Contender | None, list[Candidate], list[dict[str, Entry]]]:
    """The best contender (None where none beats SBS), what the gate made of it at each point, and the
    lines of the learners and of the policy for each ladder."""
    references = np.array([ladder.reference for ladder in ladders])
    default, boot = ladders[0].default, ladders[0].boot
    baselines = None if default is None else np.array([ladder.Y[:, default] for ladder in ladders])

    def chosen_among(some: list[Contender]) -> tuple[int | None, tuple[Selection, ...]]:
        gains, drawn = np.array([item.gains for item in some]), [ladder.redrawn for ladder in ladders]
        if any(one is None for one in drawn) or not len(boot.leaving):
            return select_family(gains, references, boot, baselines)
        unseen = np.stack([_unseen(some, point, ladders[point]) for point in range(len(ladders))], axis=2)
        values = np.column_stack([one.value for one in drawn if one is not None])
        return select_family(gains, references, boot, baselines, Unseen(unseen, values))

    def line(contender: Contender, selected: Selection, point: int, note: str) -> Entry:
        choices = contender.choices[point, :, selected.index or 0]
        choices = np.full_like(choices, -1) if selected.index is None else choices
        return Entry(selected.value, selected.gain, selected.over_baseline, note, ladders[point].cost(choices))

    entries: list[dict[str, Entry]] = [{} for _ in ladders]
    for name in dict.fromkeys(item.learner.name for item in contenders):
        mine = [item for item in contenders if item.learner.name == name]
        number, best = chosen_among(mine)
        for point, selection in enumerate(best):
            entries[point][name] = line(mine[number or 0], selection, point, "before the gate")
    number, selections = chosen_among(contenders) if contenders else (None, (None,) * len(ladders))
    winner = None if number is None else contenders[number]
    candidates = []
    for point, (ladder, selected) in enumerate(zip(ladders, selections, strict=True)):
        sbs = ladder.single_best("ships the single best config")
        gain = sbs.gain if selected is None else selected.gain
        candidate = Candidate("sbs", gain, 0.0, 0, False)
        entries[point]["policy"] = sbs
        if winner is not None and selected is not None and selected.index is not None:
            candidate = _gated(winner, selected, point)
            if candidate.shipped:
                entries[point]["policy"] = line(winner, selected, point, candidate.name)
        candidates.append(candidate)
    return winner, candidates, entries


def _unseen(contenders: list[Contender], point: int, ladder: Ladder) -> np.ndarray:
    """float64 (n_leaving, n_contenders, n_margins): gain in each draw over the draw's own SBS, left-out prompts."""
    assert ladder.redrawn is not None
    found = np.empty((len(ladder.boot.leaving), len(contenders), contenders[0].margins.shape[1]))
    for sbs in np.unique(ladder.redrawn.config).tolist():
        mine = ladder.redrawn.config == sbs
        for number, contender in enumerate(contenders):
            found[mine, number] = ladder.boot.left_out(contender.over[point][sbs])[mine]
    return found


def _gated(winner: Contender, selected: Selection, point: int) -> Candidate:
    """The gate: a lower end above 0, and enough independent groups that depart."""
    assert selected.index is not None
    departing = len(np.unique(winner.training.groups[winner.departs[point, :, selected.index]]))
    shipped = selected.gain.low > 0.0 and departing >= MIN_DEPARTING
    margin = float(winner.margins[point, selected.index])
    return Candidate(winner.name, selected.gain, margin, departing, shipped)
