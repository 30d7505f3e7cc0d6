"""HAG's own method on one split: the LLM is tuned to write its own settings, then answers with them.

    python -m benchmarks run hag_tuning --data DIR

Half of the workload's prompts (groups kept together) label SmolLM2-135M-Instruct's best settings; low-rank
adapters are tuned on these labels (Hyperparameter Aware Generation, arXiv 2402.11251), and with the adapters on it
writes settings for the other half. The answers of stage two are the frozen LLM's: their rewards are the table's
cells. Beside it on the same split: the LLM untuned, with and without examples, and our policy.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import functools
import json
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

import hagpolicy as hag
from benchmarks.baselines.asking import EXAMPLES, FOLDER, cost, file_of, finished, per_prompt, said, smollm2, worth
from benchmarks.baselines.lora import ALPHA, EPOCHS, RANK, RATE, tune
from benchmarks.baselines.self_report import SelfReport
from benchmarks.studies.catalog import PRICES
from benchmarks.sweeps.workload.tables import workload_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, not_run, record
from hagpolicy._digest import digest_file
from hagpolicy.analysis.comparison import Comparison, compare
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.analysis.objectives import get_objectives, targets_of
from hagpolicy.analysis.prepare import Prepared, prepare
from hagpolicy.data.tuning import SettingsText
from hagpolicy.engines.transformers.engine import TransformersEngine

CLAIM = Claim(
    name="hag_tuning",
    states=(
        "What SmolLM2-135M-Instruct gains when it is tuned to write its own settings, beside a policy, on one split."
    ),
    groups=("generate",),
    headline="self_report_tuned: over SBS",
    needs=("data", "llm", "hours"),
    after=("self_report", "workload_sweep"),
)
SEED = 0
TUNED = FOLDER / "tuning.json"


def main() -> int:
    args = arguments((__doc__ or "").split("\n")[0])
    if args.data is None:
        return not_run(CLAIM, "it needs the workload's prompts: --data DIR", args)
    table = finished(workload_table, args.data)
    if table is None:
        return not_run(CLAIM, "the workload's sweep is not stored, or not finished", args)
    if args.quick:
        table = table.take(np.arange(len(table.prompts)) % 30 == 0)
    train = assign_folds(table.groups, 2, SEED) == 0
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.jsonl"
        count = table.take(train).to_instruction_tuning(labels)
        told = tuning(labels, FOLDER if not args.quick else Path(folder))
        figures = compared(table, train, told, labels, store=not args.quick)
    return record(CLAIM, figures, args, notes(table, train, count))


def tuning(labels: Path, folder: Path) -> dict[str, Any]:
    """What is known of the tuning; what was stored for other labels is dropped."""
    path, own = folder / TUNED.name, digest_file(labels)
    stored = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if stored.get("labels") != own:
        for stale in (path, folder / "self_report_tuned.jsonl"):
            stale.unlink(missing_ok=True)
        return {"labels": own, "path": path}
    return {**stored, "path": path}


def tuned_engine(told: dict[str, Any], labels: Path) -> TransformersEngine:
    """The LLM with adapters tuned on the labels; losses and time are stored."""
    engine = cast(TransformersEngine, smollm2())
    begun, processor = time.perf_counter(), time.process_time()
    losses = tune(engine, labels, seed=SEED)
    told |= {
        "losses": [round(loss, 4) for loss in losses],
        "seconds": round(time.perf_counter() - begun, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }
    path = told["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: told[name] for name in sorted(told.keys() - {"path"})}) + "\n", "utf-8")
    # Under another name and with a digest of its own: these are other weights.
    return TransformersEngine(engine.model, engine.tokenizer, name="SmolLM2-135M-Instruct, tuned")


def compared(
    table: hag.SweepTable, train: np.ndarray, told: dict[str, Any], labels: Path, *, store: bool
) -> list[Figure]:
    """Every way to choose on the test half, over the single best config of the training half."""
    test = ~train
    Y, held = table.common_means, table.take(test)
    best = int(Y[train].mean(axis=0).argmax())
    comparison = over(best, prepare(held, get_objectives("reward"), SEED))
    sbs = np.full(int(test.sum()), best)
    default = np.full_like(sbs, table.default if table.default is not None else best)
    figures = worth("engine default", comparison, default) + worth("SBS", comparison, sbs)[:1]
    policy = hag.fit(table.take(train))
    chosen = np.array([decision.index for decision in policy.decide_batch(held.prompts)])
    figures += worth("policy", comparison, chosen)
    figures.append(figure("policy: a per-prompt policy ships", float(policy.ships == "per_prompt"), unit="yes = 1"))
    if policy.candidate is not None:
        held_back = np.array([decision.index for decision in policy.candidate.decide_batch(held.prompts)])
        figures += worth("policy that is held back", comparison, held_back)
    named: dict[str, np.ndarray] = {}
    for baseline in baselines(told, labels, store=store):
        questions = baseline.questions(table, Y, train, test, SEED)
        answers = baseline.ask(questions)
        text = SettingsText(table.space)
        readings = [text.read(answer.text) for answer in answers]
        indices = np.array([-1 if reading is None else reading.index for reading in readings])
        named[baseline.name] = indices
        figures += worth(baseline.name, comparison, indices) + said(baseline.name, text, answers)
        if store:
            figures += cost(
                baseline.name, baseline, questions, [prompt.text for prompt in held.prompts], lambda: per_prompt(policy)
            )
    figures += priced(table, train, named)
    losses = told["losses"]
    tenth = max(1, len(losses) // 10)
    figures.append(figure("tuning: loss of the first tenth of the steps", np.mean(losses[:tenth]), unit="nats/token"))
    figures.append(figure("tuning: loss of the last tenth of the steps", np.mean(losses[-tenth:]), unit="nats/token"))
    figures.append(figure("tuning: processor time", told["processor_seconds"], unit="s"))
    return figures


def over(best: int, held: Prepared, point: int = 0) -> Comparison:
    """The test half's comparison over the best config of the training half."""
    fixed = np.tile(np.arange(len(held.table.space)) == best, (len(held.table.prompts), 1)).astype(np.float64)
    return compare(held, point, sbs=fixed)


def priced(table: hag.SweepTable, train: np.ndarray, named: dict[str, np.ndarray]) -> list[Figure]:
    """What the settings that were named gain where tokens cost something, beside a policy fitted for these prices:
    before its gate, which at each price ships it or does not."""
    objectives = get_objectives(f"price/token@{PRICES}")
    known, held = table.take(train), table.take(~train)
    prepared, policy = prepare(held, objectives, SEED), hag.fit(known, objective=objectives)
    figures = []
    for point, objective in enumerate(objectives):
        best = int(targets_of(known, objectives).Y(point).mean(axis=0).argmax())
        comparison = over(best, prepared, point)
        decisions = per_prompt(policy).decide_batch(held.prompts, price=objective.at)
        ships = policy.evaluations[point].candidate.shipped
        figures.append(figure(f"{objective.name}: policy ships", float(ships), unit="yes = 1"))
        choices = {"policy before the gate": np.array([decision.index for decision in decisions]), **named}
        for name, indices in choices.items():
            figures += worth(f"{objective.name}: {name}", comparison, indices)[1:]
    return figures


def baselines(told: dict[str, Any], labels: Path, *, store: bool) -> list[SelfReport]:
    """The LLM asked as it is, with examples, and tuned."""
    untuned = functools.cache(smollm2)
    made = [
        SelfReport(untuned, 0, by_reward=True),
        SelfReport(untuned, EXAMPLES, by_reward=True),
        SelfReport(lambda: tuned_engine(told, labels), tuned=True),
    ]
    if not store:
        return made
    return [
        SelfReport(one.engine, one.examples, by_reward=one.by_reward, tuned=one.tuned, cache=file_of(one))
        for one in made
    ]


def notes(table: hag.SweepTable, train: np.ndarray, count: int) -> str:
    """What was split, tuned and measured."""
    return (
        f"{int(train.sum())} prompts to train on, {int((~train).sum())} to test on, groups kept together. SBS, labels, "
        f"examples and the policy (`fit` with its defaults) come from the training half. {count} labels: the best "
        f"config by shrunk mean reward, near-ties going to the config that is best on the whole. Adapters of rank "
        f"{RANK} (alpha {ALPHA}) in all linear layers, {EPOCHS} epochs, rate {RATE:g}, loss on the answer alone. Stage "
        "one is greedy, bfloat16, one thread; stage two is the frozen LLM with the settings named, so its rewards are "
        "the table's cells. Intervals are paired bootstraps over groups of the test half."
    )


if __name__ == "__main__":
    raise SystemExit(main())
