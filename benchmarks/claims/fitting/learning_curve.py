"""Claim: what more prompts and more samples buy, and that the stated rule for how many prompts a proof takes holds.

Worlds of known gain and random subsets of a real sweep, at several numbers of prompts and of samples a cell: what
`fit` (learner="auto") estimates and proves there, and what its candidate gains on prompts it has not seen. The rule of
`hagpolicy/sizing.py` then predicts, from each table alone and the candidate's true gain, how often the gate ships.

    python -m benchmarks run learning_curve [--quick] [--data DIR]
        [-- --worlds 8 --workers 1 --parts worlds workload]

Resumable: one line a fit in benchmarks/results/learning_curve/*.jsonl; the curves as arrays in curves.json beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

# One thread a fit: they run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import hagpolicy as hag
from benchmarks.claims.fitting import worlds
from benchmarks.claims.fitting.false_alarms import STUDIES, digest_of
from benchmarks.tools.claim import Claim
from benchmarks.tools.plots import learning_plot
from benchmarks.tools.record import RESULTS, Figure, bootstrap, figure, not_run, record
from benchmarks.tools.resumable import Row, resumed, share
from hagpolicy.analysis.sizing import CLOSED, compute_chance_to_prove, count_prompts_needed

STORE = RESULTS / "learning_curve"
CLAIM = Claim(
    name="learning_curve",
    states="More prompts prove smaller gains, and the stated rule says about how many it takes",
    groups=("stored",),
    headline="rule promises 60% to 90%*: shipped",
    needs=("data",),
    after=("enlarged_demo", "workload_sweep"),
)
# Gap of the world, prompts, samples a cell; the seeds are others than those of worlds.py.
WORLDS = [
    *((0.15, n, 4) for n in (75, 150, 300)),
    *((0.08, n, 4) for n in (75, 150, 300, 600, 1200)),
    *((0.04, n, 4) for n in (150, 300, 600, 1200)),
    *((0.08, n, s) for n, s in ((300, 1), (300, 2), (600, 1))),
]
FIRST_WORLD = 7000
SIZES = (60, 120, 240, 480)
SAMPLES = (1, 2, 4)
SUBSETS = 6
# Fewer prompts than this outside a subset say too little of what its candidate gains there.
LEAST_NEW = 60


def world_row(gap: float, n_prompts: int, n_samples: int, seed: int) -> Row:
    """A world, what `headroom` says of its table and what `fit` makes of it. The fit is not told the tasks."""
    engine, table = worlds.draw(worlds.Kind(n_prompts, n_samples, gap=gap), seed, told=True)
    found = hag.headroom(table)
    untold = replace(table, prompts=tuple(replace(prompt, task="") for prompt in table.prompts))
    outcome = worlds.judged(engine, hag.fit(untold), seed)
    return _said(found) | {
        "shipped": outcome.shipped,
        "candidate": outcome.candidate,
        "estimate": outcome.estimate,
        "low": outcome.low,
        "high": outcome.high,
        "new_gain": outcome.candidate_gain,
        "reachable": outcome.gap,
    }


def table_row(study: str, data: Path | None, n_prompts: int, n_samples: int, seed: int, table: str) -> Row:
    """A random subset of a real sweep: whole groups, some of the samples. `n_prompts` 0: all of them."""
    part, rest = subset(_table(study, data), n_prompts, n_samples, seed)
    policy = hag.fit(part)
    found = policy.evaluation.candidate
    held = policy if policy.ships == "per_prompt" else policy.candidate
    new = None
    if len(rest.prompts) >= LEAST_NEW:
        new = 0.0
        if held is not None:
            chosen = [decision.index for decision in held.decide_batch(rest.prompts)]
            gains = rest.common_means[np.arange(len(chosen)), chosen] - rest.common_means[:, held.reference_index]
            new = float(gains.mean())
    return _said(hag.headroom(part)) | {
        "groups": len(np.unique(part.groups)),
        "shipped": policy.ships == "per_prompt",
        "candidate": found.name,
        "estimate": found.gain.value,
        "low": found.gain.low,
        "high": found.gain.high,
        "new_gain": new,
    }


def subset(table: hag.SweepTable, n_prompts: int, n_samples: int, seed: int) -> tuple[hag.SweepTable, hag.SweepTable]:
    """About `n_prompts` prompts in whole groups drawn at random, with some of their samples, and all other prompts
    with all of theirs; complete prompts only."""
    whole = table.take(table.complete)
    draw = np.random.default_rng(seed)
    names = draw.permutation(np.unique(whole.groups))
    sizes = np.array([(whole.groups == name).sum() for name in names])
    taken = names if n_prompts == 0 else names[: int(np.searchsorted(sizes.cumsum(), n_prompts)) + 1]
    inside = np.isin(whole.groups, taken)
    part = whole.take(inside)
    # A deterministic config was drawn once, and keeps its outcome.
    unseen = np.ones(part.rewards.shape, dtype=bool)
    unseen[:, :, draw.permutation(part.rewards.shape[2])[:n_samples]] = False
    unseen[:, part.space.deterministic] = False
    part = replace(part, rewards=np.where(unseen, np.nan, part.rewards))
    return part.take(part.complete), whole.take(~inside)


@cache
def _table(study: str, data: Path | None) -> hag.SweepTable:
    return STUDIES[study].table(data)


def _said(found: hag.Headroom) -> Row:
    """What a table says before any training."""
    task = found.per_task_best
    return {
        "detectable": found.detectable,
        "task_gain": None if task is None else task.value,
        "task_low": None if task is None else task.low,
        "task_high": None if task is None else task.high,
        "split_gain": None if found.could_win_low is None else found.could_win_low.value,
    }


def curves(rows: list[Row], label: str) -> dict[str, dict[str, list[Any]]]:
    """Arrays for a plot, one curve a number of samples: means over worlds or subsets, sorted by prompts."""
    found: dict[str, dict[str, list[Any]]] = {}
    for n_samples in sorted({row["n_samples"] for row in rows}):
        some = [row for row in rows if row["n_samples"] == n_samples]
        curve: dict[str, list[Any]] = {}
        for n_prompts in sorted({row["prompts"] for row in some}):
            point = [row for row in some if row["prompts"] == n_prompts]
            seen = [row["new_gain"] for row in point if row["new_gain"] is not None]
            values = {"prompts": n_prompts, "fits": len(point), "shipped": _mean(point, "shipped")}
            values |= {name: _mean(point, name) for name in ("estimate", "low", "high", "detectable")}
            values["new_gain"] = round(float(np.mean(seen)), 5) if seen else None
            for name, value in values.items():
                curve.setdefault(name, []).append(value)
        found[f"{label}, {n_samples} sample{'s' * (n_samples > 1)}"] = curve
    return found


def _mean(rows: list[Row], name: str) -> float:
    return round(float(np.mean([row[name] for row in rows])), 5)


def curve_figures(found: dict[str, dict[str, list[Any]]]) -> list[Figure]:
    """Every point of the curves: the mean estimate with the mean interval, and the share that shipped."""
    figures = []
    for name, curve in found.items():
        for at, n_prompts in enumerate(curve["prompts"]):
            label = f"{name}, {n_prompts} prompts"
            middle, low, high = (curve[key][at] for key in ("estimate", "low", "high"))
            figures.append(figure(f"{label}: gain, mean interval", middle, low, high, unit="reward gain"))
            if curve["new_gain"][at] is not None:
                figures.append(figure(f"{label}: gain on new prompts", curve["new_gain"][at], unit="reward gain"))
            n = curve["fits"][at]
            figures.append(share(f"{label}: shipped", round(curve["shipped"][at] * n), n))
    return figures


def rule_figures(rows: list[Row]) -> list[Figure]:
    """Predicted and observed power, by what the rule promises; and the share of what the best config of each task
    gains that is won without being told it, where the prompts about suffice to prove it: `sizing.CLOSED` counts on
    it."""
    promised = np.array([compute_chance_to_prove(row["detectable"], row["new_gain"]) for row in rows])
    shipped = np.array([row["shipped"] for row in rows])
    figures = []
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.01)):
        inside = (promised >= low) & (promised < high)
        if inside.any():
            label = f"rule promises {low:.0%} to {min(high, 1.0):.0%} (mean {promised[inside].mean():.0%}): shipped"
            figures.append(share(label, int(shipped[inside].sum()), int(inside.sum())))
    about = (promised >= 0.6) & (promised < 0.95)
    if about.any():
        pairs = np.array([(row["new_gain"], row["task_gain"]) for row in rows])[about]
        won = bootstrap(pairs, lambda some, axis: np.divide(*some.sum(axis=axis)))
        figures.append(
            figure(
                f"rule promises 60% to 95%: won of what the tasks' best gain, counted on {CLOSED:.0%}",
                *won,
                unit="share",
            )
        )
    return figures


def needed_figures(rows: list[Row]) -> list[Figure]:
    """By the rule and by what happened: prompts with which a world's policy is proven four times in five."""
    figures = []
    for gap in sorted({row["gap"] for row in rows}):
        some = [row for row in rows if row["gap"] == gap and row["n_samples"] == 4]
        sizes = sorted({row["prompts"] for row in some})
        powers = [_mean([row for row in some if row["prompts"] == size], "shipped") for size in sizes]
        if not min(powers) < 0.8 <= max(powers):
            continue
        observed = float(np.exp(np.interp(0.8, np.maximum.accumulate(powers), np.log(sizes))))
        near = [row for row in some if row["prompts"] == min(sizes, key=lambda size: abs(np.log(size / observed)))]
        said = [count_prompts_needed(row["detectable"], row["prompts"], max(row["new_gain"], 1e-3)) for row in near]
        figures.append(figure(f"gap {gap:g}: prompts for power 0.8, observed", observed, unit="prompts"))
        middle, low, high = bootstrap(said)
        figures.append(figure(f"gap {gap:g}: prompts for power 0.8, by the rule", middle, low, high, unit="prompts"))
    return figures


def world_part(n_worlds: int, workers: int, store: bool) -> tuple[list[Figure], dict[str, Any]]:
    points = WORLDS if store else [(0.15, 150, 4), (0.08, 150, 4)]
    cases = [
        {"gap": gap, "n_prompts": n, "n_samples": s, "seed": FIRST_WORLD + number}
        for number in range(n_worlds)  # world by world, so that a study cut short has all points
        for gap, n, s in points
    ]
    rows = resumed(STORE / "worlds.jsonl", cases, world_row, workers=workers, store=store)
    rows = [{**row, "prompts": row["n_prompts"]} for row in rows]
    found: dict[str, Any] = {}
    for gap in sorted({row["gap"] for row in rows}):
        found |= curves([row for row in rows if row["gap"] == gap], f"worlds, gap {gap:g}")
    return [*curve_figures(found), *rule_figures(rows), *needed_figures(rows)], found


def table_part(study: str, data: Path | None, workers: int, store: bool) -> tuple[list[Figure], dict[str, Any]]:
    table = _table(study, data)
    most = int(table.complete.sum())
    sizes = [size for size in SIZES if size < 0.9 * most]
    known = {"table": digest_of(table)}
    cases = [
        {"n_prompts": size, "n_samples": samples, "seed": seed, **known}
        for seed in range(SUBSETS if store else 1)
        for size in sizes
        for samples in SAMPLES
    ]
    cases += [{"n_prompts": 0, "n_samples": samples, "seed": 0, **known} for samples in SAMPLES]
    rows = resumed(STORE / f"{study}.jsonl", cases, partial(table_row, study, data), workers=workers, store=store)
    found = curves([{**row, "prompts": row["n_prompts"] or most} for row in rows], study)
    return curve_figures(found), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few fits, nothing stored")
    parser.add_argument("--worlds", type=int, default=8, help="of each point")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--parts", nargs="*", choices=("worlds", "workload", "enlarged_demo"), help="worlds and the workload"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of public data; see benchmarks/README.md")
    options = parser.parse_args()
    store = not options.quick
    parts = options.parts or (["worlds", "enlarged_demo"] if options.quick else ["worlds", "workload"])
    if "workload" in parts and options.data is None:
        return not_run(CLAIM, "needs --data, the folder of public data", options)
    figures: list[Figure] = []
    arrays: dict[str, Any] = {}
    for part in parts:
        if part == "worlds":
            more, found = world_part(options.worlds if store else 2, options.workers, store)
        else:
            more, found = table_part(part, options.data, options.workers, store)
        figures += more
        arrays |= found
    if store:
        STORE.mkdir(parents=True, exist_ok=True)
        (STORE / "curves.json").write_text(json.dumps(arrays, indent=1) + "\n", "utf-8")
        panels: dict[str, dict[str, Any]] = {}
        for name, curve in arrays.items():
            title, _, samples = name.rpartition(", ")
            panels.setdefault(title, {})[samples] = curve
        (STORE / "curves.svg").write_text(learning_plot(panels), "utf-8")
    notes = (
        f"Worlds: {options.worlds} of each point, gains known. Real sweeps: {SUBSETS} random subsets of whole groups "
        "of each size, new prompts are those outside the subset; the last point is the whole table, once."
    )
    return record(CLAIM, figures, options, notes, plots=["learning_curve/curves.svg"])


if __name__ == "__main__":
    sys.exit(main())
