"""Stores of reference answers, each of one task, against the bare model: who gains from which, and does a policy know.

    python -m benchmarks run reference_answers --data DIR

Written down before the study's answers were generated, and not changed since:

- prompts: the first 40 of the workload's E2E restaurants, of its sentences for the past tense, and of SVAMP. Greedy, at
  most 40 new tokens, in bfloat16 as the workload's own sweeps.
- stores: one a task, of prompts that are in no sweep: the 98 descriptions of other restaurants in E2E's development
  set, with a human's text; 120 further sentences with their past tense; the 60 stories of SVAMP that the workload
  leaves over, answered by equation and result ("8 - 3 = 5. The answer is 5."). Neighbours and temperature are the
  builder's.
- space: the bare model, and each store with λ = .25 and .5: 7 configs. What runs today is the bare model.
- the control: each task's own store with its tokens in another order (a permutation drawn once), λ = .5, on that task's
  prompts. None of the three may be proven better than the bare model.
- what is compared: each store at its better λ on its own task and on the others, over the bare model; over it too the
  single best config, the policy, and the best config of each task, told. Not proven is not claimed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hagpolicy as hag
from benchmarks.sweeps.workload import answered, tasks
from benchmarks.sweeps.workload.configs import DTYPE
from benchmarks.sweeps.workload.scoring import SCORERS
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, not_run, record
from hagpolicy.artefacts.folder import RECORD

CLAIM = Claim(
    name="reference_answers",
    states="What stores of reference answers, one of each of three tasks, gain over the bare model",
    groups=("explore",),
    headline="policy over the bare model",
    needs=("data", "llm"),
)
FOLDER = RESULTS / "sweeps" / "reference_answers"
NAMES = ("e2e", "past", "svamp")
EACH, QUICK, MAX_TOKENS = 40, 2, 40
STORED = {"e2e": 98, "past": 120, "svamp": 60}
QUICK_STORED = 8
WEIGHTS = (0.25, 0.5)
GREEDY = hag.DecodingConfig(temperature=0.0)
SPACE = hag.DecodingSpace(
    [GREEDY, *(GREEDY.replace(reference=name, reference_weight=weight) for name in NAMES for weight in WEIGHTS)]
)
SEED = 20261130


def make_study_prompts(data: Path, each: int) -> list[hag.Prompt]:
    """`each` prompts of the three tasks, the tasks taking turns."""
    pools = [tasks.e2e(data), tasks.past(data), tasks.svamp(data)]
    return [pool[number] for number in range(each) for pool in pools]


def make_stored_prompts(data: Path) -> dict[str, list[hag.Prompt]]:
    """The prompts of each store, their reference the answer that is stored."""
    made = {
        "e2e": answered.list_restaurants(data, "e2e references"),
        "past": answered.list_past(data, 2 * (tasks.POOL + STORED["past"])),
        "svamp": answered.list_sums(data, "svamp references"),
    }
    return {name: prompts[: STORED[name]] for name, prompts in made.items()}


def build_stores(engine: Any, stored: dict[str, list[hag.Prompt]], folder: Path) -> dict[str, Path]:
    """The folders of the stores, built where they are not there yet, and of their controls."""
    import torch

    from hagpolicy.engines.transformers.references import ReferenceStore

    made = {}
    for name, prompts in stored.items():
        made[name] = folder / name
        if not made[name].exists():
            hag.build_references(engine, prompts, made[name])
        control = folder / f"{name}-shuffled"
        if not control.exists():
            store = ReferenceStore.load(made[name])
            order = torch.randperm(len(store.tokens), generator=torch.Generator().manual_seed(SEED))
            control.mkdir()
            ReferenceStore(store.states, store.tokens[order], store.neighbours, store.temperature).save(control)
            (control / RECORD).write_bytes((made[name] / RECORD).read_bytes())
        made[control.name] = control
    return made


def sweep_all(prompts: Sequence[hag.Prompt], stored: dict[str, list[hag.Prompt]], folder: Path) -> Any:
    """The table of the space, and by task that of the bare model and the control."""
    engine = hag.load_engine("smollm2", dtype=DTYPE)
    stores = build_stores(engine, stored, folder.with_name(f"{folder.name}_stores"))
    engine = hag.load_engine("smollm2", dtype=DTYPE, artifacts={"reference": stores})
    options: dict[str, Any] = {"samples": 1, "max_tokens": MAX_TOKENS, "out": folder, "default": GREEDY}
    table = hag.sweep(engine, prompts, SPACE, SCORERS, **options)
    assert len(table.prompts) == len(prompts)  # none of them is in a store
    controls = {}
    for name in NAMES:
        config = GREEDY.replace(reference=f"{name}-shuffled", reference_weight=max(WEIGHTS))
        own = [prompt for prompt in prompts if prompt.task == name]
        controls[name] = hag.sweep(engine, own, [GREEDY, config], SCORERS, **options)
    return table, controls


def compare_stores(table: hag.SweepTable, controls: dict[str, hag.SweepTable]) -> list[Figure]:
    """Each store at its better λ over the bare model, on its own task, and the controls."""
    figures, proven = [], 0
    for name in NAMES:
        columns = [number for number, config in enumerate(table.space) if config.reference.startswith(f"{name}@")]
        own = table.take(table.tasks == name)
        for what, part in (("its own task", own), ("the other tasks", table.take(table.tasks != name))):
            best = max(columns, key=lambda column: float(part.means[:, column].mean()))
            gain = hag.compare(best, 0, part).difference
            label = f"{name}: λ = {table.space[best].reference_weight:g} over the bare model, {what}"
            figures.append(figure(label, gain.value, gain.low, gain.high, unit="reward gain"))
        control = hag.compare(1, 0, controls[name]).difference
        proven += control.low > 0.0
        label = f"{name}: shuffled tokens over the bare model, its own task"
        figures.append(figure(label, control.value, control.low, control.high, unit="reward gain"))
        figures.append(figure(f"{name}: the bare model, its own task", float(own.means[:, 0].mean()), unit="reward"))
    return [*figures, figure("controls proven over the bare model", float(proven), unit="of 3", at_most=0.0)]


def describe_policy(table: hag.SweepTable) -> tuple[list[Figure], Any]:
    """What a policy over the space wins, before the gate, and its comparison."""
    evaluation = hag.fit(table).evaluation
    assert evaluation is not None
    assert evaluation.candidate is not None
    rows = {row.name: row for row in evaluation.rows}
    found = [figure("policy ships per prompt", float(evaluation.candidate.shipped), unit="of 1")]
    over = evaluation.sbs_over_default
    if over is not None:
        found.append(figure("single best over the bare model", over.value, over.low, over.high, unit="reward gain"))
    gain = evaluation.candidate.gain
    found.append(figure("policy over the single best", gain.value, gain.low, gain.high, unit="reward gain"))
    for name in ("best_per_task", "policy"):
        over = rows[name].over_default
        if over is not None:
            label = "policy over the bare model" if name == "policy" else "best per task, told, over the bare model"
            found.append(figure(label, over.value, over.low, over.high, unit="reward gain"))
    return found, evaluation


def main() -> int:
    args = arguments(__doc__ or "")
    if args.data is None:
        return not_run(CLAIM, "it needs the prompts: --data DIR", args)
    prompts, stored = make_study_prompts(args.data, QUICK if args.quick else EACH), make_stored_prompts(args.data)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if args.quick else FOLDER
        if args.quick:
            stored = {name: some[:QUICK_STORED] for name, some in stored.items()}
        table, controls = sweep_all(prompts, stored, folder)
        figures = compare_stores(table, controls)
        comparisons = []
        if not args.quick:
            more, evaluation = describe_policy(table)
            figures, comparisons = figures + more, [evaluation]
    notes = (
        f"{len(prompts)} prompts of three tasks, greedy, {MAX_TOKENS} new tokens at most; choices in the script's head."
    )
    return record(CLAIM, figures, args, notes, comparisons=comparisons)


if __name__ == "__main__":
    raise SystemExit(main())
