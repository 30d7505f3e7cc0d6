"""The drafting benchmark's prompts, and its stored measurements as a table: rewards, tokens, seconds, passes.

Of each prompt `results/sweeps/drafting/*.jsonl` holds a line; the prompts are made again from `--data` and meet their
lines by digest. The rewards are those that were stored, with the scorer and its version of that day; a line without
any is scored today.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sweeps.workload import editing, scoring, tasks
from benchmarks.tools.record import RESULTS
from hagpolicy import Completion, DecodingConfig, DecodingSpace, Prompt, SweepTable
from hagpolicy.errors import StoreError
from hagpolicy.scorers.registry import assign_scorers

FOLDER = RESULTS / "sweeps" / "drafting"
DRAFTS = (0, 3, 10)
SPACE = DecodingSpace(DecodingConfig(temperature=0.0, prompt_lookup_num_tokens=number) for number in DRAFTS)
MAX_TOKENS, PILOT = 64, 3
# Prompts of each task, by data type: the first of the same ones. So many of them are measured twice.
EACH = {"float32": 17, "bfloat16": 6}
TWICE = {"float32": 6, "bfloat16": 0}
MOST = max(EACH.values())
SCORERS: dict[str, Any] = {**scoring.SCORERS, "stories": "contains_all", "proofread": editing.EDIT}

STORIES = (
    "Write a short story about {who} and {what}.",
    "Tell me a story in which {who} finds {what}.",
    "Once upon a time there was {who}. Continue the story and let {what} play a part in it.",
    "Invent a scene of a novel: {who} meets a stranger who asks for {what}.",
)
WHO = [
    "a lighthouse keeper", "a young baker", "an old sailor", "a nervous pilot", "a lonely robot", "a village teacher",
    "a retired detective", "a travelling musician", "a stubborn queen", "a clever thief", "a shy gardener",
    "a night watchman", "a lost tourist", "a famous painter", "a curious child", "a tired doctor", "a kind giant",
    "a proud knight", "a blind fisherman", "a rich merchant",
]  # fmt: skip
WHAT = [
    "a letter", "a golden key", "a broken clock", "a silver coin", "a strange map", "a talking bird", "a red umbrella",
    "a wooden box", "a secret garden", "an old violin", "a mirror", "a blue candle", "a ticket", "a white horse",
    "a rusty sword", "a photograph", "a suitcase", "a ring", "a telescope", "a pair of shoes",
]  # fmt: skip
PROOFREADING = (
    "Correct the spelling mistakes in this text: {text}",
    "Two words of the following text are misspelled. Write the text correctly.\n{text}",
    "{text}\n\nFix the typos and repeat the text.",
    "Please proofread this and give me the corrected version.\nText: {text}",
)


def stories() -> list[Prompt]:
    """Open-ended prompts, whose answers have little to do with their words: drafts are seldom right."""
    draw = random.Random("stories")
    made = []
    for number, (who, what) in enumerate(zip(draw.sample(WHO, len(WHO)), draw.sample(WHAT, len(WHAT)), strict=True)):
        said = [one.split(maxsplit=1)[1] for one in (who, what)]
        text = STORIES[number % len(STORIES)].format(who=who, what=what)
        made.append(Prompt(text, said, "stories", id=f"stories-{number:03d}"))
    return made


def proofread(data: Path) -> list[Prompt]:
    """Problems of GSM8K of 20 to 35 words, in two of which two letters are swapped: the answer repeats the text."""
    lines = (data / "tasks/gsm8k/test.jsonl").read_text("utf-8").splitlines()
    texts = [" ".join(json.loads(line)["question"].split()) for line in lines]
    texts = [text for text in texts if 20 <= len(text.split()) <= 35 and len(_long_words(text)) > 1]
    draw = random.Random("proofread")
    made = []
    for number, answer in enumerate(draw.sample(texts, MOST + PILOT)):
        source = answer
        for word in draw.sample(_long_words(answer), 2):
            at = draw.choice([place for place in range(1, len(word) - 2) if word[place] != word[place + 1]])
            wrong = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            source = re.sub(rf"\b{word}\b", wrong, source)
        content = draw.choice(PROOFREADING).format(text=source)
        made.append(Prompt(content, {"answer": answer, "source": source}, "proofread", id=f"proofread-{number:03d}"))
    return made


def _long_words(text: str) -> list[str]:
    return sorted(set(re.findall(r"\b[a-z]{6,}\b", text)))


def prompts(data: Path, each: int = MOST) -> list[Prompt]:
    """`each` prompts of each of the workload's eleven tasks, of stories and of proofreading, the tasks taking turns."""
    parts = [pool(data)[:each] for pool in tasks.TASKS.values()] + [stories()[:each], proofread(data)[:each]]
    return [part[place] for place in range(each) for part in parts]


def pilot_prompts(data: Path) -> list[Prompt]:
    """Others, 3 of each task."""
    parts = [pool(data)[tasks.FINAL : tasks.FINAL + PILOT] for pool in tasks.TASKS.values()]
    return [prompt for part in (*parts, stories()[MOST:], proofread(data)[MOST:]) for prompt in part]


@dataclass(frozen=True)
class Drafting:
    """What was measured, prompts in the order of `table`.

    Attributes:
        table: n_prompts × 3 configs × 1 sample; rewards of the written text, CPU seconds, the mean where there are two.
        passes: int64 (n_prompts, 3): forward passes of each config.
        cpu: float64 (n_prompts, 3, 2): CPU seconds of each measurement, NaN where there was no second one.
        wall: float64 (n_prompts, 3, 2): wall seconds, likewise.
        equal: bool (n_prompts, 3): whether the text is that of plain greedy decoding, token by token.
        facts: the engine, and the CPU seconds of a forward pass by how many tokens it checks.
    """

    table: SweepTable
    passes: np.ndarray
    cpu: np.ndarray
    wall: np.ndarray
    equal: np.ndarray
    facts: dict[str, Any]


def stored(dtype: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(facts, lines by the digest of their prompt); both empty where nothing is stored."""
    path = FOLDER / f"{dtype}.jsonl"
    facts, *lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else [{}]
    return facts, {line["prompt"]: line for line in lines}


def drafting(data: Path, dtype: str = "float32") -> Drafting:
    """The measurements in a data type.

    Raises:
        StoreError: none are stored for the prompts of this data.
    """
    facts, lines = stored(dtype)
    known = tuple(prompt for prompt in prompts(data) if prompt.digest in lines)
    if not known:
        raise StoreError(f"no measurements of these prompts in {FOLDER}. Is the data the version named there?")
    found = [lines[prompt.digest] for prompt in known]
    rewards = np.array([_rewards(prompt, line) for prompt, line in zip(known, found, strict=True)])
    tokens, passes, equal = (np.array([line[name] for line in found]) for name in ("tokens", "passes", "equal"))
    cpu, wall = (np.array([[(some * 2)[:2] for some in line[name]] for line in found]) for name in ("cpu", "wall"))
    seconds = cpu.mean(axis=2)
    once = np.array([len(line["cpu"][0]) == 1 for line in found])
    cpu[once, :, 1] = wall[once, :, 1] = np.nan
    table = SweepTable.from_arrays(known, SPACE, rewards, tokens=tokens, seconds=seconds, default=0)
    table = replace(table, fingerprint=facts["engine"], max_tokens=facts["max_tokens"])
    return Drafting(table, passes, cpu, wall, equal, facts)


def drafting_table(data: Path, dtype: str = "float32") -> SweepTable:
    """`drafting(...).table`."""
    return drafting(data, dtype).table


def _rewards(prompt: Prompt, line: dict[str, Any]) -> list[float]:
    """The reward of each config's text, as stored where it is; null stands for the text of plain greedy decoding."""
    if "rewards" in line:
        return [float(reward) for reward in line["rewards"]]
    (scorer,) = assign_scorers(SCORERS, [prompt])
    texts = [line["texts"][0] if text is None else text for text in line["texts"]]
    return [score.value for score in scorer.score([(prompt, Completion(text)) for text in texts])]
