"""The LLM asked for its own decoding settings, with no example and with four, on every prompt of the workload.

    python -m benchmarks run self_report --data DIR

Stores the answers (`benchmarks/results/self_report/`), from which `SelfReport.from_results` makes the baselines of
the comparisons without an LLM; asks only what is not stored. Examples come from the training part of each fold of
`fit`, labelled by mean reward. The prompts of the budgets table are asked too, and those of the drafting table, with
the fastest configs as examples.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.baselines.asking import EXAMPLES, cost, file_of, finished, per_prompt, said, smollm2, worth
from benchmarks.baselines.self_report import SelfReport
from benchmarks.studies.catalog import SECONDS
from benchmarks.sweeps.drafted import drafting_table
from benchmarks.sweeps.workload.tables import budgets_table, workload_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, not_run, record
from hagpolicy import SweepTable, fit
from hagpolicy.analysis.comparison import compare
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.analysis.objectives import get_objectives, targets_of
from hagpolicy.analysis.prepare import prepare
from hagpolicy.analysis.rule import N_FOLDS
from hagpolicy.data.tuning import SettingsText
from hagpolicy.fitting.baselines.base import crossfit_baseline

CLAIM = Claim(
    name="self_report",
    states="What SmolLM2-135M-Instruct gains by choosing its own settings when asked, and what asking costs.",
    groups=("generate",),
    headline="self_report: over SBS",
    needs=("data", "llm", "hours"),
    after=("workload_sweep", "drafting"),
)
SEED = 0


def main() -> int:
    args = arguments((__doc__ or "").split("\n")[0])
    if args.data is None:
        return not_run(CLAIM, "it needs the workload's prompts: --data DIR", args)
    workload, budgets = finished(workload_table, args.data), finished(budgets_table, args.data)
    drafts = finished(drafting_table, args.data)
    if workload is None:
        return not_run(CLAIM, "the workload's sweep is not stored, or not finished", args)
    if args.quick:
        workload, budgets, drafts = workload.take(np.arange(len(workload.prompts)) % 60 == 0), None, None
    figures: list[Figure] = []
    engine = None
    for examples in (0, EXAMPLES):
        baseline = SelfReport(engine or smollm2, examples, by_reward=True)
        if not args.quick:
            baseline = SelfReport(engine or smollm2, examples, by_reward=True, cache=file_of(baseline))
        figures += asked(baseline, workload, measure=not args.quick)
        if budgets is not None:
            fold_by_fold(baseline, budgets)
        if drafts is not None:
            of_time = SelfReport(baseline.engine, examples, cache=file_of(baseline))
            figures += of_drafts(of_time, drafts)
            baseline.engine = of_time.engine
        engine = baseline.engine
    return record(CLAIM, figures, args, notes(workload, budgets))


def fold_by_fold(baseline: SelfReport, table: SweepTable, objective: str = "reward") -> np.ndarray:
    """int64 (n_prompts,): the baseline's choices on the folds of `fit`, -1 where it falls back."""
    folds = assign_folds(table.groups, N_FOLDS, SEED)
    return crossfit_baseline(baseline, table, targets_of(table, get_objectives(objective)).Y(0), folds, SEED).indices


def of_drafts(baseline: SelfReport, table: SweepTable) -> list[Figure]:
    """Which way of drafting the LLM names; what that is worth stands in the table of seconds."""
    choices = fold_by_fold(baseline, table, SECONDS)
    most = np.bincount(choices + 1).max() / len(choices)
    return [
        figure(f"{baseline.name}, drafting: not well formed, falls back to SBS", np.mean(choices < 0), unit="share"),
        figure(f"{baseline.name}, drafting: the choice named most", most, unit="share"),
    ]


def asked(baseline: SelfReport, table: SweepTable, *, measure: bool) -> list[Figure]:
    """Reward, how the answers could be read, and cost."""
    prepared = prepare(table, get_objectives("reward"), SEED)
    Y, folds, comparison = table.common_means, prepared.folds, compare(prepared)
    figures = worth(baseline.name, comparison, fold_by_fold(baseline, table), learned=baseline.learns)
    questions = [
        (row, question)
        for fold in np.unique(folds)
        for row, question in zip(
            np.flatnonzero(folds == fold).tolist(),
            baseline.questions(table, Y, folds != fold, folds == fold, SEED),
            strict=True,
        )
    ]
    ordered = [question for _, question in sorted(questions, key=lambda pair: pair[0])]
    figures += said(baseline.name, SettingsText(table.space), baseline.ask(ordered))
    if measure:
        figures += cost(
            baseline.name,
            baseline,
            ordered,
            [prompt.text for prompt in table.prompts],
            lambda: per_prompt(fit(table)),
        )
    return figures


def notes(workload: SweepTable, budgets: SweepTable | None) -> str:
    """What was asked, and how the answers are read."""
    more = "" if budgets is None else f"; {len(budgets.prompts)} of the budgets table were asked too"
    return (
        f"{len(workload.prompts)} prompts × {len(workload.space)} configs{more}. Greedy answers, bfloat16, one "
        "thread; other work ran on the machine. An answer is a JSON object or lines `name: value`; settings that are "
        "no config of the space count as the nearest one, anything else as the single best config of the training "
        "part. Without examples of the sweep two made-up ones show the form. Examples: prompts of the training part "
        "with their best settings by shrunk mean reward, of different tasks and settings."
    )


if __name__ == "__main__":
    raise SystemExit(main())
