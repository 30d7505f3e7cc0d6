"""Soft prefixes, each tuned for one task, against the bare model: who gains from which, and does a policy know.

    python -m benchmarks run prefix_choice --data DIR

Written down before the study's answers were generated, and not changed since:

- prompts: the first 36 of the workload's sentences to be put into the past tense, of CommonGen, and of SVAMP. Greedy,
  at most 32 new tokens.
- prefixes: one a task, of 8 rows, tuned on 48 prompts that are in no sweep: further sentences with the past tense,
  further sets of concepts with the sentence that comes with them, and stories of SVAMP that the workload leaves over,
  answered by equation and result ("8 - 3 = 5. The answer is 5."). Three epochs, four prompts a step, rate 0.2: so few
  steps are what fits beside other work, and nothing was tried first.
- space: the bare model, and each prefix with its first row alone and with all 8: 7 configs. What runs today is the bare
  model.
- the control: 8 rows of normal noise, each of the norm of the trained one in its place, on that prefix's own task. None
  of the three may be proven better than the bare model.
- what is compared: each prefix at both lengths over the bare model, on its own task and on the others; the policy over
  the bare model, over the single best config, and over the best config of each task, told. Not proven is not claimed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.sweeps.workload import answered, tasks
from benchmarks.sweeps.workload.scoring import SCORERS
from benchmarks.tools.choosing import measure_choice
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, not_run, record
from hagpolicy.artefacts.soft_prefix import read_soft_prefix, write_soft_prefix
from hagpolicy.results import Evaluation

CLAIM = Claim(
    name="prefix_choice",
    states="What soft prefixes, one tuned for each of three tasks, gain over the bare model, and chosen by a policy",
    groups=("explore",),
    headline="policy over the single best config",
    needs=("data", "llm"),
)
FOLDER = RESULTS / "sweeps" / CLAIM.name
PREFIXES = RESULTS / CLAIM.name
NAMES = ("past", "commongen", "svamp")
EACH, QUICK, MAX_TOKENS = 36, 2, 32
TUNED, QUICK_TUNED, ROWS = 48, 4, 8
TUNING: dict[str, Any] = {"tokens": ROWS, "epochs": 3, "batch": 4, "rate": 0.2}
GREEDY = hag.DecodingConfig(temperature=0.0)
SPACE = hag.DecodingSpace(
    [GREEDY, *(GREEDY.replace(soft_prefix=name, soft_tokens=count) for name in NAMES for count in (1, None))]
)
SEED = 20261130


def make_study_prompts(data: Path, each: int) -> list[hag.Prompt]:
    """`each` prompts of the three tasks, the tasks taking turns."""
    pools = [tasks.past(data), tasks.commongen(data), tasks.svamp(data)]
    return [pool[number] for number in range(each) for pool in pools]


def make_tuned_prompts(data: Path) -> dict[str, list[hag.Prompt]]:
    """The prompts that each prefix is tuned on, their reference the answer to be given."""
    made = {
        "past": answered.list_past(data, 3 * tasks.POOL),
        "commongen": answered.list_concepts(data, "commongen tuned"),
        "svamp": answered.list_sums(data, "svamp tuned"),
    }
    return {name: prompts[:TUNED] for name, prompts in made.items()}


def tune_prefixes(tuned: dict[str, list[hag.Prompt]], folder: Path) -> dict[str, Path]:
    """The folders of the prefixes, tuned where they are not there yet, and of their controls."""
    made = {name: folder / name for name in tuned}
    if missing := [name for name in tuned if not made[name].exists()]:
        engine = hag.load_engine("smollm2")
        for name in missing:
            hag.tune_prefix(engine, tuned[name], made[name], **TUNING)
    for name in tuned:
        control = folder / f"{name}-noise"
        if not control.exists():
            rows = read_soft_prefix(made[name])
            noise = np.random.default_rng(SEED).normal(size=rows.shape)
            noise *= np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
            control.mkdir()
            write_soft_prefix(control, noise.astype(np.float32))
        made[control.name] = control
    return made


def sweep_all(
    prompts: Sequence[hag.Prompt], tuned: dict[str, list[hag.Prompt]], prefixes: Path, folder: Path
) -> tuple[hag.SweepTable, dict[str, hag.SweepTable]]:
    """The table of the space, and by task that of the bare model and the control."""
    engine = hag.load_engine("smollm2", artifacts={"soft_prefix": tune_prefixes(tuned, prefixes)})
    options: dict[str, Any] = {"samples": 1, "max_tokens": MAX_TOKENS, "out": folder, "default": GREEDY}
    controls = {}
    for name in NAMES:
        own = [prompt for prompt in prompts if prompt.task == name]
        controls[name] = hag.sweep(
            engine, own, [GREEDY, GREEDY.replace(soft_prefix=f"{name}-noise")], SCORERS, **options
        )
    # Last, so that this is the sweep that the folder is read as.
    table = hag.sweep(engine, prompts, SPACE, SCORERS, **options)
    assert len(table.prompts) == len(prompts)  # no prefix was tuned on one of them
    return table, controls


def compare_prefixes(table: hag.SweepTable, controls: dict[str, hag.SweepTable]) -> list[Figure]:
    """Each prefix over the bare model, on its own task and the others, and the controls."""
    figures, proven = [], 0
    for name in NAMES:
        own, others = table.take(table.tasks == name), table.take(table.tasks != name)
        figures.append(figure(f"{name}: the bare model, its own task", float(own.means[:, 0].mean()), unit="reward"))
        for column, config in enumerate(table.space):
            if config.soft_prefix.startswith(f"{name}@"):
                rows = f"{config.soft_tokens or ROWS} row" + "s" * (config.soft_tokens is None)
                for what, part in (("its own task", own), ("the other tasks", others)):
                    gain = hag.compare(column, 0, part).difference
                    label = f"{name}: {rows} over the bare model, {what}"
                    figures.append(figure(label, gain.value, gain.low, gain.high, unit="reward gain"))
        control = hag.compare(1, 0, controls[name]).difference
        proven += control.low > 0.0
        label = f"{name}: random rows over the bare model, its own task"
        figures.append(figure(label, control.value, control.low, control.high, unit="reward gain"))
    return [*figures, figure("controls proven over the bare model", float(proven), unit="of 3", at_most=0.0)]


def describe_policy(table: hag.SweepTable) -> tuple[list[Figure], Evaluation]:
    """What a policy over the space wins, and its comparison."""
    policy = hag.fit(table)
    evaluation = policy.evaluation
    assert evaluation is not None
    row = evaluation.row("policy")
    over = figure("policy over the single best config", row.gain, row.gain_low, row.gain_high, unit="reward gain")
    return [*measure_choice(table, policy), over], evaluation


def main() -> int:
    args = arguments(__doc__ or "")
    if args.data is None:
        return not_run(CLAIM, "it needs the prompts: --data DIR", args)
    prompts, tuned = make_study_prompts(args.data, QUICK if args.quick else EACH), make_tuned_prompts(args.data)
    comparisons = []
    with ExitStack() as stack:
        prefixes, folder = PREFIXES, FOLDER
        if args.quick:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            prefixes, folder = made / "prefixes", made / "sweep"
            tuned = {name: some[:QUICK_TUNED] for name, some in tuned.items()}
        table, controls = sweep_all(prompts, tuned, prefixes, folder)
        figures = compare_prefixes(table, controls)
        if not args.quick:
            more, evaluation = describe_policy(table)
            figures, comparisons = figures + more, [evaluation]
    notes = (
        f"{len(prompts)} prompts of three tasks, greedy, {MAX_TOKENS} new tokens at most; choices in the script's head."
    )
    return record(CLAIM, figures, args, notes, comparisons=comparisons)


if __name__ == "__main__":
    raise SystemExit(main())
