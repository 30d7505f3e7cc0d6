"""Study: three adapters, each tuned for one task, and the base: which one for which prompt.

    python -m benchmarks run adapter_choice --data DIR [-- --tune DIR]

Chosen before anything was generated. Tasks: restaurants of the E2E challenge from slots to text (`contains_all`: the
share of slots that are said), word problems of SVAMP (`numeric_match`), words into Pig Latin (the workload's own
scorer). Adapters: rank 8, all linear layers, two epochs over 96 prompts of one task, learning rate 1e-3; E2E's from
restaurants of its development set that the test set does not know, SVAMP's from stories that are not swept, Pig
Latin's from words that are not swept. Sweep: 64 prompts a task, greedy, at most 48 new tokens, four configs: the base,
which is what runs today, and each adapter. Policy: `fit` with its defaults. Aims: the policy is proven over the single
best config with at least .08, and the lower end of policy minus the best per task, told, is above -.02.

`--tune DIR` tunes the adapters there, where they are not, and sweeps what is missing; without it the stored sweep is
read.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
from collections.abc import Callable, Collection
from pathlib import Path

import hagpolicy as hag
from benchmarks.sweeps.stored_table import restored_table
from benchmarks.sweeps.workload import tasks, words
from benchmarks.sweeps.workload.scoring import PIG_LATIN
from benchmarks.tools.choosing import measure_choice
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, arguments, not_run, record
from hagpolicy import DecodingConfig, Prompt

CLAIM = Claim(
    name="adapter_choice",
    states="What choosing an adapter per prompt wins on SmolLM2-135M-Instruct: three, each tuned for one task.",
    groups=("generate",),
    headline="best per-prompt candidate over the single best config",
    needs=("data", "llm", "hours"),
)
FOLDER = RESULTS / "sweeps" / CLAIM.name
TRAIN, SWEEP = 96, 64
MAX_TOKENS = 48
SCORERS = {"e2e": "contains_all", "svamp": "numeric_match", "pig_latin": PIG_LATIN}


def read_e2e(data: Path, name: str, besides: Collection[str] = ()) -> list[Prompt]:
    """Restaurants with at least four slots; the reference lists phrases for each, the metadata has the first text."""
    found: dict[str, Prompt] = {}
    with (data / "tasks/e2e_nlg" / name).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            slots = dict(re.findall(r"(\w[\w ]*)\[([^\]]*)\]", row["mr"]))
            slots.pop("familyFriendly", None)
            if len(slots) < 4 or row["mr"] in found or slots["name"] in besides:
                continue
            said = "; ".join(f"{tasks.SLOT_NAMES[slot]}: {value}" for slot, value in slots.items())
            wanted = [[value, *tasks.SLOT_WORDS.get(value, [])] for value in slots.values()]
            text = f"Describe this restaurant in one sentence. {said}"
            found[row["mr"]] = Prompt(text, wanted, "e2e", slots["name"], metadata={"text": row["ref"]})
    return random.Random(f"e2e {name}").sample(list(found.values()), len(found))


def read_svamp(data: Path) -> tuple[list[Prompt], list[Prompt]]:
    """Word problems to tune on and to sweep, of different stories."""
    made = []
    for story, rows in sorted(tasks._svamp_groups(data).items()):
        for row in rows:
            text = f"{row['Body'].strip().rstrip('.')}. {row['Question'].strip()}"
            made.append(Prompt(text, row["Answer"], "svamp", f"svamp {story}"))
    stories = sorted({prompt.group or "" for prompt in made})
    random.Random("svamp stories").shuffle(stories)
    swept = set(stories[: len(stories) // 2])
    parts = [[one for one in made if (one.group in swept) == sweeps] for sweeps in (False, True)]
    train, sweep = (random.Random("svamp").sample(part, len(part)) for part in parts)
    first = {one.group: one for one in reversed(sweep)}  # one prompt a story
    return train[:TRAIN], list(first.values())[:SWEEP]


def make_pig_latin(part: int, count: int) -> list[Prompt]:
    """Pairs of words of one half of each list."""
    draw, made = random.Random(f"pig latin {part}"), {}
    while len(made) < count:
        pair = (draw.choice(words.ADJECTIVES[part::2]), draw.choice(words.NOUNS[part::2]))
        source = " ".join(pair)
        reference = {"answer": " ".join(map(tasks.pig, pair)), "source": source}
        made[source] = Prompt(f"Translate into Pig Latin: {source}", reference, "pig_latin")
    return list(made.values())


def answer(prompt: Prompt) -> str:
    """What an adapter is tuned to say."""
    if prompt.task == "e2e":
        return str(prompt.metadata["text"])
    return str(prompt.reference["answer"]) if prompt.task == "pig_latin" else f"The answer is {prompt.reference:g}."


def make_prompts(data: Path) -> tuple[dict[str, list[Prompt]], list[Prompt]]:
    """Prompts to tune on, by task, and those of the sweep."""
    train, sweep = read_svamp(data)
    restaurants = read_e2e(data, "testset_w_refs.csv")
    tuned = {
        "e2e": read_e2e(data, "devset.csv", {prompt.group or "" for prompt in restaurants})[:TRAIN],
        "svamp": train,
        "pig_latin": make_pig_latin(0, TRAIN),
    }
    return tuned, [*restaurants[:SWEEP], *sweep, *make_pig_latin(1, SWEEP)]


def tune_and_sweep(data: Path, folder: Path, *, quick: bool) -> hag.SweepTable:
    """The table, with adapters and cells that are missing made first."""
    import torch

    torch.set_num_threads(1)
    tuned, swept = make_prompts(data)
    size: Callable[[list[Prompt]], list[Prompt]] = (lambda some: some[::16]) if quick else (lambda some: some)
    for task, prompts in tuned.items():
        if not (folder / task).exists():
            bare = hag.load_engine("smollm2")
            hag.tune_adapter(bare, size(prompts), folder / task, answers=answer, epochs=2)
    engine = hag.load_engine("smollm2", artifacts={"adapter": {task: folder / task for task in tuned}})
    space = [DecodingConfig(temperature=0.0, adapter=name) for name in ("", *tuned)]
    out = folder / "sweep" if quick else FOLDER
    return hag.sweep(engine, size(swept), space, SCORERS, samples=1, max_tokens=MAX_TOKENS, out=out, default=space[0])


def main() -> int:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tune", type=Path, metavar="DIR", help="folder of the adapters, made where missing")

    args = arguments(CLAIM.states, more=more)
    if args.data is None or (args.tune is None and not FOLDER.exists()):
        return not_run(CLAIM, "it needs the prompts (--data DIR) and the stored sweep, or --tune DIR to make it", args)
    if args.tune is not None:
        table = tune_and_sweep(args.data, args.tune, quick=args.quick)
        if args.quick:
            print(table.means.mean(axis=0))
            return 0
    else:
        table = restored_table(FOLDER, make_prompts(args.data)[1])
    policy = hag.fit(table)
    figures = measure_choice(table, policy, at_least=0.08, low_above=-0.02)
    told = "; ".join(f"{task}: {describe(table, task)}" for task in SCORERS)
    return record(CLAIM, figures, args, f"Mean reward by task, base and adapters in the order of the space: {told}.",
                  comparisons=[policy.evaluation] if policy.evaluation else [])  # fmt: skip


def describe(table: hag.SweepTable, task: str) -> str:
    """Mean rewards of a task by config."""
    return ", ".join(f"{mean:.3f}" for mean in table.means[table.tasks == task].mean(axis=0))


if __name__ == "__main__":
    raise SystemExit(main())
