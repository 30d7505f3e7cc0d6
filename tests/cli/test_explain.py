"""`hagpolicy explain`, and what `fit` keeps for it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.policy.training_prompts import TRAINING_FILES

PROMPT = "Tell me about the oven and the dough, then compare the soup with the pan."


@pytest.fixture(scope="module")
def explained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explained") / "policy"
    assert main(["fit", str(folder / "sweep"), "--out", str(out), "--learner", "ridge", "--explain"]) == 0
    return out


def test_in_words_as_json_and_from_stdin(
    explained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    expected = hag.load(explained).explain(PROMPT, neighbours=2)
    assert main(["explain", str(explained), PROMPT, "--neighbours", "2"]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert main(["explain", str(explained), PROMPT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["neighbours"]) == 5
    assert found["neighbours"][:2] == expected.to_dict()["neighbours"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([{"role": "user", "content": PROMPT}])))
    assert main(["explain", str(explained), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_a_policy_that_was_saved_without_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not any((folder / "policy" / name).exists() for name in TRAINING_FILES)
    assert main(["explain", str(folder / "policy"), PROMPT]) == 2
    assert "hagpolicy fit --explain" in capsys.readouterr().err
    assert main(["explain", str(folder / "policy"), " "]) == 2
    assert "empty prompt" in capsys.readouterr().err


def test_texts_are_kept_on_request_alone(explained: Path, folder: Path, tmp_path: Path) -> None:
    texts = [json.loads(line)["prompt"] for line in (folder / "prompts.jsonl").read_text("utf-8").splitlines()]
    held = b"".join(path.read_bytes() for path in explained.iterdir())
    assert not any(text.encode() in held for text in texts)
    out = tmp_path / "told"
    assert main(["fit", str(folder / "sweep"), "--out", str(out), "--learner", "ridge", "--include-prompts"]) == 0
    training = hag.load(out).training
    assert training is not None
    assert set(training.texts or ()) <= set(texts)
