"""`wrap`: what a caller's keywords mean, and that they arrive."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.config.dialects import OF_CHATS
from hagpolicy.config.fields import ARTEFACT_FIELDS, FIELDS
from hagpolicy.errors import InvalidInput
from tests.serving.wrapping import SPACE, WordPolicy, chat

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hagpolicy.serving.call import FIELD_OF_KEYWORD, GenerateCall  # noqa: E402


def test_every_keyword_that_we_have_a_word_for_is_a_field():
    elsewhere = {"presence_penalty", "frequency_penalty", "hint", "unset", *OF_CHATS, *ARTEFACT_FIELDS}
    elsewhere |= {"constrain", "soft_tokens", "reference_weight"}
    assert set(FIELD_OF_KEYWORD.values()) == set(FIELDS) - elsewhere
    assert set(FIELD_OF_KEYWORD) <= set(vars(transformers.GenerationConfig()))


@pytest.mark.parametrize(
    ("kwargs", "fixed"),
    [
        ({}, {}),
        ({"temperature": None, "top_p": None, "return_full_text": False, "batch_size": 4}, {}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"do_sample": False}, {"temperature": 0.0}),
        ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.0}),
        ({"do_sample": True}, {"temperature": 0.4}),
        ({"do_sample": True, "temperature": 0.9}, {"temperature": 0.9}),
        ({"max_new_tokens": 5, "top_k": 0, "min_p": 0.0}, {"max_tokens": 5, "top_k": 0, "min_p": 0.0}),
        (
            {"top_p": 1, "typical_p": 0.5, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
            {"top_p": 1.0, "typical_p": 0.5, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
        ),
        (
            {"length_penalty": 0},
            {"length_penalty": 0.0},
        ),
        ({"num_beams": 1}, {"num_beams": 1}),
        ({"top_p": 0.0}, None),
        ({"max_length": 9}, {}),
    ],
)
def test_what_the_caller_sets_becomes_our_fields(kwargs, fixed):
    assert GenerateCall(kwargs, default_temperature=0.4).fixed == fixed


def test_a_generation_config_counts_and_keywords_come_before_it():
    config = transformers.GenerationConfig(temperature=0.7, top_k=5, max_new_tokens=3)
    assert GenerateCall({"generation_config": config}).fixed == {"temperature": 0.7, "top_k": 5, "max_tokens": 3}
    assert GenerateCall({"generation_config": config, "top_k": 9}).fixed == {
        "temperature": 0.7,
        "top_k": 9,
        "max_tokens": 3,
    }
    assert GenerateCall({"max_new_tokens": 4}, {"top_p": 0.5, "max_new_tokens": 2}).fixed == {
        "top_p": 0.5,
        "max_tokens": 4,
    }
    assert GenerateCall({"generation_config": config}, {"top_p": 0.5}).fixed.keys() == {
        "temperature",
        "top_k",
        "max_tokens",
    }


def test_sampling_at_temperature_zero_is_a_contradiction():
    with pytest.raises(InvalidInput, match="do_sample"):
        GenerateCall({"do_sample": True, "temperature": 0.0}).fixed  # noqa: B018


SETTINGS = {
    "temperature": st.sampled_from([0.0, 0.3, 0.7]),
    "do_sample": st.booleans(),
    "top_p": st.sampled_from([0.5, 0.9, 1.0]),
    "top_k": st.sampled_from([0, 50]),
    "min_p": st.sampled_from([0.0, 0.1]),
    "typical_p": st.sampled_from([0.5, 1.0]),
    "repetition_penalty": st.sampled_from([1.0, 1.8]),
    "no_repeat_ngram_size": st.sampled_from([0, 3]),
    "num_beams": st.sampled_from([1, 4]),
    "length_penalty": st.sampled_from([1.0, 2.0]),
    "max_new_tokens": st.sampled_from([5, 20]),
    "max_length": st.just(30),
    "eta_cutoff": st.just(0.1),
    "return_full_text": st.booleans(),
}
IDLE_WHEN_GREEDY = {"temperature", "top_p", "top_k", "min_p", "typical_p"}


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional=SETTINGS), st.fixed_dictionaries({}, optional=SETTINGS), st.integers(0, 18))
def test_whatever_the_caller_sets_arrives(kwargs, standing, number):
    spaces = [*DecodingSpace.preset("standard"), *SPACE[1:2], *SPACE[3:]]
    space = DecodingSpace([*spaces, DecodingConfig(temperature=0.7, max_tokens=20), DecodingConfig(num_beams=2)])
    explicit = {**standing, **kwargs}
    assume(not (explicit.get("do_sample") and explicit.get("temperature") == 0))
    call = GenerateCall(kwargs, standing)
    decision = WordPolicy(space, {"word": number}).decide("word", call.fixed)
    sent = call.prepare("word", decision)
    if decision.reason == "no_config_agrees":
        assert sent.kwargs == kwargs
        assert sent.prompt == "word"
        return
    arrived = {**standing, **sent.kwargs}
    greedy = explicit.get("do_sample") is False or explicit.get("temperature") == 0
    assert not greedy or arrived["do_sample"] is False
    for name, value in explicit.items():
        idle = arrived["do_sample"] is False and name in IDLE_WHEN_GREEDY
        idle |= name == "length_penalty" and arrived["num_beams"] == 1
        assert idle or arrived[name] == value
    if "max_length" in explicit and "max_new_tokens" not in explicit:
        assert "max_new_tokens" not in arrived


def test_slots_of_a_hint_are_filled_for_each_prompt_or_the_prompt_stays_as_it_is():
    policy = WordPolicy(DecodingSpace([DecodingConfig(temperature=0, hint="Use {numbers}.")]), {})
    prompts = ["sum of 7 and 8", "sum of ten", chat("sum of 7")]
    call = GenerateCall({})
    made = [call.prepare(prompt, policy.decide(prompt)) for prompt in prompts]
    assert [item.prompt for item in made[:2]] == ["sum of 7 and 8\n\nUse 7, 8.", "sum of ten"]
    assert made[2].prompt[-1]["content"] == "sum of 7\n\nUse 7."
    assert [item.hinted for item in made] == [True, False, True]
