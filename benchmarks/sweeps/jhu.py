"""The public sweep `jhu-gpt35` (matthewrenze/jhu-llm-temperature, commit b00cfb6) as a SweepTable.

Ten exams × 100 problems × 11 temperatures × 10 answers of a hosted LLM, chain-of-thought rows.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

import hagpolicy as hag


def load(data: Path) -> hag.SweepTable:
    """1,000 problems × T = 0, 0.1 … 1 × 10 answers; reward 1 for the correct letter; task = exam.

    Problems on one passage (sat-en, lsat-rc, lsat-ar) share a group. A letter that is no choice of the problem
    is wrong, and no answer ("N", for none, and fragments).
    """
    folder = data / "jhu-gpt35"
    problems: dict[tuple[str, int], dict[str, Any]] = {}
    for path in sorted(folder.glob("*-100.jsonl")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            problems[path.stem, number] = json.loads(line)
    temperatures = [round(0.1 * step, 1) for step in range(11)]
    rewards: dict[tuple[str, int], np.ndarray] = {}
    letters: dict[tuple[str, int], np.ndarray] = {}
    with gzip.open(folder / "sweep.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["agent"] != "chain_of_thought" or row["exam"] == "comprehensive-100":
                continue
            key = row["exam"], row["problem_id"]
            choices = {*problems[key]["choices"], row["correct"]}  # of one problem the list is damaged
            step, given = temperatures.index(round(row["temperature"], 1)), row["answers"]
            marks = [float(answer == row["correct"]) for answer in given]
            said = [answer if answer in choices else None for answer in given]
            rewards.setdefault(key, np.full((11, 10), np.nan))[step, : len(marks)] = marks
            letters.setdefault(key, np.full((11, 10), None))[step, : len(said)] = said
    prompts = [prompt_of(exam, problems[exam, number], f"{exam}/{number}") for exam, number in rewards]
    space = hag.DecodingSpace.grid(temperature=temperatures)
    answers = np.array(list(letters.values()))
    return hag.SweepTable.from_arrays(prompts, space, np.array(list(rewards.values())), answers=answers)


def prompt_of(exam: str, problem: dict[str, Any], name: str) -> hag.Prompt:
    context = str(problem.get("context") or "")
    choices = problem.get("choices") or {}
    listed = "\n".join(f"{letter}: {text}" for letter, text in choices.items()) if isinstance(choices, dict) else ""
    text = "\n".join(part for part in (context, str(problem["question"]), listed) if part)
    return hag.Prompt(text, task=exam, group=f"{exam}:{context}" if context else None, id=name)
