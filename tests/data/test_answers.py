"""Answers that scorers extract: which are equal, and how they get from a sweep folder into a table."""

import json
import unicodedata

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagpolicy import (
    DecodingConfig,
    DecodingSpace,
    Prompt,
    Score,
    Scorer,
    SimulatedEngine,
    SweepTable,
    load_table,
    rescore,
    sweep,
)
from hagpolicy.data.answers import AnswerCodes, compute_answer_key, renumber
from hagpolicy.errors import InvalidInput
from hagpolicy.sweeping import drive
from tests.support.sweeping_world import cells_of, same

SPACE = DecodingSpace.grid(temperature=[0.0, 0.7])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18", "18.0"), ("18", "+18."), ("1,800", "1.8E3"), ("0", "-0.00"), (".5", "0.50"), ("１８", "18"),
        ("007", "7"), ("100", "1e2"), ("Paris", " paris\n"), ("New  York", "new york"), ("Straße", "STRASSE"),
        ("ﬁne", "fine"), ("é", "e\u0301"), ("a " * 500, "A  " * 500),
    ],
)  # fmt: skip
def test_answers_that_say_the_same_are_equal(one, other):
    assert compute_answer_key(one) == compute_answer_key(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18", "81"), ("1", "10"), ("1", "-1"), ("1.5", "15"), ("1,80", "180"), ("A", "B"), ("18", "18 apples"),
        ("9" * 40, "9" * 39 + "8"), ("1e999999999", "1e999999998"), ("x" * 99 + "a", "x" * 99 + "b"), (".", ".."),
        ("nan", "inf"), ("newyork", "new york"),
    ],
)  # fmt: skip
def test_other_answers_are_not(one, other):
    assert compute_answer_key(one) != compute_answer_key(other)


def test_what_has_no_content_is_no_answer():
    codes = AnswerCodes()
    assert [codes.code(text) for text in (None, "", " \n", "b", "B ", "a")] == [-1, -1, -1, 0, 0, 1]


@given(st.text(max_size=60))
def test_a_key_is_the_same_for_every_form_of_a_text_and_no_other_texts(text):
    key = compute_answer_key(text)
    assert key == compute_answer_key(f" {unicodedata.normalize('NFD', text)} ") == compute_answer_key(text.casefold())
    assert key.startswith("\n") or compute_answer_key(key) == key


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_are_equal_as_numbers(one, other):
    assert (compute_answer_key(str(one)) == compute_answer_key(str(other))) == (one == other)


def test_codes_count_anew_within_each_prompt_in_order_of_appearance():
    codes = np.array([[7, -1, 7, 3], [3, 9, 7, 3], [-1, -1, -1, -1]])
    assert renumber(codes).tolist() == [[0, -1, 0, 1], [0, 1, 2, 0], [-1, -1, -1, -1]]
    assert renumber(codes[2:]) is None
    assert renumber(np.empty((0, 3), dtype=int)) is None


@given(st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=5))
def test_new_codes_are_equal_where_the_old_ones_are(rows):
    found = renumber(np.array(rows))
    for i, row in enumerate(rows):
        firsts = list(dict.fromkeys(code for code in row if code >= 0))
        expected = [firsts.index(code) if code >= 0 else -1 for code in row]
        assert (found[i].tolist() if found is not None else [-1] * 6) == expected


def test_a_column_of_arrow_has_the_codes_of_its_texts():
    texts = ["b", None, "a", "B", "a", "", None]
    column = pyarrow.chunked_array([texts[:3], texts[3:], []], type=pyarrow.string())
    codes, one_by_one = AnswerCodes(), AnswerCodes()
    assert codes.column(column).tolist() == [one_by_one.code(text) for text in texts]
    assert codes.column(column.slice(0, 0)).tolist() == []


@pytest.mark.parametrize(
    "given_as",
    [
        [["18", "x"], ["x", None]],
        [["18.0", "X"], [" x", float("nan")]],
        np.array([["18", "x"], ["x", ""]]),
        [[4, 2], [2, None]],
        np.array([[4, 2], [2, -1]], dtype=np.int8),
        np.array([[2**40, 2], [2, -1]]),
    ],
)
def test_a_table_takes_answers_in_many_forms(given_as):
    table = SweepTable.from_arrays(["one", "two"], SPACE, np.zeros((2, 2)), answers=given_as)
    assert table.answers.tolist() == [[[0], [1]], [[0], [-1]]]
    assert table.answers.dtype == np.int32
    assert not table.answers.flags.writeable


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        ([["a", "b"]], r"shape of rewards, \(2, 2, 1\)"),
        ([["a", "b"], ["c"]], "equal length"),
        ([["a", 3], ["c", "d"]], "strings"),
        ([[True, False], [True, True]], "strings"),
        ([[0.5, 1.0], [2.0, 3.0]], "strings"),
        ([[0, -2], [0, 0]], "from -1"),
        ("many", "nested lists"),
    ],
)
def test_bad_answers_are_refused(answers, word):
    with pytest.raises(InvalidInput, match=word):
        SweepTable.from_arrays(["one", "two"], SPACE, np.zeros((2, 2)), answers=answers)


@pytest.mark.parametrize("codes", [np.zeros((2, 2)), np.zeros((2, 2, 1)), np.full((2, 2, 1), 2**31)])
def test_a_table_itself_takes_codes_only(codes):
    prompts = SweepTable.from_arrays(["one", "two"], SPACE, np.zeros((2, 2))).prompts
    with pytest.raises(InvalidInput, match="answers"):
        SweepTable(prompts, SPACE, np.zeros((2, 2, 1)), answers=codes)


def test_parts_of_a_table_keep_their_answers():
    rewards = np.array([[[0.0, np.nan], [1.0, 1.0]], [[0.0, 0.5], [1.0, 0.0]]])
    letters = [[["a", "b"], ["b", "B"]], [["c", "d"], ["d", "e"]]]
    table = SweepTable.from_arrays(["one", "two"], SPACE, rewards, answers=letters)
    assert table.answers[0].tolist() == [[0, -1], [1, 1]]  # without a reward there is no answer
    assert table.take([1]).answers.tolist() == [[[0, 1], [1, 2]]]
    assert table.in_space(DecodingSpace(list(SPACE)[::-1])).answers.tolist() == table.answers[:, ::-1].tolist()
    assert SweepTable.from_arrays(["one", "two"], SPACE, rewards).take([1]).answers is None
    nothing = np.full((2, 2, 2), None)
    assert SweepTable.from_arrays(["one", "two"], SPACE, rewards, answers=nothing).answers is None


def test_answers_of_outcomes(tmp_path):
    path = tmp_path / "outcomes.jsonl"
    said = [(0, "18"), (0, None), (1, 18), (1, "Eighteen"), (1, "eighteen ")]
    rows = [{"prompt": "one", "config": {"temperature": t}, "reward": 1, "answer": text} for t, text in said]
    path.write_text("\n".join(map(json.dumps, [*rows, {"prompt": "two", "config": {}, "reward": 0}])))
    table = SweepTable.from_jsonl(path)
    assert table.answers.tolist() == [[[0, -1, -1], [0, 1, 1]], [[-1] * 3] * 2]
    assert not table.prompts[0].metadata
    path.write_text(json.dumps({**rows[0], "answer": ["18"]}))
    with pytest.raises(InvalidInput, match="answer is no text or number"):
        SweepTable.from_jsonl(path)
    path.write_text(json.dumps({**rows[0], "answer": None}))
    assert SweepTable.from_jsonl(path).answers is None


def ending(text):
    """Extracts the last letters of a text; of every third length nothing."""
    return Score(0.5, None, None if len(text) % 3 == 0 else f" {text[-2:].upper()} ")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "FLUSH_SECONDS", 0.0)  # a segment a unit
    return tmp_path / "sweep"


def test_a_sweep_gives_answers_and_so_does_its_folder(folder):
    engine = SimulatedEngine(seed=1, unit_cells=5)
    table = sweep(engine, engine.prompts(8), SPACE, ending, samples=3, max_tokens=8, out=folder, progress=False)
    stored = {(row["prompt"], row["config"], row["sample"]): row["text"] for row in cells_of(folder)}
    some = set()
    for i, prompt in enumerate(table.prompts):
        there = [
            (int(table.answers[i, j, k]), stored[prompt.digest, config.digest, k])
            for j, config in enumerate(table.space)
            for k in range(1 if config.deterministic else 3)
        ]
        for code, text in there:
            assert (code < 0) == (len(text) % 3 == 0)
            some |= {code}
        said = [(code, text[-2:]) for code, text in there if code >= 0]
        assert all((a == b) == (x == y) for a, x in said for b, y in said)
    assert {-1, 0, 1, 2} <= some
    assert table.answers[:, table.space.deterministic, 1:].max() == -1
    assert same(table, load_table(folder))
    part = load_table(folder, space=list(SPACE)[::-1], samples=1, prompts=table.prompts[2:5])
    rows, first = table.answers[2:5, :2, 0], part.answers[:, ::-1, 0]
    np.testing.assert_array_equal(first < 0, rows < 0)
    np.testing.assert_array_equal(first[:, 0] == first[:, 1], rows[:, 0] == rows[:, 1])


def test_answers_belong_to_the_scorer_that_is_asked_for(folder):
    engine = SimulatedEngine(seed=1)
    first = sweep(engine, engine.prompts(6), SPACE, engine.scorer, samples=2, max_tokens=8, out=folder, progress=False)
    none = rescore(folder, lambda text: 0.5)
    assert none.answers is None
    assert same(load_table(folder, scorer="simulated"), first)
    np.testing.assert_array_equal(load_table(folder, scorer="simulated").answers, first.answers)


def test_remarks_of_scorers_are_no_answers_to_vote_on(tmp_path):
    engine = SimulatedEngine(0)
    table = sweep(
        engine,
        [Prompt("Name two rivers.", reference=2, task="lists"), Prompt("What is 2 + 2?", reference=4, task="sums")],
        DecodingSpace([DecodingConfig(), DecodingConfig(temperature=0.0)]),
        {"lists": "distinct_items", "sums": "numeric_match"},
        samples=2,
        max_tokens=8,
        out=tmp_path / "sweep",
        progress=False,
    )
    assert table.answers is None or (table.answers[0] == -1).all()


class Letters(Scorer):
    """The first letter of a text as answer; what it means is declared, and no name tells it."""

    version = "1"

    def __init__(self, name, answers_agree):
        self.name, self.answers_agree = name, answers_agree

    def score(self, items):
        return [Score(0.5, None, completion.text[:1]) for _, completion in items]


@pytest.mark.parametrize("agree", [True, False])
def test_a_scorer_declares_whether_its_answers_agree_and_its_name_says_nothing(folder, agree):
    engine = SimulatedEngine(seed=1, unit_cells=5)
    scorer = Letters("judge_of_letters" if agree else "letters", agree)
    given = {"samples": 2, "max_tokens": 8, "out": folder, "progress": False}
    table = sweep(engine, engine.prompts(4), SPACE, scorer, **given)
    assert (table.answers is not None) == agree
    assert {row["answers_agree"] for row in cells_of(folder)} == {agree}
    assert same(table, load_table(folder))
    other = rescore(folder, Letters("other", not agree))
    assert (other.answers is not None) == (not agree)
    weighted = rescore(folder, {"name": "weighted", "parts": [{"scorer": scorer, "weight": 1.0}]})
    assert (weighted.answers is not None) == agree
    assert (load_table(folder, scorer=scorer.name).answers is not None) == agree


@pytest.mark.parametrize(("name", "agree"), [("0.8*judge+0.2*brevity", False), ("numeric_match", True)])
def test_folders_of_before_tell_by_the_names_of_their_scorers(folder, name, agree):
    engine = SimulatedEngine(seed=1, unit_cells=5)
    given = {"samples": 2, "max_tokens": 8, "out": folder, "progress": False}
    sweep(engine, engine.prompts(4), SPACE, Letters(name, not agree), **given)
    for path in sorted((folder / "cells").glob("*.parquet")):
        table = pyarrow.parquet.read_table(path).drop_columns(["answers_agree"])
        # Files of before name neither their digest nor themselves.
        kept = {key: value for key, value in table.schema.metadata.items() if key != b"hagpolicy.name"}
        pyarrow.parquet.write_table(table.replace_schema_metadata(kept), path)
    assert (load_table(folder).answers is not None) == agree
