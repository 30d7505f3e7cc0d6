"""The demo's prompts: their answers are right, their scorers can use them, and none repeats another."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files

import pytest

from benchmarks.tools.demo_prompts import DEMO, KINDS_OF_DEMO, NEW, PILOT, make_prompts
from hagpolicy.cli.demo import SCORERS
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import read_prompts
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.registry import assign_scorers

ASSETS = files("hagpolicy") / "assets"
PROMPTS = read_prompts(str(ASSETS / "demo_prompts.jsonl"))
NEW_PROMPTS = read_prompts(str(ASSETS / "demo_new_prompts.jsonl"))
PILOTS = make_prompts(PILOT)


def reward(prompt, text):
    (scorer,) = assign_scorers(SCORERS, [prompt])
    return score_checked(scorer, [(prompt, Completion(text, tokens=1))])[0].value


def subject(prompt):
    """What a prompt is about, apart from its wording."""
    if prompt.task == "lists":
        words = r"^(List|Name|Give me a list of|Which) 8 (different )?|(, each only once)?\.$| do you know\?$"
        return re.sub(words, "", prompt.text)
    if prompt.task == "sentences":
        return tuple(prompt.reference)
    if prompt.task == "sums":
        return tuple(re.findall(r"\d+", prompt.text))
    if prompt.task == "facts":
        return prompt.reference[0]
    return next(word for word in re.findall(r"[A-Z][a-z]+", prompt.text) if word not in ("Write", "Turn"))


def test_the_files_are_what_the_generator_makes():
    assert make_prompts(DEMO) == PROMPTS
    assert make_prompts(NEW) == NEW_PROMPTS


def test_every_kind_is_there_as_often_as_is_said():
    assert Counter(prompt.task for prompt in PROMPTS) == KINDS_OF_DEMO
    assert Counter(prompt.task for prompt in PILOTS) == dict.fromkeys(SCORERS, 20)
    assert {prompt.task for prompt in NEW_PROMPTS} == set(SCORERS)
    assert len(NEW_PROMPTS) == 6


def test_no_subject_is_in_two_of_the_three():
    """Configs were chosen on the pilots' prompts, and the new ones are to be new."""
    subjects = [{(prompt.task, subject(prompt)) for prompt in some} for some in (PROMPTS, NEW_PROMPTS, PILOTS)]
    assert [len(some) for some in subjects] == [300, 6, 100]
    assert len(set.union(*subjects)) == 406


def test_every_reference_can_be_used():
    every = (*PROMPTS, *NEW_PROMPTS, *PILOTS)
    scorers = assign_scorers(SCORERS, every)
    assert [reason for scorer, prompt in zip(scorers, every, strict=True) if (reason := scorer.check(prompt))] == []


@pytest.mark.parametrize("task", SCORERS)
def test_right_answers_score_1_and_the_question_given_back_does_not(task):
    for prompt in (*PROMPTS, *NEW_PROMPTS):
        if prompt.task != task:
            continue
        right = {
            "lists": "oak, lamp, river, stone, cloud, horse, bread, glove",
            "json": '{"name": "A", "city": "B", "age": 3}',
            "facts": f"It is {prompt.reference[0]}." if task == "facts" else "",
            "sentences": f"A {', a '.join(prompt.reference)}." if task == "sentences" else "",
            "sums": f"The sum is {prompt.reference}.",
        }[task]
        assert reward(prompt, right) == 1, prompt.text
        if task != "sentences":
            assert reward(prompt, prompt.text) < 1, prompt.text
        if task == "sums":
            first, second = re.findall(r"\d+", prompt.text)
            assert int(first) + int(second) == prompt.reference
