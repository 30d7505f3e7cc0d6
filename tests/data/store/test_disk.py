"""Full and read-only disks: real ones, small, in a mount namespace."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

FULL_DISK = """
    import sys
    from pathlib import Path
    import numpy as np
    import hagpolicy.sweeping.drive as drive
    from hagpolicy import DecodingSpace, SimulatedEngine, load_table, sweep
    from hagpolicy.errors import StoreError
    from hagpolicy.data.store.segments import decode_segment

    drive.FLUSH_SECONDS = 0.0
    out, other = Path(sys.argv[1]), Path(sys.argv[2])
    world = SimulatedEngine(seed=1, unit_cells=60)
    def run(folder):
        space = DecodingSpace.grid(temperature=[0.0, 0.7])
        return sweep(world, world.prompts(40), space, world.scorer, samples=8, max_tokens=8, out=folder, progress=False)

    filler = out.parent / "filler"
    filler.write_bytes(b"x" * int(sys.argv[3]))
    try:
        run(out)
    except StoreError as error:
        assert "No space left" in str(error) and "intact" in str(error), error
    else:
        raise AssertionError("the disk did not fill up")
    stored = [decode_segment(path.read_bytes()) for path in sorted((out / "cells").glob("*.parquet"))]
    assert stored and None not in stored
    rows = [row for table in stored for row in table.to_pylist()]
    filler.unlink()
    table = run(out)
    np.testing.assert_array_equal(table.rewards, run(other).rewards)
    # What was stored before the disk was full was kept as it was.
    again = [decode_segment(path.read_bytes()) for path in sorted((out / "cells").glob("*.parquet"))]
    assert [row for table in again[: len(stored)] for row in table.to_pylist()] == rows
    assert len({row["cell"] for table in again for row in table.to_pylist()}) == sum(map(len, again))
"""

# The sweep itself fits; its merged segment, beside its sources, does not.
FULL_FOR_MERGING = """
    import contextlib, logging, sys
    from pathlib import Path
    import numpy as np
    import hagpolicy.data.store.tidying as tidying
    import hagpolicy.sweeping.drive as drive
    from hagpolicy import DecodingSpace, SimulatedEngine, load_table, sweep

    logging.basicConfig()
    drive.FLUSH_SECONDS, tidying.MANY_SEGMENTS = 0.0, 10**9
    out = Path(sys.argv[1])
    world = SimulatedEngine(seed=1, unit_cells=60)
    def run():
        space = DecodingSpace.grid(temperature=[0.0, 0.7])
        return sweep(world, world.prompts(40), space, world.scorer, samples=8, max_tokens=8, out=out, progress=False)

    before = run()
    tidying.MANY_SEGMENTS = 4
    filler = out.parent / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    np.testing.assert_array_equal(run().rewards, before.rewards)
    assert len(list((out / "cells").iterdir())) > 4
    filler.unlink()
    np.testing.assert_array_equal(run().rewards, before.rewards)
    assert len(list((out / "cells").iterdir())) == 1
    np.testing.assert_array_equal(load_table(out).rewards, before.rewards)
"""

# No file may grow beyond what the sweep's first segments have.
FILE_SIZE = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    import hagpolicy.sweeping.drive as drive
    from hagpolicy import DecodingSpace, SimulatedEngine, load_table, sweep
    from hagpolicy.errors import StoreError

    drive.FLUSH_SECONDS = 0.0
    def run(folder, unit_cells):
        world = SimulatedEngine(seed=1, unit_cells=unit_cells)
        space = DecodingSpace.grid(temperature=[0.0, 0.7])
        return sweep(world, world.prompts(30), space, world.scorer, samples=8, max_tokens=8, out=folder, progress=False)

    out, other = Path(sys.argv[1]), Path(sys.argv[2])
    run(other, 510)
    largest = max(path.stat().st_size for path in other.glob("cells/*"))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 100, hard))
    try:
        run(out, 510)
    except StoreError as error:
        assert "File too large" in str(error) and "intact" in str(error), error
    else:
        raise AssertionError("it wrote more than it may")
    assert not list(out.glob("cells/*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    np.testing.assert_array_equal(run(out, 510).rewards, load_table(other).rewards)
"""

READ_ONLY = """
    import subprocess, sys
    from pathlib import Path
    from hagpolicy import DecodingSpace, SimulatedEngine, load_table, sweep
    from hagpolicy.errors import StoreError

    out = Path(sys.argv[1])
    world = SimulatedEngine(seed=1)
    def run():
        space = DecodingSpace.grid(temperature=[0.0, 0.7])
        return sweep(world, world.prompts(4), space, world.scorer, samples=2, out=out, progress=False)

    run()
    subprocess.run(["mount", "-o", "remount,ro", str(out.parent)], check=True)
    assert load_table(out).complete.all()
    for action in (run, lambda: sweep(world, ["a"], [world.default_config()], world.scorer, out=out.parent / "new")):
        try:
            action()
        except StoreError as error:
            assert "Read-only file system" in str(error), error
        else:
            raise AssertionError("it wrote to a read-only disk")
"""


def on_small_disk(tmp_path, code, *arguments):
    """Run code on a file system of one megabyte of its own, where the system allows to make one; what it said."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--mount", "--map-root-user"] if os.getuid() else ["unshare", "--mount"]
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"'
    prefix = [*mount, "sh", "-c", script, "sh", str(disk)]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this system allows no mount of its own")
    command = [sys.executable, "-c", textwrap.dedent(code), str(disk / "sweep"), *map(str, arguments)]
    done = subprocess.run([*prefix, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path):
    on_small_disk(tmp_path, FULL_DISK, tmp_path / "other", 980_000)


def test_a_disk_too_full_for_merging_fails_no_sweep(tmp_path):
    said = on_small_disk(tmp_path, FULL_FOR_MERGING)
    assert "are not merged" in said
    assert "No space left" in said


def test_a_limit_on_file_sizes_loses_nothing(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(FILE_SIZE), str(tmp_path / "sweep"), str(tmp_path / "other")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_read_only_disk_can_be_read_and_says_that_it_cannot_be_written(tmp_path):
    on_small_disk(tmp_path, READ_ONLY)
