"""The first demo's sweep enlarged: 240 prompts of four kinds × 12 configs, on SmolLM2-135M-Instruct.

The demo itself has other prompts today (`benchmarks/claims/sweeping/demo_proof.py`).

Other benchmarks read its cells (`benchmarks/results/sweeps/enlarged_demo`), so that they need not
generate again: `python -m benchmarks run enlarged_demo` resumes and ends at once where all is stored.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, arguments, figure, record
from hagpolicy import DecodingConfig, DecodingSpace, Prompt, fit, headroom, load_engine, sweep
from hagpolicy.data.prompts import read_prompts

CLAIM = Claim(
    name="enlarged_demo",
    states="What the first demo's model, kinds of prompts and procedure give with 240 prompts in place of 96.",
    groups=("bench",),
    headline="per-prompt policy over SBS",
    needs=("llm",),
)
FOLDER = RESULTS / "sweeps" / "enlarged_demo"
SAMPLES = 4
FOLDINGS = 5  # seeds of folds and draws
NEW_OF_EACH_KIND = 36
FIRST = Path(__file__).parents[2] / "sweeps" / "enlarged" / "first_prompts.jsonl"
SCORERS = {
    "arithmetic": "numeric_match",
    "lists": "distinct_items",
    "sentences": "contains_all",
    "facts": "contains_all",
}
MAX_TOKENS = 32
# The eight of the first demo, and four more of other kinds.
CONFIGS: tuple[Mapping[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.0, "no_repeat_ngram_size": 2},
    {"temperature": 0.0, "hint": "Answer briefly."},
    {"temperature": 0.3},
    {"temperature": 0.7},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 0.3, "hint": "Write one short sentence."},
    {"temperature": 0.3, "hint": "Answer with a comma-separated list."},
    {"temperature": 0.0, "repetition_penalty": 1.2},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 0.7, "frequency_penalty": 0.5},
)
NAMES = [
    "Ada", "Bruno", "Chen", "Dora", "Emil", "Fatma", "Goran", "Hana", "Ivo", "Jana", "Karim", "Lena", "Milan",
    "Nora", "Otto", "Petra", "Rosa", "Samir",
]  # fmt: skip
THINGS = [
    "marbles", "stamps", "coins", "shells", "pencils", "cards", "apples", "books", "ribbons", "buttons", "tickets",
    "candles",
]  # fmt: skip
TOPICS = [
    "birds", "trees", "flowers", "rivers", "breakfast foods", "winter sports", "school subjects", "pieces of furniture",
    "tools", "kinds of weather", "parts of the body", "means of transport", "sea animals", "insects", "spices",
    "items of clothing", "hobbies", "jobs", "board games", "desserts", "kinds of bread", "gemstones", "metals",
    "planets and moons", "languages", "dances", "feelings", "shapes", "drinks", "dog breeds", "office supplies",
    "garden plants", "cheeses", "kinds of fish", "seasons and holidays", "rooms of a house",
]  # fmt: skip
LISTS = (
    "List {n} different {topic}, separated by commas.",
    "Name {n} {topic}. Do not repeat any of them.",
    "Give me {n} {topic}, each one only once.",
    "I need {n} {topic}, no two the same.",
)
WORDS = [
    "bridge", "candle", "forest", "painter", "soup", "mirror", "horse", "letter", "island", "clock", "farmer",
    "rain", "chair", "violin", "teacher", "pocket", "cloud", "hammer", "bakery", "ticket", "squirrel", "castle",
    "pillow", "engine", "harvest", "orange", "student", "beach", "blanket", "rocket", "butter", "fence",
]  # fmt: skip
SENTENCES = (
    "Write one sentence that uses the words {0}, {1} and {2}.",
    "Use all of these words in a single sentence: {0}, {1}, {2}.",
    "Make a short sentence with the words {0}, {1}, {2} and {3}.",
    "Compose a sentence in which {0}, {1} and {2} all appear.",
)
CAPITALS = {
    "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon", "Greece": "Athens", "Norway": "Oslo", "Egypt": "Cairo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Poland": "Warsaw", "Austria": "Vienna",
    "Hungary": "Budapest", "Ireland": "Dublin", "Belgium": "Brussels", "Kenya": "Nairobi", "Peru": "Lima",
    "Chile": "Santiago", "Cuba": "Havana", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Japan": "Tokyo",
    "Nepal": "Kathmandu", "Iran": "Tehran", "Iraq": "Baghdad", "Lebanon": "Beirut", "Jordan": "Amman",
    "Morocco": "Rabat", "Ghana": "Accra", "Ethiopia": "Addis Ababa", "Uganda": "Kampala", "Bulgaria": "Sofia",
    "Romania": "Bucharest", "Serbia": "Belgrade", "Croatia": "Zagreb", "Latvia": "Riga", "Estonia": "Tallinn",
}  # fmt: skip
FACTS = (
    "What is the capital of {0}? Answer in a few words.",
    "What is the capital city of {0}?",
    "Which city is the capital of {0}? Give a short answer.",
)


def new_prompts() -> list[Prompt]:
    """36 prompts of each kind that are not among the demo's; the same in every run."""
    draw = random.Random(20261123)
    made: list[Prompt] = []
    for number in range(NEW_OF_EACH_KIND):
        topic, wanted = TOPICS[number], draw.randint(5, 8)
        made.append(Prompt(draw.choice(LISTS).format(n=wanted, topic=topic), reference=wanted, task="lists"))
        words = draw.sample(WORDS, 4)
        pattern = draw.choice(SENTENCES)
        used = [word for place, word in enumerate(words) if f"{{{place}}}" in pattern]
        made.append(Prompt(pattern.format(*words), reference=used, task="sentences"))
        country, capital = list(CAPITALS.items())[number]
        made.append(Prompt(draw.choice(FACTS).format(country), reference=[capital], task="facts"))
        made.append(_sum(draw, number))
    return made


def _sum(draw: random.Random, number: int) -> Prompt:
    """A one-step calculation, as a bare question or a little story."""
    a, b, name, thing = draw.randint(11, 40), draw.randint(2, 10), NAMES[number % len(NAMES)], draw.choice(THINGS)
    text, answer = [
        (f"What is {a} plus {b}? Answer with the number only.", a + b),
        (f"How much is {b} times {a % 9 + 2}? Give just the number.", b * (a % 9 + 2)),
        (f"{name} has {a} {thing} and gives {b} away. How many {thing} are left?", a - b),
        (f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have now?", a + b),
        (f"A box holds {b} {thing}. How many {thing} are in {a % 9 + 2} boxes?", b * (a % 9 + 2)),
        (f"Take {b} away from {a}. What number is left?", a - b),
    ][number % 6]
    return Prompt(text, reference=answer, task="arithmetic")


def main() -> int:
    args = arguments(CLAIM.states)
    if args.quick:
        print("nothing to do: the cells are stored, and a part of them would say nothing")
        return 0
    prompts = [*read_prompts(FIRST), *new_prompts()]
    space = DecodingSpace(DecodingConfig.from_dict(values) for values in CONFIGS)
    table = sweep(load_engine("smollm2"), prompts, space, SCORERS, samples=SAMPLES, max_tokens=MAX_TOKENS, out=FOLDER)
    for index, config in enumerate(table.space):
        print(f"{table.means[:, index].mean():.3f}  {config}")
    found, policy = headroom(table), fit(table)
    print(f"{found}\n{policy.evaluation}")
    assert policy.evaluation is not None
    assert policy.evaluation.candidate is not None
    gains = {
        "single best config over the engine's default": policy.evaluation.sbs_over_default,
        "best config of each task, task known, over SBS": found.per_task_best,
        "per-prompt policy over SBS": policy.evaluation.candidate.gain,
        "split-sample oracle of all configs": found.split_vbs,
    }
    figures = [
        figure(name, gain.value, gain.low, gain.high, unit="reward" if "oracle" in name else "reward gain")
        for name, gain in gains.items()
        if gain is not None
    ]
    figures.append(figure("per-prompt policy ships", float(policy.ships == "per_prompt"), unit="yes = 1"))
    folded = [policy, *(fit(table, seed=seed) for seed in range(1, FOLDINGS))]
    of = f"{FOLDINGS} foldings of the prompts: per-prompt policy"
    figures.append(figure(f"{of} ships", sum(one.ships == "per_prompt" for one in folded) / FOLDINGS, unit="share"))
    estimates = [one.evaluation.candidate.gain.value for one in folded if one.evaluation and one.evaluation.candidate]
    figures.append(figure(f"{of} over SBS, mean", sum(estimates) / FOLDINGS, unit="reward gain"))
    notes = f"{len(prompts)} prompts × {len(table.space)} configs, {int(table.counts.sum())} answers. {policy.reason}"
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
