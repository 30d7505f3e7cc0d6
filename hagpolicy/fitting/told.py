"""The policy that is told each prompt's task: what a task's prompts have in common, beside a learner or alone.

It is judged by the same gate as the learners, with every prompt's task told, and ships for prompts whose task is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hagpolicy.analysis.comparison import ComparisonRow
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.analysis.rule import MIN_GROUPS
from hagpolicy.fitting.crossfit import CrossFittedLearner, cross_fit_learner, get_margins
from hagpolicy.fitting.gate import Gated, gate
from hagpolicy.fitting.graphs.builder import GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.fitting.learners.linear import Constant
from hagpolicy.fitting.prepare import FitData
from hagpolicy.fitting.training import Training
from hagpolicy.policy.manifest import MAX_TASKS
from hagpolicy.results import Candidate

# Residuals of a learner are taken from prompts that it has not seen.
_INNER_FOLDS = 2


@dataclass(frozen=True, eq=False)
class ToldTraining(Training):
    """The same prompts with the number of each one's task, from 1, as a last feature; 0 for a prompt without a task.

    Attributes:
        base: without it; tells prompts unlike the others.
        names: of the tasks, in the order of their numbers.
        reads: the text matters too; where it does not, no prompt is unlike the others.
    """

    base: Training | None = None
    names: tuple[str, ...] = ()
    reads: bool = True

    @classmethod
    def of(cls, base: Training, tasks: np.ndarray) -> ToldTraining:
        """Of some prompts, and str (n_prompts,) the task of each."""
        names = _list_tasks(tasks)
        numbers = {name: number for number, name in enumerate(names, 1)}
        column = np.array([numbers.get(task, 0) for task in tasks.tolist()], dtype=np.float32)
        features = np.column_stack([base.features, column])
        rest = base.unknown, base.targets, base.groups, base.folds, base.seed, base.refused, base.items
        return cls(base.encoder, features, *rest, base, names)

    def refold(self, folds: np.ndarray) -> ToldTraining:
        """See `Training.refold`."""
        return replace(self, folds=folds, base=None if self.base is None else self.base.refold(folds))

    def scale_features(self, rows: np.ndarray) -> np.ndarray:
        """See `Training.scale_features`; the number of the task is as it is."""
        scaled = self.features[:, :-1] if self.base is None else self.base.scale_features(rows)
        return np.column_stack([scaled, self.features[:, -1]])

    @cached_property
    def out_of_distribution(self) -> np.ndarray:
        """See `Training.out_of_distribution`."""
        if self.base is None or not self.reads:
            return np.zeros(len(self.features), dtype=bool)
        return self.base.out_of_distribution


class Told(Learner):
    """A learner, and how each task's prompts differ on average from what it expects of them.

    The differences are shrunk towards none by the evidence for them: by the variance between tasks over that and the
    variance of a task's mean (James and Stein's estimator in its empirical Bayes form, Efron and Morris, *Journal of
    the American Statistical Association* 70, 1975). Beside `Constant` they are the shrunken best of each task.
    """

    def __init__(self, base: Learner, n_tasks: int) -> None:
        self.base, self.n_tasks = base, n_tasks
        self.name = "told" if isinstance(base, Constant) else f"told {base.name}"
        self.carries_vectors = base.carries_vectors

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedTold:
        """Fit on features whose last column is the number of the task; see `Learner.fit`."""
        plain, tasks = features[:, :-1], features[:, -1].astype(np.int64)
        fitted = self.base.fit(plain, targets, groups, seed)
        residuals = targets - self._predict_unseen(plain, targets, groups, seed)
        return FittedTold(fitted, _offsets(residuals, tasks, groups, self.n_tasks))

    def _predict_unseen(self, plain: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
        if isinstance(self.base, Constant) or len(np.unique(groups)) < _INNER_FOLDS:
            return np.broadcast_to(targets.mean(axis=0), targets.shape)
        found = np.empty(targets.shape)
        folds = assign_folds(groups, _INNER_FOLDS, seed)
        for fold in range(_INNER_FOLDS):
            inside = folds != fold
            head = self.base.fit(plain[inside], targets[inside], groups[inside], seed)
            found[~inside] = head.predict(plain[~inside])
        return found


class FittedTold(FittedLearner):
    """values = the learner's + the task's.

    Args:
        base: the fitted learner.
        offsets: float64 (n_tasks + 1, n_configs), by number of the task; those of 0 are 0.
    """

    def __init__(self, base: FittedLearner, offsets: np.ndarray) -> None:
        self.base, self.offsets = base, offsets

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        return np.asarray(self.base.predict(features[:, :-1]) + self.offsets[features[:, -1].astype(np.int64)])

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Not exported as a learner: a policy's graph holds the tasks in a table, see `policy_graph.TaskTable`."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class GatedTold:
    """What the gate made of policies that are told the task.

    Attributes:
        names: of the tasks.
        winner: the best of them; None where none beats the reference anywhere.
        candidates: at each point of the dial, the winner, its gain, and whether it ships.
        rows: at each point, the row of the comparison.
    """

    names: tuple[str, ...]
    winner: CrossFittedLearner | None
    candidates: tuple[Candidate, ...]
    rows: tuple[ComparisonRow, ...]

    @property
    def ships(self) -> tuple[bool, ...]:
        """Whether it ships, at each point of the dial."""
        return tuple(candidate.shipped for candidate in self.candidates)

    @property
    def base(self) -> Learner:
        """The learner beside the tasks."""
        learner = Constant() if self.winner is None else self.winner.learner
        return learner.base if isinstance(learner, Told) else learner


def count_told_fits(data: FitData) -> int:
    """Fits of the winner that `gate_told` and what ships of it take: with each go those of its inner folds."""
    if not _has_tasks(data):
        return 0
    fits = sum(len(np.unique(folds)) for folds in data.prepared.foldings) + 1
    # Inner folds leave out one of their number in turn, so that together they are one fit less than that number.
    return fits * _INNER_FOLDS


def _has_tasks(data: FitData) -> bool:
    """Whether there are as many tasks as can be told, and enough prompts to prove anything by them."""
    n_tasks = len(_list_tasks(data.prepared.table.tasks))
    return 2 <= n_tasks <= MAX_TASKS and data.prepared.boot.n_groups >= MIN_GROUPS


def _list_tasks(tasks: np.ndarray) -> tuple[str, ...]:
    """Names of the tasks, in the order of their numbers; a prompt without a task has none."""
    return tuple(sorted(set(tasks.tolist()) - {""}))


def gate_told(data: FitData, gated: Gated, margins: Sequence[float] | None) -> GatedTold | None:
    """The tasks alone, and beside the learner that won without them, by the same gate; None with fewer than two tasks.

    Args:
        data: prompts and comparisons.
        gated: what the gate made of the learners.
        margins: see `crossfit.cross_fit`.
    """
    if not _has_tasks(data):
        return None
    prepared = data.prepared
    training = data.trainings[0] if gated.winner is None else gated.winner.training
    told = ToldTraining.of(training, prepared.table.tasks)
    steps = get_margins(data, margins)
    bases: list[Learner] = [Constant()]
    if gated.winner is not None and not isinstance(gated.winner.learner, Constant):
        bases.append(gated.winner.learner)
    alone = replace(told, reads=False)
    fitted = []
    for base in bases:
        one = alone if isinstance(base, Constant) else told
        foldings = [one.refold(folds) for folds in prepared.foldings]
        fitted.append(cross_fit_learner(foldings, Told(base, len(told.names)), steps, data.comparisons))
    found = gate(fitted, data.comparisons)
    rows = tuple(_find_row(found, point) for point in range(len(data.comparisons)))
    return GatedTold(told.names, found.winner, found.candidates, rows)


def _find_row(found: Gated, point: int) -> ComparisonRow:
    """The row of the winner at a point, whether it ships or not, with a note that says which."""
    name = "told" if found.winner is None else found.winner.learner.name
    ships = "ships where the task is told" if found.candidates[point].shipped else "before the gate"
    return replace(found.rows[point][name], note=f"told the task; {ships}")


def _offsets(residuals: np.ndarray, tasks: np.ndarray, groups: np.ndarray, n_tasks: int) -> np.ndarray:
    """float64 (n_tasks + 1, n_configs): mean residuals of each task, shrunk.

    Args:
        residuals: float64 (n, n_configs).
        tasks: int64 (n,), from 1; 0 for a prompt without a task.
        groups: int64 (n,): prompts of one group count once.
        n_tasks: of the whole table.
    """
    offsets, noise = np.zeros((n_tasks + 1, residuals.shape[1])), np.zeros(n_tasks + 1)
    for task in range(1, n_tasks + 1):
        own = residuals[tasks == task]
        count = len(np.unique(groups[tasks == task]))
        if count < 2:
            continue
        mean = own.mean(axis=0)
        # What all configs share is the task's difficulty, and chooses none of them.
        offsets[task] = mean - mean.mean()
        spread = own - own.mean(axis=1, keepdims=True) - offsets[task]
        noise[task] = (spread**2).mean() / count
    known = noise > 0
    between = max(0.0, float(((offsets[known] ** 2).mean(axis=1) - noise[known]).mean())) if known.any() else 0.0
    total = between + noise
    return offsets * np.divide(between, total, out=np.zeros_like(total), where=total > 0)[:, None]
