"""The contract over all scorers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.registry import get_scorer
from tests.support.scoring import score

REFERENCES = {
    "exact_match": "Paris",
    "numeric_match": 12,
    "multiple_choice": {"answer": "B", "choices": ["iron", "gold", "tin"]},
    "contains_all": ["dog", "garden", ["USA", "United States"]],
    "distinct_items": 5,
    "chrf": "The cat sat on the mat.",
    "json_valid": ["name", "age"],
    "brevity": None,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_every_scorer_has_a_name_a_version_and_its_reference(name):
    scorer = get_scorer(name)
    assert scorer.name == name
    assert scorer.version == "1"
    assert scorer.check(Prompt("A question?", REFERENCES[name])) is None
    if scorer.needs_reference:
        assert name in scorer.check(Prompt("A question?"))
        assert "needs a reference" in score(name, "text").reason


@pytest.mark.parametrize("name", REFERENCES)
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.text(max_size=80), st.text("0123456789.,-$/ \n*()abcABC{}\\:;", max_size=60)))
def test_any_text_gets_a_reward_in_range(name, text):
    result = score(name, text, REFERENCES[name])
    assert 0.0 <= result.value <= 1.0
    assert result.reason is None


RUNAWAYS = [" ", "\n", "*", "1,", "1,000", "1 ", "\\boxed{", "(", "a) ", "and ", "answer ", "the ", "- x\n", "```"]


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("head", ["", "answer", "The answer is", "1. "])
def test_a_text_that_went_astray_is_scored_too(name, head):
    for piece in RUNAWAYS:  # each would take minutes with a pattern that backtracks over its runs
        assert 0.0 <= score(name, head + piece * 3000 + "!", REFERENCES[name]).value <= 1.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", REFERENCES)
@settings(max_examples=60, deadline=None)
@given(reference=json_values)
def test_any_reference_is_checked_before_it_is_used(name, reference):
    scorer = get_scorer(name)
    prompt = Prompt("A question?", reference)
    (result,) = scorer.score([(prompt, Completion("The answer is 12.", tokens=6))])
    assert (scorer.check(prompt) is None) == (not math.isnan(result.value))
    assert result.reason == scorer.check(prompt)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_failed_completion_is_unscored_and_an_empty_one_is_not(name):
    failed = score(name, "", REFERENCES[name], finish="error", error="out of memory")
    assert math.isnan(failed.value)
    assert failed.reason == "engine error: out of memory"
    assert not math.isnan(score(name, "", REFERENCES[name]).value)
    assert score_checked(get_scorer(name), []) == []
