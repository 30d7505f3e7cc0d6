"""Constraints in the transformers engine: met by masks in any batch, tried again, refused before the first token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hagpolicy import Completion, Constraint, DecodingConfig, Prompt, Request
from hagpolicy.engines.constraints.attempts import ATTEMPTS, is_wanting, join_attempts, make_attempt
from hagpolicy.engines.constraints.check import meets
from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.support.tiny_bytes import byte_model, byte_tokenizer

pytest.importorskip("llguidance")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer"}}}
CONSTRAINTS = [
    Constraint(choices=("yes", "no", "maybe not")),
    Constraint(regex=r"\d{3}-\d{4}( über)?"),
    Constraint(schema={**SCHEMA, "required": ["age"]}),
    Constraint(include=("dog", "café"), avoid=("cat",), min_words=3, max_words=6),
]
BEYOND = Constraint(schema={"type": "number", "minimum": 3})
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {},
    {"temperature": 1.5, "top_k": 5},
    {"temperature": 1.0, "typical_p": 0.5, "presence_penalty": 1.0},
    {"temperature": 0.0, "repetition_penalty": 1.5},
    {"temperature": 0.0, "no_repeat_ngram_size": 1},
]
APART: list[dict[str, Any]] = [
    {"temperature": 0.0, "num_beams": 3},
    {"temperature": 0.0, "prompt_lookup_num_tokens": 4},
    {"temperature": 1.0, "prompt_lookup_num_tokens": 4},
]


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(byte_model(seed=2).double(), byte_tokenizer(), name="bytes", threads=1)


def cell(
    constraint: Constraint | None, limit: int = 24, seed: int = 1, text: str = "the dog", **fields: Any
) -> Request:
    return Request(Prompt(text, constraint=constraint), DecodingConfig(**fields), 0, seed, limit)


@pytest.mark.parametrize("limit", [10, 24])
def test_masked_rows_of_a_mixed_batch_all_meet_their_constraints(engine: TransformersEngine, limit: int) -> None:
    unit = [
        cell(constraint, limit, seed, constrain="mask", **settings)
        for seed, settings in enumerate(SETTINGS)
        for constraint in CONSTRAINTS
    ]
    free = [cell(None, limit, seed, constrain="mask", **settings) for seed, settings in enumerate(SETTINGS)]
    found = engine.generate([*unit, *free])
    for request, completion in zip(unit, found, strict=False):
        assert completion.error is None
        assert completion.tokens <= limit
        assert meets(request.prompt.constraint, completion.text), (request.config, completion.text)
    # Rows without a constraint are what they are without any mask beside them.
    plain = engine.generate([replace(one, config=one.config.replace(constrain="")) for one in free])
    assert [one.text for one in found[len(unit) :]] == [one.text for one in plain]


def test_off_is_equal_to_a_prompt_without_a_constraint(engine: TransformersEngine) -> None:
    settings = [*SETTINGS, *APART]
    with_one = engine.generate([cell(CONSTRAINTS[0], seed=n, **some) for n, some in enumerate(settings)])
    without = engine.generate([cell(None, seed=n, **some) for n, some in enumerate(settings)])
    assert [(one.text, one.tokens, one.receipt) for one in with_one] == [
        (one.text, one.tokens, one.receipt) for one in without
    ]


@pytest.mark.parametrize("settings", APART, ids=str)
def test_beams_and_drafts_meet_them_too(engine: TransformersEngine, settings: dict[str, Any]) -> None:
    unit = [cell(constraint, limit, constrain="mask", **settings) for constraint in CONSTRAINTS for limit in (10, 20)]
    for request, completion in zip(unit, engine.generate(unit), strict=True):
        assert completion.error is None
        assert meets(request.prompt.constraint, completion.text), completion.text


def test_a_drafted_answer_is_the_plain_one(engine: TransformersEngine) -> None:
    unit = [cell(one, constrain="mask", temperature=0.0) for one in CONSTRAINTS]
    drafted = [replace(one, config=one.config.replace(prompt_lookup_num_tokens=4)) for one in unit]
    assert [one.text for one in engine.generate(drafted)] == [one.text for one in engine.generate(unit)]


def test_what_does_not_fit_is_refused_before_the_first_token(engine: TransformersEngine) -> None:
    passes: list[int] = []
    handle = engine.model.register_forward_pre_hook(lambda *_: passes.append(1))
    found = engine.generate([cell(Constraint(regex="x{9}"), 8, constrain="mask")])
    handle.remove()
    assert not passes
    assert found[0].finish == "error"
    assert "cannot be met within 8 tokens: it takes 9" in str(found[0].error)
    # Its neighbours are generated all the same.
    mixed = engine.generate([cell(one, 8, constrain="mask") for one in (Constraint(regex="x{9}"), CONSTRAINTS[0])])
    assert mixed[0].finish == "error"
    assert meets(CONSTRAINTS[0], mixed[1].text)


def test_a_ban_that_leaves_nothing_is_lifted_and_said(engine: TransformersEngine) -> None:
    constraint = Constraint(regex="(ab){4}")
    (found,) = engine.generate([cell(constraint, temperature=0.0, no_repeat_ngram_size=1, constrain="mask")])
    assert found.text == "abababab"
    assert "lifted" in found.receipt["no_repeat_ngram_size"]


def test_what_is_not_counted_is_masked_and_said(engine: TransformersEngine) -> None:
    for settings in ({}, {"temperature": 0.0, "num_beams": 2}):
        (found,) = engine.generate([cell(BEYOND, constrain="mask", **settings)])
        assert "minimum" in found.receipt["constrain"]
        assert found.finish == "length" or meets(BEYOND, found.text)


def test_sampled_beams_cannot_be_masked(engine: TransformersEngine) -> None:
    config = DecodingConfig(num_beams=2, constrain="mask")
    assert engine.unsupported(config) == ["constrain"]
    assert engine.unsupported(config.replace(temperature=0.0)) == []
    assert engine.unsupported(config.replace(constrain="ask")) == []


def test_an_answer_ends_where_nothing_may_follow(engine: TransformersEngine) -> None:
    (found,) = engine.generate([cell(Constraint(choices=("dog",)), constrain="mask", temperature=0.0)])
    assert (found.text, found.finish) == ("dog", "stop")


def test_asking_puts_the_words_into_the_prompt_alone(engine: TransformersEngine) -> None:
    constraint = CONSTRAINTS[0]
    asked, said = engine.generate(
        [
            cell(constraint, constrain="ask", seed=3),
            cell(None, seed=3, text=f"the dog\n\n{constraint.describe()}"),
        ]
    )
    assert (asked.text, asked.prompt_tokens) == (said.text, said.prompt_tokens)


def test_answers_are_tried_again_until_they_meet_it(engine: TransformersEngine) -> None:
    """Against the engine's own answers to the requests of each attempt, one by one."""
    constraint = Constraint(regex=r"(?s)[^a-m]*")
    unit = [cell(constraint, 6, seed, constrain="retry", temperature=seed % 2) for seed in range(12)]
    found = engine.generate(unit)
    numbers = []
    for request, completion in zip(unit, found, strict=True):
        attempts: list[Completion] = []
        for number in range(ATTEMPTS):
            tried = make_attempt(request, number)
            assert (tried.config.temperature > 0) or number == 0
            attempts += engine.generate([replace(tried, config=tried.config.replace(constrain=""))])
            if meets(constraint, attempts[-1].text):
                break
        numbers.append(len(attempts))
        met = meets(constraint, attempts[-1].text)
        assert completion.text == (attempts[-1] if met else attempts[0]).text
        assert completion.tokens == sum(one.tokens for one in attempts)
        assert completion.passes == sum(one.passes or 0 for one in attempts)
        assert ("constrain" in completion.receipt) == (len(attempts) > 1)
    assert len({*numbers} & {1, 2, 3, 4}) > 1
    assert engine.generate(unit[3:4])[0].text == found[3].text


def test_attempts_have_streams_of_their_own() -> None:
    request = cell(CONSTRAINTS[0], constrain="retry", temperature=0.0, num_beams=3)
    assert not DecodingConfig(temperature=0.0, constrain="retry").deterministic
    attempts = [make_attempt(request, number) for number in range(ATTEMPTS)]
    assert attempts[0] is request
    assert len({one.seed for one in attempts}) == ATTEMPTS
    assert all(0 <= one.seed < 2**63 for one in attempts)
    assert {(one.config.temperature, one.config.num_beams) for one in attempts[1:]} == {(1.0, 1)}
    failed = Completion("", finish="error", error="gone")
    assert not is_wanting(request, failed)
    assert not is_wanting(request, Completion("<think>no</think>yes", 3))
    joined = join_attempts(request, [Completion("perhaps", 2, 4, 1.0), failed])
    assert joined.text == "perhaps"
    assert "not met" in joined.receipt["constrain"]


@pytest.mark.llm
def test_the_real_llm_meets_constraints(smollm: TransformersEngine) -> None:
    ask = "Give the name and age of a person as JSON."
    unit = [
        cell(Constraint(schema={**SCHEMA, "required": ["name", "age"]}), 24, 1, ask, constrain="mask", **settings)
        for settings in ({"temperature": 0.0}, {})
    ]
    words = Constraint(include=("dog", "ball", "throw"), max_words=15)
    unit += [
        cell(words, 20, 1, "Write a sentence with dog, ball and throw.", constrain="mask", **SETTINGS[n])
        for n in (0, 2)
    ]
    unit += [cell(Constraint(choices=("yes", "no")), 4, 1, "Is the sky blue?", constrain="mask", temperature=0.0)]
    for request, completion in zip(unit, smollm.generate(unit), strict=True):
        assert completion.error is None
        assert meets(request.prompt.constraint, completion.text), completion.text
