"""Claim: beside one busy process a sweep keeps .4 of the rate that it has alone.

One unit of mixed cells on SmolLM2-135M-Instruct, generated alone and beside a process that keeps one core busy, with
the threads that the engine chooses and with as many as torch takes; every repeat runs the four in a random order and
ratios are taken within it. Before each run of the chosen threads the engine chooses anew, and that is in its time. What
else runs on the machine slows both; the load of the machine before the run is in the notes.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, bootstrap, figure, not_run, record
from hagpolicy import DecodingConfig, Prompt, Request, load_engine
from hagpolicy.engines.transformers.threads import ThreadChooser, count_usable_cores

CLAIM = Claim(
    name="busy_neighbour",
    states="Beside one busy process a sweep with chosen threads runs at .4 or more of its rate alone.",
    groups=("bench",),
    headline="rate beside a busy process, of that alone",
    needs=("llm",),
)
QUESTIONS = ["How much do 7 pens at 3 dollars cost?", "Name ten animals of the sea.", "Why does the moon change?"]
TEMPERATURES = [0.0, 0.3, 0.5, 0.7, 0.9, 1.0, 1.2, 1.5]


def make_unit(cells: int, limit: int) -> list[Request]:
    """Cells of several prompts and temperatures."""
    return [
        Request(Prompt(QUESTIONS[at % 3]), DecodingConfig(temperature=TEMPERATURES[at % 8]), at // 24, 7919 * at, limit)
        for at in range(cells)
    ]


def measure_rate(engine: Any, unit: Sequence[Request], *, chosen: bool, busy: bool) -> tuple[float, int]:
    """(new tokens per second, threads at the end)."""
    engine.threads = ThreadChooser(engine.model, None if chosen else count_usable_cores())
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        if busy:
            time.sleep(1.0)
        begun = time.perf_counter()
        tokens = sum(one.tokens for one in engine.generate(unit))
        return tokens / (time.perf_counter() - begun), engine.threads.now
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()


def main() -> int:
    args = arguments(CLAIM.states)
    if count_usable_cores() < 2:
        return not_run(CLAIM, "this machine has one core to be used", args)
    repeats, cells, limit = (1, 24, 12) if args.quick else (3, 24, 24)
    load = os.getloadavg()[0]
    torch.set_num_threads(count_usable_cores())
    engine: Any = load_engine("smollm2", device="cpu")
    unit, order, rows = make_unit(cells, limit), random.Random(0), []
    engine.generate(unit[:4])
    ways = [(chosen, busy) for chosen in (True, False) for busy in (True, False)]
    threads: dict[bool, list[int]] = {True: [], False: []}
    for _ in range(repeats):
        row = {}
        for chosen, busy in order.sample(ways, len(ways)):
            row[chosen, busy], count = measure_rate(engine, unit, chosen=chosen, busy=busy)
            if chosen:
                threads[busy].append(count)
            print(f"chosen {chosen}, busy {busy}: {row[chosen, busy]:.1f} tokens/s, {count} threads", flush=True)
        rows.append(row)

    def share(over: tuple[bool, bool], under: tuple[bool, bool]) -> tuple[float, float, float]:
        return bootstrap([row[over] / row[under] for row in rows])

    kept = share((True, True), (True, False))
    figures = [
        figure("rate beside a busy process, of that alone", *kept, unit="times", at_least=0.4),
        figure("the same with one thread a core", *share((False, True), (False, False)), unit="times"),
        figure("chosen over one thread a core, beside it", *share((True, True), (False, True)), unit="times"),
        figure("chosen over one thread a core, alone", *share((True, False), (False, False)), unit="times"),
    ]
    notes = (
        f"{repeats} repeats of {cells} cells of at most {limit} tokens on {count_usable_cores()} cores; threads chosen "
        f"beside the process {threads[True]}, alone {threads[False]}; load of the machine before the run {load:.1f}."
    )
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
