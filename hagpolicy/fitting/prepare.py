"""Step 1 of `fit`: the table, its features by every encoder, and what all rows of its comparisons share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hagpolicy.analysis.comparison import Comparison, compare
from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.prepare import Prepared, prepare
from hagpolicy.data.table import SweepTable
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.training import Training


@dataclass(frozen=True, eq=False)
class FitData:
    """What `fit` learns from and compares by.

    Attributes:
        prepared: the comparable prompts of the table, their targets, groups, folds and draws.
        comparisons: one for each point of the dial.
        trainings: one for each encoder, at least one.
    """

    prepared: Prepared
    comparisons: tuple[Comparison, ...]
    trainings: tuple[Training, ...]


def prepare_fit(
    table: SweepTable,
    encoders: Sequence[Encoder],
    objectives: tuple[Objective, ...],
    seed: int,
    near_duplicates: float | None,
) -> FitData:
    """A table with its targets, comparisons and features.

    Args:
        table: a sweep; prompts that lack a config are left out and counted.
        encoders: at least one.
        objectives: of `get_objectives`.
        seed: of draws, folds, splits, ties and learners.
        near_duplicates: see `hagpolicy.analysis.prepare.prepare`.

    Raises:
        InvalidInput: fewer than two comparable prompts, a table that lacks what an objective is made of, or an
            encoder whose features are no finite numbers for each prompt.
    """
    prepared = prepare(table, objectives, seed, near_duplicates=near_duplicates)
    kept, targets, groups, folds = prepared.table, prepared.targets, prepared.groups, prepared.folds
    trainings = tuple(
        Training(encoder, *compute_features(encoder, kept.prompts), targets, groups, folds, seed)
        for encoder in encoders
    )
    comparisons = tuple(compare(prepared, point) for point in range(len(objectives)))
    return FitData(prepared, comparisons, trainings)
