"""Several processes on one folder, and clocks that jump."""

import os
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

from hagpolicy import load_table
from hagpolicy.errors import SweepLocked
from tests.support.paths import ROOT
from tests.support.sweeping_world import Counting, run, same

WORKER = """
    import sys
    import fsspec
    from fsspec.implementations.dirfs import DirFileSystem
    import hagpolicy.data.store.locks as locks
    import hagpolicy.sweeping.drive as drive
    from hagpolicy.errors import SweepLocked
    sys.path.insert(0, sys.argv[1])
    from tests.support.sweeping_world import Counting, run

    drive.FLUSH_SECONDS, locks.HEARTBEAT_SECONDS, locks.LEASE_SECONDS = 0.0, 0.1, 1.0
    folder, place, stop_at = sys.argv[2], sys.argv[3], int(sys.argv[4]) or None
    out = DirFileSystem(folder, fsspec.filesystem("file")) if place == "fsspec" else folder
    seconds = []
    try:
        engine = Counting(seed=1, unit_cells=7, delay=0.002, stop_at=stop_at)
        run(engine, out, n=20, progress=lambda state: seconds.append(state.seconds))
    except SweepLocked as error:
        sys.exit(f"SweepLocked: {error}")
    except KeyboardInterrupt:
        pass
    assert seconds == sorted(seconds) and all(0 <= taken < 300 for taken in seconds), seconds
"""

# Every wall clock a process can read, off by years, now into the future and now into the past.
CLOCK = r"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <sys/time.h>
    #include <time.h>

    static long jump(void) {
        static long calls;
        calls++;
        return (calls / 2 % 2 ? 1 : -1) * 86400L * 365 * (calls / 2 % 9);
    }

    int clock_gettime(clockid_t id, struct timespec *at) {
        int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
        int code = real(id, at);
        if (id == CLOCK_REALTIME) at->tv_sec += jump();
        return code;
    }

    int gettimeofday(struct timeval *at, void *zone) {
        int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
        int code = real(at, zone);
        at->tv_sec += jump();
        return code;
    }

    time_t time(time_t *at) {
        time_t (*real)(time_t *) = dlsym(RTLD_NEXT, "time");
        time_t now = real(NULL) + jump();
        if (at) *at = now;
        return now;
    }
"""


def start(folder, place="disk", stop_at=0, env=None):
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(ROOT)]
    return subprocess.Popen([*command, str(folder), place, str(stop_at)], env=env, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The table of the sweep that nothing disturbs."""
    return run(Counting(seed=1, unit_cells=7, delay=0.002), tmp_path_factory.mktemp("whole") / "sweep", n=20)


@pytest.fixture(scope="module")
def jumping(tmp_path_factory):
    """The environment of a process whose wall clock jumps by years at every other look."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("a clock that jumps needs a C compiler and Linux")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(textwrap.dedent(CLOCK))
    made = [compiler, "-shared", "-fPIC", "-o", str(folder / "clock.so"), str(folder / "clock.c"), "-ldl"]
    subprocess.run(made, check=True)
    env = {**os.environ, "LD_PRELOAD": str(folder / "clock.so")}
    code = "import time; seen = [time.time() for _ in range(40)]; assert max(seen) - min(seen) > 1e8, seen"
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    return env


def test_of_two_processes_one_goes_on_and_the_other_is_told_whose_folder_it_is(tmp_path, whole):
    with start(tmp_path) as worker:
        while not list(tmp_path.glob("cells/*.parquet")):
            assert worker.poll() is None, worker.stderr.read()
            time.sleep(0.005)
        with pytest.raises(SweepLocked, match=f"process {worker.pid} on host"):
            run(Counting(seed=1), tmp_path, n=20)
        load_table(tmp_path)
        assert worker.wait() == 0, worker.stderr.read()
    assert same(load_table(tmp_path), whole)


@pytest.mark.parametrize("place", ["disk", "fsspec"])
def test_of_processes_that_start_at_once_at_most_one_writes_at_a_time(tmp_path, place, whole):
    workers = [start(tmp_path / "sweep", place) for _ in range(3)]
    ended = [(worker.communicate()[1], worker.returncode) for worker in workers]
    assert 0 in [code for _, code in ended]
    assert all(code == 0 or "SweepLocked: " in said for said, code in ended), ended
    assert same(load_table(tmp_path / "sweep"), whole)


@pytest.mark.parametrize("place", ["disk", "fsspec"])
def test_a_wall_clock_that_jumps_changes_nothing(tmp_path, place, jumping, whole):
    for stop_at in (5, 6, 0):
        with start(tmp_path / "sweep", place, stop_at, env=jumping) as worker:
            assert worker.wait() == 0, worker.stderr.read()
    assert same(load_table(tmp_path / "sweep"), whole)


def test_a_lock_is_neither_lost_nor_kept_by_a_clock_that_jumps(tmp_path, jumping, whole):
    with start(tmp_path, "fsspec", env=jumping) as worker:
        while not list(tmp_path.glob("cells/*.parquet")):
            assert worker.poll() is None, worker.stderr.read()
            time.sleep(0.005)
        with start(tmp_path, "fsspec", env=jumping) as second:
            assert "SweepLocked: " in second.communicate()[1] or worker.poll() == 0
        worker.kill()
    with start(tmp_path, "fsspec", env=jumping) as third:
        assert third.wait() == 0, third.stderr.read()
    assert same(load_table(tmp_path), whole)


def test_files_from_the_future_and_the_past_are_read_as_what_they_are(tmp_path, whole):
    with start(tmp_path, stop_at=8) as worker:
        assert worker.wait() == 0, worker.stderr.read()
    for index, path in enumerate(sorted(tmp_path.rglob("*"))):
        os.utime(path, (0, 0) if index % 2 else (2**32, 2**32))
    assert same(run(Counting(seed=1, unit_cells=7, delay=0.002), tmp_path, n=20), whole)
