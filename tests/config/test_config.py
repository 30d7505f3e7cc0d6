"""DecodingConfig: strict at the door, explicit, with one identity."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagpolicy import DecodingConfig
from hagpolicy.config.fields import FIELDS, NEUTRAL
from hagpolicy.errors import InvalidInput

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
configs = st.builds(
    DecodingConfig,
    temperature=st.floats(0, 5),
    top_p=st.floats(0, 1, exclude_min=True),
    top_k=st.integers(0, 1000),
    min_p=st.floats(0, 1),
    typical_p=st.floats(0, 1, exclude_min=True),
    repetition_penalty=st.floats(0.01, 10),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    no_repeat_ngram_size=st.integers(0, 8),
    num_beams=st.integers(1, 8),
    length_penalty=numbers,
    prompt_lookup_num_tokens=st.integers(0, 20),
    max_tokens=st.none() | st.integers(1, 10_000),
    hint=st.text(max_size=20),
)


def test_a_config_is_explicit_frozen_and_neutral_by_default():
    config = DecodingConfig()
    assert config.fields() == dict(NEUTRAL)
    assert config.to_dict() == {}
    assert tuple(config.fields()) == FIELDS == tuple(NEUTRAL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.temperature = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("temperature", -0.1, "[0, inf)"),
        ("temperature", math.nan, "[0, inf)"),
        ("temperature", math.inf, "[0, inf)"),
        ("temperature", 10**400, "[0, inf)"),
        ("temperature", "0.7", "a number"),
        ("temperature", None, "a number"),
        ("temperature", True, "a number"),
        ("temperature", 1j, "a number"),
        ("top_p", 0.0, "(0, 1]"),
        ("top_p", 1.01, "(0, 1]"),
        ("top_k", -1, "a whole number in [0, inf)"),
        ("top_k", 40.0, "a whole number"),
        ("top_k", False, "a whole number"),
        ("min_p", -0.01, "[0, 1]"),
        ("typical_p", 0, "(0, 1]"),
        ("repetition_penalty", 0, "(0, inf)"),
        ("presence_penalty", 2.1, "[-2, 2]"),
        ("frequency_penalty", -2.1, "[-2, 2]"),
        ("no_repeat_ngram_size", -1, "[0, inf)"),
        ("num_beams", 0, "[1, inf)"),
        ("length_penalty", math.inf, "(-inf, inf)"),
        ("prompt_lookup_num_tokens", -1, "a whole number in [0, inf)"),
        ("prompt_lookup_num_tokens", None, "a whole number"),
        ("max_tokens", 0, "[1, inf)"),
        ("hint", None, "a string"),
    ],
)
def test_a_bad_value_is_refused_with_field_expected_and_got(field, value, expected):
    with pytest.raises(InvalidInput) as caught:
        DecodingConfig.from_dict({field: value})
    assert caught.value.field == f"DecodingConfig.{field}"
    assert expected in str(caught.value)
    assert caught.value.got is value or caught.value.got == value or math.isnan(value)


def test_an_unknown_field_is_refused_with_a_suggestion():
    with pytest.raises(InvalidInput, match="temperature"):
        DecodingConfig.from_dict({"temprature": 0.5})
    with pytest.raises(TypeError):
        DecodingConfig(nucleus=0.9)  # type: ignore[call-arg]


def test_numbers_are_stored_in_the_fields_own_type():
    config = DecodingConfig(temperature=1, top_p=np.float64(0.5), top_k=np.int64(40), max_tokens=np.int32(7))
    assert [type(config.fields()[name]) for name in ("temperature", "top_p", "top_k", "max_tokens")] == [
        float,
        float,
        int,
        int,
    ]
    assert DecodingConfig(temperature=1) == DecodingConfig(temperature=1.0)
    assert DecodingConfig(temperature=0).digest == DecodingConfig(temperature=-0.0).digest


def test_identity_leaves_out_neutral_fields():
    # A field that a later version adds stands at its neutral value in every config of today.
    assert DecodingConfig(temperature=0.7).digest == DecodingConfig(temperature=0.7, top_p=1.0, hint="").digest
    assert DecodingConfig(temperature=0.7).digest != DecodingConfig(temperature=0.7, top_p=0.9).digest
    # Stored in folders and bundles: a change here makes old ones foreign.
    assert DecodingConfig().digest == "2afb9b83f9314e5d029766197f539792"
    assert DecodingConfig(temperature=0.7, hint="é").digest == "ca13bb90e10b1db8336f9bbdcd8da5e6"


@given(configs)
def test_a_config_survives_json(config):
    again = DecodingConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.digest == config.digest
    assert hash(again) == hash(config)
    assert eval(repr(config)) == config


def test_what_does_nothing_is_not_part_of_the_canonical_form():
    greedy = DecodingConfig(temperature=0, top_p=0.5, top_k=4, min_p=0.2, typical_p=0.5, length_penalty=2)
    assert greedy.canonical() == DecodingConfig(temperature=0)
    assert greedy.deterministic
    beams = DecodingConfig(temperature=0, num_beams=4, length_penalty=2)
    assert beams.canonical() == beams
    assert beams.deterministic
    # Drafts change the time of a text, but there are none for beams.
    drafted = DecodingConfig(temperature=0, prompt_lookup_num_tokens=5)
    assert drafted.canonical() == drafted
    assert drafted.deterministic
    assert beams.replace(prompt_lookup_num_tokens=5).canonical() == beams
    sampled = DecodingConfig(temperature=0.5, top_p=0.5, repetition_penalty=1.2)
    assert sampled.canonical() == sampled
    assert not sampled.deterministic


def test_replace_checks_again():
    assert DecodingConfig(temperature=0.5).replace(top_p=0.9) == DecodingConfig(temperature=0.5, top_p=0.9)
    with pytest.raises(InvalidInput):
        DecodingConfig().replace(top_p=2)
    with pytest.raises(InvalidInput):
        DecodingConfig().replace(topp=0.5)


def test_words_for_people():
    assert str(DecodingConfig(temperature=0, hint="Be brief.")) == "temperature=0 hint='Be brief.'"
    assert str(DecodingConfig()) == "temperature=1"


def test_errors_survive_the_way_between_processes() -> None:
    import copy
    import multiprocessing

    from hagpolicy.errors import InvalidInput

    error = InvalidInput("field", "a number", lambda: None, "Give one.")
    with multiprocessing.Pool(1) as pool, pytest.raises(InvalidInput, match="temperature"):
        pool.apply(DecodingConfig, kwds={"temperature": -1.0})
    assert str(copy.copy(error)) == str(error)
    assert copy.copy(error).field == "field"


def test_a_config_that_leaves_the_settings_unset_has_none():
    config = DecodingConfig(unset=True, hint="be brief", max_tokens=9)
    assert (str(DecodingConfig(unset=True)), str(config)) == ("unset", "unset max_tokens=9 hint='be brief'")
    assert DecodingConfig.from_dict(config.to_dict()) == config == config.canonical()
    assert not config.deterministic
    assert DecodingConfig(unset=False).digest == DecodingConfig().digest != DecodingConfig(unset=True).digest
    for bad in ({"temperature": 0.7}, {"num_beams": 2}, {"presence_penalty": 1.0}):
        with pytest.raises(InvalidInput, match="unset.*" + next(iter(bad))):
            DecodingConfig(unset=True, **bad)
    for value in (1, "yes", None):
        with pytest.raises(InvalidInput, match="True or False"):
            DecodingConfig(unset=value)
