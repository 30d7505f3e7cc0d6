"""Sweep folders that are on no local disk: fsspec's file systems, pyarrow's, and the lock they have."""

import itertools
import json
import signal
import subprocess
import sys
import textwrap
import time

import fsspec
import numpy as np
import pyarrow.fs
import pytest
from fsspec.implementations.dirfs import DirFileSystem

import hagpolicy.data.store.locks as locks
import hagpolicy.sweeping.drive as drive
from hagpolicy import load_table, rescore
from hagpolicy.data.store.files import LocalFiles, open_files
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.segments import decode_segment
from hagpolicy.errors import ForeignSweep, InvalidInput, StoreError, SweepLocked
from tests.support.paths import ROOT
from tests.support.sweeping_world import Counting, run, same

NUMBERS = itertools.count()


def in_memory(tmp_path):
    return f"memory://sweeps/{tmp_path.name}-{next(NUMBERS)}"


def by_url(tmp_path):
    return (tmp_path / "with space").as_uri()


def in_directory(tmp_path):
    return DirFileSystem(path=str(tmp_path), fs=fsspec.filesystem("file", auto_mkdir=False))


def by_arrow(tmp_path):
    return pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())


PLACES = [in_memory, by_url, in_directory, by_arrow]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A segment for every unit, and locks that are found silent within a second."""
    monkeypatch.setattr(drive, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)


@pytest.mark.parametrize("place", PLACES)
def test_a_sweep_is_interrupted_resumed_read_and_rescored_anywhere(tmp_path, place):
    expected = run(Counting(seed=1, unit_cells=7), tmp_path / "disk", n=9)
    (tmp_path / "place").mkdir()
    out = place(tmp_path / "place")
    engine = Counting(seed=1, unit_cells=7, stop_at=4)
    with pytest.raises(KeyboardInterrupt):
        run(engine, out, n=9)
    assert int(load_table(out).counts.sum()) == 28
    engine.stop_at = None
    assert same(run(engine, out, n=9), expected)
    assert max(engine.seeds.values()) == 1
    assert same(load_table(out), expected)
    assert rescore(out, "brevity").scorers != expected.scorers
    files = open_files(out)
    assert "lock" not in files.sizes() or files.folder is not None
    assert not [name for folder in ("", "cells", "plans") for name in files.sizes(folder) if name.endswith(".tmp")]
    with pytest.raises(ForeignSweep):
        run(Counting(seed=2), out)


def test_a_folder_moves_from_a_disk_to_elsewhere_and_back(tmp_path, caplog):
    out = tmp_path / "sweep"
    engine = Counting(seed=1, unit_cells=7, stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        run(engine, out, n=9)
    engine.stop_at = 6
    with pytest.raises(KeyboardInterrupt):
        run(engine, in_directory(out), n=9)
    engine.stop_at = None
    assert same(run(engine, out, n=9), run(Counting(seed=1, unit_cells=7), tmp_path / "whole", n=9))
    assert max(engine.seeds.values()) == 1
    assert "taken for dead" not in caplog.text


def test_a_torn_segment_elsewhere_is_set_aside(tmp_path, caplog):
    out = in_directory(tmp_path)
    before = run(Counting(seed=1, unit_cells=7), out)
    victim = sorted((tmp_path / "cells").iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:-20])
    assert same(run(Counting(seed=1, unit_cells=7), out), before)
    assert "is damaged: set aside" in caplog.text
    assert victim.with_name(victim.name + ".torn").exists()


def test_what_is_no_place_is_refused(tmp_path):
    for out in ("nowhere://bucket/x", 5):
        with pytest.raises(InvalidInput, match="out"):
            SweepStore(out)
    with pytest.raises(InvalidInput) as error:
        SweepStore("nowhere://user:secret@host/x")
    assert "secret" not in str(error.value)
    with pytest.raises(StoreError, match="no sweep folder"):
        load_table(in_memory(tmp_path))
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="thesis"):
        run(Counting(seed=1), in_directory(tmp_path))
    assert isinstance(open_files("file:///tmp/a%20b"), LocalFiles)
    assert str(open_files("file:///tmp/a%20b").folder) == "/tmp/a b"


def test_a_store_that_fails_keeps_what_it_took(tmp_path):
    out = in_directory(tmp_path)
    engine = Counting(seed=1, unit_cells=7, stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        run(engine, out, n=9)
    stored = {path.name: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    # Wherever the system's user may do anything, a folder in the way is what no move gets past.
    engine.stop_at = None
    (tmp_path / "cells").rename(tmp_path / "aside")
    (tmp_path / "cells").write_text("")
    with pytest.raises(StoreError):
        run(engine, out, n=9)
    (tmp_path / "cells").unlink()
    (tmp_path / "aside").rename(tmp_path / "cells")
    assert run(engine, out, n=9).complete.all()
    assert {name: (tmp_path / "cells" / name).read_bytes() for name in stored} == stored


WORKER = """
    import sys
    from fsspec.implementations.dirfs import DirFileSystem
    import fsspec
    import hagpolicy.data.store.locks as locks
    import hagpolicy.sweeping.drive as drive
    from hagpolicy.errors import SweepLocked
    sys.path.insert(0, sys.argv[2])
    from tests.support.sweeping_world import run
    from hagpolicy import SimulatedEngine

    drive.FLUSH_SECONDS, locks.HEARTBEAT_SECONDS, locks.LEASE_SECONDS = 0.0, 0.1, 1.0
    try:
        out = DirFileSystem(sys.argv[1], fsspec.filesystem("file"))
        run(SimulatedEngine(seed=1, unit_cells=7, delay=0.002), out, n=40)
    except SweepLocked as error:
        sys.exit(f"SweepLocked: {error}")
"""


@pytest.fixture
def worker(tmp_path):
    """A process that sweeps into `tmp_path`/sweep through fsspec, once it has stored something."""
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(tmp_path / "sweep"), str(ROOT)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("sweep/cells/*.parquet")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        yield process
        process.kill()


def ends_as_undisturbed(tmp_path):
    engine = Counting(seed=1, unit_cells=7, delay=0.002)
    table = run(engine, in_directory(tmp_path / "sweep"), n=40)
    assert len(engine.units) < 40
    return same(table, run(engine, tmp_path / "whole", n=40))


def test_the_lock_elsewhere_keeps_a_second_runner_away_while_the_first_lives(tmp_path, worker):
    with pytest.raises(SweepLocked, match=rf"process {worker.pid} on host \S+ \(since"):
        run(Counting(seed=1), in_directory(tmp_path / "sweep"))
    assert worker.wait() == 0, worker.stderr.read()
    assert ends_as_undisturbed(tmp_path)


def test_the_lock_of_a_dead_owner_is_taken_over(tmp_path, worker, caplog):
    worker.kill()
    worker.wait()
    assert ends_as_undisturbed(tmp_path)
    assert "its owner is taken for dead" in caplog.text


def test_an_owner_that_was_stopped_and_lost_its_lock_stores_nothing_more(tmp_path, worker):
    worker.send_signal(signal.SIGSTOP)
    with SweepStore(in_directory(tmp_path / "sweep"), write=True):
        held = {path.name for path in (tmp_path / "sweep" / "cells").iterdir()}
        worker.send_signal(signal.SIGCONT)
        assert worker.wait() == 1
        assert "SweepLocked: the lock of" in worker.stderr.read()
        # A write that was under way when it was stopped may have ended.
        after = {path.name for path in (tmp_path / "sweep" / "cells").iterdir() if path.suffix == ".parquet"}
        assert len(after - held) <= 1
        assert all(decode_segment((tmp_path / "sweep" / "cells" / name).read_bytes()) is not None for name in after)
    assert ends_as_undisturbed(tmp_path)


def test_two_writers_never_choose_the_same_name(tmp_path):
    run(Counting(seed=1, unit_cells=7), in_directory(tmp_path))
    one, two = (open_files(in_directory(tmp_path)) for _ in range(2))
    assert one.mark != two.mark
    rows = [len(decode_segment(path.read_bytes())) for path in (tmp_path / "cells").iterdir()]
    assert np.sum(rows) == 42
    assert json.loads((tmp_path / "sweep.json").read_text())["format_version"] == 1
