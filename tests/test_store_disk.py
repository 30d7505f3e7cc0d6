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
    from hagpolicy.store.segments import decode

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
    stored = [decode(path.read_bytes()) for path in sorted((out / "cells").glob("*.parquet"))]
    assert stored and None not in stored
    rows = [row for table in stored for row in table.to_pylist()]
    filler.unlink()
    table = run(out)
    np.testing.assert_array_equal(table.rewards, run(other).rewards)
    # What was stored before the disk was full was kept as it was.
    again = [decode(path.read_bytes()) for path in sorted((out / "cells").glob("*.parquet"))]
    assert [row for table in again[: len(stored)] for row in table.to_pylist()] == rows
    assert len({row["cell"] for table in again for row in table.to_pylist()}) == sum(map(len, again))
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
    """Run code on a file system of one megabyte of its own, where the system allows to make one."""
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


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path):
    on_small_disk(tmp_path, FULL_DISK, tmp_path / "other", 980_000)


def test_a_read_only_disk_can_be_read_and_says_that_it_cannot_be_written(tmp_path):
    on_small_disk(tmp_path, READ_ONLY)
