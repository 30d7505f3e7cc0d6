"""Whatever happens to the files of a sweep folder is noticed; nothing is lost, nothing outside it read or written."""

import errno
import json
import logging
import os
import random
import shutil
import subprocess
import sys
from typing import ClassVar

import fsspec
import numpy as np
import pyarrow.parquet
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import hagpolicy.data.store.locks as locks
from hagpolicy import Completion, SimulatedEngine, load_table, rescore
from hagpolicy.data.parquet_digest import check_digest
from hagpolicy.data.store.digests import name_file, read_digest
from hagpolicy.data.store.files import LocalFiles
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.segments import decode_segment, read_name
from hagpolicy.errors import StoreError, SweepLocked
from hagpolicy.scorers.functions import FunctionScorer
from tests.support import damaged_folders as damage
from tests.support.paths import FIXTURES
from tests.support.sweeping_world import Counting, cells_of, run, same

SECRET = '{"prompt": "what is mine"}\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sweep folder in a folder with a secret beside it, its engine, its files, its table."""
    folder = tmp_path_factory.mktemp("damage") / "sweep"
    engine = damage.make_sweep(folder)
    true = damage.run_sweep(engine, folder)
    folder.with_name("secret.jsonl").write_text(SECRET)
    return folder, engine, damage.contents(folder), true


@pytest.fixture
def folder(made, tmp_path):
    tmp_path.joinpath("secret.jsonl").write_text(SECRET)
    return shutil.copytree(made[0], tmp_path / "sweep", symlinks=True)


@pytest.mark.parametrize("kind", damage.FLIPS)
def test_no_changed_byte_of_a_segment_is_read_as_if_it_were_whole(made, kind):
    out, _, files, _ = made
    true = {name: decode_segment(files[name]) for name in damage.segment_names(files)}
    draw = random.Random(kind)
    for _ in range(25):
        change = damage.FLIPS[kind](draw, files)
        if all(files.get(name) == data for name, data in change.items()):
            continue
        with damage.changed(out, files, change):
            assert damage.read_segments(out, files, change, true) == "left out"


def test_every_bit_of_a_small_segment_counts(tmp_path):
    rescore(shutil.copytree(FIXTURES / "sweep_v1", tmp_path / "sweep"), "brevity")
    path = max((tmp_path / "sweep" / "rewards").iterdir())
    data = path.read_bytes()
    for at in range(len(data)):
        assert decode_segment(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]) is None


@pytest.mark.parametrize("kind", damage.CRAFTED)
def test_a_segment_made_by_hand_is_damaged_whatever_its_digest_says(made, kind):
    out, _, files, _ = made
    change = damage.craft(kind, files)
    with damage.changed(out, files, change):
        assert damage.read_segments(out, files, change, {}) == "left out"


@pytest.mark.parametrize("kind", [*damage.SMALL, *damage.SIGNED])
def test_a_changed_small_file_is_left_out_or_named(made, kind):
    out, _, files, _ = made
    plans = damage.of_kind(files, "plans")
    known = [load_table(out)]
    for gone in (plans[-1:], plans[-2:], plans[-2:-1]):
        with damage.changed(out, files, dict.fromkeys(gone)):
            known.append(load_table(out))
    draw = random.Random(kind)
    for _ in range(20):
        change = {**damage.SMALL, **damage.SIGNED}[kind](draw, files)
        with damage.changed(out, files, change):
            found = damage.load(out, known)
        # Without its digest sweep.json is one of before; what bears a right one may say whatever a plan can say.
        may = {"left out", "refused", *(["equal"] if kind == "sweep.json, values" else [])}
        assert found in (may if kind in damage.SMALL else {*may, "equal", "wrong"})


@pytest.mark.parametrize("kind", damage.STRANGERS)
def test_what_is_no_file_of_a_sweep_is_refused_or_left_alone(made, folder, kind):
    _, engine, _, true = made
    damage.STRANGERS[kind](folder)
    # Cells that lie in what is no segment are missing, which is said.
    may = ("refused",) if "outside" in kind else ("equal", "left out", "refused", "wrong")
    assert damage.load(folder, [load_table(made[0])]) in may
    assert damage.go_on(folder, engine, true) in ("whole", "refused")
    assert (folder.parent / "secret.jsonl").read_text() == SECRET


def test_what_is_no_file_elsewhere_is_refused_without_being_opened(folder, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.1)
    out = DirFileSystem(str(folder), fsspec.filesystem("file"))
    for name in ("cells/000001.parquet", "prompts/000009.jsonl", "sweep.json", "lock"):
        shutil.copytree(folder, folder.with_name("aside"))
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(StoreError, match="regular file"), SweepStore(out, write=True):
            pass
        shutil.rmtree(folder)
        folder.with_name("aside").rename(folder)


def test_one_changed_letter_of_sweep_json_sets_nothing_aside(tmp_path):
    engine = Counting(seed=1, unit_cells=7)
    run(engine, tmp_path)
    about = json.loads((tmp_path / "sweep.json").read_text())
    before = damage.contents(tmp_path)
    # As a version of before wrote it, without a digest.
    changed = {**about["fingerprint"], "revision": about["fingerprint"]["revision"][:-1] + "x"}
    old = {"format_version": 1, "engine": about["engine"], "fingerprint": changed}
    for wrong, words in ((old, "names an engine, .* whose cells are not here"), ({**about, **old}, "is damaged")):
        (tmp_path / "sweep.json").write_text(json.dumps(wrong))
        for act in (load_table, lambda out: SweepStore(out, write=True), lambda out: rescore(out, "brevity")):
            with pytest.raises(StoreError, match=words):
                act(tmp_path)
        assert {**damage.contents(tmp_path), "sweep.json": before["sweep.json"]} == before
    # Removed, it is written anew by the engine whose cells are there, and by no other.
    (tmp_path / "sweep.json").unlink()
    with pytest.raises(StoreError, match="cells are not here"):
        run(Counting(seed=2, unit_cells=7), tmp_path)
    assert not (tmp_path / "sweep.json").exists()
    n_units = len(engine.units)
    assert run(engine, tmp_path).complete.all()
    assert len(engine.units) == n_units
    assert damage.contents(tmp_path).keys() == before.keys()


def test_where_much_is_damaged_nothing_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr("hagpolicy.sweeping.drive.FLUSH_SECONDS", 0.0)
    engine = Counting(seed=1, unit_cells=7)
    table = run(engine, tmp_path, n=9)
    segments = sorted((tmp_path / "cells").iterdir())
    for path in segments[:4]:
        path.write_bytes(path.read_bytes()[:-1])
    before = damage.contents(tmp_path)
    with pytest.raises(StoreError, match=r"4 of the 11 files .* cannot be used: cells/000001.* Nothing was changed"):
        run(engine, tmp_path, n=9)
    assert damage.contents(tmp_path) == before
    assert int(load_table(tmp_path).counts.sum()) == 63 - 28
    segments[0].rename(tmp_path / "mine")
    assert same(run(engine, tmp_path, n=9), table)
    assert len(list((tmp_path / "cells").glob("*.torn"))) == 3


class Flaky(MemoryFileSystem):
    """A file system whose first reading of some files fails, in a way."""

    protocol = "flaky"
    failing: ClassVar[dict] = {}

    def cat_file(self, path, **options):
        data = super().cat_file(path, **options)
        way = next((self.failing[name] for name in list(self.failing) if path.endswith(name)), None)
        return way(data) if way else data


def once(name, way):
    def act(data):
        Flaky.failing.pop(name)
        return way(data)

    Flaky.failing = {name: act}


def flip(data):
    return data[:99] + bytes([data[99] ^ 1]) + data[100:]


def test_a_fault_of_reading_sets_nothing_aside(tmp_path):
    system = Flaky()
    out = DirFileSystem(f"/{tmp_path.name}", system)
    table = run(Counting(seed=1), out)
    names = [name for folder in ("cells", "plans", "prompts") for name in system.find(f"/{tmp_path.name}/{folder}")]
    before = sorted(system.find(f"/{tmp_path.name}"))
    for name in [*names, f"/{tmp_path.name}/sweep.json"]:
        once(name, flip)
        assert same(run(Counting(seed=1), out), table)
        assert Flaky.failing == {}

    def fail(data):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    places = [random.Random(0)]
    for name in [*names, f"/{tmp_path.name}/sweep.json"]:
        for way in (fail, lambda data: bytes([places[0].randrange(256)]) + data[1:] + places[0].randbytes(3)):
            Flaky.failing = {name: way}
            with pytest.raises(StoreError, match=rf"{name.rpartition('/')[2]} (cannot be read: .*Input|is read diff)"):
                run(Counting(seed=1), out)
        Flaky.failing = {}
    assert sorted(system.find(f"/{tmp_path.name}")) == before


def test_adding_digests_added_no_request(tmp_path):
    read = []

    class Noting(MemoryFileSystem):
        def cat_file(self, path, **options):
            read.append(path)
            return super().cat_file(path, **options)

    out = DirFileSystem(f"/{tmp_path.name}-n", Noting())
    run(Counting(seed=1), out)
    read.clear()
    load_table(out)
    assert len(read) == len(set(read)) == 4  # sweep.json, prompts, a plan, a segment


@pytest.mark.parametrize("how", ["removed", "replaced", "replaced by a link", "in a folder that was moved"])
def test_a_lock_that_was_removed_is_noticed_before_the_next_write(tmp_path, how):
    out = tmp_path / "sweep"
    run(Counting(seed=1, unit_cells=7), out, n=2)
    store = SweepStore(out, write=True)
    held = damage.contents(out)
    if how == "in a folder that was moved":
        out.rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", out)
    else:
        (out / "lock").rename(tmp_path / "old")
    if how == "replaced":
        (out / "lock").write_bytes(b"")
    elif how == "replaced by a link":
        (out / "lock").symlink_to(tmp_path / "old")
    with pytest.raises(SweepLocked, match="removed or replaced"):
        store.add_prompts(SimulatedEngine(3).prompts(1))
    with pytest.raises(SweepLocked, match="removed or replaced"):
        store.__exit__(None, None, None)
    assert {name for name in damage.contents(out) if name != "lock"} == held.keys() - {"lock"}


def test_a_lock_elsewhere_that_was_removed_is_said_to_be(tmp_path):
    out = DirFileSystem(str(tmp_path), fsspec.filesystem("file"))
    run(Counting(seed=1), out)
    before = damage.contents(tmp_path)
    store = SweepStore(out, write=True)
    (tmp_path / "lock").unlink()
    with pytest.raises(SweepLocked, match="removed or replaced"):
        store.add_prompts(SimulatedEngine(3).prompts(1))
    store.close()
    assert damage.contents(tmp_path) == before


def test_two_writers_without_a_lock_overwrite_nothing(tmp_path):
    run(Counting(seed=1, unit_cells=7), tmp_path, n=2)
    files = LocalFiles(tmp_path)
    files.write("cells/000009.parquet", b"one")
    files.write("cells/000009.parquet", b"one")  # a write that was interrupted is made again
    with pytest.raises(StoreError, match="another process"):
        files.write("cells/000009.parquet", b"two")
    assert files.read("cells/000009.parquet") == b"one"


def test_a_lock_that_is_no_file_is_not_written_to(folder):
    victim = folder.parent / "victim"
    victim.write_text("mine")
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(victim)
    with pytest.raises(StoreError, match="lock"):
        SweepStore(folder, write=True)
    assert victim.read_text() == "mine"


def test_what_is_set_aside_takes_no_other_ones_place(folder, made):
    path = folder / damage.segment_names(made[2])[0]
    whole = path.read_bytes()
    for number in range(3):
        path.write_bytes(whole[: 100 + number])
        with SweepStore(folder, write=True):
            pass
    torn = sorted(other.read_bytes() for other in path.parent.glob("*.torn"))
    assert torn == [whole[:100], whole[:101], whole[:102]]


def test_a_segment_is_what_any_reader_reads_and_a_renamed_one_is_named(folder, made, caplog):
    name = damage.segment_names(made[2])[0]
    assert pyarrow.parquet.read_table(folder / name).equals(decode_segment(made[2][name]))
    (folder / name).rename(folder / "cells" / "000055.parquet")
    load_table(folder)
    assert f"000055.parquet was stored as {name} and left out" in caplog.text


def test_a_folder_whose_files_bear_digests_loads_and_goes_on(tmp_path, caplog):
    out = shutil.copytree(FIXTURES / "sweep_v1_digests", tmp_path / "sweep")
    stored = load_table(out, scorer="simulated")
    assert stored.counts.tolist()[:4] == [[1, 1, 2, 0], [1, 1, 1, 2], [1, 2, 1, 2], [1, 1, 1, 2]]
    assert stored.failures == {"engine error: simulated failure": 8}
    assert set(load_table(out).scorers.values()) == {"quarter@1"}
    for path in [*out.glob("cells/*"), *out.glob("rewards/*")]:
        data = path.read_bytes()
        assert check_digest(data)
        assert read_name(decode_segment(data)) == path.relative_to(out).as_posix()
    assert all(read_digest(path.name) for path in [*out.glob("plans/*"), *out.glob("prompts/*")])
    engine = Counting(seed=1, unit_cells=14)
    assert same(run(engine, out), run(SimulatedEngine(seed=1), tmp_path / "fresh"))
    assert 14 in map(len, engine.units)
    assert "damaged" not in caplog.text


def test_segments_without_digests_are_checked_by_what_they_have(tmp_path, caplog):
    out = shutil.copytree(FIXTURES / "sweep_v1", tmp_path / "sweep")
    assert int(load_table(out, scorer="simulated").counts.sum()) == 26
    assert "damaged" not in caplog.text
    path = out / "cells" / "000001.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-20] + b"hagpolicy digest" + data[-20:])
    load_table(out, scorer="simulated")
    assert "000001.parquet is damaged" in caplog.text
    plan = max((out / "plans").iterdir())
    plan.write_text(plan.read_text().replace('"samples": 2', '"samples": 3'))
    load_table(out, scorer="simulated")
    assert f"{plan.name} is damaged" in caplog.text


@pytest.mark.parametrize(
    "text", ["a\ud83d b", "\udc00", "a\x00b", "\x00", "\x1b[2J", "x" * 2_000_000, "\u2028\u0085\r\n", "é\ufeff"]
)
def test_what_is_scored_is_the_text_that_is_stored(tmp_path, text):
    class Odd(SimulatedEngine):
        def generate(self, unit):
            return [Completion(text, tokens=np.int64(1), seconds=0, finish="banana") for _ in unit]

    seen = []
    scorer = FunctionScorer(lambda said: seen.append(said) or len(said) % 97 / 97, name="length", version="1")
    table = run(Odd(seed=1), tmp_path, n=1, scorer=scorer)
    stored = cells_of(tmp_path)
    assert {row["text"] for row in stored} == set(seen)
    assert {row["finish"] for row in stored} == {"stop"}
    assert same(rescore(tmp_path, scorer), table)
    if "\ud83d" not in text and "\udc00" not in text:
        assert set(seen) == {text}


def test_a_plan_of_a_billion_cells_in_a_few_bytes_is_refused(folder, made, caplog):
    name = damage.of_kind(made[2], "plans")[-1]
    values = {**json.loads(made[2][name]), "samples": 10**12}
    data = json.dumps(values).encode()
    (folder / name).unlink()
    (folder / name_file("plans/000003", ".json", data)).write_bytes(data)
    with caplog.at_level(logging.WARNING):
        load_table(folder)
    assert "is damaged" in caplog.text


KILLED = """
    import os, sys, threading, time
    from hagpolicy.data.store.folder import SweepStore
    for number in range(10**6):
        path = sys.argv[1] + "/cells/000001.parquet"
        if not os.path.exists(path):
            if not os.path.exists(path + ".tmp"):  # left by the kill before
                os.link(sys.argv[2], path + ".tmp")
            os.replace(path + ".tmp", path)
        print(number, flush=True)
        with SweepStore(sys.argv[1], write=True):
            pass
"""


def test_kills_while_files_are_set_aside_lose_nothing(folder, made, tmp_path):
    """SIGKILL at any moment between reading a damaged segment and having set it aside."""
    path = folder / damage.segment_names(made[2])[0]
    bad = tmp_path / "bad"
    bad.write_bytes(path.read_bytes()[:-3])
    path.unlink()
    draw = random.Random(0)
    code = KILLED.replace("\n    ", "\n")
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", code, str(folder), str(bad)], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline()
            process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0.0, 0.02))
            process.kill()
        found = damage.contents(folder)
        assert bad.read_bytes() in found.values()
        assert {name for name in found if name.endswith(".parquet")} >= set(damage.segment_names(made[2])[1:])
    assert damage.go_on(folder, made[1], made[3]) == "whole"
