"""The rows of the fields, and what is made from them."""

import dataclasses
import typing

import pytest

from hagpolicy import DecodingConfig
from hagpolicy.config.fields import FIELDS, NEUTRAL, SPECS, find_idle_fields


@pytest.mark.parametrize("name", FIELDS)
def test_a_row_says_all_there_is_to_a_field(name):
    spec, (declared,) = SPECS[name], [field for field in dataclasses.fields(DecodingConfig) if field.name == name]
    assert declared.default == spec.neutral == NEUTRAL[name] == spec.check(name, spec.neutral)
    annotated = typing.get_type_hints(DecodingConfig)[name]
    assert annotated == (spec.kind if spec.neutral is not None else spec.kind | None)
    assert f"        {name}: {spec.about}; {spec.expected}" in (DecodingConfig.__doc__ or "")
    if spec.idle_when is not None:
        assert spec.idle_when.field in set(FIELDS) - {name}
        values = ("", "one") if SPECS[spec.idle_when.field].kind is str else (0, 1, 2, False)
        assert {spec.idle_when.holds(value) for value in values} == {True, False}


def test_idle_fields():
    truncations = {"top_p", "top_k", "min_p", "typical_p"}
    assert find_idle_fields({"temperature": 0.0, "num_beams": 1}) == truncations | {"length_penalty"}
    assert find_idle_fields({"temperature": 0.1, "num_beams": 2}) == {"prompt_lookup_num_tokens"}
    assert find_idle_fields({"temperature": 0.1}) == set()
    assert find_idle_fields({"temperature": 0.0}) == truncations
    assert find_idle_fields({}) == set()
    thoughts = {"reasoning_effort", "thinking_budget"}
    assert [find_idle_fields({"thinking": value}) for value in (False, True, None)] == [thoughts, set(), set()]
