"""A sweep killed with SIGKILL and resumed ends as an uninterrupted one, and repeats no stored cell.

Texts of the simulated engine hang on a cell's key alone. Those of a model hang on what is computed together: they are
promised to be equal for units that were not cut, at a fixed number of threads.
"""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from hagpolicy import DecodingConfig, DecodingSpace, load_table, sweep
from hagpolicy.data.store.segments import decode_segment

N_PROMPTS, SAMPLES, N_KILLS = 80, 3, 10

# The worker notes the seeds of every unit before it generates it: one write, so a kill cannot tear it.
WORKER = """
    import os, sys
    import fsspec
    from fsspec.implementations.dirfs import DirFileSystem
    import hagpolicy.data.store.locks as locks
    import hagpolicy.data.store.tidying as tidying
    import hagpolicy.sweeping.drive as drive
    from hagpolicy import DecodingSpace, SimulatedEngine, sweep

    # Small segments, and merged so often that kills fall into that too.
    drive.FLUSH_SECONDS, tidying.MANY_SEGMENTS = 0.02, 6
    locks.HEARTBEAT_SECONDS, locks.LEASE_SECONDS = 0.1, 0.8
    out = DirFileSystem(sys.argv[1], fsspec.filesystem("file")) if sys.argv[3] == "fsspec" else sys.argv[1]
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Noted(SimulatedEngine):
        def generate(self, unit):
            os.write(log, (" ".join(str(request.seed) for request in unit) + "\\n").encode())
            return super().generate(unit)

    world = Noted(seed=4, unit_cells=16, delay=0.0005)
    space = DecodingSpace.preset("standard")
    sweep(world, world.prompts(%d), space, world.scorer, samples=%d, max_tokens=8, out=out, progress=False)
"""


def start(out, log, place):
    code = textwrap.dedent(WORKER % (N_PROMPTS, SAMPLES))
    return subprocess.Popen([sys.executable, "-c", code, str(out), str(log), place])


def noted(log):
    """Seeds of the units that were begun, in order."""
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


def stored(out, *, killed=False):
    """The rows of all segments by cell. A cell is stored once, or after a kill in a merge twice and equal."""
    rows = {}
    for path in sorted((out / "cells").glob("*.parquet")):
        table = decode_segment(path.read_bytes())
        assert table is not None, path
        for row in table.to_pylist():
            assert row["cell"] not in rows or (killed and rows[row["cell"]] == row)
            rows[row["cell"]] = row
    return rows


@pytest.mark.parametrize("place", ["disk", pytest.param("fsspec", marks=pytest.mark.soak)])
def test_ten_kills(tmp_path, place):
    whole_out, whole_log = tmp_path / "whole", tmp_path / "whole.log"
    assert start(whole_out, whole_log, place).wait() == 0
    out, log = tmp_path / "killed", tmp_path / "killed.log"
    draw = random.Random(0)
    n_units = len(noted(whole_log))
    safe_at = []
    for _ in range(N_KILLS):
        worker = start(out, log, place)
        # Somewhere in the next share of the units, at a moment that falls anywhere within unit, write and rename.
        goal = len(noted(log)) + draw.randint(1, 2 * n_units // (3 * N_KILLS))
        while len(noted(log)) < goal and worker.poll() is None:
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, 0.03))
        worker.kill()
        assert worker.wait() != 0, "the worker finished before it was killed"
        safe_at.append((len(noted(log)), {row["seed"] for row in stored(out, killed=True).values()}))
    assert start(out, log, place).wait() == 0

    assert stored(out) == stored(whole_out)
    begun = noted(log)
    for n_begun, safe in safe_at:
        assert not safe & {seed for unit in begun[n_begun:] for seed in unit}
    assert len(safe_at[-1][1]) > 0
    # Every unit ran as it was packed before the first kill.
    assert set(begun) == set(noted(whole_log))
    a, b = load_table(out), load_table(whole_out)
    for name in ("rewards", "tokens", "seconds"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.complete.all()
    assert (a.prompts, a.space, a.default, a.failures) == (b.prompts, b.space, b.default, b.failures)


LLM_PROMPTS = ["Name two things in a kitchen.", "Why is the sky blue?", "Write a sentence with cat and moon."]
LLM_TOKENS = 8

# Dies while the second of three units is being generated.
LLM_WORKER = """
    import json, os, sys, threading
    import hagpolicy.engines.transformers.decode as decode
    import hagpolicy.sweeping.drive as drive
    from hagpolicy import DecodingSpace, load_engine, sweep

    out, threads, prompts, space, max_tokens = sys.argv[1], *map(json.loads, sys.argv[2:])
    # Texts are promised to be equal where no unit is cut, at one number of threads.
    drive.FLUSH_SECONDS, decode.PART_SECONDS = 0.0, float("inf")
    engine = load_engine("smollm2", device="cpu", unit_cells=3, threads=threads)
    parts, begun = engine._generate_parts, []
    def dying(unit):
        begun.append(unit)
        if len(begun) == 2:
            threading.Timer(0.05, os.kill, (os.getpid(), 9)).start()
        return parts(unit)
    engine._generate_parts = dying
    sweep(engine, prompts, DecodingSpace.from_json(space), "brevity", samples=1, max_tokens=max_tokens, out=out,
          progress=False)
"""


@pytest.mark.llm
def test_a_kill_on_the_real_llm(tmp_path, smollm, monkeypatch):
    import torch

    monkeypatch.setattr(smollm, "unit_cells", 3)
    space = DecodingSpace([DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.8), DecodingConfig()])
    space = space.with_config(smollm.default_config())[0]
    given = [torch.get_num_threads(), LLM_PROMPTS, space.to_json(), LLM_TOKENS]
    out = tmp_path / "killed"
    command = [sys.executable, "-c", textwrap.dedent(LLM_WORKER), str(out), *map(json.dumps, given)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    before = stored(out)
    assert 0 < len(before) < len(LLM_PROMPTS) * len(space)

    def finished(folder):
        options = {"samples": 1, "max_tokens": LLM_TOKENS, "progress": False}
        return sweep(smollm, LLM_PROMPTS, space, "brevity", out=folder, **options)

    killed, whole = finished(out), finished(tmp_path / "whole")
    after, expected = stored(out), stored(tmp_path / "whole")
    assert {key: after[key] for key in before} == before
    assert after.keys() == expected.keys()
    assert all(row["text"] for row in after.values())
    for key, row in after.items():
        for name in ("text", "tokens", "prompt_tokens", "finish", "reward", "seed", "config", "prompt"):
            assert row[name] == expected[key][name]
    np.testing.assert_array_equal(killed.rewards, whole.rewards)


# A machine that is taken away every ten seconds: one unit of this sweep takes longer than that.
PREEMPTED_WORKER = """
    import sys
    from hagpolicy import load_engine, sweep

    out, prompts, cells, max_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    engine = load_engine("smollm2", device="cpu", unit_cells=cells)
    print("loaded", flush=True)
    asked = [f"Name {at + 2} things that are found in a kitchen, and say what each is for." for at in range(prompts)]
    sweep(engine, asked, "deterministic", "brevity", max_tokens=max_tokens, out=out, progress=False)
"""
PREEMPTED_SECONDS, PREEMPTED_CELLS, PREEMPTIONS = 10.0, 144, 6


def read_computed(worker):
    """Seconds of processors that a process has taken; those of the clock where the system does not tell."""
    try:
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.soak
@pytest.mark.llm
def test_a_sweep_that_is_killed_every_ten_seconds_advances(tmp_path):
    out = tmp_path / "sweep"
    command = [sys.executable, "-c", textwrap.dedent(PREEMPTED_WORKER), str(out), "16", str(PREEMPTED_CELLS), "24"]
    kept = [0]
    while len(kept) <= PREEMPTIONS:
        worker = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
        begun, computed = time.monotonic(), read_computed(worker)
        # On a busy machine ten seconds may hold no work at all: as many are computed too.
        while min(time.monotonic() - begun, read_computed(worker) - computed) < PREEMPTED_SECONDS:
            if worker.poll() is not None:
                break
            time.sleep(0.05)
        if worker.poll() is not None:
            assert worker.returncode == 0
            break
        worker.kill()
        worker.wait()
        kept.append(len(stored(out, killed=True)))
        # The first run finds out that none of a unit ends in time; from then on units begin small.
        assert len(kept) < 3 or kept[-1] > kept[-2], kept
    assert len(kept) > 3, "it was too fast to be killed"
    assert subprocess.run(command).returncode == 0
    table = load_table(out)
    assert table.complete.all()
    assert len(stored(out)) == int(table.counts.sum())
