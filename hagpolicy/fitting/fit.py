"""`fit`: from a sweep table to a Policy, by selection, gate and interval in one procedure."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from warnings import warn

import numpy as np

from hagpolicy._extras import require
from hagpolicy.analysis.comparison import STANDARD_ROWS
from hagpolicy.analysis.objectives import ObjectiveSpec, get_objectives
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Baseline
from hagpolicy.fitting.baselines.registry import get_baselines
from hagpolicy.fitting.compare import build_evaluations
from hagpolicy.fitting.crossfit import choose_learners, cross_fit
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.registry import get_encoders
from hagpolicy.fitting.export import export_fit
from hagpolicy.fitting.gate import gate
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.learners.registry import get_learners
from hagpolicy.fitting.precision import compare_precision, count_precision_fits
from hagpolicy.fitting.prepare import prepare_fit
from hagpolicy.fitting.timing import TimeLimit
from hagpolicy.fitting.told import count_told_fits, gate_told
from hagpolicy.policy.policy import Policy
from hagpolicy.policy.reading import Reads, check_reads
from hagpolicy.results import describe_candidate

logger = logging.getLogger(__name__)

# Compared where no baselines are named.
DEFAULT_BASELINE = "nearest"
# What the last fit comes to, on all prompts and with its export, in fits on all folds but one.
_REFIT = 2


def fit(
    table: SweepTable,
    encoder: str | Encoder | np.ndarray | Sequence[str | Encoder | np.ndarray] = "static",
    learner: str | Learner | list[str | Learner] = "auto",
    *,
    objective: ObjectiveSpec = "reward",
    margins: Sequence[float] | None = None,
    baselines: Sequence[str | Baseline] | None = None,
    near_duplicates: float | None = None,
    reads: Reads = "last_user",
    seed: int = 0,
    time_limit: float | None = None,
    rivals: Sequence[str | Baseline] | None = None,
) -> Policy:
    """Fit a policy; it ships what is proven: what runs today, else the single best config, else a choice per prompt.

    In two steps. The single best config replaces the table's default where the interval of its gain over it lies above
    0 (`single_best.judge_single_best`); a table without a default skips that step, and nothing is proven over what runs
    today. What this leaves is the reference, which per-prompt policies depart from and are compared with.

    Candidates are encoder × learner × margin. Each is cross-fitted over groups; the best is chosen
    and its gain estimated by bootstrap bias-corrected cross-validation (`selection.select_family`), over the default or
    over a single best config that each draw chooses for itself (`bootstrap.DrawnConfig`). It ships, refitted on
    everything, when the interval's lower end is above 0 and at least 10 groups depart from the reference. With
    several objectives (a dial) one encoder and learner serve all of them, and margin and gate are each point's own.

    Args:
        table: a sweep; prompts that lack a config are left out and counted. Of a raced one, configs are
            compared by the common samples alone; the added ones teach the learners.
        encoder: "static", "precomputed" (vectors that the prompts carry, see `with_vectors`), "transformer:" and a
            folder or hub name (see `TransformerEncoder`), the path of an .onnx file, an Encoder, an array
            (n_prompts, dim) of the vectors of the table's prompts, or several that compete: the comparison then has a
            row of each, where their names differ, beside that of the best.
            `PrecomputedEncoder(embed=function)` makes vectors of texts, in training and in the policy.
        learner: "auto": on texts the mean of ridge and MLP ("blend"), on vectors that are given ridge and forest,
            which compete; a name, a Learner, or several that compete.
        objective: what is maximised: "reward", "price/token@0,0.001", "pass@4", an `Objective`, or several of
            one family (see `hagpolicy.analysis.objectives`); several are a dial that `Policy.predict` turns.
        margins: a candidate departs from the reference only for a larger predicted advantage; in
            units of the objective, under a price in standard deviations of the predicted advantages.
        baselines: other ways to choose, by name or as a `Baseline`, cross-fitted into the same table; they are
            compared and never shipped. None: nearest neighbours alone.
        near_duplicates: keep prompts together whose 5-character shingles overlap by at least this
            share, in (0, 1]; None: exact duplicates and declared groups only.
        reads: what the policy reads of a chat: "last_user", the last user message; "system+last_user", that after
            the system messages; "all", every turn. A string reads as itself.
        seed: of folds, bootstrap and learners.
        time_limit: seconds that the call may take; None: no limit. Learners are cross-fitted in the order in which
            they are named, on one encoder after the other. After the first or second fit of each its whole cost is
            forecast, with what follows should it win, and one that takes longer than is left is left out, by its
            time alone and by nothing of how well it does (`Evaluation.not_fitted`). The first is always fitted, and
            what was begun is finished: a limit always yields a policy, and may be exceeded. Which ones are fitted
            depends on the machine; what becomes of them does not: they, the comparison and the policy are as if they
            alone had been named, with the same seed and without a limit.
        rivals: deprecated: the earlier word for `baselines`.

    Raises:
        InvalidInput: fewer than two comparable prompts, no or an unknown encoder, learner, objective or
            baseline, a bad margin, share or time limit, or a table that lacks what the objective is made of.
        MissingExtra: a package of the extra [fit] is not installed.
    """
    if rivals is not None:
        warn("rivals is called baselines now: fit(baselines=...)", DeprecationWarning, stacklevel=2)
        if baselines is not None:
            raise InvalidInput("rivals", "nothing beside baselines, of which it is the earlier word", rivals)
        baselines = rivals
    objectives = get_objectives(objective)
    steps = None if margins is None else _check_margins(margins)
    if near_duplicates is not None and not 0.0 < near_duplicates <= 1.0:
        raise InvalidInput("near_duplicates", "a share in (0, 1], or None", near_duplicates)
    limit = None if time_limit is None else TimeLimit(time_limit)
    encoders, learners = get_encoders(encoder), get_learners(learner)
    if not learners:
        raise InvalidInput("learner", "at least one", "none")
    fitted = [one for item in encoders for one in choose_learners(learners, item)]
    compared = _get_compared(baselines, fitted)
    # Many small matrices: more threads are slower, and would make the result depend on the machine.
    with require("threadpoolctl", "fit", "fitting").threadpool_limits(1):
        data = prepare_fit(table, encoders, objectives, seed, near_duplicates, check_reads(reads))
        if limit is not None:
            limit.reserve(_REFIT + count_precision_fits(data) + count_told_fits(data))
        fits = cross_fit(data, learners, compared, steps, limit)
        gated = compare_precision(data, gate(fits.learners, data.comparisons), steps)
        told = gate_told(data, gated, steps)
        evaluations = build_evaluations(data, fits, gated, told)
        for candidate in gated.candidates:
            logger.info("%s", describe_candidate(candidate))
        return export_fit(data, gated, evaluations, told)


def _check_margins(given: Sequence[float]) -> tuple[float, ...]:
    """Margins as numbers. Raises InvalidInput for none, and for what is no number from 0."""
    try:
        margins = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        margins = np.empty(0)
    if margins.ndim != 1 or not margins.size or not (np.isfinite(margins) & (margins >= 0.0)).all():
        raise InvalidInput("margins", "a list of at least one number, none below 0", given)
    return tuple(margins.tolist())


def _get_compared(baselines: Sequence[str | Baseline] | None, learners: list[Learner]) -> list[Baseline]:
    """The baselines. Raises InvalidInput for one whose name another row of the comparison bears."""
    others = {*STANDARD_ROWS, *(learner.name for learner in learners)}
    if baselines is None:
        return get_baselines([DEFAULT_BASELINE] if DEFAULT_BASELINE not in others else [])
    found = get_baselines(baselines)
    for baseline in found:
        if baseline.name in others:
            raise InvalidInput(
                "baselines", "names that no other row of the comparison bears", baseline.name, "Rename it."
            )
    return found
