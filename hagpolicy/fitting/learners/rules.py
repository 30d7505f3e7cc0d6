"""Decision lists: at most ten lines, each a condition on single features and what configs are worth where it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.fitting.learners.linear import Affine

__all__ = ["Condition", "FittedRules", "Rules"]

LINES, MOST_COLUMNS = 10, 24
LEAST_GROUPS = 4
# A condition must say more than so many standard errors of what it says.
ERRORS = 1.0
# A line's values count as much as so many prompts whose configs differ as everywhere.
WEIGHT = 4.0
_THRESHOLDS = np.linspace(0.1, 0.9, 9)


@dataclass(frozen=True)
class Condition:
    """When a line of a decision list holds.

    Attributes:
        columns: of the features; several, of counts, are added: one of them is enough.
        above: the sum must be above this.
        holds_below: the sum must not be above it instead.
    """

    columns: tuple[int, ...]
    above: float = 0.0
    holds_below: bool = False

    def check(self, features: np.ndarray) -> np.ndarray:
        """bool (n,): where it holds, of features float32 (n, n_features)."""
        sums = features[:, list(self.columns)].sum(axis=1, dtype=np.float32)
        return np.asarray((sums > np.float32(self.above)) != self.holds_below)


class FittedRules(FittedLearner):
    """values = those of the first condition that holds, else the last.

    Args:
        conditions: in their order; none: the values are those of all prompts.
        values: float64 (n_conditions + 1, n_configs).
        width: number of features.
    """

    def __init__(self, conditions: Sequence[Condition], values: np.ndarray, width: int) -> None:
        self.conditions, self.values, self.width = tuple(conditions), values, width

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        return np.asarray(self.values[self.find_lines(features)])

    def find_lines(self, features: np.ndarray) -> np.ndarray:
        """int64 (n,): the first condition that holds, n_conditions where none does."""
        last = np.ones((len(features), 1), dtype=bool)
        holds = [one.check(features)[:, None] for one in self.conditions]
        return np.asarray(np.concatenate([*holds, last], axis=1).argmax(axis=1))

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append one product with the conditions' columns, and the choice of the first that holds."""
        if not self.conditions:
            return Affine(np.zeros((self.width, self.values.shape[1])), self.values[0]).export(graph, features)
        picks = np.zeros((self.width, len(self.values)), dtype=np.float32)
        for number, one in enumerate(self.conditions):
            picks[list(one.columns), number] = 1.0
        bounds = np.array([*(one.above for one in self.conditions), -1.0], dtype=np.float32)
        below = np.array([*(one.holds_below for one in self.conditions), False], dtype=np.float32)
        sums = graph.node("MatMul", [features, graph.constant(picks, "columns")])
        above = graph.cast(graph.node("Greater", [sums, graph.constant(bounds, "bounds")]), FLOAT)
        turned = graph.node("Mul", [above, graph.constant(1.0 - 2.0 * below, "turn", np.float32)])
        holds = graph.node("Add", [turned, graph.constant(below, "below")])
        # The last line holds always: a sum of no column is above no negative bound.
        lines = graph.node("ArgMax", [holds], axis=1, keepdims=0)
        return graph.node("Gather", [graph.constant(self.values, "values"), lines])


class Rules(Learner):
    """A decision list (Rivest, *Learning decision lists*, *Machine Learning* 2, 1987), grown line by line.

    Each line is the condition, and the config, that gain most over the best single config on the prompts that no
    earlier line holds for, less their standard error over groups. A condition on counts, such as those of words, takes
    further columns in as long as the gain grows so: one of its words is enough. On other features it is a threshold.
    What a line is worth is the mean of its prompts, shrunk towards that of all.

    Args:
        lines: at most, at least 1.

    Raises:
        InvalidInput: less than 1 line.
    """

    name = "rules"

    def __init__(self, lines: int = LINES) -> None:
        if not is_whole(lines, 1):
            raise InvalidInput("lines", "a whole number of at least 1", lines)
        self.lines = lines

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedRules:
        """See `Learner.fit`."""
        table = _Table.of(features, groups)
        means = targets.mean(axis=0)
        over = targets - targets[:, [int(means.argmax())]]
        left = np.ones(len(targets), dtype=bool)
        conditions: list[Condition] = []
        values: list[np.ndarray] = []
        while len(conditions) < self.lines and (found := table.find_condition(over, left)) is not None:
            holds = found.check(features) & left
            conditions.append(found)
            values.append(_average(targets, holds, means))
            left &= ~holds
        values.append(_average(targets, left, means))
        return FittedRules(conditions, np.array(values), features.shape[1])


@dataclass(frozen=True, eq=False)
class _Table:
    """Conditions on single columns, and where they hold.

    Attributes:
        singles: n_singles of them.
        holds: float64 (n_singles, n).
        joins: bool (n_singles,): of counts, so that several may be one condition.
        groups: int64 (n,), 0 … n_groups - 1.
    """

    singles: list[Condition]
    holds: np.ndarray
    joins: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, groups: np.ndarray) -> _Table:
        """All conditions on training features, float32 (n, n_features)."""
        singles, joins = list[Condition](), list[bool]()
        for number, column in enumerate(features.T):
            counts = bool((column == np.rint(column)).all() and column.min(initial=0.0) == 0.0)
            bounds = [0.0] if counts else np.unique(np.quantile(column, _THRESHOLDS, method="lower")).tolist()
            for below in (False, True):
                singles += [Condition((number,), bound, below) for bound in bounds]
                joins += [counts and not below] * len(bounds)
        holds = np.array([one.check(features) for one in singles], dtype=np.float64).reshape(-1, len(features))
        return cls(singles, holds, np.array(joins, dtype=bool), np.unique(groups, return_inverse=True)[1])

    def find_condition(self, over: np.ndarray, left: np.ndarray) -> Condition | None:
        """The condition that gains most on the prompts that are left; None: none gains.

        Args:
            over: float64 (n, n_configs), rewards over those of the best single config.
            left: bool (n,).
        """
        if not len(self.singles):
            return None
        scores = np.column_stack([self._score(column, left) for column in over.T])
        place, config = np.unravel_index(int(scores.argmax()), scores.shape)
        if scores[place, config] <= 0.0:
            return None
        found, gains = self.singles[place], over[:, config]
        if self.joins[place]:
            # What a line holds for is lost to later ones: a column for which another config is better waits for it.
            lost = scores.max(axis=1).clip(0.0) - scores[:, config].clip(0.0)
            left = left & (self.holds[place] == 0.0)
            while len(found.columns) < MOST_COLUMNS:
                more = np.where(self.joins, self._score(gains, left, least=1) - lost, -np.inf)
                best = int(more.argmax())
                if more[best] <= 0.0:
                    break
                found = Condition((*found.columns, *self.singles[best].columns))
                left = left & (self.holds[best] == 0.0)
        return found

    def _score(self, gains: np.ndarray, left: np.ndarray, least: int = LEAST_GROUPS) -> np.ndarray:
        """float64 (n_singles,): sums of gains where each condition holds, less `ERRORS` standard errors.

        Args:
            gains: float64 (n,).
            left: bool (n,): the prompts that count.
            least: groups that a condition must hold for, or it gains nothing.
        """
        n_groups = int(self.groups.max()) + 1
        held = self.holds * left
        sums, seen = np.zeros((n_groups, len(held))), np.zeros((n_groups, len(held)))
        np.add.at(sums, self.groups, (held * gains).T)
        np.add.at(seen, self.groups, held.T)
        total, count = sums.sum(axis=0), (seen > 0).sum(axis=0)
        # Beside one more group that gains nothing, so that one alone is no proof.
        errors = np.sqrt(np.maximum((sums**2).sum(axis=0) - total**2 / (count + 1), 0.0))
        return np.where(count >= least, total - ERRORS * errors, -np.inf)


def _average(targets: np.ndarray, rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """float64 (n_configs,): mean of some prompts' targets, shrunk towards those of all."""
    return np.asarray((targets[rows].sum(axis=0) + WEIGHT * means) / (rows.sum() + WEIGHT))
