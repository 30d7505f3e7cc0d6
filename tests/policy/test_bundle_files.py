"""The files of a bundle: links, FIFOs and devices, folders that are replaced while they are read or written."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hagpolicy import load
from hagpolicy._digest import digest
from hagpolicy.errors import BundleError
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.policy import bundle as bundles
from tests.support import making

FILES = ["README.md", "policy.json", "policy.onnx"]


@pytest.fixture
def folder(small, tmp_path):
    return small.save(tmp_path / "policy")


def be_fifo(path):
    os.mkfifo(path)


def be_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        where = os.getcwd()
        os.chdir(path.parent)  # its path may have 107 characters
        made.bind(path.name)
        os.chdir(where)


def be_endless(path):
    path.symlink_to("/dev/zero")


def be_outside(path):
    (path.parent.parent / "outside").write_bytes(b"{}")
    path.symlink_to("../outside")


def be_sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("be", [be_fifo, be_socket, be_endless, be_outside, be_sparse, Path.mkdir])
@pytest.mark.parametrize("name", [*FILES, "extra"])
def test_what_is_no_bounded_file_of_the_folder_is_refused_at_once(folder, name, be):
    (folder / name).unlink(missing_ok=True)
    be(folder / name)
    start = time.monotonic()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load(folder)
    assert time.monotonic() - start < 1.0
    with pytest.raises(BundleError, match="expected a new folder, or a bundle as it was saved"):
        making.sums_against_lists(PrecomputedEncoder()).save(folder)


def test_a_mount_of_kubernetes_is_read_also_while_it_changes(folder, tmp_path):
    mount = tmp_path / "mount"
    shutil.copytree(folder, mount / "..2024_0")
    (mount / "..data").symlink_to("..2024_0")
    for name in FILES:
        (mount / name).symlink_to(f"..data/{name}")
    (tmp_path / "link").symlink_to("mount")
    assert load(mount).margin == load(tmp_path / "link").margin == 0.05
    # Each new version is another bundle; no reader meets a mixed one.
    other = making.sums_against_lists(PrecomputedEncoder(), margin=0.15).save(tmp_path / "other")
    stop = threading.Event()

    def swap():
        for number in itertools.count(1):
            if stop.is_set():
                return
            shutil.copytree((folder, other)[number % 2], mount / f"..2024_{number}")
            (mount / "..tmp").symlink_to(f"..2024_{number}")
            os.replace(mount / "..tmp", mount / "..data")
            time.sleep(0.005)
            shutil.rmtree(mount / f"..2024_{number - 1}")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        assert {load(mount).margin for _ in range(100)} == {0.05, 0.15}
    finally:
        stop.set()
        swapper.join()


def test_a_read_only_folder_is_loaded_and_not_written(folder, small):
    for path in [*folder.iterdir(), folder, folder.parent]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert load(folder).margin == 0.05
        if os.geteuid():  # the superuser writes anywhere
            with pytest.raises(BundleError, match="cannot write the bundle"):
                small.save(folder)
    finally:
        folder.parent.chmod(0o755)
        folder.chmod(0o755)


def test_savers_in_other_processes_and_readers_meet_whole_bundles_only(folder, tmp_path):
    code = """
import sys
from hagpolicy import load
policy = load(sys.argv[1])
for _ in range(40):
    policy.save(sys.argv[2])
"""
    other = making.sums_against_lists(PrecomputedEncoder(), margin=0.15).save(tmp_path / "other")
    target = tmp_path / "target"
    load(folder).save(target)
    savers = [subprocess.Popen([sys.executable, "-c", code, str(source), str(target)]) for source in (folder, other)]
    margins, count = set(), 0
    while any(saver.poll() is None for saver in savers):
        margins.add(load(target).margin)
        count += 1
    assert [saver.returncode for saver in savers] == [0, 0]
    assert count > 20
    assert margins == {0.05, 0.15}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "policy", "target"]


@pytest.mark.parametrize("harm", ["changed", "added", "hidden", "signed anew", "names only", "link to it"])
def test_only_a_bundle_by_its_own_digests_is_replaced(folder, small, harm):
    kept = folder / "policy.onnx"
    if harm == "changed":
        kept.write_bytes(b"years of work")
    elif harm in ("added", "hidden"):
        kept = folder / ("notes" if harm == "added" else ".notes")
        kept.write_bytes(b"years of work")
    elif harm == "link to it":
        folder.rename(folder.with_name("real"))
        folder.symlink_to("real")
    else:
        path = folder / "policy.json"
        values = {"files": dict.fromkeys(("README.md", "policy.onnx"), "0" * 32), "format_version": 2}
        path.write_text(json.dumps(values | ({"digest": digest(values)} if harm == "signed anew" else {})))
    before = kept.read_bytes()
    with pytest.raises(BundleError, match="move it away, or give another folder"):
        small.save(folder)
    assert kept.read_bytes() == before


def test_a_bundle_of_a_newer_version_is_a_bundle_too(folder, small):
    path = folder / "policy.json"
    values = json.loads(path.read_text("utf-8")) | {"format_version": 99, "later": 1}
    values.pop("digest")
    path.write_text(json.dumps(values | {"digest": digest(values)}))
    with pytest.raises(BundleError, match="newer hagpolicy"):
        load(folder)
    assert load(small.save(folder)).margin == 0.05


@pytest.mark.parametrize("umask", [0o027, 0o077, 0o002])
def test_a_bundle_has_the_rights_that_the_umask_leaves(small, tmp_path, umask):
    before = os.umask(umask)
    try:
        for _ in range(2):
            folder = small.save(tmp_path / "new" / "policy")
    finally:
        os.umask(before)
    for path in [folder.parent, folder, *folder.iterdir()]:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask


def test_what_is_too_large_to_be_read_again_is_not_written(small, tmp_path, monkeypatch):
    monkeypatch.setitem(bundles.MAX_BYTES, "policy.onnx", 100)
    with pytest.raises(BundleError, match=r"policy\.onnx: expected at most 100 bytes"):
        small.save(tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a\0b", "half \ud83d", "x" * 300, "/dev/null", "/dev/null/policy", "/proc/policy"])
def test_a_path_that_cannot_be_is_an_error_of_ours(small, tmp_path, path):
    for call in (load, small.save):
        with pytest.raises(BundleError):
            call(tmp_path / path)


@pytest.mark.parametrize("again", ['"margin": 0.9, "margin"', '"margin": 0.05, "margin"'])
def test_a_key_that_stands_twice_is_refused(folder, again):
    path = folder / "policy.json"
    path.write_text(path.read_text("utf-8").replace('"margin"', again))
    with pytest.raises(BundleError, match="each key of an object once"):
        load(folder)


def test_files_are_bounded_together(folder, small, monkeypatch):
    monkeypatch.setattr(bundles, "MAX_TOTAL", len((folder / "README.md").read_bytes()) + 100)
    for call, path in ((load, folder), (small.save, folder.with_name("new"))):
        with pytest.raises(BundleError, match="at most"):
            call(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" + b"[]," * 2**20 + b"0]", "at most 1,000,000 lists and objects"),
        (b"{" + b",".join(b'"%d":0' % number for number in range(2_000_001)) + b"}", "at most 2,000,000 keys"),
    ],
)
def test_json_of_more_parts_than_memory_is_refused(folder, data, said):
    (folder / "policy.json").write_bytes(data)
    with pytest.raises(BundleError, match=said):
        load(folder)
