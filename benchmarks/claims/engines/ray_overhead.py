"""Claim: two Ray workers give 1.8 times the cells per second of one process, when the engine is what takes time.

The engine is simulated: with a delay it waits like an LLM on devices of its own; without one, all that is left is
what travels, is scored and is stored. The cluster is one machine's. Each repeat times all ways in a random order, and
ratios are taken within the repeat. The driver's own processor time per cell, scoring and storing included, says how
many cells per second can pass through the one process that writes the folder, however many workers there are.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, bootstrap, figure, not_run, record
from hagpolicy import DecodingSpace, SimulatedEngine, sweep

CLAIM = Claim(
    name="ray_overhead",
    states="Two Ray workers give 1.8 times the cells per second of one process, when the engine is what takes time.",
    groups=("bench",),
    headline="two workers over one process*",
)
DELAY = 0.002  # seconds a cell: a unit of 64 takes an eighth of a second
SPEC = "simulated:4"
SPACE = DecodingSpace.grid(temperature=[0.0, 0.5, 1.0], top_p=[0.8, 0.9, 1.0])


def timed(engine: Any, n_prompts: int) -> tuple[float, float, int]:
    """(wall seconds, processor seconds of this process, cells) of a whole sweep into a fresh folder."""
    world = SimulatedEngine(4)
    prompts = world.prompts(n_prompts)
    with tempfile.TemporaryDirectory() as folder:
        begun, used = time.perf_counter(), time.process_time()
        table = sweep(engine, prompts, SPACE, world.scorer, samples=4, out=folder, progress=False)
        wall, used = time.perf_counter() - begun, time.process_time() - used
    return wall, used, int(np.isfinite(table.rewards).sum())


def measure(ways: dict[str, Callable[[], Any]], n_prompts: int, repeats: int) -> dict[str, np.ndarray]:
    """For each way (n_repeats, 3): wall seconds, processor seconds of the driver, and cells."""
    engines = {name: make() for name, make in ways.items()}
    rows: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    draw = random.Random(0)
    try:
        for engine in engines.values():
            timed(engine, 4)  # workers start, modules load
        for _ in range(repeats):
            for name in draw.sample(sorted(ways), len(ways)):
                rows[name].append(timed(engines[name], n_prompts))
    finally:
        for engine in engines.values():
            engine.close()
    return {name: np.array(values) for name, values in rows.items()}


def main() -> int:
    args = arguments(__doc__.splitlines()[0])
    try:
        import ray
    except ImportError:
        return not_run(CLAIM, "Ray is not installed: pip install 'hagpolicy[cluster]'", args)
    from hagpolicy.engines.ray.engine import RayEngine

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Cores are what workers are counted by; three workers that wait need no core each.
    options = {"log_to_driver": False, "include_dashboard": False, "logging_level": "WARNING"}
    ray.init(address="local", num_cpus=3, object_store_memory=100 * 2**20, **options)
    try:
        slow = {"engine": SPEC, "delay": DELAY}
        waits = {
            "alone": lambda: SimulatedEngine(4, delay=DELAY),
            "one": lambda: RayEngine(slow, 1),
            "two": lambda: RayEngine(slow, 2),
        }
        fast = {
            "alone": lambda: SimulatedEngine(4),
            "one": lambda: RayEngine(SPEC, 1),
            "two": lambda: RayEngine(SPEC, 2),
        }
        slow_rows = measure(waits, 20 if args.quick else 80, 2 if args.quick else 5)
        fast_rows = measure(fast, 300, 2 if args.quick else 7)
    finally:
        ray.shutdown()

    wall = {name: rows[:, 0] for name, rows in slow_rows.items()}
    bare = {name: rows[:, 0] / rows[:, 2] * 1e6 for name, rows in fast_rows.items()}  # µs a cell
    driver = fast_rows["two"][:, 1] / fast_rows["two"][:, 2] * 1e6
    cells = f"{int(slow_rows['one'][0, 2]):,} cells of {DELAY * 1e3:g} ms"
    figures = [
        figure(
            f"two workers over one process, {cells}",
            *bootstrap(wall["alone"] / wall["two"]),
            unit="times",
            at_least=1.8,
        ),
        figure(f"one worker over one process, {cells}", *bootstrap(wall["alone"] / wall["one"]), unit="times"),
        figure("one process, no delay", *bootstrap(bare["alone"]), unit="µs/cell"),
        figure("one worker, no delay", *bootstrap(bare["one"]), unit="µs/cell"),
        figure("two workers, no delay", *bootstrap(bare["two"]), unit="µs/cell"),
        figure("overhead of Ray with one worker, no delay", *bootstrap(bare["one"] - bare["alone"]), unit="µs/cell"),
        figure("driver's processor time, all included", *bootstrap(driver), unit="µs/cell"),
        figure("cells that can pass through the driver", *bootstrap(1e6 / driver), unit="cells/s"),
    ]
    notes = (
        f"Simulated engine, units of {SimulatedEngine(4).unit_cells} cells, {int(fast_rows['one'][0, 2]):,} cells "
        "without delay; workers and driver share one machine, so without a delay they compete for its cores."
    )
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
