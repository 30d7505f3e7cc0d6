"""DecodingSpace: an ordered, immutable, digested set of configs."""

import json
import logging

import numpy as np
import pytest

from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.errors import InvalidInput


def test_a_space_is_an_immutable_sequence_in_order():
    configs = [DecodingConfig(temperature=t) for t in (1.0, 0.0, 0.5)]
    space = DecodingSpace(configs)
    assert list(space) == configs
    assert len(space) == 3
    assert space[1] == configs[1]
    assert list(space[1:]) == configs[1:]
    assert space.index(configs[2]) == 2
    assert configs[0] in space
    assert DecodingConfig(temperature=2) not in space
    with pytest.raises(ValueError, match="not in"):
        space.index(DecodingConfig(temperature=2))
    with pytest.raises(TypeError):
        space[0] = configs[1]  # type: ignore[index]
    assert DecodingSpace(configs) == space
    assert hash(DecodingSpace(configs)) == hash(space)
    assert DecodingSpace(configs[::-1]) != space
    assert DecodingSpace(configs[::-1]).digest != space.digest


def test_a_space_refuses_duplicates_nothing_and_strangers():
    with pytest.raises(InvalidInput, match="number 0"):
        DecodingSpace([DecodingConfig(), DecodingConfig(top_p=1)])
    with pytest.raises(InvalidInput, match="at least one"):
        DecodingSpace([])
    with pytest.raises(InvalidInput, match="a DecodingConfig"):
        DecodingSpace([{"temperature": 1}])  # type: ignore[list-item]


def test_a_grid_keeps_configs_of_one_text_once_and_says_how_many(caplog):
    with caplog.at_level(logging.INFO, logger="hagpolicy"):
        space = DecodingSpace.grid(temperature=[0, 0.7], top_p=[0.5, 0.9, 1])
    assert list(space) == [DecodingConfig(temperature=0)] + [
        DecodingConfig(temperature=0.7, top_p=p) for p in (0.5, 0.9, 1.0)
    ]
    assert "2 configs" in caplog.text
    with pytest.raises(InvalidInput, match="at least one value"):
        DecodingSpace.grid(temperature=[])
    with pytest.raises(InvalidInput, match="top_p"):
        DecodingSpace.grid(topp=[1])
    with pytest.raises(InvalidInput, match="top_p"):
        DecodingSpace.grid(top_p=[1.5])


def test_the_hag_grid_spans_its_four_settings():
    space = DecodingSpace.hag()
    assert set(space.varying) == {"temperature", "top_p", "top_k", "repetition_penalty"}
    # 3 greedy ones (truncation is idle there), and 3 × 3 × 2 × 3 sampled ones.
    assert len(space) == 3 + 54
    assert int(space.deterministic.sum()) == 3


def test_the_standard_preset_differs_in_kind():
    space = DecodingSpace.preset("standard")
    assert len(space) == 14
    assert {"temperature", "top_p", "min_p", "num_beams", "hint", "repetition_penalty"} <= set(space.varying)
    assert len({config.canonical() for config in space}) == 14
    with pytest.raises(InvalidInput, match="standard"):
        DecodingSpace.preset("standrad")


def test_presets_serve_their_purpose():
    spaces = {name: DecodingSpace.preset(name) for name in ("deterministic", "diverse", "price")}
    assert DecodingSpace.preset() == spaces["deterministic"]
    assert spaces["deterministic"].deterministic.all()
    assert not spaces["diverse"].deterministic.any()
    assert spaces["price"].deterministic.all()
    for space in spaces.values():
        assert len({config.canonical() for config in space}) == len(space) == 8


def test_a_preset_leaves_out_what_an_engine_lacks_and_names_it(caplog):
    class NoBeams:
        name = "plain"

        def unsupported(self, config):
            return ["num_beams"] if config.num_beams > 1 else []

    with caplog.at_level(logging.WARNING, logger="hagpolicy"):
        space = DecodingSpace.preset("standard", NoBeams())
    assert len(space) == 13
    assert "num_beams" in caplog.text
    assert "plain" in caplog.text


def test_a_space_survives_json(tmp_path):
    space = DecodingSpace.preset("standard")
    assert DecodingSpace.from_json(space.to_json()) == space
    path = tmp_path / "space.json"
    path.write_text(json.dumps(space.to_json()), "utf-8")
    assert DecodingSpace.from_json(path) == space
    assert DecodingSpace.from_json(str(path)).digest == space.digest


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '["x"]', '[{"temperature": -1}]', '[{"heat": 1}]', "[]"])
def test_a_bad_space_file_is_refused(tmp_path, text):
    path = tmp_path / "space.json"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidInput):
        DecodingSpace.from_json(path)
    with pytest.raises(InvalidInput, match="readable"):
        DecodingSpace.from_json(tmp_path / "missing.json")


def test_agreement_is_asked_only_where_the_space_varies():
    space = DecodingSpace.grid(temperature=[0, 0.7], repetition_penalty=[1, 1.2])
    assert space.agreeing({"temperature": 0}).tolist() == [True, True, False, False]
    assert space.agreeing({"temperature": 0, "repetition_penalty": 1.2}).tolist() == [False, True, False, False]
    assert space.agreeing({"top_p": 0.3, "max_tokens": 5}).all()
    assert not space.agreeing({"temperature": 0.5}).any()
    assert space.agreeing({}).all()
    with pytest.raises(InvalidInput, match="top_p"):
        space.agreeing({"top_p": 3})
    with pytest.raises(InvalidInput, match="unknown"):
        space.agreeing({"heat": 3})


def test_an_artefact_that_is_fixed_by_its_name_alone_is_the_one_that_the_space_knows():
    first, second = ("sql@0123456789abcdef", "sql@fedcba9876543210")
    known = DecodingSpace([DecodingConfig(), DecodingConfig(adapter=first)])
    assert known.pin({"adapter": "sql", "top_k": 4}) == {"adapter": first, "top_k": 4}
    assert known.agreeing(known.pin({"adapter": "sql"})).tolist() == [False, True]
    for fixed in ({"adapter": ""}, {"adapter": second}, {"adapter": "chat"}, {"top_k": 4}, {"adapter": None}):
        assert known.pin(fixed) == fixed
    both = DecodingSpace([DecodingConfig(adapter=first), DecodingConfig(adapter=second)])
    assert both.pin({"adapter": "sql"}) == {"adapter": "sql"}
    bare = DecodingSpace([DecodingConfig(adapter="sql"), DecodingConfig()])
    assert bare.pin({"adapter": "sql"}) == {"adapter": "sql"}


def test_agreement_is_not_asked_for_a_field_that_what_is_fixed_makes_idle():
    space = DecodingSpace.grid(temperature=[0, 0.7], top_p=[0.5, 1])
    assert space.agreeing({"temperature": 0, "top_p": 0.9}).tolist() == [True, False, False]
    assert not space.agreeing({"temperature": 0.7, "top_p": 0.9}).any()
    beams = DecodingSpace.grid(num_beams=[1, 4], length_penalty=[0.5, 1])
    assert beams.agreeing({"length_penalty": 0.5}).tolist() == [False, True, False]
    assert beams.agreeing({"length_penalty": 0.5, "num_beams": 1}).tolist() == [True, False, False]


def test_a_config_of_the_same_text_is_found_and_another_is_added():
    space = DecodingSpace.grid(temperature=[0, 0.7])
    assert space.with_config(DecodingConfig(temperature=0, top_p=0.5)) == (space, 0)
    larger, index = space.with_config(DecodingConfig(temperature=0.7, top_k=50))
    assert index == 2
    assert len(larger) == 3
    assert np.array_equal(larger.deterministic, [True, False, False])


def test_a_grid_joins_what_is_unset_and_it_agrees_with_no_fixed_setting():
    space = DecodingSpace.grid(unset=[False, True], temperature=[0.0, 1.0], hint=["", "be brief"])
    assert [str(config) for config in space] == [
        "temperature=0", "temperature=0 hint='be brief'", "temperature=1", "hint='be brief'",
        "unset", "unset hint='be brief'",
    ]  # fmt: skip
    assert space.agreeing({"temperature": 1.0}).tolist() == [False, False, True, True, False, False]
    assert space.agreeing({"top_p": 0.9}).tolist() == [True] * 4 + [False] * 2  # not varied: the caller's own goes
    assert space.agreeing({"hint": ""}).tolist() == [True, False] * 3
    assert space.agreeing({"max_tokens": 5}).all()
    assert space.with_config(DecodingConfig(unset=True)) == (space, 4)
