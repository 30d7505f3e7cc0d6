"""The comparisons: what a per-prompt policy wins, on every stored sweep and under every objective.

    python -m benchmarks run quality --data DIR [-- --only STUDY]

Fits with the default encoder and `learner="auto"`, cross-fitted and gated as `fit` always does, and compares
with every baseline in the same table. Generates nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import hagpolicy as hag
from benchmarks.studies.catalog import PLAIN, STUDIES, Study
from benchmarks.tools.claim import Claim
from benchmarks.tools.plots import gain_plot
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, record, stored
from hagpolicy.fitting.baselines.base import Baseline
from hagpolicy.results import Estimate, Evaluation

CLAIM = Claim(
    name="quality",
    states="What a per-prompt policy wins, on every stored sweep and under every objective.",
    groups=("stored",),
    headline="*: best per-prompt policy over SBS",
    needs=("data",),
    after=("workload_sweep", "stronger_sweep", "drafting", "turn", "self_report"),
)

AFTERWARDS = (
    "Comparisons of the policy with a baseline are point estimates. The learner and the reference were changed after a "
    "first look at the workload's table: the end of `benchmarks/sweeps/workload/choices.md` says how and why."
)
FOLDINGS = (1, 2, 3, 4)  # seeds, beside the default's 0
# What a policy is to stand above where its objective counts.
BASELINES = ("best_per_task", "self_report", "self_report_4_shot")


def main() -> int:
    args = arguments(__doc__ or "", more=lambda parser: parser.add_argument("--only", metavar="STUDY"))
    missed = 0
    for study in STUDIES:
        if args.only in (None, study.name):
            missed |= run(study, args)
    if args.only in (None, "single_tasks"):
        missed |= single_tasks(args)
    return missed


def prepared(study: Study, data: Path) -> tuple[hag.SweepTable, list[str | Baseline]]:
    """The stored sweep, and the baselines of its comparison with what was measured for them."""
    table = study.table(data)
    own = ["generation_config"] if table.default is not None else []
    return table, [*own, *PLAIN, *study.baselines(table)]


def run(study: Study, args: argparse.Namespace) -> int:
    """Fit one study and record its comparisons."""
    claim = CLAIM.part(study.name, study.statement)
    found = stored(partial(prepared, study), claim, args)
    if found is None:
        return 0
    table, baselines = found
    started = time.perf_counter()
    if args.quick:
        table = table.take(np.arange(len(table.prompts)) % 4 == 0)
    policy = hag.fit(table, objective=study.objective, baselines=baselines)
    seconds = time.perf_counter() - started
    comparisons = [evaluation for evaluation in policy.evaluations if evaluation is not None]
    print("\n\n".join(str(evaluation) for evaluation in comparisons))
    figures: list[Figure] = []
    for evaluation in comparisons:
        figures += figures_of(evaluation, targeted=bool(study.counts))
    if not args.quick:
        figures += folded_otherwise(table, study, comparisons)
    notes, plots = described(table, policy, seconds), []
    if study.counts:
        notes += f" {AFTERWARDS}"
    if len(comparisons) > 1 and not args.quick:
        plots = [f"plots/{study.name}.svg"]
        (RESULTS / plots[0]).parent.mkdir(parents=True, exist_ok=True)
        drawn = gain_plot([(evaluation.objective, evaluation) for evaluation in comparisons])
        (RESULTS / plots[0]).write_text(drawn, "utf-8")
    return record(claim, figures, args, notes, comparisons=comparisons, plots=plots)


def figures_of(evaluation: Evaluation, *, targeted: bool) -> list[Figure]:
    """What a reader asks first; `targeted`, with targets: a proven gain, not below the baselines."""
    of = f"{evaluation.objective}: "
    found, candidate = [], evaluation.candidate
    if evaluation.sbs_over_default is not None:
        found.append(gain(f"{of}single best config over the engine's default", evaluation.sbs_over_default))
    assert candidate is not None
    found.append(gain(f"{of}best per-prompt policy over SBS", over_sbs(evaluation)))
    found.append(figure(f"{of}it ships", float(candidate.shipped), unit="yes = 1"))
    over_default = evaluation.row("policy").over_default
    if over_default is not None:
        found.append(gain(f"{of}what ships over the engine's default", over_default))
    if targeted:
        over = over_sbs(evaluation)
        low, ours = over.low, over.value
        found.append(figure(f"{of}lower end of the policy's gain over SBS", low, unit="reward gain", at_least=1e-6))
        for name in BASELINES:
            baseline = next((row for row in evaluation.rows if row.name == name), None)
            if baseline is not None:
                words = f"{of}policy, before the gate, over {name.replace('_', ' ')}"
                found.append(figure(words, ours - baseline.gain, unit="reward gain", at_least=0.0))
    return found


def folded_otherwise(table: hag.SweepTable, study: Study, first: Sequence[Evaluation]) -> list[Figure]:
    """What other foldings of the same prompts give: a claim that hangs on one of them is none."""
    more = [hag.fit(table, objective=study.objective, seed=seed).evaluations for seed in FOLDINGS]
    found = []
    for point, evaluation in enumerate(first):
        every = [evaluation, *(one[point] for one in more)]
        of = f"{evaluation.objective}, {len(every)} foldings: "
        candidates = [one.candidate for one in every if one is not None and one.candidate is not None]
        gains = [over_sbs(one).value for one in every if one is not None]
        found.append(figure(f"{of}policy ships", np.mean([one.shipped for one in candidates]), unit="share"))
        told = [one.row("best_per_task").gain for one in every if one is not None]
        for who, values in (("policy", gains), ("best per task", told)):
            for word, of_them in (("mean", np.mean), ("least", np.min), ("most", np.max)):
                found.append(figure(f"{of}{who} over SBS, {word}", float(of_them(values)), unit="reward gain"))
    return found


def over_sbs(evaluation: Evaluation) -> Estimate:
    """What the best per-prompt policy gains over the single best config, before the gate; 0 where none was found."""
    candidate = evaluation.candidate
    if candidate is None or not candidate.found:
        return Estimate(0.0, 0.0, 0.0)
    return evaluation.row(candidate.name.partition(" on ")[0]).gain_estimate


SHIPPED = {
    "per_prompt": "a per-prompt policy ships",
    "single_best": "nothing per prompt is proven, SBS ships",
    "default": "nothing is proven, the default stands",
}


def gain(name: str, estimate: Estimate) -> Figure:
    """A gain with its interval."""
    return figure(name, estimate.value, estimate.low, estimate.high, unit="reward gain")


def described(table: hag.SweepTable, policy: hag.Policy, seconds: float) -> str:
    """What was fitted on what, and the single best configs."""
    tokens = 0 if table.tokens is None else int(np.nansum(table.tokens))
    points = zip(policy.dial.points, single_bests(policy), strict=True)
    named = "; ".join(f"{point.name}: `{table.space[index]}`" for point, index in points)
    return (
        f"{len(table.prompts)} prompts in {len(np.unique(table.groups))} independent groups × {len(table.space)} "
        f"configs, {int(table.counts.sum())} scored answers, {tokens} new tokens; fitted in {seconds:.0f} s. "
        f"Single best configs: {named}."
    )


def single_bests(policy: hag.Policy) -> list[int]:
    """Index of the single best config at each point of the dial."""
    return [policy.dial.rule_at(**_turned(policy, point.at)).sbs for point in policy.dial.points]


def _turned(policy: hag.Policy, at: float) -> dict[str, float]:
    return {policy.dial.argument: int(at) if policy.dial.argument == "n" else at} if policy.dial.argument else {}


def single_tasks(args: argparse.Namespace) -> int:
    """Each task of the workload alone: most often there is nothing to be won."""
    claim = CLAIM.part("single_tasks", "Mean reward, each task of the mixed workload alone, SmolLM2-135M")
    study = STUDIES[0]
    table = stored(study.table, claim, args)
    if table is None:
        return 0
    figures: list[Figure] = []
    notes: list[str] = []
    for task in dict.fromkeys(table.tasks):
        policy = hag.fit(table.take(table.tasks == task))
        evaluation = policy.evaluation
        assert evaluation is not None
        assert evaluation.candidate is not None
        assert evaluation.sbs_over_default is not None
        figures.append(gain(f"{task}: single best config over the engine's default", evaluation.sbs_over_default))
        figures.append(gain(f"{task}: best per-prompt policy over SBS", over_sbs(evaluation)))
        shipped = SHIPPED[policy.ships]
        best = "the engine's default" if policy.sbs_index == table.default else f"`{policy.sbs}`"
        notes.append(f"{task}: the single best config is {best}, {shipped}")
    return record(claim, figures, args, ". ".join(notes) + ".")


if __name__ == "__main__":
    raise SystemExit(main())
