"""`hagpolicy predict --prompts`: whole files and stdin, as lines of JSON or a table, equal to one prompt at a time."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hagpolicy as hag
from hagpolicy.cli import main, predictions
from tests.support.making import LISTS, SUMS, sums_against_lists

TEXTS = [*SUMS[:6], *LISTS[:6]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A policy that may be told a task."""
    return str(sums_against_lists(told="reads").save(tmp_path_factory.mktemp("predict") / "policy"))


def write_rows(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def read_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_kind_of_file_gives_the_lines_of_its_prompts(
    told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = hag.load(told)
    expected = [policy.decide(text).to_dict() for text in TEXTS]
    assert len({line["index"] for line in expected}) > 1
    chats = [{"messages": [{"role": "user", "content": text}]} for text in TEXTS]
    files: list[tuple[str, list[str]]] = [
        (write_rows(tmp_path / "a.jsonl", TEXTS), []),
        (write_rows(tmp_path / "b.jsonl", chats), []),
        (write_rows(tmp_path / "c.jsonl", [{"question": text} for text in TEXTS]), ["--map", "prompt=question"]),
        (write_rows(tmp_path / "d.jsonl", [*TEXTS, "not read"]), ["--limit", str(len(TEXTS))]),
        (write_rows(tmp_path / "e.txt", chats), []),
    ]
    (tmp_path / "f.txt").write_text("\n\n".join(TEXTS), "utf-8")
    (tmp_path / "g.csv").write_text("prompt\n" + "\n".join(f'"{text}"' for text in TEXTS), "utf-8")
    files += [(str(tmp_path / "f.txt"), []), (str(tmp_path / "g.csv"), [])]
    monkeypatch.setattr(predictions, "BATCH", 5)
    for file, options in files:
        assert main(["predict", told, "--prompts", file, "--json", *options]) == 0, file
        assert read_lines(capsys.readouterr().out) == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO((tmp_path / "b.jsonl").read_text()))
    assert main(["predict", told, "--prompts", "-", "--json"]) == 0
    assert read_lines(capsys.readouterr().out) == expected


def test_tasks_ids_and_calls(told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = hag.load(told)
    rows = [
        {"prompt": SUMS[0], "task": "sums", "id": 7},
        {"prompt": SUMS[0], "task": "story"},
        {"prompt": SUMS[0]},
    ]
    file = write_rows(tmp_path / "tasks.jsonl", rows)
    assert main(["predict", told, "--prompts", file, "--json", "--engine", "vllm"]) == 0
    printed = capsys.readouterr()
    lines = read_lines(printed.out)
    assert [line["task"] for line in lines] == ["sums", None, None]
    assert [line.get("id") for line in lines] == ["7", None, None]
    assert lines[0]["index"] == policy.decide(SUMS[0], task="sums").index != lines[1]["index"]
    assert lines[0]["kwargs"] == policy.decide(SUMS[0], task="sums").render("vllm").kwargs
    assert "read as none: story" in printed.err
    assert main(["predict", told, "--prompts", file, "--json", "--task", "lists"]) == 0
    assert [line["task"] for line in read_lines(capsys.readouterr().out)] == ["lists"] * 3


def test_a_table_for_people(told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"prompt": text, "id": f"row{n}"} for n, text in enumerate(TEXTS)])
    assert main(["predict", told, "--prompts", file, "--fixed", "temperature=0.31"]) == 1
    assert "12 prompts: no_config_agrees 12" in capsys.readouterr().out
    assert main(["predict", told, "--prompts", file]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["prompt", "gain", "reason", "configuration"]
    assert [row.split()[0] for row in rows] == [f"row{n}" for n in range(len(TEXTS))]
    assert last.startswith("12 prompts: ")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([TEXTS[0], 7], [], "line 2"),
        ([TEXTS[0], TEXTS[1], {"prompt": " "}], [], "line 3"),
        ([{"question": TEXTS[0]}], [], "line 1"),
        ([{"prompt": TEXTS[0]}], ["--map", "prompt=question"], "line 1"),
        ([], [], "at least one prompt"),
        ([TEXTS[0]], ["--limit", "0"], "limit"),
        ([TEXTS[0]], ["--engine", "vllm"], "Add --json"),
        ([TEXTS[0]], ["a prompt"], "none beside --prompts"),
    ],
)
@pytest.mark.parametrize("stdin", [False, True])
def test_a_bad_line_is_named_and_nothing_is_printed(
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    rows: list[Any],
    options: list[str],
    message: str,
    stdin: bool,
) -> None:
    file = write_rows(tmp_path / "a.jsonl", rows)
    monkeypatch.setattr(sys, "stdin", io.StringIO(Path(file).read_text()))
    own = [one for one in options if one == "a prompt"]
    rest = [one for one in options if one != "a prompt"]
    assert main(["predict", told, *own, "--prompts", "-" if stdin else file, *rest]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_what_is_no_json_on_stdin_is_named_by_its_line(
    told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('"fine"\n\nnot json\n'))
    assert main(["predict", told, "--prompts", "-", "--json"]) == 2
    assert "stdin, line 3: expected one JSON value" in capsys.readouterr().err
    assert main(["predict", told, "x", "--limit", "3"]) == 2
    assert "--limit: expected --prompts beside it" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error(told: str, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "many.jsonl", TEXTS * 400)
    command = f"{sys.executable} -m hagpolicy.cli predict {told} --prompts {file} --json"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 2; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 2)
