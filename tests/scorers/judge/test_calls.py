"""The judge: what it remembers, and what a failure costs."""

from __future__ import annotations

import json

import pytest

from hagpolicy.data.completion import Completion
from hagpolicy.scorers.judge.judge import Judge
from tests.scorers.judge.judging import ASK, Scripted, by_length, texts_of


def test_equal_answers_cost_one_call_and_calls_go_out_in_units():
    engine = Scripted(by_length)
    judge = Judge(engine)
    items = [(ASK, Completion(text)) for text in ["a", "b b", "a", "c c c", "d", "b b", "e"]]
    scores = judge.score(items)
    assert engine.units == [3, 2]
    assert [score.answer for score in scores] == ["1", "2", "1", "3", "1", "2", "1"]
    assert judge.score(items) == scores
    assert len(engine.asked) == 5


def test_calls_are_kept_and_taken_up_again(tmp_path):
    items = [(ASK, Completion(text)) for text in ("a", "b b", "c c c", "\u2028 \u00e9 \ud83d")]
    first = Judge(Scripted(by_length))
    first.open(tmp_path)
    scores = first.score(items)
    first.close()
    described = json.loads((tmp_path / "judges" / f"{first.version}.json").read_text("utf-8"))
    assert described["fingerprint"] == {"kind": "scripted", "model": "one"}
    assert "clear" in described["rubric"]
    assert any("Grade: N" in part for part in described["template"])

    engine = Scripted(by_length)
    again = Judge(engine)
    again.open(tmp_path)
    assert again.score(items) == scores
    assert engine.asked == []
    assert again.report()["calls_known"] == 4


def test_a_torn_line_costs_its_own_call_only(tmp_path):
    items = [(ASK, Completion(text)) for text in ("a", "b b", "c c c")]
    first = Judge(Scripted(by_length))
    first.open(tmp_path)
    scores = first.score(items)
    path = tmp_path / "judges" / f"{first.version}.calls.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):  # the second run finds what the first one repaired
        engine = Scripted(by_length)
        judge = Judge(engine)
        judge.open(tmp_path)
        assert judge.score(items) == scores
        judge.close()
        assert len(engine.asked) <= 1
    assert engine.asked == []


def test_a_changed_bit_of_a_stored_call_changes_no_reward(tmp_path):
    items = [(ASK, Completion(text)) for text in ("a", "b b")]
    first = Judge(Scripted(by_length))
    first.open(tmp_path)
    scores = first.score(items)
    first.close()
    path = tmp_path / "judges" / f"{first.version}.calls.jsonl"
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        judge = Judge(Scripted(by_length))
        judge.open(tmp_path)
        assert judge.score(items) == scores
        judge.close()
    # Lines of before bear no digest.
    old = [{key: value for key, value in json.loads(line).items() if key != "digest"} for line in whole.splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in old))
    engine = Scripted(by_length)
    judge = Judge(engine)
    judge.open(tmp_path)
    assert judge.score(items) == scores
    assert engine.asked == []


def test_engine_failures_are_marked_and_asked_again_but_unreadable_replies_are_not(tmp_path):
    def failing(asked):
        if texts_of(asked)[-1] == "bad":
            return Completion("", finish="error", error="overloaded")
        return "no grade" if texts_of(asked)[-1] == "odd" else "Grade: 3"

    items = [(ASK, Completion(text)) for text in ("good", "bad", "odd")]
    judge = Judge(Scripted(failing))
    judge.open(tmp_path)
    good, bad, odd = judge.score(items)
    assert good.value == pytest.approx(2 / 9)
    assert bad.reason == "judge engine: overloaded"
    assert "last line" in odd.reason
    report = judge.report()
    assert (report["asked"], report["engine_failures"], report["unreadable"]) == (3, 1, 1)
    assert (report["unreadable_share"], report["scored"], report["unscored"]) == (0.5, 1, 2)
    engine = Scripted(lambda _: "Grade: 4")
    again = Judge(engine)
    again.open(tmp_path)
    assert [score.answer for score in again.score(items)] == ["3", "4", None]
    assert len(engine.asked) == 1


def test_what_was_judged_before_an_interruption_is_not_judged_again(tmp_path):
    def interrupted(asked):
        if texts_of(asked)[-1] == "e":
            raise KeyboardInterrupt
        return by_length(asked)

    items = [(ASK, Completion(text)) for text in ("a", "b", "c", "d", "e", "f")]
    judge = Judge(Scripted(interrupted))
    judge.open(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        judge.score(items)
    engine = Scripted(by_length)
    again = Judge(engine)
    again.open(tmp_path)
    assert all(score.answer == "1" for score in again.score(items))
    assert [texts_of(asked)[-1] for asked in engine.asked] == ["d", "e", "f"]  # the unit it was lost with


def test_an_engine_that_fails_as_a_whole_marks_its_unit():
    def broken(asked):
        if "second" in asked:
            raise RuntimeError("no memory")
        return "Grade: 3"

    items = [(ASK, Completion(text)) for text in ("a", "b", "c", "second", "d")]
    scores = Judge(Scripted(broken)).score(items)
    assert [score.reason for score in scores] == [None] * 3 + ["judge engine: no memory"] * 2


def test_a_disk_that_takes_no_more_loses_no_reward(tmp_path, caplog):
    judge = Judge(Scripted(by_length))
    judge.open(tmp_path)
    (tmp_path / "judges" / f"{judge.version}.calls.jsonl").mkdir()  # nothing can be written there
    assert judge.score([(ASK, Completion("a"))])[0].answer == "1"
    assert "no longer kept" in caplog.text
    assert judge.score([(ASK, Completion("b b"))])[0].answer == "2"
