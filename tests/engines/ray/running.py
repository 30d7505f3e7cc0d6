"""Sweeps on Ray and of one process, what their engines wrote down, and whether both came out alike."""

import collections
import contextlib
import time
from pathlib import Path

import pytest

from hagpolicy import DecodingConfig, SimulatedEngine, load_table, sweep
from hagpolicy.data.completion import Request
from hagpolicy.engines.ray.engine import RayEngine
from tests.support.sweeping_world import SPACE, cells_of, same

pytest.importorskip("ray", reason="Ray is not installed: pip install 'hagpolicy[cluster]'")

WORLD = SimulatedEngine(4)
CELLS = 3 * 2 + 1  # of a prompt: three sampled configs twice, the default among them, and the greedy one once


@contextlib.contextmanager
def on_ray(cluster, spec, workers=None, **options):
    engine = RayEngine(spec, workers, address=cluster.address, **options)
    try:
        yield engine
    finally:
        engine.close()


def begun(log):
    """(pid, seeds) of the units that were begun, in order."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(pid), tuple(map(int, seeds))) for pid, *seeds in lines]


def once(cells, event):
    """A `progress` of `sweep` that calls a function once, when so many cells are done."""
    left = [event]
    return lambda state: left.pop()() if left and state.done >= cells else None


def gone(pid, seconds=10.0):
    """True as soon as a process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def run(engine, out, prompts, progress=False):
    """A sweep over so many prompts, or these."""
    prompts = WORLD.prompts(prompts) if isinstance(prompts, int) else prompts
    options = {"samples": 2, "max_tokens": 8, "progress": progress}
    return sweep(engine, prompts, SPACE, WORLD.scorer, out=out, **options)


def both_work(engine, log):
    """Draw units until two workers have begun some; gives their pids."""

    def pids():
        return {pid for pid, _ in begun(log)}

    endless = (requests(WORLD, 1)[0] for _ in iter(lambda: len(pids()) < 2, False))
    assert all(isinstance(outcome, list) for _, outcome in engine.stream(endless))
    return pids()


def equal(out, table, tmp_path, prompts):
    """The folder and table are those of one process, cell by cell; no cell is stored twice."""
    expected = run(SimulatedEngine(4, unit_cells=CELLS), tmp_path / "alone", prompts)
    assert same(table, expected)
    assert same(load_table(out), expected)
    mine, theirs = cells_of(out), cells_of(tmp_path / "alone")
    assert max(collections.Counter(row["cell"] for row in mine).values()) == 1
    assert sorted(mine, key=lambda row: row["cell"]) == sorted(theirs, key=lambda row: row["cell"])
    return True


def requests(world, n):
    config = DecodingConfig()
    return [[Request(prompt, config, 0, seed, 8)] for seed, prompt in enumerate(world.prompts(n))]
