"""The prompts of the stronger LLM's table: two data sets, read from `--data`, and four kinds that are made here."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.sweeps.stronger import made
from benchmarks.sweeps.stronger.facts import all_facts
from hagpolicy import Prompt
from hagpolicy.data.groups import find_similar_pairs

SEED = 20261123
SCORERS: dict[str, Any] = {
    "facts": "contains_all",
    "arithmetic": "numeric_match",
    "svamp": "numeric_match",
    "gsm8k": "numeric_match",
    "programs": "numeric_match",
    "lists": "distinct_items",
}
# How many of each kind; the pilot's are not in the final sweep.
PILOT = 6
# Of what is made: the first so many are shuffled, and so many there are.
MADE = {"arithmetic": (106, 220), "programs": (106, 400), "lists": (66, 66)}
FINAL = {"facts": 110, "arithmetic": 130, "svamp": 110, "gsm8k": 60, "programs": 70, "lists": 60}


def _svamp(data: Path) -> list[Prompt]:
    """SVAMP's problems, one of each story: its variants differ by a number or a question."""
    rows = json.loads((data / "tasks" / "svamp" / "SVAMP.json").read_text("utf-8"))
    stories: dict[str, Prompt] = {}
    for row in rows:
        body, question = row["Body"].strip(), row["Question"].strip()
        story = re.sub(r"\W+", " ", re.sub(r"\d+", "", body)).lower()
        text = f"{body if body.endswith(('.', ',')) else body + '.'} {question}"
        stories.setdefault(story, Prompt(text, row["Answer"], task="svamp", id=f"svamp-{row['ID']}", group=story[:40]))
    return list(stories.values())


def _gsm8k(data: Path) -> list[Prompt]:
    """The test set of GSM8K."""
    lines = (data / "tasks" / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    answers = ["#### " + row["answer"].rpartition("####")[2].strip() for row in rows]
    return [
        Prompt(row["question"], answer, task="gsm8k", id=f"gsm8k-{number:04d}")
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True))
    ]


def _generated(kind: Callable[[random.Random, int], Prompt], wanted: int) -> list[Prompt]:
    """Different prompts of a kind, in the order they are made."""
    draw = random.Random(f"{SEED} {kind.__name__}")
    by_text: dict[str, Prompt] = {}
    number = 0
    while len(by_text) < wanted:
        prompt = kind(draw, number)
        by_text.setdefault(prompt.text, prompt)
        number += 1
    return list(by_text.values())


def _pools(data: Path) -> dict[str, list[Prompt]]:
    """All prompts that there are to choose from, by kind; the pilot's come first."""
    pools = {"facts": all_facts(), "svamp": _svamp(data), "gsm8k": _gsm8k(data)}
    further: dict[str, list[Prompt]] = {}
    for kind in (made.arithmetic, made.programs, made.lists):
        first, wanted = MADE[kind.__name__]
        found = _generated(kind, wanted)
        pools[kind.__name__], further[kind.__name__] = found[:first], found[first:]
    for task, pool in pools.items():
        random.Random(f"{SEED} {task}").shuffle(pool)
    return {task: pools[task] + further.get(task, []) for task in SCORERS}


def pilot_prompts(data: Path) -> list[Prompt]:
    """The prompts of the pilot, six of each kind, mixed. See `final_prompts` for what is needed and raised."""
    chosen = [prompt for pool in _pools(data).values() for prompt in pool[:PILOT]]
    random.Random(SEED).shuffle(chosen)
    return chosen


def final_prompts(data: Path) -> list[Prompt]:
    """The prompts of the table: `FINAL` of each kind, none of them nearly equal to another or to one of the pilot.

    They stand in a mixed order, the same in every call: a sweep goes through its prompts in order, so one that
    was cut short is a smaller one of the same kinds.

    Args:
        data: the folder that holds `tasks/svamp/SVAMP.json` and `tasks/gsm8k/test.jsonl`.

    Raises:
        OSError: a file is not there.
    """
    chosen: list[Prompt] = []
    for task, all_of_kind in _pools(data).items():
        pool = all_of_kind[: 3 * FINAL[task]]  # more than enough, and comparing all takes a while
        repeating = set(find_similar_pairs(pool).max(axis=1, initial=-1).tolist())
        kept = [prompt for place, prompt in enumerate(pool) if place >= PILOT and place not in repeating]
        chosen += kept[: FINAL[task]]
    random.Random(SEED).shuffle(chosen)
    return chosen
