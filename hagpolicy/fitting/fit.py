"""`fit`: from a sweep table to a Policy, by selection, gate and interval in one procedure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from warnings import warn

import numpy as np

from hagpolicy._extras import require
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.checks import (
    check_default,
    check_groups,
    check_samples,
    check_similar,
    keep_comparable,
)
from hagpolicy.analysis.comparison import STANDARD_ROWS, Comparison, ComparisonRow, compare
from hagpolicy.analysis.estimates import assign_folds, crossfit_sbs
from hagpolicy.analysis.objectives import ObjectiveSpec, Targets, get_objectives, targets_of
from hagpolicy.analysis.rule import MIN_GROUPS, N_FOLDS
from hagpolicy.analysis.selection import select
from hagpolicy.data.groups import join_groups, similar_pairs
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.neighbours import Nearest
from hagpolicy.fitting.baselines.registry import Baseline, crossfit_baseline, get_baselines
from hagpolicy.fitting.crossfit import Contender, Training, cross_fit
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.export import export_policy, points_of
from hagpolicy.fitting.gate import gate
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.learners.registry import get_learner, get_learners
from hagpolicy.policy.policy import Policy
from hagpolicy.results import Evaluation, describe_candidate

logger = logging.getLogger(__name__)

# For rewards in [0, 1]; chosen on simulated worlds before this was written.
MARGINS = (0.0, 0.03, 0.06, 0.12)
# Under a price: in standard deviations of the predicted advantages.
SPREADS = (0.0, 0.5, 1.0, 2.0)


def fit(
    table: SweepTable,
    encoder: str | Encoder | Sequence[str | Encoder] = "static",
    learner: str | Learner | list[str | Learner] = "auto",
    *,
    objective: ObjectiveSpec = "reward",
    margins: Sequence[float] | None = None,
    baselines: Sequence[str | Baseline] | None = None,
    near_duplicates: float | None = None,
    seed: int = 0,
    rivals: Sequence[str | Baseline] | None = None,
) -> Policy:
    """Fit a policy; it ships the single best config unless something better is proven.

    Candidates are encoder × learner × margin. Each is cross-fitted over groups; the best is chosen
    and its gain estimated by bootstrap bias-corrected cross-validation (`selection.select_family`), over
    a single best config that each draw chooses for itself (`bootstrap.ResampledBest`). It ships, refitted on
    everything, when the interval's lower end is above 0 and at least 10 groups depart from the single best
    config. With several objectives (a dial) one encoder and learner serve all of them, and margin and gate
    are each point's own.

    Args:
        table: a sweep; prompts that lack a config are left out and counted. Of a raced one, configs are
            compared by the common samples alone; the added ones teach the learners.
        encoder: "static", "precomputed", an Encoder, or several that compete.
        learner: "auto", the mean of ridge, LightGBM and MLP; a name, a Learner, or several that compete.
        objective: what is maximised: "reward", "price/token@0,0.001", "pass@4", an `Objective`, or several of
            one family (see `hagpolicy.analysis.objectives`); several are a dial that `Policy.predict` turns.
        margins: a candidate departs from the single best config only for a larger predicted advantage; in
            units of the objective, under a price in standard deviations of the predicted advantages.
        baselines: other ways to choose, by name or as a `Baseline`, cross-fitted into the same table; they are
            compared and never shipped. None: nearest neighbours alone.
        near_duplicates: keep prompts together whose 5-character shingles overlap by at least this
            share, in (0, 1]; None: exact duplicates and declared groups only.
        seed: of folds, bootstrap and learners.
        rivals: deprecated: the earlier word for `baselines`.

    Raises:
        InvalidInput: fewer than two comparable prompts, no or an unknown encoder, learner, objective or
            baseline, a bad margin or share, or a table that lacks what the objective is made of.
        MissingExtra: a package of the extra [fit] is not installed.
    """
    if rivals is not None:
        warn("rivals is called baselines now: fit(baselines=...)", DeprecationWarning, stacklevel=2)
        if baselines is not None:
            raise InvalidInput("rivals", "nothing beside baselines, of which it is the earlier word", rivals)
        baselines = rivals
    objectives = get_objectives(objective)
    given = None if margins is None else _margins(margins)
    if near_duplicates is not None and not 0.0 < near_duplicates <= 1.0:
        raise InvalidInput("near_duplicates", "a share in (0, 1], or None", near_duplicates)
    encoders = [encoder] if isinstance(encoder, (str, Encoder)) else list(encoder)
    learners = get_learners(learner)
    for name, several in (("encoder", encoders), ("learner", learners)):
        if not several:
            raise InvalidInput(name, "at least one", "none")
    compared = _compared(baselines, learners)
    kept = keep_comparable(table, objectives)
    warnings = check_samples(kept)
    groups = _groups(kept, near_duplicates, warnings)
    boot = GroupBootstrap(groups, seed=seed)
    folds = assign_folds(groups, min(N_FOLDS, boot.n_groups), seed)
    targets = targets_of(kept, objectives)
    steps = given if given is not None else SPREADS if targets.spread_margins else MARGINS
    trainings = []
    for spec in encoders:
        chosen = get_encoder(spec)
        features, unknown = compute_features(chosen, kept.prompts)
        trainings.append(Training(chosen, features, unknown, targets, groups, folds, seed))
    contenders: list[Contender] = []
    threads = require("threadpoolctl", "fit", "fitting")
    # Many small matrices: more threads are slower, and would make the result depend on the machine.
    with threads.threadpool_limits(1):
        comparisons = [compare(kept, targets, point, boot, seed) for point in range(len(targets.weights))]
        if boot.n_groups >= MIN_GROUPS:  # else SBS ships without a search
            weights = [comparison.sbs for comparison in comparisons]
            contenders = [cross_fit(training, item, steps, weights) for training in trainings for item in learners]
        warnings += check_groups(boot.n_groups)
        left_out = len(table.prompts) - len(kept.prompts)
        outcome = _judged(kept, comparisons, trainings[0], contenders, compared, left_out, warnings)
        return _shipped(kept, targets, trainings[0], outcome)


def _margins(given: Sequence[float]) -> tuple[float, ...]:
    """Margins as numbers. Raises InvalidInput for none, and for what is no number from 0."""
    try:
        margins = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        margins = np.empty(0)
    if margins.ndim != 1 or not margins.size or not (np.isfinite(margins) & (margins >= 0.0)).all():
        raise InvalidInput("margins", "a list of at least one number, none below 0", given)
    return tuple(margins.tolist())


def _compared(baselines: Sequence[str | Baseline] | None, learners: list[Learner]) -> list[Baseline]:
    """The baselines. Raises InvalidInput for one whose name another row of the comparison bears."""
    others = {*STANDARD_ROWS, *(learner.name for learner in learners)}
    if baselines is None:
        return get_baselines([Nearest.name] if Nearest.name not in others else [])
    found = get_baselines(baselines)
    for baseline in found:
        if baseline.name in others:
            raise InvalidInput(
                "baselines", "names that no other row of the comparison bears", baseline.name, "Rename it."
            )
    return found


def _groups(table: SweepTable, threshold: float | None, warnings: list[str]) -> np.ndarray:
    """Groups of the prompts, near-duplicates joined on request and warned about otherwise."""
    if threshold is None:
        warnings += check_similar(table)
        return table.groups
    pairs = similar_pairs(table.prompts, threshold)
    return join_groups(table.groups, pairs)


@dataclass(frozen=True)
class _Outcome:
    """What selection and gate came to: the winner (None where nothing beats SBS anywhere), and at every
    point of the dial its margin, whether it ships, and the comparison."""

    winner: Contender | None
    margins: tuple[float, ...]
    ships: tuple[bool, ...]
    evaluations: tuple[Evaluation, ...]


def _judged(
    kept: SweepTable,
    comparisons: list[Comparison],
    training: Training,
    contenders: list[Contender],
    baselines: Sequence[Baseline],
    left_out: int,
    warnings: list[str],
) -> _Outcome:
    """Select one contender for all points, gate it at each, and draw up the comparisons."""
    boot = comparisons[0].boot
    winner, candidates, found = gate(contenders, comparisons)
    unlike = (training if winner is None else winner.training).unlike.mean() if contenders else 0.0
    evaluations: list[Evaluation] = []
    for candidate, rows, comparison in zip(candidates, found, comparisons, strict=True):
        per_task = crossfit_sbs(comparison.Y, training.folds, kept.tasks) if len(set(kept.tasks)) > 1 else None
        Y, default = comparison.Y, kept.default
        over_default = None if default is None else select(Y - Y[:, [default]], Y[:, default], boot).gain
        others = {baseline.name: _row(baseline, kept, comparison, training) for baseline in baselines}
        evaluations.append(
            Evaluation(
                comparison.build_rows(per_task, {**others, **rows}),
                candidate,
                over_default,
                n_prompts=len(kept.prompts),
                n_groups=boot.n_groups,
                n_left_out=left_out,
                fallbacks=float(unlike),
                warnings=(*warnings, *check_default(over_default, same=default == Y.mean(axis=0).argmax())),
                objective=training.targets.objectives[len(evaluations)].name,
                cost_unit=comparison.cost_unit,
            )
        )
        logger.info("%s", describe_candidate(candidate))
    margins = tuple(candidate.margin for candidate in candidates)
    return _Outcome(winner, margins, tuple(candidate.shipped for candidate in candidates), tuple(evaluations))


def _row(baseline: Baseline, kept: SweepTable, comparison: Comparison, training: Training) -> ComparisonRow:
    """A baseline's row: choices from the folds a prompt is not in; where it could not say, SBS."""
    found = crossfit_baseline(baseline, kept, comparison.Y, training.folds, training.seed)
    silent = found.indices < 0
    notes = [baseline.told] if baseline.told else []
    notes += [f"fell back for {silent.mean():.0%}"] if silent.any() else []
    if baseline.learns and comparison.boot.n_groups == 1:
        notes.append("biased upward: chosen and scored on the same prompts")
    return comparison.score_choices(found.indices, ", ".join(notes), learned=baseline.learns)


def _shipped(kept: SweepTable, targets: Targets, first: Training, outcome: _Outcome) -> Policy:
    """The policy that the gate lets through, refitted on everything, with the held-back one beside it."""
    if outcome.winner is None:
        return _refitted(kept, targets, first, get_learner("constant"), outcome)(outcome.ships)
    winner = _refitted(kept, targets, outcome.winner.training, outcome.winner.learner, outcome)
    everywhere = winner(tuple(True for _ in outcome.ships))
    if all(outcome.ships):
        return everywhere
    made = winner if any(outcome.ships) else _refitted(kept, targets, first, get_learner("constant"), outcome)
    policy = made(outcome.ships)
    policy.candidate = everywhere
    return policy


def _refitted(
    kept: SweepTable, targets: Targets, training: Training, learner: Learner, outcome: _Outcome
) -> Callable[[tuple[bool, ...]], Policy]:
    """A learner refitted on all prompts: what makes a policy of it that ships at some points of the dial."""
    everything = np.ones(len(kept.prompts), dtype=bool)
    fitted, ood = training.fitted(learner, everything), training.fit_ood(everything)

    def made(ships: tuple[bool, ...]) -> Policy:
        points = points_of(targets, outcome.evaluations, outcome.margins, ships)
        return export_policy(kept, targets, training.encoder, learner, fitted, ood, points, training.features)

    return made
