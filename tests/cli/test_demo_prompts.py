"""The demo's prompts: their answers are right, their scorers can use them, and none repeats another."""

from __future__ import annotations

import ast
import itertools
import operator
import re
from importlib.resources import files

import pytest

from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import normalise, read_prompts
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.registry import assign_scorers

SCORERS = {
    "arithmetic": "numeric_match",
    "lists": "distinct_items",
    "sentences": "contains_all",
    "facts": "contains_all",
}
ASSETS = files("hagpolicy") / "assets"
PROMPTS = read_prompts(str(ASSETS / "demo_prompts.jsonl"))
NEW = read_prompts(str(ASSETS / "demo_new_prompts.jsonl"))
BOTH = (*PROMPTS, *NEW)
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def reward(prompt, text):
    (scorer,) = assign_scorers(SCORERS, [prompt])
    return score_checked(scorer, [(prompt, Completion(text, tokens=1))])[0].value


def of_task(task):
    return [pytest.param(prompt, id=prompt.id) for prompt in BOTH if prompt.task == task]


def worth(node):
    """Value of an arithmetic expression, without running it as code."""
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](worth(node.left), worth(node.right))
    assert isinstance(node, ast.Constant)
    return node.value


def test_every_kind_is_there_as_often():
    assert {task: sum(prompt.task == task for prompt in PROMPTS) for task in SCORERS} == dict.fromkeys(SCORERS, 24)
    assert len(PROMPTS) == 96
    assert len(NEW) == 6
    assert {prompt.task for prompt in NEW} == set(SCORERS)


def test_every_reference_can_be_used():
    scorers = assign_scorers(SCORERS, BOTH)
    assert [reason for scorer, prompt in zip(scorers, BOTH, strict=True) if (reason := scorer.check(prompt))] == []


def test_no_prompt_repeats_another():
    assert len({prompt.id for prompt in BOTH}) == len(BOTH)

    def pieces(prompt):
        words = re.findall(r"\w+", normalise(prompt.text).casefold())
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}

    cut = {prompt.id: pieces(prompt) for prompt in BOTH}
    for one, other in itertools.combinations(BOTH, 2):
        shared = len(cut[one.id] & cut[other.id]) / len(cut[one.id] | cut[other.id])
        assert shared < 0.6, (one.text, other.text)
        if other in NEW and one in PROMPTS:
            # What tells two questions apart may be their last word; new ones must ask something else.
            assert one.reference != other.reference or one.task in ("lists", "arithmetic")


@pytest.mark.parametrize("prompt", of_task("arithmetic"))
def test_sums_come_out(prompt):
    assert worth(ast.parse(prompt.metadata["expression"], mode="eval").body) == prompt.reference
    assert reward(prompt, f"So there are {prompt.reference}.") == 1
    assert reward(prompt, prompt.text) == 0, "the question given back must not be an answer"


@pytest.mark.parametrize("prompt", of_task("lists"))
def test_lists_ask_for_as_many_as_they_count(prompt):
    assert str(prompt.reference) in re.findall(r"\d+", prompt.text)
    assert reward(prompt, ", ".join(["oak", "lamp", "river", "stone", "cloud", "horse", "bread", "glove"])) == 1
    assert reward(prompt, ", ".join(["oak"] * 8)) == pytest.approx(1 / prompt.reference)


@pytest.mark.parametrize("prompt", of_task("sentences"))
def test_sentences_name_the_words_they_want(prompt):
    assert 3 <= len(prompt.reference) <= 4
    assert reward(prompt, prompt.text) == 1
    assert reward(prompt, "A sentence about nothing of it.") == 0


@pytest.mark.parametrize("prompt", of_task("facts"))
def test_facts_do_not_give_their_answer_away(prompt):
    (alternatives,) = prompt.reference
    for answer in alternatives if isinstance(alternatives, list) else [alternatives]:
        assert reward(prompt, f"It is {answer}.") == 1
    assert reward(prompt, prompt.text) == 0
