"""Claim: where no prompt knows anything, the gate ships a per-prompt policy in at most 5 of 100 worlds.

Each world is a real sweep whose reward rows are dealt to its prompts anew: a prompt gets the whole row of another one
(all configs, all samples, its tokens and seconds with it). So every structure among configs and samples stays, the
single best config stays, and no word of a prompt can tell what its rewards are. Then `fit` runs as for a user, with
learner="auto".

    python -m benchmarks run false_alarms [--quick] [--data DIR]
        [-- --worlds 200 --workers 1 --studies workload]

Resumable: one line a world in benchmarks/results/false_alarms/<study>.jsonl.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

# One thread a world: worlds run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, figure, not_run, record
from benchmarks.tools.resumable import Row, resumed, share
from hagpolicy._digest import digest_bytes

STORE = RESULTS / "false_alarms"
CLAIM = Claim(
    name="false_alarms",
    states=(
        "On real sweeps whose reward rows are permuted against their prompts, the gate ships a per-prompt policy in at "
        "most 5 of 100"
    ),
    groups=("simulation",),
    headline="workload: false alarms",
    needs=("data",),
    after=("enlarged_demo", "workload_sweep"),
)


def demo_table(data: Path | None) -> hag.SweepTable:
    """The demo's sweep enlarged: 240 prompts × 12 configs × 4 samples."""
    return hag.load_table(RESULTS / "sweeps" / "enlarged_demo")


def real_table(data: Path | None) -> hag.SweepTable:
    """The workload of this project's benchmarks; its prompts are read from the folder of public data."""
    from benchmarks.sweeps.workload.tables import workload_table

    assert data is not None, "asked for by main"
    return workload_table(data)


@dataclass(frozen=True)
class Study:
    """A real sweep, what policies are fitted for on it, and how many of its worlds are looked at."""

    table: Callable[[Path | None], hag.SweepTable]
    objective: str = "reward"
    worlds: int = 200


STUDIES = {
    "workload": Study(real_table),
    # The dial that benchmarks/studies/catalog.py fits: an alarm is a per-prompt policy at any of its prices.
    "workload_price": Study(real_table, "price/token@0,0.0005,0.001,0.002,0.004", worlds=100),
    "enlarged_demo": Study(demo_table),
}


def permuted(table: hag.SweepTable, seed: int) -> hag.SweepTable:
    """The table with its rows dealt to other prompts, uniformly; prompts keep their texts and groups.

    Only complete rows are dealt, among the prompts that had one: what `fit` leaves out stays out.
    """
    rows = np.flatnonzero(table.complete)
    source = np.arange(len(table.prompts))
    source[rows] = np.random.default_rng(seed).permutation(rows)
    return replace(table.take(source), prompts=table.prompts, groups=table.groups)


def digest_of(table: hag.SweepTable) -> str:
    """Names a table's prompts and rewards, so that worlds of a table that has grown since are told apart."""
    texts = "\n".join(prompt.text for prompt in table.prompts).encode("utf-8", "surrogatepass")
    return digest_bytes(texts + table.rewards.tobytes())[:12]


@cache
def _table(study: str, data: Path | None) -> hag.SweepTable:
    return STUDIES[study].table(data)


def run_world(study: str, data: Path | None, seed: int, table: str) -> Row:
    """What the gate makes of one permuted table; of a dial, at all its points, with the first one's candidate."""
    objective = STUDIES[study].objective
    world = permuted(_table(study, data), seed)
    policy = hag.fit(world, objective=objective)
    found = policy.evaluation.candidate
    row = {
        "shipped": policy.ships == "per_prompt",
        "candidate": found.name,
        "margin": found.margin,
        "departing": found.departing_groups,
        "estimate": found.gain.value,
        "low": found.gain.low,
        "high": found.gain.high,
    }
    if objective == "reward":
        return row | {"candidate_gain": _gain(world, policy)}
    return row | {"points": [point.ships for point in policy.dial.points]}


def _gain(world: hag.SweepTable, policy: hag.Policy) -> float:
    """The candidate's true gain: a new prompt's rewards would be a row drawn from the table, so that choosing a config
    is worth the config's mean."""
    held = policy if policy.ships == "per_prompt" else policy.candidate
    if held is None:
        return 0.0
    means = world.common_means[world.complete].mean(axis=0)
    chosen = [decision.index for decision in held.decide_batch(world.prompts)]
    return float(means[chosen].mean() - means[held.reference_index])


def figures(study: str, rows: list[Row]) -> list[Figure]:
    """False alarms with their Wilson interval, and what the intervals said."""
    n = len(rows)
    alarms = sum(row["shipped"] for row in rows)
    if "points" in rows[0]:
        points = np.array([row["points"] for row in rows])
        worst = int(points.sum(axis=0).max())
        return [
            share(f"{study}: false alarms at any price", alarms, n),
            share(f"{study}: false alarms at the price with most of them", worst, n),
        ]
    low, middle, high = np.quantile([row["estimate"] for row in rows], [0.025, 0.5, 0.975])
    covered = sum(row["low"] <= row["candidate_gain"] <= row["high"] for row in rows)
    return [
        share(f"{study}: false alarms", alarms, n, at_most=0.05),
        share(f"{study}: interval's lower end above 0", sum(row["low"] > 0.0 for row in rows), n),
        share(f"{study}: interval covers the candidate's true gain", covered, n),
        figure(f"{study}: estimated gain, median and central 95 % of worlds", middle, low, high, unit="reward gain"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 worlds a study, nothing stored")
    parser.add_argument("--worlds", type=int, help="of each study; else 200, of the dial's 100")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--studies", nargs="*", choices=STUDIES, help="the workload's; with --quick the demo's")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of public data; see benchmarks/README.md")
    options = parser.parse_args()
    studies = options.studies or (["enlarged_demo"] if options.quick else ["workload", "workload_price"])
    if options.data is None and any(STUDIES[study].table is real_table for study in studies):
        return not_run(CLAIM, "needs --data, the folder of public data", options)
    found, notes = [], []
    for study in studies:
        table = _table(study, options.data)
        count = 10 if options.quick else options.worlds or STUDIES[study].worlds
        cases = [{"seed": seed, "table": digest_of(table)} for seed in range(count)]
        run = partial(run_world, study, options.data)
        rows = resumed(STORE / f"{study}.jsonl", cases, run, workers=options.workers, store=not options.quick)
        found += figures(study, rows)
        groups = len(np.unique(table.groups[table.complete]))
        notes.append(f"{study}: {table!r}, {int(table.complete.sum())} prompts compared in {groups} groups.")
    return record(CLAIM, found, options, " ".join(notes))


if __name__ == "__main__":
    sys.exit(main())
