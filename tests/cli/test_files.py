"""Verbs that take a sweep's folder take a saved table and outcomes as well, and refuse wrong options before reading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.cli.exit_codes import DONE, INCONCLUSIVE, REJECT

VERBS = {
    "headroom": ["headroom", "TABLE", "--json"],
    "effects": ["effects", "TABLE", "--json"],
    "portfolio": ["portfolio", "TABLE", "--n", "2", "--json"],
    "evaluate": ["evaluate", "POLICY", "TABLE", "--json"],
    "compare": ["compare", "0", "3", "TABLE", "--json"],
    "fit": ["fit", "TABLE", "--learner", "ridge", "--json", "--out", "OUT"],
    "report": ["report", "TABLE", "--out", "OUT"],
}


@pytest.fixture(scope="module")
def files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sweep of the fixture as a folder and as files, new prompts for evaluation."""
    made = tmp_path_factory.mktemp("files")
    table = hag.load_table(folder / "sweep")
    table.to_jsonl(made / "t.jsonl")
    return {"folder": folder / "sweep", "parquet": table.save(made / "t.parquet"), "jsonl": made / "t.jsonl"}


def run(verb: str, table: Path, folder: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> object:
    places = {"TABLE": str(table), "POLICY": str(folder / "policy"), "OUT": str(out)}
    code = main([places.get(part, part) for part in VERBS[verb]] + list(more))
    printed = capsys.readouterr()
    if verb == "evaluate":  # all were trained on
        assert code == 2
        return printed.err
    assert code in ((DONE, REJECT, INCONCLUSIVE) if verb == "compare" else (DONE,)), printed.err
    if verb == "report":
        return (out.stat().st_size > 1000, printed.out.replace(str(out), ""))
    found = json.loads(printed.out)
    found.pop("policy", None)
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_is_read_like_the_folder_it_came_from(
    verb: str, files: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = run(verb, files["parquet"], folder, tmp_path / "a", capsys)
    lines = run(verb, files["jsonl"], folder, tmp_path / "c", capsys)
    if verb == "effects":  # loops are counted in texts, which files do not hold
        assert saved == lines
        return
    assert saved == run(verb, files["folder"], folder, tmp_path / "b", capsys)
    assert lines == saved


def test_a_default_is_chosen_of_every_kind_of_table(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for path in files.values():
        assert main(["headroom", str(path), "--json", "--default", "temperature=0.3"]) == 0
        found.append(json.loads(capsys.readouterr().out))
        assert main(["headroom", str(path), "--default", "temperature=0.31"]) == 2
        assert "default: expected a config" in capsys.readouterr().err
    assert found[0]["sbs_over_default"] == found[1]["sbs_over_default"] == found[2]["sbs_over_default"]
    assert main(["headroom", str(files["folder"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sbs_over_default"] != found[0]["sbs_over_default"]


def test_answers_are_shown_of_a_folder_only(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(files["parquet"])]) == 2
    assert "Give a sweep's folder" in capsys.readouterr().err


def test_prompts_of_a_file_are_chosen(
    files: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder / "prompts.jsonl").read_text().splitlines()[:30]
    (tmp_path / "few.jsonl").write_text("\n".join(lines))
    for path in files.values():
        assert main(["headroom", str(path), "--json", "--prompts", str(tmp_path / "few.jsonl")]) == 0
        assert json.loads(capsys.readouterr().out)["n_prompts"] == 30


@pytest.mark.parametrize(
    "given",
    [
        ["headroom", "TABLE", "--default", "temprature=1"],
        ["headroom", "TABLE", "--default", "temperature=-1"],
        ["headroom", "TABLE", "--objective", "pas@4"],
        ["fit", "TABLE", "--out", "OUT", "--objective", "pas@4"],
        ["fit", "TABLE", "--out", "OUT", "--learner", "rigde"],
        ["fit", "TABLE", "--out", "OUT", "--baselines", "neares"],
        ["fit", "TABLE", "--out", "OUT", "--encoder", "statc"],
        ["evaluate", "POLICY", "TABLE", "--price", "3"],
        ["evaluate", "OUT", "TABLE"],
        ["compare", "OUT", "0", "TABLE"],
        ["compare", "1", "0", "TABLE", "--objective", "pas@4"],
        ["portfolio", "TABLE", "--n", "17"],
        ["report", "TABLE", "--out", "/"],
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_refused_before_the_table_is_read(
    given: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = "hagpolicy.data.store.loading.SweepTable.from_jsonl"
    monkeypatch.setattr(reading, lambda *_, **__: pytest.fail("read first"))
    (tmp_path / "t.jsonl").write_text('{"prompt": "a", "config": {}, "reward": 1}\n')
    places = {"TABLE": str(tmp_path / "t.jsonl"), "POLICY": str(folder / "policy"), "OUT": str(tmp_path / "none")}
    assert main([places.get(part, part) for part in given]) == 2
    assert capsys.readouterr().err
