"""Claim: a sweep of a million cells plans, stores, is killed, resumes and loads; all grows linearly.

    python -m benchmarks run million_cells [--quick]

On the simulated engine, so that what is measured is the library's own work. Every stage is a
process of its own: the first is killed (SIGKILL) when half of the cells are generated; then a
resume is planned, done, called again with nothing left to do, and the table is loaded. Seconds are
those of the stage without the start of Python; memory is the peak resident set of its process.
Beside it: what a slow engine's small segments cost, and what merging them saves. `--quick` does a
hundred thousand cells.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, record
from hagpolicy.data.store import tidying
from hagpolicy.data.store.cells import View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.loading import load_table
from hagpolicy.sweeping import drive
from hagpolicy.sweeping.plan import plan_work

CLAIM = Claim(
    name="million_cells",
    states="A sweep of a million cells plans, stores, is killed, resumes and loads; all grows linearly",
    groups=("bench",),
    headline="1,000,000 cells, planning the resume",
)

SPACE = hag.DecodingSpace.grid(temperature=[0.3, 0.6, 0.9, 1.2], top_p=[0.8, 0.9, 1.0])
SAMPLES = 4
MODULE = "benchmarks.claims.sweeping.million_cells"
MAX_TOKENS = 16
CELLS_A_PROMPT = SAMPLES * (len(SPACE) + 1)  # the engine's default joins the space
STAGES = {
    "half": "killed half-way",
    "plan": "planning the resume",
    "resume": "the resume",
    "again": "a call with nothing left to do",
    "load": "loading the table",
}


class Dying(hag.SimulatedEngine):
    """The simulated engine, which kills its process when it has generated so many cells."""

    left = -1

    def generate(self, unit):
        if 0 <= self.left < len(unit):
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= len(unit)
        return super().generate(unit)


def stage(name: str, cells: int, folder: str) -> None:
    """Do one stage in this process and print what it took, as JSON."""
    engine = Dying(0, unit_cells=512)
    prompts = engine.prompts(cells // CELLS_A_PROMPT)
    n_cells = len(prompts) * CELLS_A_PROMPT
    begin = time.perf_counter()
    if name == "load":
        assert int(load_table(folder).counts.sum()) == n_cells
    elif name == "plan":
        space, default = SPACE.with_config(engine.default_config())
        view = View(prompts, space, SAMPLES, MAX_TOKENS, 0, default, ("simulated@1",) * len(prompts))
        with SweepStore(folder, fingerprint=engine.fingerprint, write=True) as store:
            work = plan_work(store, store.shared_view(view), engine.unit_cells)
            assert 0 < work.stored < n_cells
            assert work.n_cells == n_cells - work.stored
    else:
        engine.left = n_cells // 2 if name == "half" else -1
        hag.sweep(
            engine, prompts, SPACE, engine.scorer,
            samples=SAMPLES, max_tokens=MAX_TOKENS, out=folder, progress=False,
        )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": time.perf_counter() - begin, "gib": peak, "cells": n_cells}))


def measured(cells: int) -> dict[str, dict[str, float]]:
    """Every stage of a sweep of about so many cells: seconds, GiB; and `disk`: GiB, files."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "sweep"
        for name in STAGES:
            begin = time.perf_counter()
            command = [sys.executable, "-m", MODULE, "--stage", name, str(cells), str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if name == "half":
                assert done.returncode == -signal.SIGKILL
                found[name] = {"seconds": time.perf_counter() - begin}
            else:
                done.check_returncode()
                found[name] = json.loads(done.stdout)
            print(f"{cells} cells, {STAGES[name]}: {found[name]}", flush=True)
        files = [path for path in folder.rglob("*") if path.is_file()]
        found["disk"] = {"gib": sum(path.stat().st_size for path in files) / 2**30, "files": len(files)}
    return found


def small_segments(n: int) -> list[Figure]:
    """What loading takes while a slow engine's `n` segments of one unit each lie there, and once they are merged."""
    engine = hag.SimulatedEngine(0, unit_cells=CELLS_A_PROMPT)
    many, drive.FLUSH_SECONDS, tidying.MANY_SEGMENTS = tidying.MANY_SEGMENTS, 0.0, n + 1
    figures = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "sweep"
        options = {"samples": SAMPLES, "max_tokens": MAX_TOKENS, "out": folder, "progress": False}
        hag.sweep(engine, engine.prompts(n), SPACE, engine.scorer, **options)
        for words in (f"{n:,} segments of one unit", "the same, merged"):
            begin = time.perf_counter()
            load_table(folder)
            figures.append(figure(f"{words}: loading", time.perf_counter() - begin, unit="s"))
            size = sum(path.stat().st_size for path in folder.rglob("*.parquet")) / 2**20
            figures.append(figure(f"{words}: on disk", size, unit="MiB"))
            tidying.MANY_SEGMENTS = many
            with SweepStore(folder, write=True):
                pass
        assert len(list(folder.glob("cells/*"))) < many
    return figures


def main() -> int:
    if sys.argv[1:2] == ["--stage"]:
        stage(sys.argv[2], int(sys.argv[3]), sys.argv[4])
        return 0
    args = arguments(__doc__ or "")
    sizes = [100_000] if args.quick else [100_000, 300_000, 1_000_000]
    results = {cells: measured(cells) for cells in sizes}
    figures: list[Figure] = []
    for cells, found in results.items():
        largest = cells == 1_000_000
        for name, words in STAGES.items():
            limit = 10 if largest and name == "plan" else None
            figures.append(figure(f"{cells:,} cells, {words}", found[name]["seconds"], unit="s", at_most=limit))
        peak = max(found[name]["gib"] for name in STAGES if name != "half")
        figures.append(figure(f"{cells:,} cells, peak memory", peak, unit="GiB", at_most=2 if largest else None))
        figures.append(figure(f"{cells:,} cells, on disk", 1024 * found["disk"]["gib"], unit="MiB"))
        figures.append(figure(f"{cells:,} cells, files", found["disk"]["files"], unit="files"))
    if not args.quick:
        few, many = results[300_000], results[1_000_000]
        for name in ("plan", "resume", "again", "load"):
            rates = [found[name]["seconds"] / found[name]["cells"] for found in (few, many)]
            words = f"time a cell, 1,000,000 over 300,000 cells, {STAGES[name]}"
            figures.append(figure(words, rates[1] / rates[0], unit="times", at_most=1.5))
    figures += small_segments(200 if args.quick else 2000)
    return record(CLAIM, figures, args)


if __name__ == "__main__":
    raise SystemExit(main())
