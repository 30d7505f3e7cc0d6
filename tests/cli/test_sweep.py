"""`hagpolicy sweep` and `rescore`: what they write, resume, forecast and report."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from hagpolicy.cli import main
from tests.cli.running import sweep


def test_sweep_resumes_and_names_the_next_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in (folder / "sweep").rglob("*.parquet"))
    assert sweep(folder, "prompts.jsonl", "sweep") == 0
    printed = capsys.readouterr()
    assert "100 prompts × 6 configs" in printed.out  # the engine's default is added
    assert "next:  hagpolicy headroom" in printed.out
    assert sorted(path.name for path in (folder / "sweep").rglob("*.parquet")) == before


def test_a_terminal_that_lacks_a_sign_shows_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert sweep(folder, "prompts.jsonl", "sweep") == 0
    assert b"100 prompts ? 6 configs" in terminal.buffer.getvalue()


def test_cells_that_fail_are_code_1_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "failing", "--engine-option", "fail_rate=0.2") == 1
    printed = capsys.readouterr().out
    assert "cells failed: engine error" in printed
    assert "failed: " in printed.partition("this run:")[2]
    assert sweep(folder, "more.jsonl", "failing", "--json") == 0  # only the failed cells are tried again
    found = json.loads(capsys.readouterr().out)
    assert (found["prompts"], found["failures"]) == (60, {})
    assert 0 < found["summary"]["run"]["done"] < found["summary"]["cells"] == found["summary"]["wanted"]
    assert found["summary"]["bytes"]["cells"] > 0


def test_a_dry_run_says_the_cost_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "dry", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "60 prompts × 6 configs × 4 samples: 1,260 cells, 0 stored, 1,260 to generate" in printed
    assert "from a probe of 16 cells" in printed
    assert not (folder / "dry").exists()
    stored = {path: path.stat().st_mtime_ns for path in (folder / "sweep").rglob("*")}
    assert sweep(folder, "more.jsonl", "sweep", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["wanted"], found["stored"], found["to_generate"]) == (1260, 420, 840)
    assert "420 stored cells" in found["source"]
    assert found["tokens"]["low"] < found["tokens"]["value"] < found["tokens"]["high"]
    assert {path: path.stat().st_mtime_ns for path in (folder / "sweep").rglob("*")} == stored


def test_where_the_engine_fails_a_dry_run_is_code_1_and_a_sweep_names_itself_as_the_next_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--prompts", str(folder / "prompts.jsonl"), "--space", str(folder / "space.json")]
    failing = ["sweep", "--engine", "simulated:3", "--engine-option", "fail_rate=1.0", *files]
    assert main([*failing, "--out", str(folder / "lost"), "--dry-run"]) == 1
    assert "no estimate of tokens and time" in capsys.readouterr().out
    assert main([*failing, "--out", str(folder / "lost"), "--budget", "50"]) == 1
    assert "next:  the same command, which tries cells once more" in capsys.readouterr().out


def test_a_sweep_says_the_cost_on_stderr_and_the_account_on_stdout(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--prompts", str(folder / "more.jsonl"), "--space", str(folder / "space.json")]
    assert main(["sweep", "--engine", "simulated:3", *files, "--out", str(folder / "said"), "--budget", "500"]) == 0
    printed = capsys.readouterr()
    assert "at most 500 to generate in 8 units (budget 500 generations)" in printed.err
    assert "ended by the budget of 500 generations; the same call with a larger one goes on" in printed.err
    assert "new tokens after" in printed.err
    assert "cells generated first" in printed.err
    assert "this run: " in printed.out
    assert "this run: " not in printed.err
    assert "of 1,260 cells" in printed.out


def test_budgets_and_strategies_are_checked_before_anything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "never", "--budget", "5 parsecs") == 2
    assert "'5 USD at 0.15/0.60'" in capsys.readouterr().err
    assert sweep(folder, "more.jsonl", "never", "--workers", "2") == 2
    assert "on='ray' beside it" in capsys.readouterr().err
    assert sweep(folder, "more.jsonl", "never", "--strategy", "guess") == 2
    assert not (folder / "never").exists()


def test_rescore_changes_the_rewards(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(folder, "more.jsonl", "scored-twice") == 0
    assert main(["rescore", str(folder / "scored-twice"), "--scorer", "json_valid"]) == 0
    capsys.readouterr()
    assert main(["headroom", str(folder / "scored-twice"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["naive_vbs"]["value"] == 0.0
