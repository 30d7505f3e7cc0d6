"""Exit codes, and errors as one line on stderr."""

from __future__ import annotations

from pathlib import Path

import pytest

from hagpolicy.cli import main
from hagpolicy.errors import EngineError, MissingExtra, StoreError


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["headroom", "no-such-folder"], "no-such-folder"),
        (["fit", "{sweep}", "--out", "p", "--learner", "rigde"], "ridge"),
        (["fit", "{sweep}", "--out", "p", "--encoder", "magic"], "magic"),
        (["fit", "{sweep}", "--out", "{sweep}"], "bundle as it was saved"),
        (["predict", "no-such-policy", "Hello"], "no-such-policy"),
        (["predict", "{policy}", "Hello", "--fixed", "temprature=0.2"], "temperature"),
        (["predict", "{policy}", "Hello", "--fixed", "temperature"], "FIELD=VALUE"),
        (["predict", "{policy}", "  "], "empty prompt"),
        (["predict", "{policy}", "Hello", "--engine", "vlm"], "vllm"),
        (["sweep", "--engine", "simulated:3", "--prompts", "no.jsonl", "--out", "o"], "no.jsonl"),
        (
            ["sweep", "--engine", "simulated:3", "--prompts", "{prompts}", "--out", "o", "--space", "standrad"],
            "standard",
        ),
        (["sweep", "--engine", "simulated:4", "--prompts", "{prompts}", "--out", "{sweep}", "--quiet"], "simulated:3"),
        (["rescore", "{sweep}", "--scorer", "a=numeric_match", "--scorer", "a=chrf"], "once"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    folder: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"sweep": folder / "sweep", "policy": folder / "policy", "prompts": folder / "prompts.jsonl"}
    assert main([part.format(**places) for part in arguments]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.startswith("hagpolicy: ")
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingExtra("feature needs the package 'x': pip install 'hagpolicy[fit]'"), 3),
        (EngineError("the engine gave up"), 4),
        (StoreError("the folder is locked"), 2),
        (OSError(28, "No space left on device"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_of_errors(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr("hagpolicy.cli.commands.headroom", failing)
    assert main(["headroom", "x"]) == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert str(error) in printed


def test_a_full_disk_is_code_4_also_where_the_library_explains_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise StoreError("cannot write cells/000001.parquet") from OSError(28, "No space left on device")

    monkeypatch.setattr("hagpolicy.cli.commands.headroom", failing)
    assert main(["headroom", "x"]) == 4
    assert "cannot write" in capsys.readouterr().err
