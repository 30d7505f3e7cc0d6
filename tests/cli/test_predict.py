"""`hagpolicy predict`: its outputs, what is fixed, and what it must not import."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hagpolicy.cli import main
from tests.cli.running import SPACE

HEAVY = ("torch", "transformers", "pyarrow", "onnx", "lightgbm", "sklearn", "matplotlib", "jinja2", "scipy")


def test_predict_in_words_as_json_and_from_stdin(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = "Tell me about the oven and the dough, then compare the soup with the pan."
    assert main(["predict", str(folder / "policy"), prompt, "--json", "--engine", "transformers"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"] in [*SPACE, {}]
    assert "do_sample" in found["kwargs"]
    assert set(found["receipt"]) == {"applied", "dropped", "clamped"}
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(prompt))
    assert main(["predict", str(folder / "policy"), "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == found["config"]
    assert main(["predict", str(folder / "policy"), prompt]) == 0
    assert "expected reward" in capsys.readouterr().out


def test_messages_and_a_task_are_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    prompt = "Tell me about the oven and the dough, then compare the soup with the pan."
    found = []
    for asked in (prompt, json.dumps([*history, {"role": "user", "content": prompt}]), f"[{prompt}"):
        assert main(["predict", str(folder / "policy"), asked, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    with pytest.warns(UserWarning, match="task 'story'"):
        assert main(["predict", str(folder / "policy"), prompt, "--json", "--task", "story"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] is None
    follow_up = json.dumps([*history, {"role": "user", "content": "shorter, please"}])
    assert main(["predict", str(folder / "policy"), follow_up, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] in ("needs_context", "sbs_shipped", "default_shipped")


def test_predict_keeps_what_is_fixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", str(folder / "policy"), "Name a fern.", "--json", "--fixed"]
    assert main([*arguments, "temperature=0.3"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == {"temperature": 0.3}
    assert main([*arguments, "temperature=0.31"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "no_config_agrees"


def test_a_prompt_that_is_no_text_is_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8"))
    assert main(["predict", str(folder / "policy")]) == 2
    assert "prompt on stdin: expected text in utf-8" in capsys.readouterr().err


def test_predict_imports_nothing_that_only_training_needs(folder: Path) -> None:
    program = (
        "import sys; from hagpolicy.cli import main; "
        f"code = main(['predict', {str(folder / 'policy')!r}, 'Name a fern.']); "
        f"sys.exit(code or ' '.join(sorted(set({HEAVY!r}) & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "expected reward" in done.stdout
