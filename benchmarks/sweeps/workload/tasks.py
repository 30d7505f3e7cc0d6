"""The prompts of the workload, task by task, read from the folder of public data or generated here.

Every task has a pool in a fixed order: the first prompts are those of the sweep, the next ones those of the pilot, the
last those of the budgets table. No prompt is in two of them.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sweeps.workload import editing, examples, words
from benchmarks.sweeps.workload.examples import after
from benchmarks.sweeps.workload.instructions import can_meet
from hagpolicy import Prompt

FINAL, PILOT, BUDGETS = 64, 6, 15
POOL = FINAL + PILOT + BUDGETS
VOWELS = "aeiou"
# In SVAMP: with larger numbers the model is right next to never.
MOST_NUMBER = 20


def _shuffled(name: str, rows: Sequence[Any]) -> list[Any]:
    rows = list(rows)
    random.Random(name).shuffle(rows)
    return rows


def coin_flip(data: Path) -> list[Prompt]:
    """Does the coin still show heads after some people flipped it and others did not? "yes" or "no"."""
    draw, made, seen = random.Random("coin_flip"), [], set()
    while len(made) < POOL:
        people = draw.sample(words.NAMES, draw.randint(2, 4))
        flips = [draw.random() < 0.5 for _ in people]
        if tuple(people) in seen or sum(flips) % 2 == len(made) % 2:  # as many yes as no
            continue
        seen.add(tuple(people))
        acts = [
            draw.choice(words.COIN_FLIPS if flip else words.COIN_RESTS).format(name=name)
            for name, flip in zip(people, flips, strict=True)
        ]
        text = " ".join([draw.choice(words.COIN_STARTS), *acts, draw.choice(words.COIN_ENDS)])
        text = after(examples.COINS if len(made) % 4 < 2 else [], text)
        right = "no" if sum(flips) % 2 else "yes"
        made.append(Prompt(text, right, "coin_flip", id=f"coin_flip-{len(made):03d}"))
    return made


def pig_latin(data: Path) -> list[Prompt]:
    """Two or three words into Pig Latin, after the rule or worked examples. The reference is the list of words."""
    draw, made, seen = random.Random("pig_latin"), [], set()
    while len(made) < POOL:
        said = [draw.choice(words.ADJECTIVES), draw.choice(words.NOUNS), draw.choice(words.VERBS)]
        said = said[: draw.randint(2, 3)]
        if tuple(said) in seen:
            continue
        seen.add(tuple(said))
        text = draw.choice(words.PIG_LATIN).format(text=" ".join(said))
        text = after(draw.sample(examples.PIG_LATIN, 3) if len(made) % 2 else [], text)
        reference = {"answer": " ".join(map(pig, said)), "source": " ".join(said)}
        made.append(Prompt(text, reference, "pig_latin", id=f"pig_latin-{len(made):03d}"))
    return made


def pig(word: str) -> str:
    """A word in Pig Latin: consonants before the first vowel go to the end, then "ay"; "way" after a vowel."""
    start = next((place for place, letter in enumerate(word) if letter in VOWELS), 0)
    return word + "way" if start == 0 else word[start:] + word[:start] + "ay"


def _svamp(data: Path) -> list[dict[str, Any]]:
    rows = json.loads((data / "tasks/svamp/SVAMP.json").read_text("utf-8"))
    return [row for row in rows if max(map(float, re.findall(r"[\d.]+", row["Equation"]))) <= MOST_NUMBER]


def _svamp_groups(data: Path) -> dict[str, list[dict[str, Any]]]:
    """SVAMP's problems by their text without numbers: variations of one story share it."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in _svamp(data):
        groups.setdefault(" ".join(re.sub(r"\d+", "#", row["Body"]).split()[:6]), []).append(row)
    return groups


def svamp(data: Path) -> list[Prompt]:
    """One-step word problems of SVAMP, one of each story: half of them bare, half after one to three examples."""
    draw, made = random.Random("svamp wording"), []
    for number, (_, rows) in enumerate(_shuffled("svamp", sorted(_svamp_groups(data).items()))[:POOL]):
        row = rows[0]
        body, question = row["Body"].strip().rstrip("."), row["Question"].strip()
        if number % 2:
            text = after(examples.SUMS[: 1 + number // 2 % 3], f"{body}. {question}")
        else:
            text = draw.choice(words.SUMS).format(body=body, question=question)
        made.append(Prompt(text, row["Answer"], "svamp", f"svamp-{row['ID']}", f"svamp-{number:03d}"))
    return made


def aqua(data: Path) -> list[Prompt]:
    """Multiple-choice algebra of AQuA's development and test sets."""
    rows = [row for name in ("dev", "test") for row in json.loads(_lines(data / f"tasks/aqua/{name}.json"))]
    rows = [row for row in rows if len(row["question"]) < 300]
    draw, made = random.Random("aqua wording"), []
    for number, row in enumerate(_shuffled("aqua", rows)[:POOL]):
        options = "\n".join(option.replace(")", ") ", 1) for option in row["options"])
        text = draw.choice(words.CHOOSING).format(question=row["question"].strip(), options=options)
        choices = {option[0]: option[2:] for option in row["options"]}
        made.append(Prompt(text, {"answer": row["correct"], "choices": choices}, "aqua", id=f"aqua-{number:03d}"))
    return made


def _lines(path: Path) -> str:
    """A file of one JSON object a line as the text of one JSON list."""
    return "[" + ",".join(line for line in path.read_text("utf-8").splitlines() if line.strip()) + "]"


def _commongen(data: Path) -> list[dict[str, Any]]:
    return _shuffled("commongen", json.loads((data / "tasks/commongen/commongen400.json").read_text("utf-8")))


def commongen(data: Path) -> list[Prompt]:
    """A sentence with all of three to seven concepts; the reference lists them."""
    draw, made = random.Random("commongen wording"), []
    for number, row in enumerate(_commongen(data)[:POOL]):
        concepts = [concept.rpartition("_")[0] for concept in row["concept_set"]]
        text = draw.choice(words.SENTENCES).format(words=", ".join(concepts))
        made.append(Prompt(text, concepts, "commongen", f"commongen-{row['id']}", f"commongen-{number:03d}"))
    return made


def replace(data: Path) -> list[Prompt]:
    """Say another word in a short sentence."""
    return editing.replacing(POOL)


def past(data: Path) -> list[Prompt]:
    """Put a short sentence into the past tense."""
    return editing.past_tense(POOL)


def reformat(data: Path) -> list[Prompt]:
    """Write a list in another form."""
    return editing.reformatting(POOL)


def e2e(data: Path) -> list[Prompt]:
    """A restaurant's slots into text; the reference says for every slot which phrases cover it."""
    rows = {}
    with (data / "tasks/e2e_nlg/testset_w_refs.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            slots = dict(re.findall(r"(\w[\w ]*)\[([^\]]*)\]", row["mr"]))
            slots.pop("familyFriendly", None)  # what says "not for families" cannot be listed
            if len(slots) >= 4:
                rows[tuple(sorted(slots.items()))] = slots
    draw, made = random.Random("e2e wording"), []
    for number, (_, slots) in enumerate(_shuffled("e2e", sorted(rows.items()))[:POOL]):
        order = ["name", *draw.sample([slot for slot in slots if slot != "name"], len(slots) - 1)]
        said = "; ".join(f"{SLOT_NAMES[slot]}: {slots[slot]}" for slot in order)
        text = draw.choice(words.RESTAURANTS).format(slots=said)
        wanted = [[slots[slot], *SLOT_WORDS.get(slots[slot], [])] for slot in order]
        made.append(Prompt(text, wanted, "e2e", f"e2e-{slots['name']}", f"e2e-{number:03d}"))
    return made


SLOT_NAMES = {
    "name": "name", "eatType": "type", "food": "food", "priceRange": "price range", "customer rating": "rating",
    "area": "area", "near": "near",
}  # fmt: skip
SLOT_WORDS = {
    "city centre": ["city center", "centre of the city", "center of the city"],
    "riverside": ["river"],
    "less than £20": ["less than 20", "under 20", "below 20"],
    "more than £30": ["more than 30", "over 30", "above 30"],
    "£20-25": ["20 to 25", "between 20 and 25", "20 and 25"],
    "1 out of 5": ["one out of five", "1 5", "1 star", "one star"],
    "3 out of 5": ["three out of five", "3 5", "3 star", "three star"],
    "5 out of 5": ["five out of five", "5 5", "5 star", "five star"],
}


def ifeval(data: Path) -> list[Prompt]:
    """Prompts of IFEval whose instructions are all of the kinds of `instructions.CHECKS`, and short."""
    made: list[Prompt] = []
    rows = json.loads(_lines(data / "tasks/ifeval/input_data.jsonl"))
    for row in _shuffled("ifeval", rows):
        kinds = row["instruction_id_list"]
        args = [{name: value for name, value in one.items() if value is not None} for one in row["kwargs"]]
        if len(row["prompt"]) < 500 and all(map(can_meet, kinds, args)) and set(kinds) != {"keywords:forbidden_words"}:
            wanted = [list(pair) for pair in zip(kinds, args, strict=True)]
            made.append(Prompt(row["prompt"], wanted, "ifeval", id=f"ifeval-{row['key']}"))
    return made[:POOL]


def lists(data: Path) -> list[Prompt]:
    """So many distinct things of a kind; the reference is the number."""
    draw, made = random.Random("lists"), []
    for number, topic in enumerate(_shuffled("topics", words.TOPICS)[:POOL]):
        wanted = draw.randint(6, 12)
        text = draw.choice(words.LISTS).format(n=wanted, topic=topic)
        made.append(Prompt(text, wanted, "lists", id=f"lists-{number:03d}"))
    return made


TASKS: dict[str, Callable[[Path], list[Prompt]]] = {
    maker.__name__: maker
    for maker in (coin_flip, pig_latin, svamp, aqua, commongen, e2e, ifeval, lists, replace, past, reformat)
}


def prompts_of(data: Path, tasks: Sequence[str], part: slice) -> list[Prompt]:
    """A part of each task's pool, the tasks taking turns, so that an unfinished sweep has some of each."""
    pools = [TASKS[task](data)[part] for task in tasks]
    longest = max(map(len, pools))
    return [pool[place] for place in range(longest) for pool in pools if place < len(pool)]


def workload_prompts(data: Path) -> list[Prompt]:
    """The prompts of the sweep."""
    return prompts_of(data, list(TASKS), slice(0, FINAL))


def pilot_prompts(data: Path) -> list[Prompt]:
    """The prompts on which tasks, forms and configs were chosen; none is in the sweep or the budgets table."""
    return prompts_of(data, list(TASKS), slice(FINAL, FINAL + PILOT))


def budgets_prompts(data: Path) -> list[Prompt]:
    """The prompts of the budgets table; none is in the sweep or the pilot."""
    return prompts_of(data, BUDGET_TASKS, slice(FINAL + PILOT, POOL))


# Tasks whose answers pass or fail, or can be held to a mark.
BUDGET_TASKS = ("coin_flip", "svamp", "aqua", "commongen", "e2e", "ifeval", "lists", "replace", "past", "reformat")
