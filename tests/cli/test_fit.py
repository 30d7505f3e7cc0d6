"""`hagpolicy headroom`, `fit`, `evaluate`, `portfolio` and `report`: what a table tells and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from tests.cli.running import sweep


def test_effects_in_words_and_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["effects", str(folder / "sweep")]) == 0
    assert "Intervals are of each effect alone." in capsys.readouterr().out
    assert main(["effects", str(folder / "sweep"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"reward", "tokens"} <= {effect["measure"] for effect in found["effects"]}
    task = found["tasks"][0] if found["tasks"] else None
    if task is not None:
        assert main(["effects", str(folder / "sweep"), "--task", task, "--json"]) == 0
        only = json.loads(capsys.readouterr().out)
        assert {effect["task"] for effect in only["effects"]} == {task}
    assert main(["effects", str(folder / "sweep"), "--task", "no such task"]) == 2


def test_headroom_in_words_and_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["headroom", str(folder / "sweep")]) == 0
    assert "The best single configuration" in capsys.readouterr().out
    assert main(["headroom", str(folder / "sweep"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_prompts"] == 100
    assert found["sbs_over_default"].keys() == {"value", "low", "high", "reliable"}


def test_fit_prints_the_comparison_as_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "p"), "--learner", "constant,ridge", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"engine_default", "sbs", "ridge", "policy"} <= {row["name"] for row in found["evaluation"]["rows"]}
    assert found["ships"] in ("default", "single_best", "per_prompt")
    assert found["ships_sbs"] is (found["ships"] == "single_best")
    assert isinstance(found["reference"], dict)
    assert (tmp_path / "p" / "policy.onnx").is_file()


def test_an_objective_with_several_values_is_a_dial(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "p"), "--learner", "ridge", "--json"]
    assert main([*made, "--objective", "best@1,3", "--baselines", "argmax, nearest"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(point["name"], point["at"]) for point in found["points"]] == [("best of 1", 1.0), ("best of 3", 3.0)]
    assert {"argmax", "nearest"} <= {row["name"] for row in found["points"][1]["evaluation"]["rows"]}
    assert main(["predict", str(tmp_path / "p"), "Tell me more.", "--n", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] > 0.0
    assert main(["headroom", str(folder / "sweep"), "--objective", "best@3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objective"] == "best of 3"
    assert main(["fit", str(folder / "sweep"), "--out", str(tmp_path / "q"), "--objective", "best@9"]) == 2
    assert "9 scored samples of every sampled config" in capsys.readouterr().err


def test_the_earlier_word_for_baselines_is_understood_and_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "p"), "--learner", "constant", "--json"]
    assert main([*made, "--rivals", "argmax"]) == 0
    printed = capsys.readouterr()
    assert "argmax" in {row["name"] for row in json.loads(printed.out)["evaluation"]["rows"]}
    assert printed.err == "hagpolicy: --rivals is called --baselines now\n"
    assert main([*made, "--rivals", "argmax", "--baselines", "nearest"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_folder_that_cannot_take_the_policy_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hag, "fit", lambda *_, **__: pytest.fail("fitted first"))
    assert main(["fit", str(folder / "sweep"), "--out", str(folder / "sweep")]) == 2


SLOW = """
import time
from hagpolicy.fitting.learners.linear import Ridge

class Slow(Ridge):
    name = "slow"

    def fit(self, *given):
        time.sleep(0.5)
        return super().fit(*given)
"""


def test_a_time_limit_leaves_out_what_is_slow_and_tells_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(SLOW)
    learners = f"constant,{tmp_path / 'mine.py'}:Slow"
    made = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "p"), "--learner", learners]
    assert main([*made, "--time-limit", "12s"]) == 0
    printed = capsys.readouterr()
    left_out = "slow on static, for which too little was left of the time limit of 12 s"
    assert f"not fitted, so nothing is known of it: {left_out}\n" in printed.out
    assert "fit: slow on static is left out: to the end it takes " in printed.err
    assert hag.load(tmp_path / "p").evaluation.not_fitted == (left_out,)


@pytest.mark.parametrize("limit", ["0", "0s", "-5", "nan", "soon", ""])
def test_a_time_limit_that_is_no_time_is_one_clear_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    made = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "p"), f"--time-limit={limit}"]
    assert main(made) == 2
    assert "expected a time above 0, such as 90s, 10m or 1h30m, got" in capsys.readouterr().err


def test_evaluate_leaves_out_the_prompts_trained_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "more") == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder / "policy"), str(folder / "more"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_prompts"], found["n_left_out"]) == (40, 20)


def test_a_portfolio_in_words_and_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["portfolio", str(folder / "sweep"), "--n", "3"]) == 0
    assert "For 3 samples of a prompt" in capsys.readouterr().out
    assert main(["portfolio", str(folder / "sweep"), "--n", "3", "--json"]) == 0
    assert sum(part["count"] for part in json.loads(capsys.readouterr().out)["configs"]) == 3


def test_report_with_a_policy(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    assert main(["report", str(folder / "sweep"), "--policy", str(folder / "policy"), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert "The comparison" in out.read_text("utf-8")


OWN = """
from hagpolicy import DecodingConfig
from hagpolicy.fitting.baselines.fixed import Fixed
from hagpolicy.fitting.learners.linear import Ridge

class Mine(Ridge):
    name = "mine"

greedy = Fixed(DecodingConfig(temperature=0.0), "always_greedy")
"""


def test_a_learner_and_a_baseline_of_ones_own_are_named_by_their_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN, "utf-8")
    given = ["fit", str(folder / "sweep"), "--out", str(tmp_path / "policy"), "--json"]
    assert main([*given, "--learner", f"{own}:Mine", "--baselines", f"{own}:greedy,nearest"]) == 0
    rows = {row["name"] for row in json.loads(capsys.readouterr().out)["evaluation"]["rows"]}
    assert {"always_greedy", "nearest", "mine"} <= rows
    assert main([*given, "--learner", f"{own}:Mien"]) == 2
    assert "Did you mean 'Mine'" in capsys.readouterr().err


def test_rules_in_words_and_as_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = str(tmp_path / "p")
    assert main(["fit", str(folder / "sweep"), "--out", made, "--learner", "ridge"]) == 0
    capsys.readouterr()
    assert main(["rules", made, str(folder / "sweep")]) == 0
    assert "of the policy's decisions" in capsys.readouterr().out
    assert main(["rules", made, str(folder / "sweep"), "--lines", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["lines"]) <= 2
    assert found["lines"][-1]["condition"] == "otherwise"
    assert sum(line["prompts"] for line in found["lines"]) == 100
    assert main(["rules", made, str(folder / "sweep"), "--lines", "0"]) == 2
