"""Outcomes as JSON lines: what is written is read back, what comes again is read once."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hagpolicy import DecodingConfig, InvalidInput, Prompt, SweepTable, load_table
from hagpolicy.data import outcomes
from hagpolicy.data.answers import renumber
from tests.support.tables import PROMPTS, SPACE, assert_equal, make_full


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plain(seed, **changes):
    """A table as outcomes can tell it."""
    table = make_full(seed)
    nothing = {"fingerprint": {}, "scorers": {}, "failures": {}, "looks": ()}
    nothing |= dict.fromkeys(("max_tokens", "common", "stored", "groups"))
    return replace(table, **{**nothing, "answers": renumber(table.answers), **changes})


@pytest.mark.parametrize("seed", range(8))
def test_what_is_written_is_read_back_equal(tmp_path, seed):
    table = plain(seed, default=[None, 0, 3][seed % 3], **({"answers": None, "tokens": None} if seed % 2 else {}))
    lines = table.to_jsonl(tmp_path / "o.jsonl")
    assert lines == len((tmp_path / "o.jsonl").read_bytes().splitlines()) <= table.rewards.size
    for read in (SweepTable.from_jsonl(tmp_path / "o.jsonl"), load_table(tmp_path / "o.jsonl")):
        assert_equal(read, table)


def test_empty_rows_columns_and_samples_are_kept(tmp_path):
    for at in (np.s_[1], np.s_[:, 2], np.s_[:, :, 2], np.s_[:]):
        rewards = np.array(make_full(5).rewards)
        rewards[at] = np.nan
        table = SweepTable.from_arrays(PROMPTS, SPACE, rewards)
        table.to_jsonl(tmp_path / "o.jsonl")
        assert_equal(SweepTable.from_jsonl(tmp_path / "o.jsonl"), table)


def test_what_lines_cannot_say_is_told(tmp_path, caplog):
    make_full().to_jsonl(tmp_path / "o.jsonl")
    assert "looks, common, groups; `save` keeps them" in caplog.text
    caplog.clear()
    plain(0).to_jsonl(tmp_path / "o.jsonl")
    assert not caplog.text


@pytest.mark.parametrize(
    "prompts",
    [["a", "a"], [Prompt("a", metadata={"x": 1}), Prompt("a")], [Prompt("a", id="1"), Prompt("b", id="1")], []],
)
def test_prompts_that_lines_cannot_tell_apart_are_refused(tmp_path, prompts):
    known = tuple(prompt if isinstance(prompt, Prompt) else Prompt(prompt) for prompt in prompts)
    table = SweepTable(known, SPACE, np.zeros((len(known), 4, 1)))
    with pytest.raises(InvalidInput, match="tell apart"):
        table.to_jsonl(tmp_path / "o.jsonl")
    assert not list(tmp_path.iterdir())


def test_another_file_is_not_replaced(tmp_path):
    path = write(tmp_path / "prompts.jsonl", {"prompt": "mine"})
    with pytest.raises(InvalidInput, match="a file of outcomes"):
        make_full().to_jsonl(path)
    assert json.loads(path.read_text()) == {"prompt": "mine"}


@pytest.mark.parametrize("given", [DecodingConfig(temperature=0), {"temperature": 0}, {"temperature": 0.0}])
def test_a_default_is_a_config_or_its_settings(tmp_path, given):
    rows = [{"prompt": "a", "config": config, "reward": 1} for config in ({}, {"temperature": 0}, {"unset": True})]
    path = write(tmp_path / "o.jsonl", *rows)
    assert SweepTable.from_jsonl(path, default=given).default == 1
    assert SweepTable.from_jsonl(path, default="unset").default == 2
    assert SweepTable.from_jsonl(path).default is None


@pytest.mark.parametrize(
    "given", [{"temprature": 0}, {"temperature": -1}, {"top_k": 7}, 3, "greedy", DecodingConfig(hint="}{")]
)
def test_a_default_that_is_none_or_has_no_outcomes_is_refused_before_the_lines_are_read(tmp_path, given, monkeypatch):
    monkeypatch.setattr(outcomes, "_Outcomes", lambda: pytest.fail("read"))
    rows = [{"prompt": 'says "config": {"top_k": 7}', "config": {"hint": "{"}, "reward": 1, "text": '"config":'}]
    with pytest.raises(InvalidInput, match=r"default|temp"):
        SweepTable.from_jsonl(write(tmp_path / "o.jsonl", *rows), default=given)


def test_a_default_with_braces_in_its_hint_is_found(tmp_path):
    config = {"hint": 'Answer as {"a": "\\"}.'}
    path = write(tmp_path / "o.jsonl", {"prompt": "a", "config": config, "reward": 1})
    assert SweepTable.from_jsonl(path, default=config).default == 0


def test_lines_name_the_default(tmp_path):
    rows = [{"prompt": "a", "config": {"top_k": k}, "reward": 1, "default": k == 2} for k in (1, 2)]
    assert SweepTable.from_jsonl(write(tmp_path / "o.jsonl", *rows)).default == 1
    assert SweepTable.from_jsonl(tmp_path / "o.jsonl", default={"top_k": 1}).default == 0
    write(tmp_path / "o.jsonl", rows[1], {**rows[0], "default": True})
    with pytest.raises(InvalidInput, match="one config with the default"):
        SweepTable.from_jsonl(tmp_path / "o.jsonl")
    write(tmp_path / "o.jsonl", rows[1], {**rows[0], "default": "no"})
    with pytest.raises(InvalidInput, match="line 2"):
        SweepTable.from_jsonl(tmp_path / "o.jsonl")


def test_one_prompt_may_be_written_in_several_ways(tmp_path):
    rows = [
        {"prompt": "a", "id": 1, "config": {"temperature": 0}, "reward": 1, "x": float("nan"), "y": 1},
        {"prompt": "a", "id": "1", "config": {"temperature": 0.0, "top_k": 0}, "reward": 0, "x": float("nan"), "y": 2},
        {"messages": [{"content": "a", "role": "user"}], "config": {}, "reward": 0, "metadata": {"lang": "de"}},
        {"prompt": [{"role": "user", "content": "a"}], "config": {}, "reward": 1, "lang": "de"},
    ]
    table = SweepTable.from_jsonl(write(tmp_path / "o.jsonl", *rows))
    assert [prompt.metadata for prompt in table.prompts] == [{"x": None}, {"lang": "de"}]
    np.testing.assert_array_equal(table.rewards[0, 0], [1, 0])
    np.testing.assert_array_equal(table.rewards[1, 1], [0, 1])


@pytest.mark.parametrize("config", [{"temperature": True}, {"top_k": 1.5}, [], None, {"temperature": "1"}])
def test_a_config_that_is_equal_to_python_alone_is_refused(tmp_path, config):
    row = {"prompt": "a", "config": {"temperature": 1, "top_k": 1}, "reward": 1}
    with pytest.raises(InvalidInput, match="line 2"):
        SweepTable.from_jsonl(write(tmp_path / "o.jsonl", row, {**row, "config": config}))
