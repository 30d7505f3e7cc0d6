"""The judge: how far it is to be trusted, and how it enters a sweep."""

from __future__ import annotations

import json
import math

import pytest

from hagpolicy import DecodingConfig, Prompt, SimulatedEngine
from hagpolicy.data.completion import Completion
from hagpolicy.errors import InvalidInput, UnsupportedSetting
from hagpolicy.scorers.judge.agreement import judge_agreement
from hagpolicy.scorers.judge.judge import Judge
from hagpolicy.scorers.registry import assign_scorers, get_scorer
from hagpolicy.scorers.weighted import Weighted
from hagpolicy.sweeping.run import rescore, sweep
from tests.scorers.judge.judging import ASK, Scripted, by_length, longer


def test_agreement_with_labels_is_counted_with_intervals(tmp_path):
    rows = [{"prompt": f"Question {n}?", "answer": "word " * (1 + n % 10), "reward": (n % 10) / 9} for n in range(40)]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    engine = Scripted(by_length)
    judge = Judge(engine, labels=path)
    judge.open(None)
    assert len(engine.asked) == 40  # before the sweep, so that a useless judge is seen in time
    said = judge.report()["agreement"]
    assert (said["n"], said["unscored"]) == (40, 0)
    assert said["difference"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert said["correlation"]["value"] == pytest.approx(1.0)
    assert said["same_side"] == {"value": 1.0, "low": 1.0, "high": 1.0, "reliable": True}
    assert judge.report()["scored"] == 0  # labelled answers are none of the sweep's
    json.dumps(judge.report(), allow_nan=False)

    milder = judge_agreement(Judge(Scripted(lambda _: "Grade: 10")), rows)
    assert milder.correlation is None
    assert milder.bias.value == pytest.approx(0.5)
    assert milder.bias.low < 0.5 < milder.bias.high
    assert milder.difference.value == pytest.approx(0.5)
    assert milder.same_side.value == 0.5

    noisy = judge_agreement(Judge(Scripted(lambda asked: f"Grade: {1 + len(asked) * 7919 % 10}")), rows)
    assert noisy.correlation.low < noisy.correlation.value < noisy.correlation.high < 0.95
    assert "40 labels" in str(noisy)


def test_agreement_where_a_judge_compares_or_says_nothing():
    rows = [
        {"prompt": "Q1?", "answer": "one two", "default": "one", "reward": 1},
        {"prompt": "Q2?", "answer": "one", "default": "one two", "reward": 1},
        {"prompt": "Q3?", "answer": "one", "default": "two", "reward": 0.5},
    ]
    found = judge_agreement(Judge(Scripted(longer), pairwise=True), rows)
    assert found.same_side.value == pytest.approx(2 / 3)
    assert found.difference.value == pytest.approx(1 / 3)
    silent = judge_agreement(Judge(Scripted(lambda _: "Well.")), rows)
    assert (silent.n, silent.unscored, silent.difference) == (0, 3, None)
    assert "none of 3 labels" in str(silent)
    with pytest.raises(InvalidInput, match=r'label 0.*"default"'):
        judge_agreement(Judge(Scripted(longer), pairwise=True), [{"prompt": "Q?", "answer": "a", "reward": 1}])


@pytest.mark.parametrize(
    "row",
    [
        "text",
        {"prompt": "Q?", "reward": 1},
        {"prompt": "Q?", "answer": "a"},
        {"prompt": "Q?", "answer": "a", "reward": 7},
        {"prompt": "Q?", "answer": "a", "reward": float("nan")},
        {"prompt": "Q?", "answer": "a", "reward": "1"},
        {"answer": "a", "reward": 1},
        {"prompt": "Q?", "answer": "a", "reward": 1, "default": 3},
    ],
)
def test_bad_labels_are_named(row):
    with pytest.raises(InvalidInput, match="label 1"):
        Judge(Scripted(by_length), labels=[{"prompt": "Q?", "answer": "a", "reward": 1}, row])


def test_a_judge_is_made_from_json_and_refuses_what_it_cannot_do(tmp_path):
    judge = get_scorer({"name": "judge", "engine": "simulated:3", "scale": [1, 5], "rubric": "Be right."})
    assert isinstance(judge, Judge)
    assert (judge.calls, judge.needs_default) == (1, False)
    assert math.isnan(judge.score([(ASK, Completion("a"))])[0].value)
    judge.close()
    assert math.isnan(judge.score([(ASK, Completion("b"))])[0].value)  # loaded again
    pair = get_scorer({"name": "judge", "engine": "simulated:3", "pairwise": True})
    assert (pair.calls, pair.needs_default) == (2, True)
    both = Weighted([(pair, 0.7), (get_scorer("brevity"), 0.3)])
    assert (both.calls, both.needs_default) == (2, True)
    with pytest.raises(InvalidInput, match="options engine"):
        get_scorer("judge")
    with pytest.raises(InvalidInput, match="unknown option 'rubrics'"):
        get_scorer({"name": "judge", "engine": "simulated:3", "rubrics": "x"})
    wrong = {
        "scale": [[5, 1], "10", [1, 2.5], [1]],
        "config": [{"temprature": 1}, 3],
        "rubric": [" ", None],
        "max_tokens": [0, True],
        "pairwise": ["yes"],
        "labels": [tmp_path / "none", []],
    }
    for option, value in [(option, value) for option, values in wrong.items() for value in values]:
        with pytest.raises(InvalidInput):
            Judge(Scripted(by_length), **{option: value})
    with pytest.raises(UnsupportedSetting, match="num_beams"):
        Judge(Scripted(by_length), config={"num_beams": 2})


def test_a_file_of_prompts_cannot_bring_a_judge_of_its_own():
    for own in ("judge", {"name": "judge", "engine": "openai:x"},
                {"name": "weighted", "parts": [{"scorer": {"name": "python_tests"}, "weight": 1}]}):  # fmt: skip
        with pytest.raises(InvalidInput, match="metadata"):
            assign_scorers(None, [Prompt("Q?", metadata={"scorer": own})])


@pytest.mark.parametrize("pairwise", [False, True])
def test_a_sweep_is_judged_and_a_second_pass_asks_nothing(tmp_path, pairwise):
    world = SimulatedEngine(0)
    engine = Scripted(longer if pairwise else by_length)
    judge = Judge(engine, pairwise=pairwise)
    space = [DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.5)]
    table = sweep(world, world.prompts(6), space, judge, samples=2, max_tokens=20, out=tmp_path, progress=False)
    assert not table.failures
    rewards = table.rewards[~(table.rewards != table.rewards)]
    assert len(set(rewards.tolist())) > 1
    if pairwise:  # the default's first answer is its own measure
        assert set(table.rewards[:, table.default, 0].tolist()) == {0.5}
    n_asked = len(engine.asked)
    assert n_asked
    again = Judge(engine, pairwise=pairwise)
    second = rescore(tmp_path, again)
    assert len(engine.asked) == n_asked
    assert (second.rewards == table.rewards)[table.rewards == table.rewards].all()
    assert again.report()["asked"] == 0


@pytest.mark.llm
def test_a_real_llm_is_read_as_strictly(smollm):
    judge = Judge(smollm, max_tokens=24, rubric="It names a colour.")
    (score,) = judge.score([(ASK, Completion("The ocean is large."))])
    report = judge.report()
    assert report["asked"] == 1
    assert report["tokens"] > 0
    # 135 M parameters do not keep to the form: what is not of the form is no reward, and says why.
    assert math.isnan(score.value)
    assert "judge's" in score.reason


def test_the_judges_engine_takes_options_of_its_own():
    judge = get_scorer({"name": "judge", "engine": {"engine": "simulated:3", "unit_cells": 5}})
    assert judge._engine.unit_cells == 5
    judge.close()
    judge.score([(ASK, Completion("blue"))])  # loads it again, with its options
    assert judge._engine.unit_cells == 5
    judge.close()
    with pytest.raises(InvalidInput, match="key 'engine'"):
        get_scorer({"name": "judge", "engine": {"unit_cells": 5}})


def test_generator_and_judge_may_be_one_engine_of_one_server(tmp_path):
    pytest.importorskip("openai")
    from hagpolicy import DecodingSpace, load_engine
    from tests.support.stub_server import StubProcess

    with StubProcess(service=0.002) as stub:
        engine = load_engine(f"openai:{stub.url}", max_concurrency=2)
        try:
            judge = Judge(engine, pairwise=True)
            space = DecodingSpace.grid(temperature=[0.0, 0.5])
            prompts = [f"say {at}" for at in range(6)]
            table = sweep(engine, prompts, space, judge, samples=3, max_tokens=8, out=tmp_path, progress=False)
        finally:
            engine.close()
        asked = len(stub.record())
    # The server repeats the question, whose last line is a verdict of a tie.
    assert (table.failures, set(table.rewards[:, :, 0].ravel())) == ({}, {0.5})
    report = judge.report()
    assert (report["asked"], report["engine_failures"]) == (report["calls_known"], 0)
    assert asked > report["asked"] > 2 * 6 * 3
