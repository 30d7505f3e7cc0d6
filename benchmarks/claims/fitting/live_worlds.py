"""Claim: fitting from live calls that drew their configs lets pass at most 2.5 % of what gains nothing, in each step of
the gate, and its intervals cover in units of reward.

Worlds of known truth as in `gate_worlds`, of which each prompt is seen once, under one config that was drawn among all
alike: the traffic of an exploration share, as a decision log holds it. The table is that of `hagpolicy log table`, the
gate that of `fit` under the table's objective; learner ridge or nearest neighbours in turn.

    python -m benchmarks run live_worlds [--quick] [-- --worlds 30 --power 12 --workers 1]

Resumable: one line a world in benchmarks/results/live_worlds/<kind>.jsonl.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from functools import partial

# One thread a world: worlds run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benchmarks.claims.fitting.gate_worlds import Kind, World, alarms, covered, draw, first_alarms, true_gain
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, record
from benchmarks.tools.resumable import Row, resumed, share
from hagpolicy.analysis.rule import GATE_ERROR
from hagpolicy.data.decisions import LoggedDecisions
from hagpolicy.data.traffic import Traffic
from hagpolicy.data.trial import Trial, build_trial
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.fitting.verdict import gate_table
from hagpolicy.policy.inputs import VECTOR_KEY

CLAIM = Claim(
    name="live_worlds",
    states="From live calls each step of the gate passes at most 2.5 % of what gains nothing, and intervals cover",
    groups=("simulation",),
    headline="all null kinds: per prompt ships and is truly no better",
)
STORE = RESULTS / "live_worlds"
NULL = {
    "tied, 8 configs, 800 calls": Kind(800, 8, 1, frozen=0),
    "tied, 4 configs, default unknown, 400 calls": Kind(400, 4, 1, frozen=0, default=None),
    "different, default best, 8 configs, 800 calls": Kind(800, 8, 1, effect=0.06, frozen=0, default="best"),
    "different, default worst, 8 configs, 800 calls": Kind(800, 8, 1, effect=0.06, frozen=0, default="worst"),
    "luck that nothing tells, 4 configs, 400 calls": Kind(400, 4, 1, luck=0.2, frozen=0),
    "users of five calls, 4 configs, 400 calls": Kind(400, 4, 1, luck=0.2, frozen=0, copies=5),
}
CALLS = (1000, 2000, 4000)
LEARNABLE = {f"gap .1, 4 configs, {n:,} calls": Kind(n, 4, 1, gap=0.1, effect=0.02, frozen=0) for n in CALLS}
KINDS = NULL | LEARNABLE


def log_calls(world: World, seed: int, users: int) -> Trial:
    """The trial of a world's prompts, each asked once under a drawn config by one of so many users."""
    table, (n, k, _) = world.table, world.table.rewards.shape
    chosen = np.random.default_rng([seed, 14]).integers(k, size=n)
    rewards = table.rewards[np.arange(n), chosen, 0]
    units = np.arange(n) // (n // users)
    today = -1 if table.default is None else table.default
    numbers = np.full(n, 1.0 / k), rewards, np.ones(n, dtype=bool), units, np.zeros(n)
    traffic = Traffic(
        LoggedDecisions(table.space, chosen, *numbers),
        ids=tuple(map(str, range(n))),
        intended=np.zeros(n, dtype=np.int64),
        explored=np.ones(n, dtype=bool),
        choices=np.full(n, k),
        today=np.full(n, today),
        prompts=tuple(prompt.content for prompt in table.prompts),
        tasks=(None,) * n,
        fixed=({},) * n,
        by_request=np.full(n, users == n),
    )
    trial = build_trial(traffic)
    vectors = np.array([prompt.metadata[VECTOR_KEY] for prompt in table.prompts], dtype=np.float32)
    told = tuple(with_vectors(trial.table.prompts, vectors))
    return replace(trial, table=replace(trial.table, prompts=told, groups=None))


def run_world(name: str, seed: int) -> Row:
    """What the gate decided of a world's calls, and what is true."""
    kind = KINDS[name]
    world = draw(kind, seed)
    trial = log_calls(world, seed, kind.n_prompts // kind.copies)
    learner = "ridge" if seed % 2 else "knn"
    verdict = gate_table(trial.table, PrecomputedEncoder(), learner, objective=trial.objective)
    comparison, (candidate,) = verdict.data.comparisons[0], verdict.candidates
    mean, sbs, default = world.truth.mean(axis=0), comparison.single_best.index, comparison.default
    row: Row = {
        "ships": verdict.ships[0],
        "found": candidate.found,
        "departing": candidate.departing_groups,
        "gain": candidate.gain.value,
        "low": candidate.gain.low,
        "high": candidate.gain.high,
        "true_gain": true_gain(verdict, world),
    }
    first = comparison.single_best.over_default
    if default is None or first is None:
        return row
    row |= {"first": first.value, "first_low": first.low, "first_high": first.high}
    return row | {"proven": comparison.single_best.proven, "first_true": float(mean[sbs] - mean[default])}


def run_kind(name: str, worlds: int, workers: int, store: bool) -> list[Row]:
    """All worlds of a kind; finished ones are read from the store."""
    path = STORE / f"{name.replace(', ', '-').replace(' ', '_').replace(',', '')}.jsonl"
    cases = [{"seed": seed} for seed in range(worlds)]
    return resumed(path, cases, partial(run_world, name), workers=workers, store=store)


def figures_of(found: dict[str, list[Row]]) -> list[Figure]:
    """False alarms of both steps and coverage, pooled, and how often a gain is proven by the number of calls."""
    null = [row for name, rows in found.items() if name in NULL for row in rows]
    every = [row for rows in found.values() for row in rows]
    figures = []
    if null:
        worse = sum(row["ships"] == "per_prompt" and row["true_gain"] <= 0.0 for row in null)
        label = "all null kinds: per prompt ships and is truly no better"
        figures.append(share(label, worse, len(null), at_most=GATE_ERROR))
        figures.append(share("all null kinds: per prompt ships", alarms(null), len(null), at_most=GATE_ERROR))
    wrong, known = first_alarms(every)
    if known:
        label = "all kinds: a single best config ships that is no better than the default"
        figures.append(share(label, wrong, known, at_most=GATE_ERROR))
    for label, of in (("per prompt", ""), ("single best over the default", "first")):
        inside, known = covered(every, of)
        if known:
            figures.append(share(f"all kinds: interval covers, {label}", inside, known, 0.93))
    for name, rows in found.items():
        count = alarms(rows)
        figures.append(share(f"{name}: per prompt ships", count, len(rows)))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 worlds a kind, nothing stored")
    parser.add_argument("--worlds", type=int, default=30, help="of each null kind")
    parser.add_argument("--power", type=int, default=12, help="of each kind with something to be won")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--data", help="not needed: these worlds are simulated")
    options = parser.parse_args()
    counts = {name: 2 if options.quick else options.worlds if name in NULL else options.power for name in options.kinds}
    found = {name: run_kind(name, count, options.workers, not options.quick) for name, count in counts.items()}
    notes = (
        f"Worlds: {', '.join(f'{count} × {name}' for name, count in counts.items())}. Each call is of a prompt of its "
        "own, drew one config, and got one reward of 0 or 1; with an exploration share of 5 % that many calls are a "
        "twentieth of the traffic. So few of them seldom prove a single best config over the default; where that is "
        "truly worse, a choice per prompt that ships gains by its configs alone, and is no false alarm. Truth on 4,000 "
        "new prompts, in units of reward. Coverage is of candidates that depart in at least 10 groups."
    )
    return record(CLAIM, figures_of(found), options, notes)


if __name__ == "__main__":
    sys.exit(main())
