import json
from dataclasses import replace

import numpy as np
import pytest

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput

SPACE = DecodingSpace.grid(temperature=[0.0, 1.0])
PROMPTS = ["one", "two", "three"]


def test_from_arrays_takes_labels_and_a_sample_axis_or_none():
    rewards = np.array([[0.0, 1.0], [0.5, np.nan], [1.0, 0.25]])
    labels = {"tasks": ["a", "a", "b"], "groups": [1, 2, 1]}
    table = SweepTable.from_arrays(PROMPTS, SPACE, rewards, **labels, tokens=rewards * 10)
    assert table.rewards.shape == (3, 2, 1)
    assert table.rewards.dtype == np.float64
    assert table.tasks.tolist() == ["a", "a", "b"]
    assert table.groups.tolist() == [0, 1, 0]
    assert table.counts.tolist() == [[1, 1], [1, 0], [1, 1]]
    assert table.complete.tolist() == [True, False, True]
    assert table.tokens.dtype == np.float32


def test_a_missing_label_is_no_label_to_share():
    given = [*PROMPTS, Prompt("four", task="own", group="own")]
    labels = {"tasks": [None, "a", None, None], "groups": [None, float("nan"), "g", None]}
    table = SweepTable.from_arrays(given, SPACE, np.zeros((4, 2)), **labels)
    assert table.groups.tolist() == [0, 1, 2, 3]
    assert table.tasks.tolist() == ["", "a", "", "own"]
    assert table.prompts[3].group == "own"


def test_means_leave_missing_samples_out():
    table = SweepTable.from_arrays(["a"], SPACE, [[[1.0, np.nan, np.nan], [0.0, 1.0, np.nan]]])
    assert table.means.tolist() == [[1.0, 0.5]]
    assert np.isnan(SweepTable.from_arrays(["a"], SPACE, [[[np.nan], [1.0]]]).means[0, 0])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rewards": np.zeros((2, 2, 1))}, "shape"),
        ({"rewards": np.full((3, 2, 1), 2.0)}, r"rewards\[0, 0, 0\]"),
        ({"rewards": np.full((3, 2, 1), -0.1)}, r"\[0, 1\]"),
        ({"tokens": np.zeros((3, 2, 5))}, "tokens"),
        ({"tasks": ["a"]}, "tasks"),
        ({"default": 2}, "default"),
        ({"default": DecodingConfig()}, "default"),
        ({"default": True}, "default"),
        ({"rewards": [["high", "low"]] * 3}, "rewards"),
        ({"rewards": [[[1.0, 0.0], [1.0]]] * 3}, "rewards"),
        ({"tokens": "many"}, "tokens"),
        ({"space": 3}, "DecodingSpace"),
        ({"space": "standard"}, "preset"),
        ({"prompts": None}, "prompts"),
        ({"prompts": ["one", " ", "three"]}, "prompt 1"),
    ],
)
def test_bad_arrays_are_refused(changes, word):
    given = {"prompts": PROMPTS, "space": SPACE, "rewards": np.zeros((3, 2, 1)), **changes}
    with pytest.raises(InvalidInput, match=word):
        SweepTable.from_arrays(**given)


def test_arrays_cannot_be_changed_afterwards():
    rewards = np.zeros((3, 2, 1))
    table = SweepTable.from_arrays(PROMPTS, SPACE, rewards)
    rewards[:] = 1.0
    assert table.rewards.max() == 0.0
    with pytest.raises(ValueError, match="read-only"):
        table.rewards[0] = 1.0


def test_take_keeps_groups_of_the_whole_table():
    table = SweepTable.from_arrays(["a b", "c", "a  b"], SPACE, np.arange(6).reshape(3, 2, 1) / 6)
    part = table.take(np.array([False, True, True]))
    assert part.groups.tolist() == [1, 0]
    assert part.rewards.tolist() == table.rewards[1:].tolist()
    assert [prompt.text for prompt in table.take([2, 0]).prompts] == ["a  b", "a b"]


def test_groups_follow_the_table_through_every_change():
    prompts = ["What is 1?", "What  is 1?", "Name a colour."]
    table = SweepTable.from_arrays(prompts, SPACE, np.zeros((3, len(SPACE), 1)))
    assert table.groups.tolist() == [0, 0, 1]
    named = replace(table, groups=np.array([5, 5, 4]))
    for changed in (named, named.in_space(SPACE[:1]), replace(named, rewards=np.ones((3, len(SPACE), 1)))):
        assert changed.groups.tolist() == [5, 5, 4]
        assert not changed.groups.flags.writeable
    assert named.take(np.array([2, 1])).groups.tolist() == [4, 5]
    assert table.take(np.zeros(3, dtype=bool)).groups.shape == (0,)


@pytest.mark.parametrize("groups", [[0, 1], [[0], [1], [2]], [0.0, 1.0, 2.0], ["a", "b", "c"]])
def test_groups_of_another_shape_or_kind_are_refused(groups):
    table = SweepTable.from_arrays(["a", "b", "c"], SPACE, np.zeros((3, len(SPACE), 1)))
    with pytest.raises(InvalidInput, match="groups"):
        replace(table, groups=np.array(groups))


def test_groups_of_other_prompts_are_refused_where_they_part_what_belongs_together():
    table = SweepTable.from_arrays(["a", "b", "c"], SPACE, np.zeros((3, len(SPACE), 1)))
    for prompts in ([Prompt("a"), Prompt("a "), Prompt("c")], [Prompt(text, group="g") for text in "abc"]):
        with pytest.raises(InvalidInput, match="0 for one of the same text or group"):
            replace(table, prompts=tuple(prompts))
        assert len(set(replace(table, prompts=tuple(prompts), groups=None).groups.tolist())) < 3
    joined = replace(table, groups=np.zeros(3, dtype=int))  # more than the prompts declare
    assert joined.groups.tolist() == [0, 0, 0]


def test_jsonl_of_outcomes(tmp_path):
    path = tmp_path / "outcomes.jsonl"
    rows = [
        {"prompt": "one", "config": {"temperature": 0}, "reward": 1, "tokens": 5, "task": "t", "model": "m"},
        {"prompt": "one", "config": {}, "reward": 0.5, "task": "t", "model": "m"},
        {"prompt": "one", "config": {}, "reward": None, "task": "t", "model": "m"},
        {"messages": [{"role": "user", "content": "two"}], "config": {"temperature": 0}, "reward": 0},
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    table = SweepTable.from_jsonl(path, default=DecodingConfig())
    assert table.space == SPACE
    assert table.default == 1
    assert table.prompts[0] == Prompt("one", task="t", metadata={"model": "m"})
    assert table.prompts[1].text == "two"
    expected = [[[1, np.nan], [0.5, np.nan]], [[0, np.nan], [np.nan, np.nan]]]
    np.testing.assert_array_equal(table.rewards, expected)
    assert table.tokens[0, 0, 0] == 5
    assert table.seconds is None


def test_what_differs_between_answers_makes_no_new_prompt(tmp_path):
    path = tmp_path / "outcomes.jsonl"
    rows = [{"prompt": "one", "config": {}, "reward": k / 4, "text": f"answer {k}", "model": "m"} for k in range(3)]
    path.write_text("\ufeff" + "\n".join(map(json.dumps, rows)))
    table = SweepTable.from_jsonl(path)
    assert table.rewards.tolist() == [[[0.0, 0.25, 0.5]]]
    assert table.prompts == (Prompt("one", metadata={"model": "m"}),)
    with pytest.raises(InvalidInput, match="default"):
        SweepTable.from_jsonl(path, default=DecodingConfig(temperature=0.0))


BAD_LINES = [
    '{"prompt": "a", "config": {}}',
    '{"prompt": "a", "config": {}, "reward": 2.0}',
    '{"prompt": "a", "config": {}, "reward": "0.5"}',
    '{"prompt": "b", "config": {}, "reward": 1, "id": "same"}',
    "{not json",
    "[1]",
    '{"prompt": "a", "reward": 1}',
    '{"prompt": "a", "config": {"temprature": 1}, "reward": 1}',
    '{"prompt": "a", "config": {}, "reward": "high"}',
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_an_unreadable_line_is_named(tmp_path, line):
    path = tmp_path / "outcomes.jsonl"
    path.write_text('{"prompt": "a", "config": {}, "reward": 1, "id": "same"}\n' + line)
    with pytest.raises(InvalidInput, match="line 2"):
        SweepTable.from_jsonl(path)


def test_an_empty_or_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="readable"):
        SweepTable.from_jsonl(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InvalidInput, match="at least one outcome"):
        SweepTable.from_jsonl(tmp_path / "empty.jsonl")
