"""What options mean: scorers, fixed fields, engine options, usage and help."""

from __future__ import annotations

from pathlib import Path

import pytest

from hagpolicy.cli import main
from hagpolicy.cli.options import parse_engine_options, parse_fixed, parse_scorer
from hagpolicy.errors import InvalidInput
from tests.cli.running import sweep


def test_usage_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    number, share = ["headroom", "s", "--seed", "-1"], ["fit", "s", "--out", "p", "--near-duplicates", "7"]
    for wrong in ([], ["swep"], number, share):
        assert main(wrong) == 2
    capsys.readouterr()
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in ("demo", "sweep", "headroom", "fit", "evaluate", "predict", "report", "rescore", "portfolio"):
        assert f"    {verb}" in text
        assert main([verb, "--help"]) == 0
        assert "example:" in capsys.readouterr().out
    assert "exit codes" in text


@pytest.mark.parametrize(
    "name", ["api_key", "key", "API-KEY", "hf_token", "password", "client_secret", "default_headers"]
)
def test_no_secret_is_taken_from_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert sweep(folder, "more.jsonl", "never", "--engine-option", f"{name}=sk-123") == 2
    printed = capsys.readouterr().err
    assert "environment" in printed
    assert "sk-123" not in printed


def test_engine_options_are_values_or_text() -> None:
    given = ["unit_cells=8", "server=vllm", "key_env=MY_KEY", "max_tokens_key_env=x", "base_url=http://a/v1?b=c"]
    assert parse_engine_options(given)["unit_cells"] == 8
    assert parse_engine_options(given)["base_url"] == "http://a/v1?b=c"
    assert parse_engine_options(given)["key_env"] == "MY_KEY"
    with pytest.raises(InvalidInput, match="NAME=VALUE"):
        parse_engine_options(["cuda"])


def test_scorer_and_fixed_are_read_as_written(tmp_path: Path) -> None:
    assert parse_scorer(None) is None
    assert parse_scorer(["chrf"]) == "chrf"
    assert parse_scorer(["a=chrf", "b=numeric_match"]) == {"a": "chrf", "b": "numeric_match"}
    (tmp_path / "s.json").write_text('{"name": "numeric_match", "tolerance": 0.1}')
    assert parse_scorer([str(tmp_path / "s.json")]) == {"name": "numeric_match", "tolerance": 0.1}
    with pytest.raises(InvalidInput, match="readable JSON"):
        parse_scorer([str(tmp_path / "none.json")])
    with pytest.raises(InvalidInput, match="TASK=NAME"):
        parse_scorer(["a=chrf", "numeric_match"])
    assert parse_fixed(["temperature=0", "hint=5", "top_k=40"]) == {"temperature": 0, "hint": "5", "top_k": 40}
