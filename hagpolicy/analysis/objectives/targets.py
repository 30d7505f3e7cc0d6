"""The targets of a table under some objectives: what learners learn from, and what choices are compared by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.objectives.heads import Cells, Head, MeanCost
from hagpolicy.data.table import SweepTable
from hagpolicy.policy.dial import compute_weighted_sum

VALUES, COSTS = "values", "costs"


@dataclass(frozen=True, eq=False)
class Targets:
    """What is to be learned and compared on a table: its heads, and the points of a dial as weights over them.

    Attributes:
        objectives: n_points of them, one family, in rising order on their dial.
        names: of the heads, as a graph puts them out; "values" is the first.
        scales: float64 (n_heads,): a head times its scale is in its own unit. Costs are divided by the largest
            one, so that a graph's outputs are all within [0, 1].
        weights: float64 (n_points, n_heads) over the scaled heads.
        common: float64 (n_heads, n_prompts, n_configs), from the common samples: choices are compared by
            these.
        full: the same from all samples: learners learn from these.
        cells: the common samples.
    """

    objectives: tuple[Objective, ...]
    names: tuple[str, ...]
    scales: np.ndarray
    weights: np.ndarray
    common: np.ndarray
    full: np.ndarray
    cells: Cells

    def Y(self, point: int) -> np.ndarray:
        """float64 (n_prompts, n_configs): the objective at a point, from the common samples."""
        return compute_weighted_sum(self.weights[point], self.common)

    def estimator_at(self, point: int) -> Callable[[np.ndarray], np.ndarray]:
        """The objective at a point from some samples: bool (n_prompts, n_configs, n_samples) to float64
        (n_prompts, n_configs)."""
        return lambda kept: self.objectives[point].estimate(self.cells.keep(kept))

    @property
    def spread_margins(self) -> bool:
        """True where margins are multiples of the predictions' spread: a price moves the scale of what is
        compared, so that a margin in units of reward would mean another thing at each."""
        return self.objectives[0].dial == "price"


def targets_of(table: SweepTable, objectives: tuple[Objective, ...]) -> Targets:
    """The targets of a table under some objectives.

    Args:
        table: prompts that lack a config may be in it: their values are NaN.
        objectives: of `get_objectives`.

    Raises:
        InvalidInput: the table lacks what an objective is made of.
    """
    heads: list[Head] = list(dict.fromkeys(head for item in objectives for head, _ in item.terms))
    cells = Cells.of(table, common=True)
    every = Cells.of(table, common=False)
    common = np.stack([head.estimate(cells) for head in heads])
    full = common if table.common is None else np.stack([head.estimate(every) for head in heads])
    priced = [isinstance(head, MeanCost) for head in heads]
    scales = np.array([_find_largest(common[i]) if cost else 1.0 for i, cost in enumerate(priced)])
    common, full = common / scales[:, None, None], full / scales[:, None, None]
    weights = np.array([[dict(item.terms).get(head, 0.0) for head in heads] for item in objectives]) * scales
    names, several = [], 0
    for number, cost in enumerate(priced):
        several += not cost
        names.append(COSTS if cost else VALUES if number == 0 else f"{VALUES}_{objectives[several - 1].at:g}")
    return Targets(objectives, tuple(names), scales, weights, common, full, cells)


def _find_largest(values: np.ndarray) -> float:
    """The largest value that is known; 1 where none is above 0."""
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) and known.max() > 0.0 else 1.0
