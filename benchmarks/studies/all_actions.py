"""Study: everything that may be chosen in one space, raced: sampling, hints, beams, adapters, a prefix, stores, masks.

    python -m benchmarks run all_actions --data DIR [-- --made DIR]

Written down before the study's answers were generated, and not changed since:

- prompts: 80 of each of four tasks of the workload, the tasks taking turns: restaurants of E2E (`contains_all`),
  sentences for the past tense (the workload's own scorer), word problems of SVAMP (`numeric_match`), and CommonGen
  as in `constraint_ways`: each with its words to include as a constraint, the reward half for meeting it and half for
  likeness to the sentence that comes with the data. At most 48 new tokens, one sample.
- made beforehand, of prompts that are in no sweep: an adapter a task (rank 8, two epochs; 98 restaurants, 120
  sentences, 60 stories, 96 sets of concepts), the soft prefix for the past tense of `prefix_choice`, and the stores of
  references for the past tense and SVAMP as in `reference_answers`.
- space: `SPACE` below, 21 configs, greedy but for one. What runs today is the bare model. Drafts are left out, since
  they change seconds alone, and so is thinking, which no LLM here does. Three configs combine a mask with an adapter or
  prefix of another task, so that the single best config may be good at two tasks.
- how: `strategy="racing"` with its own budget, 35 % of the full sweep's generations; `fit` with its defaults.
- aims: the policy is proven over the single best config with at least .08, and the lower end of policy minus the best
  config of each task, told, is above -.02.

`--made DIR` makes what is missing of the adapters and stores there, and sweeps what is missing; without it the stored
sweep is read.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hagpolicy as hag
from benchmarks.studies.constraint_ways import make_word_prompts
from benchmarks.studies.prefix_choice import PREFIXES
from benchmarks.sweeps.stored_table import restored_table
from benchmarks.sweeps.workload import answered, configs, tasks
from benchmarks.sweeps.workload.scoring import SCORERS
from benchmarks.tools.choosing import measure_choice
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, arguments, figure, not_run, record
from hagpolicy.data.store.folder import SweepStore

CLAIM = Claim(
    name="all_actions",
    states="What choosing among all kinds of actions in one raced space wins per prompt on SmolLM2-135M-Instruct",
    groups=("generate",),
    headline="best per-prompt candidate over the single best config",
    needs=("data", "llm", "hours"),
)
FOLDER = RESULTS / "sweeps" / CLAIM.name
EACH, QUICK, MAX_TOKENS = 80, 5, 48
TUNED = {"e2e": 98, "past": 120, "svamp": 60, "words": 96}
QUICK_TUNED = 4
GREEDY = hag.DecodingConfig(temperature=0.0)
ACTIONS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.7, "top_p": 0.9},
    {"repetition_penalty": 1.1},
    {"no_repeat_ngram_size": 3},
    {"hint": configs.ONLY},
    {"hint": configs.SHORT},
    {"hint": "Cover: {keywords}."},
    {"hint": configs.ONLY, "num_beams": 3},
    *({"adapter": task} for task in TUNED),
    {"soft_prefix": "past"},
    {"reference": "past", "reference_weight": 0.5},
    {"reference": "svamp", "reference_weight": 0.25},
    *({"constrain": way} for way in ("ask", "mask", "retry")),
    {"constrain": "mask", "adapter": "e2e"},
    {"constrain": "mask", "adapter": "past"},
    {"constrain": "mask", "soft_prefix": "past"},
)
SPACE = hag.DecodingSpace([GREEDY, *(GREEDY.replace(**action) for action in ACTIONS)])
REWARDS = {
    "e2e": SCORERS["e2e"],
    "past": SCORERS["past"],
    "svamp": SCORERS["svamp"],
    "words": {"constraint": 0.5, "chrf": 0.5},
}


def make_study_prompts(data: Path, each: int) -> list[hag.Prompt]:
    """`each` prompts of the four tasks, the tasks taking turns."""
    pools = [tasks.e2e(data), tasks.past(data), tasks.svamp(data), make_word_prompts(data, each)]
    return [pool[number] for number in range(each) for pool in pools]


def make_answered_prompts(data: Path) -> dict[str, list[hag.Prompt]]:
    """The prompts of each task that something is made of, their reference the answer to be given."""
    made = {
        "e2e": answered.list_restaurants(data, "e2e references"),
        "past": answered.list_past(data, 2 * (tasks.POOL + TUNED["past"])),
        "svamp": answered.list_sums(data, "svamp references"),
        "words": answered.list_concepts(data, "commongen tuned"),
    }
    return {name: prompts[: TUNED[name]] for name, prompts in made.items()}


def make_artefacts(known: dict[str, list[hag.Prompt]], folder: Path) -> dict[str, dict[str, Path]]:
    """The folders of adapters, prefix and stores by field and name, made where they are not there yet."""
    engine = hag.load_engine("smollm2")
    adapters = {task: folder / f"adapter-{task}" for task in known}
    stores = {task: folder / f"store-{task}" for task in ("past", "svamp")}
    for task, made in stores.items():
        if not made.exists():
            hag.build_references(engine, known[task], made)
    for task, made in adapters.items():
        if not made.exists():
            hag.tune_adapter(engine, known[task], made, epochs=2)
    return {"adapter": adapters, "soft_prefix": {"past": PREFIXES / "past"}, "reference": stores}


def sweep_all(data: Path, made: Path, folder: Path, *, quick: bool) -> hag.SweepTable:
    """The table that racing leaves."""
    known = make_answered_prompts(data)
    if quick:
        known = {name: prompts[:QUICK_TUNED] for name, prompts in known.items()}
    engine = hag.load_engine("smollm2", artifacts=make_artefacts(known, made))
    options: dict[str, Any] = {"samples": 1, "max_tokens": MAX_TOKENS, "out": folder, "default": GREEDY}
    prompts = make_study_prompts(data, QUICK if quick else EACH)
    return hag.sweep(engine, prompts, SPACE, REWARDS, strategy="racing", **options)


def main() -> int:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--made", type=Path, metavar="DIR", help="folder of the artefacts, made where missing")

    args = arguments(__doc__ or "", more=more)
    if args.data is None or (args.made is None and not FOLDER.exists() and not args.quick):
        return not_run(CLAIM, "it needs the prompts (--data DIR) and the stored sweep, or --made DIR to make it", args)
    with ExitStack() as stack:
        if args.quick:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            table = sweep_all(args.data, scratch, scratch / "sweep", quick=True)
            print(table.means.mean(axis=0))
            return 0
        if args.made is not None:
            sweep_all(args.data, args.made, FOLDER, quick=False)
        table = restored_table(FOLDER, make_study_prompts(args.data, EACH))
    policy = hag.fit(table)
    figures = measure_choice(table, policy, at_least=0.08, low_above=-0.02)
    evaluation = policy.evaluation
    assert evaluation is not None
    assert evaluation.candidate is not None
    shown = {"what ships over the engine's default": evaluation.row("policy").over_default}
    shown["best per-prompt policy over SBS"] = evaluation.candidate.gain
    for words, gain in shown.items():
        assert gain is not None
        figures.append(figure(f"reward: {words}", gain.value, gain.low, gain.high, unit="reward gain"))
    with SweepStore(FOLDER) as store:
        spent = len(store.cells.rows) / (len(SPACE) * len(table.prompts))
    figures.append(figure("generations over those of the full sweep", spent, unit="share"))
    return record(CLAIM, figures, args, describe_tasks(table), comparisons=[evaluation])


def describe_tasks(table: hag.SweepTable) -> str:
    """Mean rewards of every task by the configs that racing keeps, in their order."""
    told = (
        f"{task}: {', '.join(f'{mean:.3f}' for mean in table.means[table.tasks == task].mean(axis=0))}"
        for task in REWARDS
    )
    means = f"Mean reward by task, what racing keeps in the order above: {'; '.join(told)}."
    return f"{len(table.prompts)} prompts of four tasks, {MAX_TOKENS} new tokens at most. {means}"


if __name__ == "__main__":
    raise SystemExit(main())
