"""`hagpolicy export`: files, exit codes, and that nothing is written where nothing is proven."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hagpolicy.cli import main
from hagpolicy.cli.exit_codes import BAD_INPUT, DONE, PARTLY, UNPROVEN
from hagpolicy.config.space import DecodingSpace
from hagpolicy.policy.policy import Policy
from tests.support.making import sums_against_lists


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of policies: a single config is proven; the same with a hint in it; none is."""
    root = tmp_path_factory.mktemp("policies")
    proven = sums_against_lists(ships="single_best")
    hinted = DecodingSpace([config.replace(hint="Be brief.") for config in proven.space])
    policies = {
        "proven": proven,
        "hinted": Policy(replace(proven.manifest, space=hinted), proven._model, proven._files),
        "default": sums_against_lists(ships="default"),
    }
    for name, policy in policies.items():
        policy.save(root / name)
    return {name: str(root / name) for name in policies}


def test_a_file_is_written_and_told(saved: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "Modelfile"
    arguments = ["export", saved["proven"], "--to", "modelfile", "--out", str(out), "--model", "llama3.2"]
    assert main(arguments) == DONE
    printed = capsys.readouterr()
    assert f"written: {out}" in printed.out
    assert "proven: reward: +0.300 [+0.200, +0.400]" in printed.out
    assert printed.err == ""
    text = out.read_text()
    assert {"FROM llama3.2", "PARAMETER temperature 0.0"} <= set(text.splitlines())
    assert f"# command: hagpolicy export {saved['proven']} --to modelfile --out {out} --model llama3.2" in text
    assert main([*arguments, "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["path"], found["config"], found["not_said"]) == (str(out), {"temperature": 0.0}, [])
    out.write_text("FROM mine")
    assert main(arguments) == BAD_INPUT
    assert "another file" in capsys.readouterr().err
    assert main([*arguments, "--replace"]) == DONE


def test_an_unknown_format_is_told_before_what_is_proven(
    saved: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", saved["default"], "--to", "vlm"]) == BAD_INPUT
    assert "Did you mean 'vllm'" in capsys.readouterr().err


def test_without_a_path_it_is_printed(saved: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", saved["proven"], "--to", "vllm"]) == DONE
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith('--override-generation-config \'{"temperature": 0.0')


def test_what_cannot_be_said_is_an_exit_code_and_a_line(
    saved: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", saved["hinted"], "--to", "generation_config", "--out", str(tmp_path)]) == PARTLY
    assert "not said there: hint='Be brief.'" in capsys.readouterr().err
    assert json.loads((tmp_path / "generation_config.json").read_text())["do_sample"] is False


def test_nothing_is_written_where_nothing_is_proven(
    saved: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", saved["default"], "--to", "llama-server", "--out", str(tmp_path / "a")]
    assert main(arguments) == UNPROVEN
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing was written: no single config is proven" in line
    assert main([*arguments, "--json"]) == UNPROVEN
    assert json.loads(capsys.readouterr().out)["path"] is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--to", "generation_config"], "--out: expected"),
        (["--to", "modelfile"], "model: expected"),
        (["--to", "tgi"], "format: expected"),
        (["--to", "litellm", "--model", "a/b", "--server", "x"], "server: expected"),
        ([], "--to"),
    ],
)
def test_wrong_arguments_are_named(
    saved: dict[str, str], given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", saved["proven"], *given]) == BAD_INPUT
    assert said in capsys.readouterr().err
