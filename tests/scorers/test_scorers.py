"""Combinations of scorers, tasks, and what user functions may do wrong."""

from __future__ import annotations

import asyncio
import math
from functools import partial

import numpy as np
import pytest

from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.functions import FunctionScorer
from hagpolicy.scorers.registry import assign_scorers, get_scorer
from hagpolicy.scorers.weighted import Weighted
from tests.support.scoring import reason, score

# ------------------------------------------------------------------ weighted combinations


def test_weights_are_normalised_and_joined():
    both = {"numeric_match": 3, "brevity": 1}
    assert get_scorer(both).name == "0.75*numeric_match+0.25*brevity"
    assert score(both, "5", 5, tokens=128).value == pytest.approx(0.75 + 0.25 * 0.5)
    assert score(both, "5", 5, tokens=128).answer == "5"
    assert "numeric_match" in reason(both, "five")


def test_weighted_is_unscored_where_any_part_is():
    result = score({"numeric_match": 1, "brevity": 1}, "5", 5, tokens=0)
    assert math.isnan(result.value)
    assert result.reason.startswith("brevity: ")

    def broken(text):
        raise KeyError("x")

    scorer = Weighted([(get_scorer("exact_match"), 1.0), (FunctionScorer(broken), 1.0)])
    assert score(scorer, "a", "a").reason == "broken: KeyError: 'x'"


def test_weighted_parts_may_have_options():
    parts = [{"scorer": {"name": "brevity", "budget": 10}, "weight": 1}, {"scorer": "exact_match", "weight": 1}]
    scorer = get_scorer({"name": "weighted", "parts": parts})
    assert score(scorer, "a", "a", tokens=5).value == 0.75
    assert scorer.version != get_scorer({"brevity": 1, "exact_match": 1}).version


@pytest.mark.parametrize("weight", [0, -1, math.inf, math.nan])
def test_weights_must_be_positive(weight):
    with pytest.raises(InvalidInput, match="weight of brevity"):
        get_scorer({"brevity": weight})


# ------------------------------------------------------------------ user functions


class Judge:
    def __call__(self, text, reference):
        return text == reference


async def slow(text, reference):
    await asyncio.sleep(0)
    return float(text == reference)


def ratio(text, reference, scale=1.0):
    return scale * (text == reference)


@pytest.mark.parametrize(
    "function",
    [
        lambda text, reference: float(text == reference),
        lambda text: text == "yes",
        lambda text, reference=None: Score(float(text == reference)),
        lambda *both: both[0] == both[1],
        lambda text, threshold=0.5: float(text == "yes"),
        lambda text: np.float32(text == "yes"),
        lambda text: np.array(float(text == "yes")),
        partial(ratio, scale=1.0),
        ratio,
        Judge(),
        slow,
        FunctionScorer(lambda items: [completion.text == prompt.reference for prompt, completion in items], batch=True),
        FunctionScorer(lambda items: slow_batch(items), batch=True),
    ],
)
def test_functions_of_every_kind(function):
    scorer = get_scorer(function)
    items = [(Prompt("?", "yes"), Completion("yes")), (Prompt("?", "yes"), Completion("no"))]
    assert [result.value for result in score_checked(scorer, items)] == [1.0, 0.0]
    assert scorer.name
    assert scorer.version == get_scorer(function).version


async def slow_batch(items):
    return [await slow(completion.text, prompt.reference) for prompt, completion in items]


def wild(text):
    if text == "raise":
        raise RuntimeError("no\nidea")
    return {"two": 2.0, "nan": math.nan, "text": "0.5", "none": None, "minus": -0.1, "list": [0.5]}.get(text, 0.5)


async def wild_async(text):
    return wild(text)


WILD = {
    "fine": None,
    "raise": "RuntimeError: no idea",
    "two": "returned 2, expected a number in [0, 1]",
    "nan": "returned NaN",
    "text": "returned str '0.5'",
    "none": "returned None",
    "minus": "returned -0.1",
    "list": "returned list [0.5]",
}


@pytest.mark.parametrize(
    "scorer",
    [
        FunctionScorer(wild),
        FunctionScorer(wild_async),
        FunctionScorer(lambda items: [wild(completion.text) for _, completion in items], batch=True),
    ],
    ids=["sync", "async", "batch"],
)
def test_a_bad_reward_marks_its_own_cell_only(scorer):
    results = score_checked(scorer, [(Prompt("?"), Completion(text)) for text in WILD])
    for result, expected in zip(results, WILD.values(), strict=True):
        if expected is None:
            assert result == Score(0.5)
        else:
            assert math.isnan(result.value)
            assert expected in result.reason


def test_a_scorer_that_raises_on_a_batch_is_asked_one_by_one():
    class Fragile(Scorer):
        name = "fragile"
        version = "1"

        def score(self, items):
            if len(items) > 1:
                raise MemoryError("too many")
            return [0.25] if items[0][1].text == "fine" else []

    results = score_checked(Fragile(), [(Prompt("?"), Completion(text)) for text in ("fine", "bad", "fine")])
    assert [results[0].value, results[2].value] == [0.25, 0.25]
    assert "returned 0 scores for 1 completions" in results[1].reason


def test_rounding_is_forgiven_and_nothing_more():
    assert score(lambda text: 1.0 + 1e-12, "x").value == 1.0
    assert score(lambda text: -1e-12, "x").value == 0.0
    assert math.isnan(score(lambda text: 1.001, "x").value)


def test_async_scorers_work_within_a_running_loop():
    async def notebook():
        return score(slow, "yes", "yes").value

    assert asyncio.run(notebook()) == 1.0


def test_async_calls_are_limited():
    running, most = 0, 0

    async def counted(text):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return 1.0

    score_checked(FunctionScorer(counted, concurrency=3), [(Prompt("?"), Completion("x"))] * 10)
    assert most == 3


def test_function_versions_follow_the_source(tmp_path):
    def one(text):
        return 0.0

    first = FunctionScorer(one).version

    def one(text):
        return 1.0

    assert first.startswith("source:")
    assert FunctionScorer(one).version != first
    assert FunctionScorer(one, version="7", name="mine").version == "7"
    assert FunctionScorer(partial(ratio, scale=0.5)).version != FunctionScorer(partial(ratio, scale=1.0)).version
    made = {}
    exec("def typed(text):\n    return 1.0", made)
    assert FunctionScorer(made["typed"]).version == "name:typed"
    changed = tmp_path / "changed.py"
    changed.write_text("def typed(text):\n    return (1.0\n")  # since it was run
    exec(compile("def typed(text):\n    return 1.0", changed, "exec"), made)
    assert FunctionScorer(made["typed"]).version == "name:typed"


@pytest.mark.parametrize("function", [lambda: 1.0, lambda a, b, c: 1.0, lambda text, *, key: 1.0])
def test_functions_with_other_parameters_are_refused(function):
    with pytest.raises(InvalidInput, match=r"f\(text\)"):
        get_scorer(function)


# ------------------------------------------------------------------ names, options, tasks


def test_unknown_names_and_options_get_help():
    with pytest.raises(InvalidInput, match="Did you mean numeric_match"):
        get_scorer("numeric_mach")
    with pytest.raises(InvalidInput, match="unknown option 'tolerence'"):
        get_scorer({"name": "numeric_match", "tolerence": 1})
    with pytest.raises(InvalidInput, match="numbers"):
        get_scorer({"name": "distinct_items", "numbers": "yes"})
    with pytest.raises(InvalidInput, match="no options"):
        get_scorer({"name": "exact_match", "case": True})
    for bad in (5, None, {}, {"numeric_match": "x"}, {"name": "weighted", "parts": [{"scorer": "chrf"}]}):
        with pytest.raises(InvalidInput):
            get_scorer(bad)
    for value in (-1, math.nan, "x", True):
        with pytest.raises(InvalidInput, match="tolerance"):
            get_scorer({"name": "numeric_match", "tolerance": value})


def test_options_are_part_of_the_version():
    assert get_scorer({"name": "numeric_match", "tolerance": 1e-6}).version == "2"
    assert get_scorer({"name": "numeric_match", "tolerance": 0.5}).version == '2+{"tolerance":0.5}'


def test_one_scorer_per_task():
    prompts = [Prompt("a", 1, "math"), Prompt("b", 3, "lists"), Prompt("c", 2, "math")]
    by_task = {"math": {"numeric_match": 1, "brevity": 1}, "lists": "distinct_items", "more": "chrf"}
    scorers = assign_scorers(by_task, prompts)
    assert scorers[0] is scorers[2]
    assert [scorer.name for scorer in scorers[:2]] == ["0.5*numeric_match+0.5*brevity", "distinct_items"]
    assert len({id(scorer) for scorer in assign_scorers("numeric_match", prompts)}) == 1
    with pytest.raises(InvalidInput, match=r"none for \['lists'\].*Did you mean 'list'"):
        assign_scorers({"math": "numeric_match", "list": "distinct_items"}, prompts)


def test_a_prompt_may_bring_its_own_scorer():
    own = Prompt("a", "x", "math", metadata={"scorer": "exact_match"})
    both = assign_scorers("numeric_match", [own, Prompt("b", 1, "math")])
    assert [scorer.name for scorer in both] == ["exact_match", "numeric_match"]
    assert assign_scorers(None, [own])[0].name == "exact_match"
    with pytest.raises(InvalidInput, match="every prompt"):
        assign_scorers(None, [Prompt("b", 1)])


@pytest.mark.parametrize("options", [{"budget": "many"}, {"budget": 0}, {"budget": 9, "free": 9}, {"free": -1}])
def test_a_budget_out_of_range_is_refused(options):
    with pytest.raises(InvalidInput, match=r"brevity\."):
        get_scorer({"name": "brevity", **options})
