"""Files and folders: whole or not at all, with the rights that the umask leaves; lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hagpolicy import DecodingSpace, SweepTable, load, load_table, read_prompts, write_report
from hagpolicy._files import (
    append_bytes,
    format_json,
    format_jsonl,
    parse_json,
    read_jsonl,
    read_lines,
    read_regular,
    write_bytes,
    write_text,
)
from hagpolicy._folders import new_folder
from hagpolicy.errors import HagError, InvalidInput


def fill(folder: Path) -> None:
    with new_folder(folder, replaces=lambda _: True) as made:
        (made / "a").write_bytes(b"new")


WAYS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: write_bytes(path, b"new"),
    "text": lambda path: write_text(path, "new"),
    "append": lambda path: append_bytes(path, b"new"),
    "folder": fill,
}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("way", WAYS)
def test_the_umask_is_followed(tmp_path: Path, way: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        WAYS[way](tmp_path / "it")
    finally:
        os.umask(before)
    whole = 0o777 if way == "folder" else 0o666
    assert (tmp_path / "it").stat().st_mode & 0o777 == whole & ~umask


@pytest.mark.parametrize("way", ["bytes", "text", "folder"])
def test_a_failure_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    WAYS[way](tmp_path / "it")
    seen = tmp_path / "it" / "a" if way == "folder" else tmp_path / "it"
    seen.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        WAYS[way](tmp_path / "it")
    assert seen.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


@pytest.mark.parametrize(("replace", "kept"), [(True, b"mine"), (False, b"other")])
def test_a_folder_that_came_meanwhile(tmp_path: Path, replace: bool, kept: bytes) -> None:
    with new_folder(tmp_path / "deep" / "it", replaces=(lambda _: True) if replace else None) as made:
        (made / "a").write_bytes(b"mine")
        (tmp_path / "deep" / "it").mkdir()
        (tmp_path / "deep" / "it" / "a").write_bytes(b"other")
    assert (tmp_path / "deep" / "it" / "a").read_bytes() == kept
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["it"]


def test_an_error_within_the_block_leaves_no_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "it", replaces=lambda _: True) as made:
            (made / "a").write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_a_part_while_two_write(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "it", b"0" * 100_000)
    writers = [
        threading.Thread(target=lambda mark=mark: [write_bytes(path, mark * 100_000) for _ in range(20)])
        for mark in (b"1", b"2")
    ]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        seen.append(path.read_bytes())
    assert all(len(data) == 100_000 and len(set(data)) == 1 for data in seen)
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "it", b"old")
    code = """import os, signal, sys
from hagpolicy._files import write_bytes
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_bytes(sys.argv[1], b"new")"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert path.read_bytes() == b"old"
    assert all(other.name.endswith(".tmp") for other in tmp_path.iterdir() if other != path)


def test_half_a_surrogate_pair_is_written_as_a_question_mark(tmp_path: Path) -> None:
    assert write_text(tmp_path / "new" / "it", "a\ud83d\n").read_bytes() == b"a?\n"


def test_lines_of_json_come_back_with_their_places(tmp_path: Path) -> None:
    rows = [{"a": "é"}, 2, None]
    path = write_text(tmp_path / "it.jsonl", "\ufeff\n" + format_jsonl(rows) + "  \n")
    assert list(read_jsonl(path, "test file")) == [(f"{path}, line {n}", row) for n, row in enumerate(rows, start=2)]
    assert format_jsonl(rows[:1]) == '{"a": "é"}\n'
    assert format_jsonl(rows[:1], ascii_only=True) == '{"a": "\\u00e9"}\n'


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"test file .*none: expected a readable UTF-8 file"):
        read_lines(tmp_path / "none", "test file")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(InvalidInput, match="readable UTF-8"):
        read_lines(tmp_path / "latin", "test file")
    path = write_text(tmp_path / "torn", '1\n{"a"\n')
    with pytest.raises(InvalidInput, match="torn, line 2: expected one JSON value"):
        list(read_jsonl(path, "test file"))


def test_json_has_null_for_what_it_cannot_say() -> None:
    text = format_json({"a": float("nan"), "b": (np.float32(0.5), np.int64(2)), "c": {"d": float("inf")}})
    assert json.loads(text) == {"a": None, "b": [0.5, 2], "c": {"d": None}}


def test_only_regular_files_within_their_bound_are_read(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "whole")
    os.mkfifo(tmp_path / "fifo")
    assert read_regular(tmp_path / "whole", 5) == read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="at most 4 bytes, got 5"):
        read_regular(tmp_path / "whole", 4)
    for path, kind in [(tmp_path / "fifo", "FIFO"), (Path("/dev/zero"), "device"), (tmp_path, "folder|directory")]:
        with pytest.raises(OSError, match=kind):
            read_regular(path, 100)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", b"\xff\xfe\xff", "1" * 5000])
def test_what_is_no_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize("path", ["a\0b", Path("a\0b"), "\ud800", None, 5, b"abc", ["a"]])
def test_what_is_no_path_is_one_error_wherever_one_is_given(path: Any) -> None:
    table = SweepTable.from_arrays(["a", "b"], DecodingSpace.grid(temperature=[0, 1]), np.ones((2, 2, 1)))
    ways: list[Callable[[], object]] = [
        lambda: load(path),
        lambda: load_table(path),
        lambda: read_prompts(path),
        lambda: SweepTable.from_jsonl(path),
        lambda: write_report(path, table=table),
        lambda: table.to_instruction_tuning(path),
    ]
    for way in ways:
        with pytest.raises(HagError, match=r"expected a (path|folder)") as raised:
            way()
        str(raised.value).encode()  # can be printed
