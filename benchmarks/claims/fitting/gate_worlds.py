"""Claim: on worlds of known truth each step of the gate lets pass at most 2.5 % of what gains nothing, intervals cover,
and a gain takes fewer prompts to prove than it did.

Worlds are arrays: features, probabilities and drawn rewards, so that one takes a second; learner ridge or nearest
neighbours in turn, gate and draws as `fit` has them. *Before* is the gate of one folding, with draws as wide as means
over the groups that a draw leaves out, on the same worlds.

    python -m benchmarks run gate_worlds [--quick] [-- --worlds 60 --power 40 --workers 1]

Resumable: one line a world in benchmarks/results/gate_worlds/<kind>.jsonl.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

# One thread a world: worlds run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, figure, record
from benchmarks.tools.resumable import Row, resumed, share
from hagpolicy.analysis.comparison import compare
from hagpolicy.analysis.rule import GATE_ERROR, MIN_DEPARTING
from hagpolicy.analysis.selection import select_family
from hagpolicy.fitting.crossfit import MARGINS, CrossFittedLearner, cross_fit_learner
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.fitting.verdict import Verdict, gate_table
from hagpolicy.policy.dial import compute_weighted_sum

CLAIM = Claim(
    name="gate_worlds",
    states="Each step of the gate passes at most 2.5 % of what gains nothing, intervals cover, and proofs cost less",
    groups=("bench", "simulation"),
    headline="all null kinds: per prompt ships",
)
STORE = RESULTS / "gate_worlds"
N_FEATURES, N_NEW = 6, 4000
TARGET = GATE_ERROR


@dataclass(frozen=True)
class Kind:
    """A kind of world.

    Attributes:
        n_prompts: prompts, in `n_prompts / copies` groups.
        n_configs: configs.
        n_samples: of a cell.
        effect: standard deviation of the configs' means.
        gap: of what features tell of each config's advantage.
        luck: of what nothing tells, prompt by prompt and config by config.
        frozen: configs that are drawn once: their luck repeats.
        default: index of what runs today; "best" and "worst" by the truth; None: unknown.
        copies: prompts of a group, which share features and luck.
    """

    n_prompts: int = 300
    n_configs: int = 8
    n_samples: int = 4
    effect: float = 0.0
    gap: float = 0.0
    luck: float = 0.0
    frozen: int = 1
    default: int | str | None = 0
    copies: int = 1


NULL = {
    "tied": Kind(),
    "tied, default unknown": Kind(default=None),
    "nearly tied, 100 prompts": Kind(100, effect=0.01),
    "nearly tied, default unknown, 100 prompts": Kind(100, effect=0.01, default=None),
    "different, default worst": Kind(effect=0.06, default="worst"),
    "different, default best": Kind(effect=0.06, default="best"),
    "30 noisy configs, 100 prompts, one sample": Kind(100, 30, 1, effect=0.01, frozen=10),
    "one sample, 100 prompts": Kind(100, 8, 1, frozen=3),
    "frozen luck": Kind(200, 8, 2, luck=0.2, frozen=5),
    "luck that nothing tells, default unknown": Kind(200, luck=0.15, default=None),
    "groups of five": Kind(300, luck=0.15, copies=5),
}
SIZES = (100, 200, 400)
LEARNABLE = {
    f"gap {gap:g}, {n} prompts": Kind(n, gap=gap, effect=0.02, default=None) for gap in (0.06, 0.1) for n in SIZES
} | {f"gap 0.1, default known, {n} prompts": Kind(n, gap=0.1, effect=0.02) for n in SIZES[:2]}
BETTER = {f"single best .04 better, {n} prompts": Kind(n, effect=-0.04, frozen=0, n_samples=4) for n in (100, 200, 400)}
KINDS = NULL | LEARNABLE | BETTER


@dataclass(frozen=True)
class World:
    """A table of a world, and its truth on new prompts."""

    table: hag.SweepTable
    new: np.ndarray
    truth: np.ndarray


def draw(kind: Kind, seed: int) -> World:
    """A world of a kind."""
    rng = np.random.default_rng([seed, 13])
    means = 0.5 + rng.normal(0.0, max(kind.effect, 0.0), kind.n_configs)
    if kind.effect < 0.0:  # one config is better by as much
        means[1] -= kind.effect
    axes = rng.normal(size=(N_FEATURES, kind.n_configs)) / np.sqrt(N_FEATURES)
    bases = kind.n_prompts // kind.copies
    features = rng.normal(size=(bases + N_NEW, N_FEATURES))
    luck = rng.normal(0.0, kind.luck, (bases + N_NEW, kind.n_configs))
    chances = np.clip(means + kind.gap * np.tanh(2.0 * features @ axes) + luck, 0.02, 0.98)
    seen = chances[:bases].repeat(kind.copies, axis=0)
    rewards = (rng.random((*seen.shape, kind.n_samples)) < seen[:, :, None]).astype(float)
    rewards[:, : kind.frozen, 1:] = np.nan
    space = hag.DecodingSpace(
        [hag.DecodingConfig(temperature=0.0, top_k=k + 1, num_beams=k + 1) for k in range(kind.frozen)]
        + [hag.DecodingConfig(temperature=0.5 + 0.01 * k) for k in range(kind.n_configs - kind.frozen)]
    )
    prompts = [hag.Prompt(f"p{number}", group=str(number // kind.copies)) for number in range(len(seen))]
    told = with_vectors(prompts, features[:bases].repeat(kind.copies, axis=0).astype(np.float32))
    truth = chances[bases:]
    ends = {"best": int(truth.mean(axis=0).argmax()), "worst": int(truth.mean(axis=0).argmin())}
    default = ends[kind.default] if isinstance(kind.default, str) else kind.default
    table = hag.SweepTable.from_arrays(told, space, rewards, default=default)
    return World(table, features[bases:].astype(np.float32), truth)


def run_world(name: str, seed: int) -> Row:
    """What the gate decided in a world, what is true, and what the gate before would have decided."""
    world = draw(KINDS[name], seed)
    verdict = gate_table(world.table, PrecomputedEncoder(), "ridge" if seed % 2 else "knn")
    comparison, (candidate,) = verdict.data.comparisons[0], verdict.candidates
    mean, sbs, default = world.truth.mean(axis=0), comparison.single_best.index, comparison.default
    row: Row = {
        "ships": verdict.ships[0],
        "over": candidate.over,
        "found": candidate.found,
        "departing": candidate.departing_groups,
        "gain": candidate.gain.value,
        "low": candidate.gain.low,
        "high": candidate.gain.high,
        "true_gain": true_gain(verdict, world),
        "before": ships_before(verdict),
    }
    first = comparison.single_best.over_default
    if default is None or first is None:
        return row
    row |= {"first": first.value, "first_low": first.low, "first_high": first.high}
    return row | {"proven": comparison.single_best.proven, "first_true": float(mean[sbs] - mean[default])}


def true_gain(verdict: Verdict, world: World) -> float:
    """What the candidate, refitted on all prompts, gains over the reference on new prompts."""
    winner, comparison, (candidate,) = verdict.gated.winner, verdict.data.comparisons[0], verdict.candidates
    if winner is None or not candidate.found:
        return 0.0
    training, everything = winner.training, np.ones(len(winner.training.features), dtype=bool)
    heads = training.fit_heads(winner.learner, everything)
    predicted = np.array([head.predict(world.new).astype(np.float32) for head in heads.values()])
    values = compute_weighted_sum(training.targets.weights[0], predicted)
    known = training.fit_ood(everything).score(world.new, np.zeros(len(world.new), np.float32)) <= 1.0
    rows, best, reference = np.arange(len(values)), values.argmax(axis=1), comparison.reference
    departs = known & (values[rows, best] - values[:, reference] > np.float32(candidate.margin))
    chosen = np.where(departs, best, reference)
    return float((world.truth[rows, chosen] - world.truth[:, reference]).mean())


def ships_before(verdict: Verdict) -> bool:
    """Whether the gate of one folding, over the single best config, with its wide draws, would have shipped."""
    data, winner = verdict.data, verdict.gated.winner
    if winner is None:
        return False
    prepared = replace(data.prepared, table=replace(data.prepared.table, default=None))
    comparison = compare(prepared)
    one = cross_fit_learner([winner.training], winner.learner, MARGINS, [comparison])
    boot, drawn = comparison.boot, comparison.drawn_reference
    out = drawn.out_of_bag_means(boot, one.over[0].__getitem__)[:, None, None]
    _, (selected,) = select_family(one.gains[None], boot, out)
    return bool(np.quantile(selected.draws, 0.025) > 0.0 and _departing(one, selected.index) >= MIN_DEPARTING)


def _departing(one: CrossFittedLearner, index: int | None) -> int:
    return 0 if index is None else len(np.unique(one.training.groups[one.departs[0, :, index]]))


def run_kind(name: str, worlds: int, workers: int, store: bool) -> list[Row]:
    """All worlds of a kind; finished ones are read from the store."""
    cases = [{"seed": seed} for seed in range(worlds)]
    return resumed(stored_at(name), cases, partial(run_world, name), workers=workers, store=store)


def stored_at(name: str) -> Path:
    """The file of a kind's finished worlds."""
    return STORE / f"{name.replace(', ', '-').replace(' ', '_')}.jsonl"


def count_stored(name: str) -> int:
    """Finished worlds of a kind, one a line."""
    path = stored_at(name)
    return len(path.read_text("utf-8").splitlines()) if path.exists() else 0


def alarms(rows: list[Row]) -> int:
    """Worlds in which a choice per prompt ships though no prompt knows anything."""
    return sum(row["ships"] == "per_prompt" for row in rows)


def first_alarms(rows: list[Row]) -> tuple[int, int]:
    """Worlds in which a single best config was proven that is no better than the default, and worlds with a default."""
    known = [row for row in rows if "proven" in row]
    return sum(row["proven"] and row["first_true"] <= 0.0 for row in known), len(known)


def covered(rows: list[Row], name: str = "") -> tuple[int, int]:
    """Worlds whose interval holds the truth, of those in which there is one."""
    low, high, true = ("first_low", "first_high", "first_true") if name == "first" else ("low", "high", "true_gain")
    known = [row for row in rows if low in row and (name == "first" or (row["found"] and row["departing"] >= 10))]
    return sum(row[low] - 1e-9 <= row[true] <= row[high] + 1e-9 for row in known), len(known)


def figures_of(found: dict[str, list[Row]]) -> list[Figure]:
    """False alarms of both steps and coverage, pooled and by kind, and power before and after."""
    null = [row for name, rows in found.items() if name in NULL for row in rows]
    figures = []
    if null:
        worse = sum(row["ships"] == "per_prompt" and row["true_gain"] <= 0.0 for row in null)
        figures.append(share("all null kinds: per prompt ships", alarms(null), len(null), at_most=TARGET))
        figures.append(share("all null kinds: per prompt ships and is truly no better", worse, len(null)))
        before = sum(row["before"] for row in null)
        figures.append(share("all null kinds: per prompt shipped before", before, len(null)))
    every = [row for rows in found.values() for row in rows]
    wrong, known = first_alarms(every)
    if known:
        label = "all kinds: a single best config ships that is no better than the default"
        figures.append(share(label, wrong, known, at_most=TARGET))
    for name, rows in found.items():
        if name in NULL:
            figures.append(share(f"{name}: per prompt ships", alarms(rows), len(rows), at_most=TARGET))
        wrong, known = first_alarms(rows)
        if known:
            figures.append(share(f"{name}: single best wrongly proven", wrong, known, at_most=TARGET))
    for label, of in (("per prompt", ""), ("single best over the default", "first")):
        for name, rows in [("all kinds", every), *found.items()]:
            inside, known = covered(rows, of)
            if known:
                figures.append(share(f"{name}: interval covers, {label}", inside, known, 0.93))
    shipping = [row for row in every if row["ships"] == "per_prompt" and row["true_gain"] > 0.0]
    if shipping:
        figures.append(share("among those that ship: interval covers, per prompt", *covered(shipping)))
        width = float(np.mean([row["high"] - row["low"] for row in shipping]))
        figures.append(figure("among those that ship: width of the interval", width, unit="reward"))
    for name in found:
        rows = found[name]
        if name in LEARNABLE:
            after = sum(row["ships"] == "per_prompt" for row in rows)
            figures.append(share(f"{name}: ships", after, len(rows)))
            figures.append(share(f"{name}: shipped before", sum(row["before"] for row in rows), len(rows)))
        if name in BETTER:
            figures.append(share(f"{name}: single best proven", sum(row["proven"] for row in rows), len(rows)))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 worlds a kind, nothing stored")
    parser.add_argument("--worlds", type=int, default=60, help="of each null kind")
    parser.add_argument("--power", type=int, default=40, help="of each kind with something to be won")
    parser.add_argument("--stored", action="store_true", help="as many of each kind as are stored, and no more")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--data", help="not needed: these worlds are simulated")
    options = parser.parse_args()
    counts = {name: 2 if options.quick else options.worlds if name in NULL else options.power for name in options.kinds}
    if options.stored:
        counts = {name: count for name in options.kinds if (count := count_stored(name))}
    found = {name: run_kind(name, count, options.workers, not options.quick) for name, count in counts.items()}
    notes = (
        f"Worlds: {', '.join(f'{count} × {name}' for name, count in counts.items())}. Learner nearest neighbours in "
        f"even, ridge in odd worlds, on {N_FEATURES} features; truth on {N_NEW} new prompts. Null: no feature tells "
        "anything of the configs. Coverage is of candidates that depart in at least 10 groups; others are marked "
        "as unreliable. Above 98 % an interval is conservative."
    )
    return record(CLAIM, figures_of(found), options, notes)


if __name__ == "__main__":
    sys.exit(main())
