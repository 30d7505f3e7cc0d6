"""Prompts in the workload's manner that are in none of its sweeps, each with the answer to be given as its reference.

What is tuned on or remembered is made of these; how they are worded is drawn under a name of the caller's.
"""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path

from benchmarks.sweeps.workload import editing, tasks, words
from hagpolicy import Prompt

__all__ = ["list_concepts", "list_past", "list_restaurants", "list_sums"]


def list_past(data: Path, pool: int) -> list[Prompt]:
    """Sentences with their past tense, of the first `pool` that can be made."""
    known = {prompt.reference["source"] for prompt in tasks.past(data)}
    further = [one for one in editing.past_tense(pool) if one.reference["source"] not in known]
    return [Prompt(one.content, one.reference["answer"], "past") for one in further]


def list_concepts(data: Path, wording: str) -> list[Prompt]:
    """Sets of concepts with the sentence that comes with them."""
    draw, made = random.Random(wording), []
    for row in tasks._commongen(data)[tasks.POOL :]:
        concepts = [concept.rpartition("_")[0] for concept in row["concept_set"]]
        text = draw.choice(words.SENTENCES).format(words=", ".join(concepts))
        made.append(Prompt(text, row["gpt4_output"][0], "commongen", f"commongen-{row['id']}"))
    return made


def list_sums(data: Path, wording: str) -> list[Prompt]:
    """Stories of SVAMP, answered by equation and result ("8 - 3 = 5. The answer is 5.")."""
    draw, made = random.Random(wording), []
    for _, rows in tasks._shuffled("svamp", sorted(tasks._svamp_groups(data).items()))[tasks.POOL :]:
        row = rows[0]
        body, question = row["Body"].strip().rstrip("."), row["Question"].strip()
        equation, result = re.sub(r"\.0\b", "", row["Equation"]).strip("() "), f"{row['Answer']:g}"
        text = draw.choice(words.SUMS).format(body=body, question=question)
        made.append(Prompt(text, f"{equation} = {result}. The answer is {result}.", "svamp", f"svamp-{row['ID']}"))
    return made


def list_restaurants(data: Path, wording: str) -> list[Prompt]:
    """Other restaurants of E2E's development set, with a human's text."""
    with (data / "tasks/e2e_nlg/devset.csv").open(encoding="utf-8") as file:
        rows = {row["mr"]: row["ref"] for row in csv.DictReader(file)}
    draw, made = random.Random(wording), []
    swept = {prompt.group for prompt in tasks.e2e(data)}
    for said, answer in draw.sample(sorted(rows.items()), len(rows)):
        slots = dict(re.findall(r"(\w[\w ]*)\[([^\]]*)\]", said))
        group = f"e2e-{slots['name']}"
        if "familyFriendly" not in slots and len(slots) >= 4 and group not in swept:
            listed = "; ".join(f"{tasks.SLOT_NAMES[slot]}: {value}" for slot, value in slots.items())
            text = draw.choice(words.RESTAURANTS).format(slots=listed)
            made.append(Prompt(text, answer, "e2e", group))
    return made
