"""Claim: racing reaches nearly the full sweep's gain over a random config with 35 % of its generations.

On worlds of known truth, the policy that `fit` ships from a full sweep, from a raced one and from the
baselines is scored on 600 new prompts. On the real LLM's cells (benchmarks/claims/sweeping/enlarged_demo.py), the real
`sweep(strategy="racing")` runs over stored answers, and policies are scored on prompts left out.

    python -m benchmarks run racing [--quick] [-- --worlds 10 --nulls 30 --workers 2 --parts worlds nulls real]

Resumable: finished worlds are kept in benchmarks/results/racing/<kind>.jsonl; delete a file to run
its worlds again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import hagpolicy as hag
from benchmarks.claims.fitting import worlds
from benchmarks.claims.sweeping import enlarged_demo
from benchmarks.tools.claim import Claim
from benchmarks.tools.raced import SHARE, Replay, budget_of, strategy, uniform, winner
from benchmarks.tools.record import RESULTS, Figure, figure, record
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.data.store.folder import SweepStore

CLAIM = Claim(
    name="racing",
    states="With 35 % of the generations racing reaches at least 95 % of the full sweep's gain over a random config",
    groups=("bench",),
    headline="all worlds: racing",
    after=("enlarged_demo",),
)

STORE = RESULTS / "racing"
N_NEW = 600
# The constants of racing were chosen on worlds 5000 to 5039; these are others.
FIRST_WORLD, FIRST_NULL = 9000, 10000
LEARNERS: list[str | hag.Learner] = ["ridge", "knn"]
MANY = hag.DecodingSpace(
    list(
        hag.DecodingSpace.grid(
            temperature=[1.0, 0.0, 0.4, 0.7, 1.3, 1.6], top_p=[1.0, 0.9], repetition_penalty=[1.0, 1.1, 1.2]
        )
    )[:24]
)
# Kind of world: (prompts, samples, gap, config_effect, space, whether prompts tell their task).
KINDS: dict[str, tuple[int, int, float, float, hag.DecodingSpace, bool]] = {
    "different": (300, 4, 0.0, 0.1, worlds.SPACE, True),
    "weak": (300, 4, 0.04, 0.04, worlds.SPACE, True),
    "strong": (300, 4, 0.15, 0.04, worlds.SPACE, True),
    "strong, task not told": (300, 4, 0.15, 0.04, worlds.SPACE, False),
    "gap-200x8": (200, 8, 0.12, 0.04, worlds.SPACE, True),
    "gap-600x2": (600, 2, 0.12, 0.04, worlds.SPACE, True),
    "24 configs": (300, 4, 0.06, 0.12, MANY, True),
    "24 configs, strong": (300, 4, 0.12, 0.08, MANY, True),
}
NULLS = ("tied", "nearly-tied", "different", "unpredictable", "duplicates")
METHODS = ("full", "racing", "uniform", "hag", "winner-take-all")


def run_world(name: str, seed: int) -> dict[str, Any]:
    """True gain of what each method ships, over a random config, on new prompts."""
    n, samples, gap, effect, space, told = KINDS[name]
    engine = hag.SimulatedEngine(seed, gap=gap, config_effect=effect, space=space)
    prompts = [prompt if told else hag.Prompt(prompt.text) for prompt in engine.prompts(n, seed=1)]
    truth = engine.truth(prompts, space)
    rewards = (np.random.default_rng(seed).random((*truth.shape, samples)) < truth[:, :, None]).astype(float)
    rewards[:, space.deterministic, 1:] = np.nan
    full = hag.SweepTable.from_arrays(prompts, space, rewards, default=space.index(engine.default_config()))
    budget = budget_of(full)
    new = engine.prompts(N_NEW, seed=2)
    new_truth = engine.truth(new, space)
    gains: dict[str, float] = {}
    for method, seen in tables(full, budget, seed).items():
        chosen = choices(hag.fit(seen, learner=LEARNERS), new, space)
        gains[method] = float(new_truth[np.arange(N_NEW), chosen].mean() - new_truth.mean())
    gains["winner-take-all"] = float(new_truth[:, winner(full, budget, seed)].mean() - new_truth.mean())
    return {"seed": seed, **{method: round(gain, 5) for method, gain in gains.items()}}


def tables(full: hag.SweepTable, budget: int, seed: int) -> dict[str, hag.SweepTable]:
    """What each method leaves of a complete table."""
    return {
        "full": full,
        "racing": strategy("racing")(full, budget, seed),
        "uniform": uniform(full, budget, seed),
        "hag": strategy("hag")(full, budget, seed),
    }


def choices(policy: hag.Policy, prompts: Sequence[Any], space: hag.DecodingSpace) -> np.ndarray:
    """int64 (n_prompts,): index in `space` of what the policy chooses."""
    return np.array([space.index(decision.config) for decision in policy.decide_batch(list(prompts))])


def run_null(name: str, seed: int) -> dict[str, Any]:
    """A null world of worlds.py, fitted (learner="auto") to what racing leaves of it."""

    def mask(table: hag.SweepTable) -> hag.SweepTable:
        return strategy("racing")(table, budget_of(table), seed)

    outcome = asdict(worlds.run_world(name, seed, mask))
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in outcome.items()}


def stored(
    run: Callable[[str, int], dict[str, Any]], name: str, seeds: range, workers: int, store: bool
) -> list[dict[str, Any]]:
    """The outcomes of these seeds; finished ones are read from the store."""
    path = STORE / f"{run.__name__.removeprefix('run_')}-{name.replace(', ', '-').replace(' ', '-')}.jsonl"
    lines = path.read_text("utf-8").splitlines() if store and path.exists() else []
    done = {outcome["seed"]: outcome for outcome in map(json.loads, lines)}
    todo = [seed for seed in seeds if seed not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        for outcome in pool.map(run, [name] * len(todo), todo):
            done[outcome["seed"]] = outcome
            print(f"\r{name}: {len(done)}", end="", file=sys.stderr, flush=True)
            if store:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(outcome) + "\n")
    print(file=sys.stderr)
    return [done[seed] for seed in seeds]


def ratio(label: str, over: np.ndarray, under: np.ndarray, least: float | None = None) -> Figure:
    """Ratio of means with its bootstrap interval, worlds (or prompts) drawn together."""
    draws = np.random.default_rng(0).integers(len(over), size=(4000, len(over)))
    low, high = np.quantile(over[draws].mean(axis=1) / under[draws].mean(axis=1), [0.025, 0.975])
    return figure(label, over.mean() / under.mean(), low, high, unit="share of the full sweep's gain", at_least=least)


def difference(label: str, values: np.ndarray, *, proven: bool = False) -> list[Figure]:
    """Mean with its bootstrap interval; with `proven` its lower end is a figure with a target of its own."""
    draws = np.random.default_rng(0).integers(len(values), size=(4000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    found = [figure(label, values.mean(), low, high, unit="reward")]
    if proven:
        found.append(figure(f"{label}: lower end", low, unit="reward", at_least=0.0))
    return found


def world_figures(outcomes: dict[str, list[dict[str, Any]]]) -> list[Figure]:
    """Shares of the full sweep's gain, all worlds together and by kind."""
    gains = {m: np.array([o[m] for kind in outcomes.values() for o in kind]) for m in METHODS}
    found = [ratio("all worlds: racing", gains["racing"], gains["full"], 0.95)]
    found += difference("all worlds: racing over uniform", gains["racing"] - gains["uniform"], proven=True)
    found += [ratio(f"all worlds: {method}", gains[method], gains["full"]) for method in METHODS[2:]]
    for name, kind in outcomes.items():
        mine = {m: np.array([o[m] for o in kind]) for m in METHODS}
        found += [ratio(f"{name}: {method}", mine[method], mine["full"]) for method in METHODS[1:]]
    return found


def null_figures(outcomes: dict[str, list[dict[str, Any]]]) -> list[Figure]:
    """False alarms and coverage under racing's mask; both with Wilson intervals."""
    every = [outcome for kind in outcomes.values() for outcome in kind]
    found = []
    for name, kind in [("all null worlds", every), *outcomes.items()]:
        held = sum(not outcome["shipped"] for outcome in kind)
        covered = sum(outcome["low"] <= outcome["candidate_gain"] <= outcome["high"] for outcome in kind)
        found.append(worlds._share(f"raced, {name}: SBS ships", held, len(kind), 0.95))
        found.append(worlds._share(f"raced, {name}: interval covers", covered, len(kind), 0.9))
    return found


def real_figures(repeats: int) -> list[Figure]:
    """On the real LLM's cells: policies fitted on four fifths of the prompts, scored on the fifth left out."""
    full = hag.load_table(enlarged_demo.FOLDER)
    full = full.take(full.complete)
    engine = Replay(enlarged_demo.FOLDER)
    gains = {method: np.zeros((repeats, len(full.prompts))) for method in METHODS}
    spent = []
    for repeat in range(repeats):
        folds = assign_folds(full.groups, 5, repeat)
        for fold in range(5):
            train, test = full.take(folds != fold), full.take(folds == fold)
            budget = budget_of(train)
            seen = tables(train, budget, repeat)
            seen["racing"], cells = _swept(engine, train, budget)
            spent.append(cells / train.counts.sum())
            fitted = {method: hag.fit(table, learner=LEARNERS) for method, table in seen.items()}
            left = {method: choices(policy, test.prompts, full.space) for method, policy in fitted.items()}
            left["winner-take-all"] = np.full(len(test.prompts), winner(train, budget, repeat))
            for method, chosen in left.items():
                took = test.means[np.arange(len(chosen)), chosen]
                gains[method][repeat, folds == fold] = took - test.means.mean(axis=1)
    by_prompt = {method: values.mean(axis=0) for method, values in gains.items()}
    found = difference("real LLM: full sweep over a random config", by_prompt["full"])
    found.append(ratio("real LLM: racing", by_prompt["racing"], by_prompt["full"], 0.95))
    found += difference("real LLM: racing over uniform", by_prompt["racing"] - by_prompt["uniform"])
    found += [ratio(f"real LLM: {method}", by_prompt[method], by_prompt["full"]) for method in METHODS[2:]]
    found.append(figure("real LLM: generations of racing", max(spent), unit="share", at_most=SHARE))
    return found


def _swept(engine: Replay, train: hag.SweepTable, budget: int) -> tuple[hag.SweepTable, int]:
    """What the real sweep leaves by racing over stored answers, and how many it asked for."""
    with tempfile.TemporaryDirectory() as folder:
        table = hag.sweep(
            engine, train.prompts, train.space, enlarged_demo.SCORERS, samples=enlarged_demo.SAMPLES,
            max_tokens=enlarged_demo.MAX_TOKENS, out=Path(folder) / "sweep", strategy="racing", budget=budget,
            progress=False,
        )  # fmt: skip
        with SweepStore(Path(folder) / "sweep") as store:
            return table, len(store.cells.rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one world a kind, nothing stored")
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--nulls", type=int, default=20)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--parts", nargs="*", choices=("worlds", "nulls", "real"), default=("worlds", "nulls", "real"))
    parser.add_argument("--data", help="not needed")
    options = parser.parse_args()
    n_worlds, n_nulls = (1, 1) if options.quick else (options.worlds, options.nulls)
    found: list[Figure] = []
    for part, run, names, seeds, figures in (
        ("worlds", run_world, tuple(KINDS), range(FIRST_WORLD, FIRST_WORLD + n_worlds), world_figures),
        ("nulls", run_null, NULLS, range(FIRST_NULL, FIRST_NULL + n_nulls), null_figures),
    ):
        if part in options.parts:
            found += figures({n: stored(run, n, seeds, options.workers, not options.quick) for n in names})
    if "real" in options.parts:
        found += real_figures(1 if options.quick else 2)
    notes = (
        f"Worlds: {n_worlds} of each of {len(KINDS)} kinds, learners ridge and knn for all methods, true rewards on "
        f"{N_NEW} new prompts. Null worlds: {n_nulls} of each of {len(NULLS)} kinds, learner auto, tasks told. Real "
        "LLM: the enlarged demo, five folds over its prompts, racing by the real sweep over stored answers; intervals "
        "over prompts. Winner-take-all is successive halving to one config."
    )
    return record(CLAIM, found, options, notes)


if __name__ == "__main__":
    sys.exit(main())
