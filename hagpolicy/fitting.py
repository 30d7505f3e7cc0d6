"""`fit`: from a sweep table to a Policy, by selection, gate and interval in one procedure."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from hagpolicy._extras import require
from hagpolicy.caveats import MIN_GROUPS, comparable, default_doubt, few_groups, table_warnings
from hagpolicy.crossfit import Contender, Training, cross_fit
from hagpolicy.encoders import encode, get_encoder
from hagpolicy.encoders.base import Encoder
from hagpolicy.errors import InvalidInput
from hagpolicy.estimates import (
    GroupBootstrap,
    Selection,
    crossfit_sbs,
    fold_numbers,
    select,
)
from hagpolicy.evaluation import N_FOLDS
from hagpolicy.exporting import export_policy
from hagpolicy.ladder import Entry, Ladder
from hagpolicy.learners import get_learner, get_learners
from hagpolicy.learners.base import Learner
from hagpolicy.near_duplicates import join_groups, similar_pairs, similar_warning
from hagpolicy.policy import Policy
from hagpolicy.results import Candidate, Evaluation, candidate_sentence
from hagpolicy.table import SweepTable

logger = logging.getLogger(__name__)

# For rewards in [0, 1]; chosen on simulated worlds before this was written.
MARGINS = (0.0, 0.03, 0.06, 0.12)
MIN_DEPARTING = 10


def fit(
    table: SweepTable,
    encoder: str | Encoder | Sequence[str | Encoder] = "static",
    learner: str | Learner | list[str | Learner] = "auto",
    *,
    margins: Sequence[float] = MARGINS,
    near_duplicates: float | None = None,
    seed: int = 0,
) -> Policy:
    """Fit a policy; it ships the single best config unless something better is proven.

    Candidates are encoder × learner × margin. Each is cross-fitted over groups; the best is chosen
    and its gain estimated by bootstrap bias-corrected cross-validation (`estimates.select`). It
    ships, refitted on everything, when the interval's lower end is above 0 and at least 10 groups
    depart from the single best config.

    Args:
        table: a sweep; prompts that lack a config are left out and counted. Of a raced one, configs are
            compared by the common samples alone; the added ones teach the learners.
        encoder: "static", "precomputed", an Encoder, or several that compete.
        learner: "auto", a name, a Learner, or several that compete.
        margins: in units of reward: a candidate departs from the single best config only for a
            larger predicted advantage.
        near_duplicates: keep prompts together whose 5-character shingles overlap by at least this
            share, in (0, 1]; None: exact duplicates and declared groups only.
        seed: of folds, bootstrap and learners.

    Raises:
        InvalidInput: fewer than two comparable prompts, no or an unknown encoder or learner, a bad margin
            or share.
        MissingExtra: a package of the extra [fit] is not installed.
    """
    if not margins or any(not margin >= 0.0 for margin in margins):
        raise InvalidInput("margins", "at least one number, none below 0", list(margins))
    if near_duplicates is not None and not 0.0 < near_duplicates <= 1.0:
        raise InvalidInput("near_duplicates", "a share in (0, 1], or None", near_duplicates)
    encoders = [encoder] if isinstance(encoder, (str, Encoder)) else list(encoder)
    learners = get_learners(learner)
    for name, given in (("encoder", encoders), ("learner", learners)):
        if not given:
            raise InvalidInput(name, "at least one", "none")
    kept = comparable(table)
    warnings = table_warnings(kept)
    groups = _groups(kept, near_duplicates, warnings)
    boot = GroupBootstrap(groups, seed=seed)
    folds = fold_numbers(groups, min(N_FOLDS, boot.n_groups), seed)
    trainings = []
    for spec in encoders:
        chosen = get_encoder(spec)
        features, unknown = encode(chosen, kept.prompts)
        trainings.append(Training(chosen, features, unknown, kept.common_means, kept.means, groups, folds, seed))
    contenders: list[Contender] = []
    threads = require("threadpoolctl", "fit", "fitting")
    # Many small matrices: more threads are slower, and would make the result depend on the machine.
    with threads.threadpool_limits(1):
        if boot.n_groups >= MIN_GROUPS:  # else SBS ships without a search
            for training in trainings:
                for item in learners:
                    contenders += cross_fit(training, item, margins)
        warnings += few_groups(boot.n_groups)
        return _policy(table, kept, trainings, contenders, boot, warnings)


def _groups(table: SweepTable, threshold: float | None, warnings: list[str]) -> np.ndarray:
    """Groups of the prompts, near-duplicates joined on request and warned about otherwise."""
    if threshold is None:
        warnings += similar_warning(table)
        return table.groups
    pairs = similar_pairs(table.prompts, threshold)
    return join_groups(table.groups, pairs)


def _policy(
    table: SweepTable,
    kept: SweepTable,
    trainings: list[Training],
    contenders: list[Contender],
    boot: GroupBootstrap,
    warnings: list[str],
) -> Policy:
    """Select, gate, evaluate, refit on everything, export."""
    Y, folds = kept.common_means, trainings[0].folds
    frozen, seed, raced = kept.space.deterministic, trainings[0].seed, kept.common is not None
    ladder = Ladder(Y, kept.common_rewards, frozen, crossfit_sbs(Y, folds), boot, seed, raced)
    winner, candidate, entries = _gate(contenders, ladder)
    per_task = crossfit_sbs(Y, folds, kept.tasks) if len(set(kept.tasks)) > 1 else None
    over_default = None if kept.default is None else select(Y - Y[:, [kept.default]], Y[:, kept.default], boot).gain
    evaluation = Evaluation(
        ladder.rows(kept.default, per_task, entries),
        candidate,
        over_default,
        n_prompts=len(kept.prompts),
        n_groups=boot.n_groups,
        n_left_out=len(table.prompts) - len(kept.prompts),
        warnings=(*warnings, *default_doubt(over_default)),
    )
    logger.info("%s", candidate_sentence(candidate))
    held = None
    if winner is not None:
        held = _export(kept, winner.training, winner.learner, winner.margin, evaluation, per_prompt=True)
    if candidate.shipped and held is not None:
        return held
    policy = _export(kept, trainings[0], get_learner("constant"), 0.0, evaluation, per_prompt=False)
    policy.candidate = held
    return policy


def _gate(contenders: list[Contender], ladder: Ladder) -> tuple[Contender | None, Candidate, dict[str, Entry]]:
    """The best contender (None where none beats SBS), what the gate made of it, and the lines of the
    learners and of the policy for the ladder."""

    def chosen_among(some: list[Contender]) -> Selection:
        return select(np.column_stack([item.gains for item in some]), ladder.reference, ladder.boot)

    entries: dict[str, Entry] = {}
    for name in dict.fromkeys(item.learner.name for item in contenders):
        best = chosen_among([item for item in contenders if item.learner.name == name])
        entries[name] = Entry(best.value, best.gain, "before the gate")
    sbs = ladder.fixed(ladder.reference, "ships the single best config")
    entries["policy"] = sbs
    if not contenders:
        return None, Candidate("sbs", sbs.gain, 0.0, 0, False), entries
    selection = chosen_among(contenders)
    if selection.index is None:
        return None, Candidate("sbs", selection.gain, 0.0, 0, False), entries
    winner = contenders[selection.index]
    departing = len(np.unique(winner.training.groups[winner.departs]))
    shipped = selection.gain.low > 0.0 and departing >= MIN_DEPARTING
    candidate = Candidate(winner.name, selection.gain, winner.margin, departing, shipped)
    if shipped:
        entries["policy"] = Entry(selection.value, selection.gain, candidate.name)
    return winner, candidate, entries


def _export(
    kept: SweepTable, training: Training, learner: Learner, margin: float, evaluation: Evaluation, *, per_prompt: bool
) -> Policy:
    """Refit on all prompts and assemble the graph that predicts from now on."""
    everything = np.ones(len(kept.prompts), dtype=bool)
    fitted, novelty = training.fitted(learner, everything), training.novelty(everything)
    return export_policy(
        kept,
        training.encoder,
        learner,
        fitted,
        novelty,
        margin,
        evaluation,
        training.features,
        per_prompt=per_prompt,
    )
