"""What every analysis of a table begins with: its comparable prompts, their groups, draws, folds and targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.checks import check_groups, check_samples, check_similar, keep_comparable
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.objectives.targets import Targets, targets_of
from hagpolicy.analysis.rule import N_FOLDS
from hagpolicy.data.groups import find_similar_pairs, join_groups
from hagpolicy.data.table import SweepTable


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table that is ready to be analysed under some objectives.

    Attributes:
        table: the comparable prompts.
        targets: of that table, under the objectives.
        groups: int64 (n_prompts,), prompts of one number are not independent.
        boot: draws over the groups.
        folds: int64 (n_prompts,), groups stay together.
        seed: of draws, folds, splits and ties.
        warnings: in plain words.
        n_left_out: prompts of the table that was given which are not comparable.
    """

    table: SweepTable
    targets: Targets
    groups: np.ndarray
    boot: GroupBootstrap
    folds: np.ndarray
    seed: int
    warnings: tuple[str, ...]
    n_left_out: int


def prepare(
    table: SweepTable, objectives: tuple[Objective, ...], seed: int, *, near_duplicates: float | None = None
) -> Prepared:
    """The comparable prompts of a table with what all analyses of them share.

    Args:
        table: a sweep; prompts that lack a config are left out and counted.
        objectives: of `get_objectives`.
        seed: of draws, folds, splits and ties.
        near_duplicates: join the groups of prompts whose 5-character shingles overlap by at least this share,
            in (0, 1]; None: groups stay as they are, and many near duplicates are warned about.

    Raises:
        InvalidInput: fewer than two comparable prompts, a bad seed, or a table that lacks what an objective is
            made of.
    """
    kept = keep_comparable(table, objectives)
    warnings = check_samples(kept)
    if near_duplicates is None:
        groups = kept.groups
        warnings += check_similar(kept)
    else:
        groups = join_groups(kept.groups, find_similar_pairs(kept.prompts, near_duplicates))
    boot = GroupBootstrap(groups, seed=seed)
    folds = assign_folds(groups, min(N_FOLDS, boot.n_groups), seed)
    warnings += check_groups(boot.n_groups)
    left_out = len(table.prompts) - len(kept.prompts)
    return Prepared(kept, targets_of(kept, objectives), groups, boot, folds, seed, tuple(warnings), left_out)
