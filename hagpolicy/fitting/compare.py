"""Step 4 of `fit`: the evaluation at each point of the dial, with every baseline and learner in its table."""

from __future__ import annotations

from hagpolicy.analysis.checks import check_default
from hagpolicy.analysis.comparison import Comparison, ComparisonRow
from hagpolicy.analysis.estimates import crossfit_sbs
from hagpolicy.fitting.crossfit import CrossFits, CrossFittedBaseline
from hagpolicy.fitting.gate import Gated
from hagpolicy.fitting.prepare import FitData
from hagpolicy.fitting.told import GatedTold
from hagpolicy.results import Evaluation, PromptValues


def build_evaluations(
    data: FitData, fits: CrossFits, gated: Gated, told: GatedTold | None = None
) -> tuple[Evaluation, ...]:
    """The evaluation of what was gated, at each point of the dial.

    Args:
        data: prompts and comparisons.
        fits: baselines and learners on them.
        gated: what selection and gate came to.
        told: the same, of policies that are told the task.
    """
    winner = data.trainings[0] if gated.winner is None else gated.winner.training
    fallbacks = float(winner.out_of_distribution.mean()) if fits.learners else 0.0
    return tuple(_build_evaluation(data, fits, gated, told, point, fallbacks) for point in range(len(data.comparisons)))


def _build_evaluation(
    data: FitData, fits: CrossFits, gated: Gated, told: GatedTold | None, point: int, fallbacks: float
) -> Evaluation:
    """The evaluation at one point; `fallbacks`: share of the prompts that are unlike those of the other folds."""
    prepared, comparison = data.prepared, data.comparisons[point]
    kept, boot, first = prepared.table, prepared.boot, comparison.single_best
    per_task = crossfit_sbs(comparison.Y, prepared.folds, kept.tasks) if len(set(kept.tasks)) > 1 else None
    baselines = {fit.baseline.name: _build_row(fit, comparison, point) for fit in fits.baselines}
    told_rows = {} if told is None else {"told": told.rows[point]}
    rows, values = comparison.build_rows(per_task, {**baselines, **told_rows, **gated.rows[point]})
    return Evaluation(
        rows,
        gated.candidates[point],
        first.over_default,
        n_prompts=len(kept.prompts),
        n_groups=boot.n_groups,
        n_left_out=prepared.n_left_out,
        fallbacks=fallbacks,
        warnings=(*prepared.warnings, *check_default(first, comparison.default_ahead)),
        objective=prepared.targets.objectives[point].name,
        cost_unit=comparison.cost_unit,
        not_fitted=fits.not_fitted,
        per_prompt=PromptValues(tuple(prompt.digest for prompt in kept.prompts), values),
    )


def _build_row(fit: CrossFittedBaseline, comparison: Comparison, point: int) -> ComparisonRow:
    """A baseline's row: choices from the folds a prompt is not in; where it could not say, SBS."""
    baseline, choices = fit.baseline, fit.choices[point]
    fell_back = choices < 0
    notes = [baseline.note] if baseline.note else []
    notes += [f"fell back for {fell_back.mean():.0%}"] if fell_back.any() else []
    if baseline.learns and comparison.boot.n_groups == 1:
        notes.append("biased upward: chosen and scored on the same prompts")
    return comparison.score_choices(choices, ", ".join(notes), learned=baseline.learns)
