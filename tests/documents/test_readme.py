"""The documents hold: README blocks run, rendered numbers are the stored ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.support.paths import ROOT


def blocks() -> list[str]:
    tokens = MarkdownIt().parse((ROOT / "README.md").read_text("utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == "python"]


@pytest.mark.llm
def test_readme_blocks_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm: object, capsys: pytest.CaptureFixture[str]
) -> None:
    import hagpolicy as hag

    monkeypatch.chdir(tmp_path)
    load = hag.load_engine
    # The real LLM is in memory already: loading it a second time would prove nothing more.
    monkeypatch.setattr(hag, "load_engine", lambda spec: smollm if spec == "smollm2" else load(spec))
    found = blocks()
    assert len(found) >= 4
    names: dict[str, object] = {}
    for block in found:
        exec(compile(block, "README.md", "exec"), names)
    assert "Paris" in capsys.readouterr().out


def test_rendered_documents_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "check"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, f"run python -m benchmarks render\n{done.stdout}{done.stderr}"
