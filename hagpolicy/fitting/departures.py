"""What departing from the reference promised and achieved, for prompts that were not learned from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.rule import MIN_DEPARTING
from hagpolicy.policy.training_prompts import AchievedAdvantage

__all__ = ["Departures", "summarise_departures"]

# Bands of predicted advantage, at most: quarters of the decisions that would depart.
BANDS = 4
# Of each band's interval, which decides nothing: fewer than the gate's.
DRAWS = 500


@dataclass(frozen=True, eq=False)
class Departures:
    """Departing from the reference for the config that is predicted to be best, for every prompt out of fold.

    Attributes:
        predicted: float64 (n_foldings, n_prompts), advantage; 0 where the reference is predicted to be best, NaN for a
            prompt unlike those learned from, where no policy departs.
        achieved: float64 (n_foldings, n_prompts), what it gained, in the same unit.
    """

    predicted: np.ndarray
    achieved: np.ndarray


def summarise_departures(departures: Departures, groups: np.ndarray, seed: int) -> tuple[AchievedAdvantage, ...]:
    """What departing achieved, in bands of predicted advantage with as many decisions each, in rising order.

    A decision is a prompt in one folding, by a learner that has not seen it. Those for which the reference is predicted
    to be best are in no band, and achieve nothing: the bands' gains, weighed by their shares, add up to what a learner
    gains that departs for any advantage. Intervals are of choices learned on the other folds (`GroupBootstrap.mean`).

    Args:
        departures: at one point of the dial.
        groups: int64 (n_prompts,), independent groups.
        seed: of the draws.
    """
    predicted = departures.predicted
    folding, prompt = np.nonzero(np.nan_to_num(predicted) > 0.0)
    advantage, gain = predicted[folding, prompt], departures.achieved[folding, prompt]
    count = min(BANDS, len(np.unique(groups[prompt])) // MIN_DEPARTING) or min(1, len(prompt))
    bands = []
    for part in np.array_split(np.argsort(advantage, kind="stable"), count) if count else []:
        inside = prompt[part]
        n_groups = len(np.unique(groups[inside]))
        mean = GroupBootstrap(groups[inside], DRAWS, seed).mean(gain[part], learned=True)
        bands.append(
            AchievedAdvantage(
                low=float(advantage[part].min()),
                high=float(advantage[part].max()),
                gain=replace(mean, reliable=n_groups >= MIN_DEPARTING),
                n_prompts=len(np.unique(inside)),
                n_groups=n_groups,
                share=len(part) / predicted.size,
            )
        )
    return tuple(bands)
