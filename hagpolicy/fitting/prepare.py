"""Step 1 of `fit`: the table, its features by every encoder, and what all rows of its comparisons share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hagpolicy.analysis.checks import require_table
from hagpolicy.analysis.comparison import Comparison, compare
from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.prepare import Prepared, prepare
from hagpolicy.analysis.rule import GATE_ERROR
from hagpolicy.data.groups import join_groups
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.fitting.training import Training, TunedTraining
from hagpolicy.policy.inputs import holds_vector
from hagpolicy.policy.reading import Reads, read_for_training


@dataclass(frozen=True, eq=False)
class FitData:
    """What `fit` learns from and compares by.

    Attributes:
        prepared: the comparable prompts of the table, their targets, groups, folds and draws.
        comparisons: one for each point of the dial.
        trainings: one for each encoder, at least one.
        reads: what is read of a chat.
    """

    prepared: Prepared
    comparisons: tuple[Comparison, ...]
    trainings: tuple[Training, ...]
    reads: Reads = "last_user"


def prepare_fit(
    table: SweepTable,
    encoders: Sequence[Encoder],
    objectives: tuple[Objective, ...],
    seed: int,
    near_duplicates: float | None,
    reads: Reads = "last_user",
    error: float = GATE_ERROR,
) -> FitData:
    """A table with its targets, comparisons and features.

    Args:
        table: a sweep; prompts that lack a config are left out and counted.
        encoders: at least one.
        objectives: of `get_objectives`.
        seed: of draws, folds, splits, ties and learners.
        near_duplicates: see `hagpolicy.analysis.prepare.prepare`.
        reads: what is read of a chat; chats of which the same is read are one group.
        error: of each of the gate's steps.

    Raises:
        InvalidInput: fewer than two comparable prompts, a table that lacks what an objective is made of, or an
            encoder whose features are no finite numbers for each prompt.
    """
    prepared = prepare(_join_equal(table, reads), objectives, seed, near_duplicates=near_duplicates)
    kept, targets, groups, folds = prepared.table, prepared.targets, prepared.groups, prepared.folds
    read, refused = read_for_training(kept.prompts, reads)
    trainings = []
    for encoder in encoders:
        items: Sequence[Any] = read
        if isinstance(encoder, PrecomputedEncoder):
            items = encoder.take(read, prepared.rows, len(table.prompts))
        learned = encoder.learn(read)
        features = compute_features(learned, items)
        unread = refused & _reads_texts(learned, read)
        kind = TunedTraining if learned.tuned else Training
        trainings.append(kind(learned, *features, targets, groups, folds, seed, unread, items))
    comparisons = tuple(compare(prepared, point, error=error) for point in range(len(objectives)))
    return FitData(prepared, comparisons, tuple(trainings), reads)


def _reads_texts(encoder: Encoder, prompts: Sequence[Prompt]) -> np.ndarray:
    """bool (n_prompts,): whether a policy of this encoder would read the text, so that it may refuse it."""
    if encoder.spec()["inputs"] != "vectors":
        return np.ones(len(prompts), dtype=bool)
    return np.array([encoder.embed is not None and not holds_vector(prompt) for prompt in prompts])


def _join_equal(table: SweepTable, reads: Reads) -> SweepTable:
    """The table with chats of which the same text is read in one group: to a learner they are one prompt."""
    if all(isinstance(prompt.content, str) for prompt in require_table(table).prompts):
        return table
    read, _ = read_for_training(table.prompts, reads)
    texts = np.unique([prompt.normalised for prompt in read], return_inverse=True)[1]
    order = np.argsort(texts, kind="stable")
    same = texts[order[1:]] == texts[order[:-1]]
    pairs = np.column_stack([order[:-1], order[1:]])[same]
    return replace(table, groups=join_groups(table.groups, pairs)) if len(pairs) else table
