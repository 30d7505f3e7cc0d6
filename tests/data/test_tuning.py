"""Settings as text and labels to tune on: what is written is read back, and luck makes no label."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.data.tuning import SettingsText, best_labels
from hagpolicy.errors import InvalidInput

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.7, top_p=0.9),
        DecodingConfig(temperature=0.0, no_repeat_ngram_size=3),
        DecodingConfig(temperature=1.0, min_p=0.1),
        DecodingConfig(temperature=0.3, hint="Think step by step."),
        DecodingConfig(temperature=0.3, hint="Be brief."),
        DecodingConfig(),
    ]
)
TEXT = SettingsText(SPACE)
ONE_HINT = SettingsText(DecodingSpace([DecodingConfig(), DecodingConfig(hint="Be brief.")]))


@pytest.mark.parametrize("space", [SPACE, DecodingSpace.preset("standard"), DecodingSpace.hag()], ids=len)
def test_what_is_written_is_read_back(space):
    text = SettingsText(space)
    for index, config in enumerate(space):
        reading = text.read(text.write(config))
        assert reading is not None
        assert (reading.index, reading.exact) == (index, True)


@pytest.mark.parametrize(
    ("answer", "index", "exact"),
    [
        ('{"temperature": 0.7, "top_p": 0.9}', 1, True),
        ('```json\n{"temperature": 0.7, "top_p": 0.9}\n```', 1, True),
        ('{"temperature": 0} and so on', 0, True),
        ('{\n "temperature": 0,\n "top_p": 0.9\n}', 0, True),  # greedy ignores truncation: the same text
        ("temperature: 0.7\ntop_p: 0.9\n\nBecause it is a story.", 1, True),
        ("- temperature = 0.3\n- hint: 2", 5, True),
        ('{"temperature": 0.3, "hint": "Think step by step."}', 4, True),
        ('{"temperature": 1}', 6, True),
        ('{"min_p": 0.1}', 3, True),  # what is left out is neutral
        ('{"temperature": 0.6, "top_p": 0.9}', 1, False),
        ('{"temperature": 0.35, "hint": 1}', 4, False),
        ('{"temperature": 0, "no_repeat_ngram_size": 2}', 2, False),
        ('{"temperature": 40}', 6, False),
    ],
)
def test_answers_that_are_well_formed(answer, index, exact):
    reading = TEXT.read(answer)
    assert reading is not None
    assert (reading.index, reading.exact) == (index, exact)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{}",
        "The answer is 12.",
        'Settings: {"temperature": 0}',
        '{"temperature": 0',
        '{"temperature": "0.7"}',
        '{"temperature": true}',
        '{"temperature": -1}',
        '{"temperature": NaN}',
        '{"temperature": [0]}',
        '{"temperature": {"value": 0}}',
        '{"temperature": 0, "temperature": 1}',
        '{"temperature": 0, "mood": 1}',
        '{"temperature": 0, "top_k": 40}',  # a setting that the space does not vary
        '{"temperature": 0.3, "hint": 3}',
        '{"temperature": 0.3, "hint": "yes"}',
        '{"no_repeat_ngram_size": 2.5}',
        "temperature: high",
        "temperature: 0.7, top_p: 0.9",
        "temperature: 0\nNow the answer",
    ],
)
def test_answers_that_are_not(answer):
    assert TEXT.read(answer) is None


@given(st.text(alphabet='{}":,.-0123456789 \n`temperaturhinttop_p', max_size=60))
def test_no_answer_breaks_the_reader(answer):
    reading = TEXT.read(answer)
    assert reading is None or 0 <= reading.index < len(SPACE)


def test_one_hint_is_yes_or_no():
    assert ONE_HINT.write(ONE_HINT.space[1]) == '{"hint": "yes"}'
    assert ONE_HINT.write(ONE_HINT.space[0]) == '{"hint": "no"}'
    for answer, index in {'{"hint": "yes"}': 1, '{"hint": false}': 0, "hint: no": 0, '{"hint": 1}': 1}.items():
        reading = ONE_HINT.read(answer)
        assert reading is not None
        assert reading.index == index


def test_the_question_shows_prompt_settings_and_values():
    question = TEXT.write_question_with_choices("Name six rivers.")
    for part in (
        "Name six rivers.",
        "temperature: 0, 0.3, 0.7, 1",
        "no_repeat_ngram_size: 0, 3",
        "Think step by step.",
    ):
        assert part in question
    assert "top_k" not in question
    long = TEXT.write_question("begin " + "x" * 5000 + " end")
    assert len(long) < 1000
    assert "begin" in long
    assert " end" in long


def test_a_space_without_a_choice_is_refused():
    with pytest.raises(InvalidInput, match="two configs"):
        SettingsText(DecodingSpace([DecodingConfig()]))


FROZEN = np.array([False, False, False])


def test_the_best_config_is_the_label_and_ties_go_to_the_best_on_the_whole():
    values = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.5]])
    labels = best_labels(values, np.full((4, 3), 50), FROZEN)
    assert labels.index.tolist() == [2, 1, 1, 1]
    assert labels.differs.tolist() == [True, True, True, False]
    assert labels.worth[0] > 0.5
    assert (labels.worth >= 0.0).all()


def test_a_lucky_sample_makes_no_label_and_many_samples_do():
    # The first config is far better on the whole; on the last prompt the second one was luckier.
    values = np.vstack([np.tile([0.9, 0.1, 0.1], (20, 1)), [[0.5, 0.75, 0.1]]])
    few, many = (best_labels(values, np.full(values.shape, n), FROZEN).index[-1] for n in (1, 400))
    assert (few, many) == (0, 1)


def test_one_sample_of_a_deterministic_config_stands_for_all():
    values = np.vstack([np.tile([0.9, 0.1], (20, 1)), [[0.5, 0.75]]])
    counts = np.tile([400, 1], (21, 1))
    sampled, greedy = (
        best_labels(values, counts, np.array([False, deterministic])).index[-1] for deterministic in (False, True)
    )
    assert (sampled, greedy) == (0, 1)


def test_what_was_not_observed_is_no_label():
    values = np.array([[np.nan, 0.2, 0.9], [np.nan, np.nan, np.nan], [1.0, 0.0, np.nan]])
    counts = np.where(np.isnan(values), 0, 4)
    labels = best_labels(values, counts, FROZEN)
    assert labels.index[0] == 2
    assert labels.index[1] == -1
    assert labels.index[2] == 0
    assert not labels.differs[1]
    with pytest.raises(InvalidInput, match="strength"):
        best_labels(values, counts, FROZEN, strength=-1.0)


def table():
    rewards = np.zeros((4, len(SPACE), 4))
    rewards[0, 1] = rewards[1, 4] = 1.0
    rewards[2] = np.nan
    prompts = ["A story, please.", Prompt([{"role": "user", "content": "17 × 3?"}]), "never scored", "all alike"]
    return SweepTable.from_arrays(prompts, SPACE, rewards)


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_export_round_trips_through_the_reader(tmp_path):
    out = tmp_path / "new" / "labels.jsonl"
    assert table().to_instruction_tuning(out) == 3
    written = lines(out)
    assert [[turn["role"] for turn in line["messages"]] for line in written] == [["user", "assistant"]] * 3
    readings = [TEXT.read(line["messages"][1]["content"]) for line in written]
    assert [(reading.index, reading.exact) for reading in readings[:2]] == [(1, True), (4, True)]
    assert written[1]["messages"][0]["content"] == TEXT.write_question("17 × 3?")
    assert all(set(line) == {"messages"} for line in written)
    assert [path.name for path in out.parent.iterdir()] == ["labels.jsonl"]


def test_export_leaves_out_or_weighs_what_tells_nothing(tmp_path):
    assert table().to_instruction_tuning(tmp_path / "a.jsonl", undecided=False, weights=True) == 2
    weights = [line["weight"] for line in lines(tmp_path / "a.jsonl")]
    assert np.mean(weights) == pytest.approx(1.0)
    table().to_instruction_tuning(tmp_path / "b.jsonl", weights=True)
    assert lines(tmp_path / "b.jsonl")[2]["weight"] < min(weights)


def test_export_takes_another_objective(tmp_path):
    cheap = np.tile(np.arange(len(SPACE), 0.0, -1.0), (4, 1))
    assert table().to_instruction_tuning(tmp_path / "a.jsonl", values=cheap) == 4
    assert {line["messages"][1]["content"] for line in lines(tmp_path / "a.jsonl")} == {'{"temperature": 0}'}
    with pytest.raises(InvalidInput, match="values"):
        table().to_instruction_tuning(tmp_path / "a.jsonl", values=cheap[:2])


def test_a_failed_export_leaves_what_was_there(tmp_path, monkeypatch):
    out = tmp_path / "labels.jsonl"
    table().to_instruction_tuning(out)
    before = out.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        table().to_instruction_tuning(out)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["labels.jsonl"]


CHAT = '{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "{}"}]}\n'


@pytest.mark.parametrize("content", ["before", CHAT, '{"messages": [], "mine": 1}\n', "[]", '{"prompt": "a"}'])
def test_an_export_replaces_an_older_one_and_nothing_else(tmp_path, content):
    out = tmp_path / "labels.jsonl"
    out.write_text(content, "utf-8")
    with pytest.raises(InvalidInput, match="another file"):
        table().to_instruction_tuning(out)
    assert out.read_text("utf-8") == content
    out.write_text("", "utf-8")
    assert table().to_instruction_tuning(out) == table().to_instruction_tuning(out)
