"""Folders: read as they stand, put in place at one moment, with nothing left behind by whoever was killed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from hagpolicy import _folders
from hagpolicy._folders import OpenFolder, new_folder, open_folder

KILLED = """
import os, signal, sys
from hagpolicy import _folders
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
{change}
with _folders.new_folder(sys.argv[1], replaces=lambda folder: (folder / "ours").exists()) as made:
    (made / "ours").write_bytes(b"new")
    {within}
"""


def is_ours(folder: Path) -> bool:
    return (folder / "ours").exists()


def fill(folder: Path, data: bytes = b"new") -> None:
    with new_folder(folder, replaces=is_ours) as made:
        (made / "ours").write_bytes(data)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["exchange", "renames"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the step of the system that exchanges two folders, and without it."""
    if request.param == "renames":
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    return str(request.param)


def test_a_folder_of_ours_is_replaced_and_nothing_is_left(tmp_path: Path, system: str) -> None:
    for data in (b"old", b"new"):
        fill(tmp_path / "it", data)
        assert (tmp_path / "it" / "ours").read_bytes() == data
        assert names(tmp_path) == ["it"]


def test_what_came_meanwhile_and_is_not_ours_stays(
    tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the last look at the target and before the exchange."""
    fill(tmp_path / "it", b"old")
    real = _folders._exchange

    def late(one: Path, other: Path, spare: Path) -> Path:
        monkeypatch.setattr(_folders, "_exchange", real)
        (other / "ours").rename(other / "thesis")
        return real(one, other, spare)

    monkeypatch.setattr(_folders, "_exchange", late)
    with pytest.raises(FileExistsError, match="nothing that may be replaced"):
        fill(tmp_path / "it")
    assert (tmp_path / "it" / "thesis").read_bytes() == b"old"
    assert names(tmp_path) == ["it"]


def test_a_file_or_a_link_at_the_name_stays(tmp_path: Path, system: str) -> None:
    fill(tmp_path / "other")
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(FileExistsError), new_folder(tmp_path / "file", replaces=is_ours):
        pass
    with pytest.raises(FileExistsError), new_folder(tmp_path / "link", replaces=lambda path: not path.is_symlink()):
        pass
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert names(tmp_path) == ["file", "link", "other"]


@pytest.mark.parametrize(
    ("change", "within", "there"),
    [
        ("", "die()", b"old"),  # while it is filled
        ("_folders._put = die", "", b"old"),  # whole, before it has its name
        ("_folders._remove = die", "", b"new"),  # after that: the old one is hidden
        ("_folders.shutil.rmtree = lambda room, **_: (os.unlink(next(room.glob('*/ours'))), die())",
         "", b"new"),  # while that is removed
        ("import ctypes, types; ctypes.CDLL = lambda *_, **__: types.SimpleNamespace(); real = os.rename\n"
         "os.rename = lambda a, b: die() if os.path.basename(a) == 'whole' and not os.path.exists(b) else real(a, b)",
         "", None),  # between two renames, where the system knows no exchange
    ],
)  # fmt: skip
def test_what_a_killed_writer_left_goes_with_the_next(
    tmp_path: Path, change: str, within: str, there: bytes | None
) -> None:
    fill(tmp_path / "it", b"old")
    code = KILLED.format(change=change, within=within)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "it")], check=False).returncode == -9
    assert len(names(tmp_path)) == (1 if there is None else 2)
    assert there is None or (tmp_path / "it" / "ours").read_bytes() == there
    with new_folder(tmp_path / "it", replaces=is_ours) as made:
        (made / "ours").write_bytes(b"newer")
        assert (tmp_path / "it" / "ours").read_bytes() == (there or b"old")  # what was taken away is back
    assert names(tmp_path) == ["it"]


def test_what_is_not_ours_in_a_dead_writers_folder_stays(tmp_path: Path) -> None:
    room = tmp_path / ".it.saving-0"
    (room / "whole").mkdir(parents=True)
    (room / "whole" / "thesis").write_bytes(b"years")
    fill(tmp_path / "it")
    assert (room / "whole" / "thesis").read_bytes() == b"years"


def test_writers_that_live_leave_each_other_alone(tmp_path: Path, system: str) -> None:
    with new_folder(tmp_path / "it", replaces=is_ours) as first:
        (first / "ours").write_bytes(b"first")
        fill(tmp_path / "it", b"second")
        assert (tmp_path / "it" / "ours").read_bytes() == b"second"
        assert (first / "ours").read_bytes() == b"first"
    assert (tmp_path / "it" / "ours").read_bytes() == b"first"
    assert names(tmp_path) == ["it"]


def test_a_name_never_lacks_its_folder_while_many_write(tmp_path: Path) -> None:
    fill(tmp_path / "it", b"0" * 1000)
    writers = [
        threading.Thread(target=lambda mark=mark: [fill(tmp_path / "it", mark * 1000) for _ in range(15)])
        for mark in (b"1", b"2", b"3")
    ]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        with open_folder(tmp_path / "it", 3) as opened:  # never: no such folder
            seen += len(opened.names) >= 0
    assert seen > 10
    assert names(tmp_path) == ["it"]
    assert len(set((tmp_path / "it" / "ours").read_bytes())) == 1


def test_files_are_of_one_moment(tmp_path: Path) -> None:
    fill(tmp_path / "it", b"old")
    with open_folder(tmp_path / "it", 3) as opened:
        fill(tmp_path / "it", b"new")
        assert opened.read("ours", 3) == b"old"


def test_files_behind_a_link_that_is_set_anew_are_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
    (tmp_path / "..data").symlink_to("..1")
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(f"..data/{name}")
        for version in ("..1", "..2"):
            (tmp_path / version / name).write_text(version)
    real = OpenFolder._open

    def slow(opened: OpenFolder, name: str) -> int:
        found = real(opened, name)
        (tmp_path / "new").symlink_to("..2")
        os.replace(tmp_path / "new", tmp_path / "..data")
        return found

    monkeypatch.setattr(OpenFolder, "_open", slow)
    with open_folder(tmp_path, 10) as opened:
        assert [opened.read(name, 10) for name in ("a", "b")] == [b"..1", b"..1"]


def test_links_are_followed_within_the_folder_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    it, data = tmp_path / "it", tmp_path / "it" / "..2024_01"
    data.mkdir(parents=True)
    (data / "a").write_bytes(b"inside")
    os.mkfifo(data / "fifo")
    links = {"..data": "..2024_01", "a": "..data/a", "absolute": str(data / "a"), "back": "../it/..data/a"}
    links |= {"out": "../secret", "far": str(tmp_path / "secret"), "itself": "itself", "folder": "..data", "up": "."}
    links |= {"around": "..data/../../secret", "proc": "/proc/self/environ", "waits": "..data/fifo", "none": "..data/b"}
    for name, target in links.items():
        (it / name).symlink_to(target)
    (tmp_path / "mount").symlink_to("it")
    for path in (it, tmp_path / "mount"):
        with open_folder(path, 20) as opened:
            assert {opened.read(name, 10) for name in ("a", "absolute", "back")} == {b"inside"}
            for name in ("out", "far", "itself", "folder", "up", "around", "proc", "waits", "none"):
                with pytest.raises(OSError, match=r"link out of it|regular|No such file|symbolic links"):
                    opened.read(name, 10)


def test_a_folder_of_too_many_entries_is_refused(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f".{number}").touch()
    with pytest.raises(OSError, match="at most 3 files"), open_folder(tmp_path, 3):
        pass
