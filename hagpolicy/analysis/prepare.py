"""What every analysis of a table begins with: its comparable prompts, their groups, draws, folds and targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.checks import (
    check_folder,
    check_groups,
    check_live,
    check_origins,
    check_rewards,
    check_samples,
    check_similar,
    find_comparable,
)
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.objectives.targets import Targets, targets_of
from hagpolicy.analysis.rule import N_FOLDINGS, N_FOLDS
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
        foldings: int64 (N_FOLDINGS, n_prompts), the fold of each prompt in each folding; groups stay together.
        seed: of draws, folds, splits and ties.
        warnings: in plain words.
        rows: int64 (n_prompts,), their numbers in the table that was given.
        n_left_out: prompts of the table that was given which are not comparable.
    """

    table: SweepTable
    targets: Targets
    groups: np.ndarray
    boot: GroupBootstrap
    foldings: np.ndarray
    seed: int
    warnings: tuple[str, ...]
    rows: np.ndarray
    n_left_out: int

    @property
    def folds(self) -> np.ndarray:
        """int64 (n_prompts,): the first folding."""
        return np.asarray(self.foldings[0])


def prepare(
    table: SweepTable,
    objectives: tuple[Objective, ...],
    seed: int,
    *,
    near_duplicates: float | None = None,
    examples: bool = False,
) -> Prepared:
    """The comparable prompts of a table with what all analyses of them share.

    Args:
        table: a sweep; prompts that lack a config are left out and counted.
        objectives: of `get_objectives`.
        seed: of draws, folds, splits and ties.
        near_duplicates: join the groups of prompts whose 5-character shingles overlap by at least this share,
            in (0, 1]; None: groups stay as they are, and many near duplicates are warned about.
        examples: warnings may quote answers; see `checks.check_rewards`.

    Raises:
        InvalidInput: fewer than two comparable prompts, a bad seed, or a table that lacks what an objective is
            made of.
    """
    comparable = find_comparable(table, objectives)
    kept = table.take(comparable)
    warnings = [
        *check_folder(table),
        *check_origins(table),
        *check_live(table, objectives),
        *check_rewards(table, examples=examples),
        *check_samples(kept),
    ]
    if near_duplicates is None:
        groups = kept.groups
        warnings += check_similar(kept)
    else:
        groups = join_groups(kept.groups, find_similar_pairs(kept.prompts, near_duplicates))
    boot = GroupBootstrap(groups, seed=seed)
    # Each folding from a stream of its own: the first is that of the seed.
    seeds = [seed, *np.random.SeedSequence(seed).generate_state(N_FOLDINGS - 1).tolist()]
    foldings = np.array([assign_folds(groups, min(N_FOLDS, boot.n_groups), one) for one in seeds])
    warnings += check_groups(boot.n_groups)
    rows, left_out = np.flatnonzero(comparable), int((~comparable).sum())
    return Prepared(kept, targets_of(kept, objectives), groups, boot, foldings, seed, tuple(warnings), rows, left_out)
