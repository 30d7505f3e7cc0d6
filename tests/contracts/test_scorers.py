"""The contract over all scorers: every name of the registry, under references and texts of every kind."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagpolicy.config.constraints import Constraint
from hagpolicy.data.answers import compute_answer_key
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import EngineError
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.registry import SCORERS, get_scorer, list_prompt_scorers
from tests.scorers.judge.judging import Scripted, texts_of
from tests.support.scoring import score
from tests.support.tiny_llama import save_classifier

# A reference that each scorer can use.
REFERENCES: dict[str, Any] = {
    "exact_match": "Paris",
    "numeric_match": 12,
    "multiple_choice": {"answer": "B", "choices": ["iron", "gold", "tin"]},
    "contains_all": ["dog", "garden", ["USA", "United States"]],
    "distinct_items": 5,
    "chrf": "The cat sat on the mat.",
    "json_valid": ["name", "age"],
    "json_match": {"name": "Ada", "age": 36},
    "brevity": None,
    "constraint": None,
    "judge": None,
    "reward_model": None,
    "python_tests": "assert add(2, 3) == 5\n",
}
FORM = Constraint(choices=("12", "Paris."))
# Those whose `Score.answer` is a remark, of which no majority can be taken.
REMARKS = {"distinct_items", "judge", "reward_model", "python_tests"}
TEXTS = [
    "", " \n", "12", "The answer is 12.0.", "twelve", "paris", "Paris.", "(B)", "B", "C", "red", "The dogs of the USA",
    '{"name": 1}', "1. red\n2. blue", "1. blue\n2. red", "def add(a, b):\n    return a + b\n",
    "def add(a, b):\n    return 5", "def add(a, b):\n    return a", "\0", "\ud800",
]  # fmt: skip
HUGE = ["word " * 40_000, "9" * 100_000, "(" * 100_000]


@pytest.fixture
def make(request, tmp_path):
    """Makes the scorer of a name anew, with the options that it cannot do without."""

    def made(name: str) -> Scorer:
        options: dict[str, Any] = {}
        if name == "judge":
            options = {"engine": Scripted(lambda asked: f"Grade: {1 + len(texts_of(asked)[-1]) % 10}")}
        elif name == "reward_model":
            pytest.importorskip("torch")
            folder, _ = save_classifier(tmp_path / "classifier")
            options = {"model": str(folder), "low": -1.0, "high": 1.5, "device": "cpu"}
        elif name == "python_tests":
            options = {"allow_code": True, "seconds": 1}
        try:
            scorer = get_scorer({"name": name, **options})
        except EngineError as error:  # a machine on which no generated code is run
            pytest.skip(str(error))
        request.addfinalizer(scorer.close)
        return scorer

    return made


def score_texts(scorer: Scorer, reference: Any, texts: list[str]) -> list[Score]:
    items = [(Prompt("A question?", reference, constraint=FORM), Completion(text, tokens=len(text))) for text in texts]
    return score_checked(scorer, items)


def test_every_scorer_is_under_this_contract():
    assert list(REFERENCES) == list(SCORERS)


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_has_a_name_a_version_and_its_reference(name, make):
    scorer = make(name)
    assert scorer.name == name
    assert isinstance(scorer.version, str)
    assert scorer.version
    assert scorer.stored_name == f"{name}@{scorer.version}"
    assert "@" not in scorer.name
    assert scorer.check(Prompt("A question?", REFERENCES[name], constraint=FORM)) is None
    if name in list_prompt_scorers():
        assert scorer.version in ("1", "2")
    if scorer.needs_reference:
        assert name in scorer.check(Prompt("A question?"))
    (without,) = score_texts(scorer, None, ["text"])
    assert math.isnan(without.value) == scorer.needs_reference
    assert ("needs a reference" in (without.reason or "")) == scorer.needs_reference


@pytest.mark.parametrize("name", SCORERS)
def test_every_text_has_a_reward_in_range_or_a_reason(name, make):
    scorer = make(name)
    for text, found in zip([*TEXTS, *HUGE], score_texts(scorer, REFERENCES[name], [*TEXTS, *HUGE]), strict=True):
        if found.reason is None:
            assert 0.0 <= found.value <= 1.0
        else:  # what cannot be scored is no failure of the text: not 0, and only what a model cannot read
            assert math.isnan(found.value)
            assert (name, text in HUGE) == ("reward_model", True)


@pytest.mark.parametrize("name", SCORERS)
def test_a_failed_completion_is_unscored_and_an_empty_one_is_not(name, make):
    scorer = make(name)
    prompt = Prompt("A question?", REFERENCES[name], constraint=FORM)
    failed = Completion("", finish="error", error="out of memory")
    scores = score_checked(scorer, [(prompt, failed), (prompt, Completion("", tokens=5))])
    assert math.isnan(scores[0].value)
    assert scores[0].reason == "engine error: out of memory"
    assert not math.isnan(scores[1].value)
    assert score_checked(scorer, []) == []


@pytest.mark.parametrize("name", SCORERS)
def test_equal_texts_have_equal_scores_however_they_are_batched(name, make):
    first, second = make(name), make(name)
    assert first.stored_name == second.stored_name
    together = score_texts(first, REFERENCES[name], TEXTS)
    again = score_texts(first, REFERENCES[name], TEXTS[::-1])[::-1]
    alone = [score_texts(second, REFERENCES[name], [text])[0] for text in TEXTS]
    values = [[found.value for found in scores] for scores in (together, again, alone)]
    assert values[0] == pytest.approx(values[1], abs=1.1e-5)
    assert values[0] == pytest.approx(values[2], abs=1.1e-5)
    if name != "reward_model":  # whose sums depend in their last digits on what they are computed with
        assert together == again == alone


@pytest.mark.parametrize("name", SCORERS)
def test_answers_agree_where_the_scorer_declares_it(name, make):
    scorer = make(name)
    assert scorer.answers_agree is (name not in REMARKS)
    if scorer.answers_agree:  # equal answers have equal rewards, so a majority of them can be right
        rewards: dict[str, set[float]] = {}
        for found in score_texts(scorer, REFERENCES[name], TEXTS):
            if found.answer:
                rewards.setdefault(compute_answer_key(found.answer), set()).add(found.value)
        assert all(len(values) == 1 for values in rewards.values())
        assert rewards or name in ("contains_all", "chrf", "json_valid", "json_match", "brevity", "constraint")


# ------------------------------------------------------------------ those that read the text only


@pytest.mark.parametrize("name", list_prompt_scorers())
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.text(max_size=80), st.text("0123456789.,-$/ \n*()abcABC{}\\:;", max_size=60)))
def test_any_text_gets_a_reward_in_range(name, text):
    result = score(name, text, REFERENCES[name])
    assert 0.0 <= result.value <= 1.0
    assert result.reason is None


RUNAWAYS = [" ", "\n", "*", "1,", "1,000", "1 ", "\\boxed{", "(", "a) ", "and ", "answer ", "the ", "- x\n", "```"]


@pytest.mark.parametrize("name", list_prompt_scorers())
@pytest.mark.parametrize("head", ["", "answer", "The answer is", "1. "])
def test_a_text_that_went_astray_is_scored_too(name, head):
    for piece in RUNAWAYS:  # each would take minutes with a pattern that backtracks over its runs
        assert 0.0 <= score(name, head + piece * 3000 + "!", REFERENCES[name]).value <= 1.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", list_prompt_scorers())
@settings(max_examples=60, deadline=None)
@given(reference=json_values)
def test_any_reference_is_checked_before_it_is_used(name, reference):
    scorer = get_scorer(name)
    prompt = Prompt("A question?", reference, constraint=FORM)
    (result,) = scorer.score([(prompt, Completion("The answer is 12.", tokens=6))])
    assert (scorer.check(prompt) is None) == (not math.isnan(result.value))
    assert result.reason == scorer.check(prompt)
