"""Three ways to meet a constraint, and none, on a small LLM: asked for in words, masked, tried again.

    python -m benchmarks run constraint_ways --data DIR

Written down before the study's answers were generated, and not changed since:

- prompts: the first 60 of CommonGen as the workload words and orders them, each with its words to include, in just that
  form, and at most 25 words; and 60 sentences on E2E restaurants, drawn at random among those of at least
  four slots, from which JSON is to be made, each with the schema of its own slots, closed ones as an enum; a restaurant
  is a group.
- configs: greedy, at most 64 new tokens, `constrain` of "", "ask", "mask" and "retry".
- reward: half for meeting the constraint, half for what masks may spoil: for CommonGen likeness to the sentence that
  comes with the data (chrF), for JSON the share of values that are right.
- what is compared: each way over none, in reward and in how many answers meet the constraint; tokens of each way. Masks
  are exact for both kinds of constraint, so every masked answer that was not refused must meet it.
- what it is worth: the best single way, and the policy over it, for the reward alone and with 0.002 a new token.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import csv
import json
import random
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.sweeps.workload import tasks
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, bootstrap, figure, not_run, record, wilson
from hagpolicy.engines.constraints.check import meets

CLAIM = Claim(
    name="constraint_ways",
    states="What asking for a constraint, masking by it and trying again gain over doing nothing, on a small LLM",
    groups=("explore",),
    headline="words: reward, mask over none",
    needs=("data", "llm"),
)
FOLDER = RESULTS / "sweeps" / "constraint_ways"
EACH, QUICK, MAX_TOKENS, MOST_WORDS = 60, 2, 64, 25
WAYS = ("", "ask", "mask", "retry")
SPACE = hag.DecodingSpace(hag.DecodingConfig(temperature=0.0, constrain=way) for way in WAYS)
SCORERS = {"words": {"constraint": 0.5, "chrf": 0.5}, "json": {"constraint": 0.5, "json_match": 0.5}}
CLOSED = {
    "eatType": ["restaurant", "pub", "coffee shop"],
    "area": ["city centre", "riverside"],
    "familyFriendly": ["yes", "no"],
    "priceRange": ["cheap", "moderate", "high", "less than £20", "£20-25", "more than £30"],
    "food": ["Chinese", "English", "Fast food", "French", "Indian", "Italian", "Japanese"],
    "customer rating": ["low", "average", "high", "1 out of 5", "3 out of 5", "5 out of 5"],
}


def make_word_prompts(data: Path, each: int) -> list[hag.Prompt]:
    """CommonGen's requests, each with its words as a constraint and its sentence as the reference."""
    rows = json.loads((data / "tasks/commongen/commongen400.json").read_text("utf-8"))
    sentences = {f"commongen-{row['id']}": row["gpt4_output"][0] for row in rows}
    made = []
    for prompt in tasks.commongen(data)[:each]:
        words = {"include": prompt.reference, "max_words": MOST_WORDS}
        made.append(hag.Prompt(prompt.content, sentences[str(prompt.group)], "words", prompt.group, constraint=words))
    return made


def make_json_prompts(data: Path, each: int) -> list[hag.Prompt]:
    """A sentence on a restaurant, to be made JSON of; the reference is what it was written from."""
    made: dict[str, hag.Prompt] = {}
    with (data / "tasks/e2e_nlg/devset.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    random.Random("constraint_ways").shuffle(rows)
    for row in rows:
        slots = {name.strip(): value for name, value in re.findall(r"([\w ]+)\[([^\]]*)\]", row["mr"])}
        if len(slots) >= 4 and all(value in CLOSED.get(name, [value]) for name, value in slots.items()):
            text = f"Write {', '.join(slots)} of this place as JSON.\n\n{row['ref']}"
            form = {"schema": make_schema(slots)}
            made.setdefault(row["mr"], hag.Prompt(text, slots, "json", f"e2e-{slots['name']}", constraint=form))
        if len(made) == each:
            break
    return list(made.values())


def make_schema(slots: dict[str, str]) -> dict[str, Any]:
    """An object with just these slots."""
    free = {"type": "string", "minLength": 1, "maxLength": 40}
    properties = {name: {"enum": CLOSED[name]} if name in CLOSED else free for name in slots}
    return {"type": "object", "properties": properties, "required": list(slots), "additionalProperties": False}


def find_met(table: hag.SweepTable) -> np.ndarray:
    """bool (n_prompts, n_configs): whether the answer meets the constraint; one that was refused does not."""
    texts = table.texts[:, :, 0]
    assert texts is not None
    return np.array(
        [
            [text is not None and meets(prompt.constraint, text) for text in row]
            for prompt, row in zip(table.prompts, texts, strict=True)
        ]
    )


def compare_ways(table: hag.SweepTable, met: np.ndarray, task: str) -> list[Figure]:
    """What each way gains over none, on the prompts of a task."""
    mine = np.asarray(table.tasks) == task
    some, figures = table.take(mine), []
    rewards, tokens = some.means, np.nanmean(some.tokens, axis=2)
    for j, way in enumerate(WAYS):
        name = way or "none"
        count, found = int(mine.sum()), int(met[mine, j].sum())
        target = {"at_least": 1.0} if way == "mask" else {}
        figures.append(figure(f"{task}: {name}: met", found / count, *wilson(found, count), unit="share", **target))
        figures.append(figure(f"{task}: {name}: reward", *bootstrap(rewards[:, j], np.mean), unit="reward"))
        figures.append(figure(f"{task}: {name}: new tokens", *bootstrap(tokens[:, j], np.mean), unit="tokens"))
    for j, way in enumerate(WAYS):
        if way:
            one = hag.compare(j, 0, some).difference
            figures.append(figure(f"{task}: reward, {way} over none", one.value, one.low, one.high, unit="reward gain"))
    return figures


def describe_space(table: hag.SweepTable, objective: str) -> list[Figure]:
    """What choosing a way is worth: the best single one over none, and the policy over that, before the gate."""
    policy = hag.fit(table, objective=objective)
    evaluation = policy.evaluation
    assert evaluation is not None
    assert evaluation.candidate is not None
    gains = {"best single way over none": evaluation.sbs_over_default, "policy over it": evaluation.candidate.gain}
    return [
        figure(f"{objective}: {what}", gain.value, gain.low, gain.high, unit="reward gain")
        for what, gain in gains.items()
        if gain is not None
    ]


def main() -> int:
    args = arguments(__doc__ or "")
    if args.data is None:
        return not_run(CLAIM, "it needs the prompts: --data DIR", args)
    each = QUICK if args.quick else EACH
    pools: Sequence[list[hag.Prompt]] = [make_word_prompts(args.data, each), make_json_prompts(args.data, each)]
    prompts = [prompt for pair in zip(*pools, strict=True) for prompt in pair]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if args.quick else FOLDER
        options: dict[str, Any] = {"samples": 1, "max_tokens": MAX_TOKENS, "out": folder, "default": SPACE[0]}
        table = hag.sweep(hag.load_engine("smollm2"), prompts, SPACE, SCORERS, **options)
        met = find_met(table)
        figures = [one for task in SCORERS for one in compare_ways(table, met, task)]
        if not args.quick:
            figures += [
                one for objective in ("reward", "price/token@0.002") for one in describe_space(table, objective)
            ]
    notes = f"{len(prompts)} prompts, greedy, {MAX_TOKENS} new tokens at most; choices in the script's head."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
