"""`hagpolicy log value` and `log experiment`: what is printed, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hagpolicy.cli import main
from hagpolicy.cli.exit_codes import BAD_INPUT, DONE, FAILED, INCONCLUSIVE, REJECT
from tests.support.live_logs import write_experiment, write_log
from tests.support.making import SUMS, sums_against_lists


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sums_against_lists().save(tmp_path_factory.mktemp("policies") / "new"))


def test_a_policy_that_never_ran_is_valued(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = str(write_log(tmp_path / "log.db", 1500))
    assert main(["log", "value", log, "--policy", policy]) == DONE
    text = capsys.readouterr().out
    assert "doubly robust" in text
    assert "the policy departs in 100.0%" in text
    assert main(["log", "value", log, "--policy", policy, "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["doubly_robust"]["gain"]["low"] > 0.3
    assert not any(prompt in text + json.dumps(found) for prompt in SUMS)


def test_where_the_log_says_nothing_the_code_does(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(write_log(tmp_path / "log.db", 200, explore=0.0))
    assert main(["log", "value", log, "--policy", policy]) == INCONCLUSIVE
    assert "nothing can be said: exploration was off" in capsys.readouterr().out
    log = str(write_log(tmp_path / "digests.db", 20, text=False))
    assert main(["log", "value", log, "--policy", policy]) == BAD_INPUT
    assert "digests alone" in capsys.readouterr().err


@pytest.mark.parametrize(("gain", "code"), [(0.3, DONE), (-0.3, REJECT), (0.0, INCONCLUSIVE)])
def test_an_experiment_is_judged(gain: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = str(write_experiment(tmp_path / "log.db", 400, gain))
    assert main(["log", "experiment", log, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["window"] == 0.0
    assert found["gain"]["low"] <= gain <= found["gain"]["high"]
    assert main(["log", "experiment", log]) == code
    assert "policy over default" in capsys.readouterr().out


def test_named_units_wait_for_a_day_unless_told_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = str(write_experiment(tmp_path / "log.db", 400, 0.3, by_request=False))
    assert main(["log", "experiment", log]) == INCONCLUSIVE
    assert "400 units waiting for the end of 1 d" in capsys.readouterr().out
    assert main(["log", "experiment", log, "--window", "10"]) == DONE
    assert main(["log", "experiment", log, "--window", "-1"]) == BAD_INPUT


def test_what_is_no_experiment_or_no_log_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = str(write_log(tmp_path / "log.db", 10))
    assert main(["log", "experiment", log]) == BAD_INPUT
    said = capsys.readouterr().err
    assert "expected a call of an experiment in" in said
    assert "--experiment 0.5" in said
    assert main(["log", "experiment", str(tmp_path / "none.db")]) in (BAD_INPUT, FAILED)
    assert "expected a decision log" in capsys.readouterr().err
