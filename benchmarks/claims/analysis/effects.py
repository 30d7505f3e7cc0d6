"""Claim: intervals of effects cover what they should, and chance marks next to nothing.

    python -m benchmarks run effects [--quick] [-- --worlds 1000 --kinds noise effects]

Tables of known truth, drawn anew in each repetition: prompts of several tasks, configs on a grid of settings, and
settings whose effects differ from prompt to prompt around a known mean. In the kinds of pure noise all effects are 0.
Every table is given to `hag.effects`; counted is how many of its intervals hold the truth of what they estimate, and in
how many tables of noise anything is marked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, record
from benchmarks.tools.resumable import resumed, share

CLAIM = Claim(
    name="effects",
    states="Intervals of effects hold the truth in 93 to 97 of 100, and chance marks anything in at most 5",
    groups=("simulation",),
    headline="intervals that hold the truth, all kinds",
)
WORLDS, AT_ONCE = 400, 25
GRID = hag.DecodingSpace.grid(temperature=[0.4, 0.7, 1.0], hint=["", "Answer in one short sentence."])
GREEDY = hag.DecodingSpace.grid(
    temperature=[0.0], repetition_penalty=[1.0, 1.1], hint=["", "Answer in one short sentence."]
)


@dataclass(frozen=True)
class Kind:
    """Tables of one kind.

    Attributes:
        n: prompts.
        tasks: they are of.
        samples: of a cell.
        space: the configs.
        draw: rewards in [0, 1] from chances, float64 (n, n_configs, samples).
        level: lowest and highest chance of a prompt without any effect.
        hint, cold: mean effect of the hint, and of any temperature below 1, on the chance; 0 and 0: noise.
        group: prompts of a group, which share their level and their effects.
        tokens: whether answers have tokens, whose logarithm is normal; the hint adds a tenth where effects are real.
    """

    n: int = 90
    tasks: int = 3
    samples: int = 3
    space: hag.DecodingSpace = GRID
    draw: Callable[[np.random.Generator, np.ndarray], np.ndarray] = lambda rng, chance: (
        rng.random(chance.shape) < chance
    ).astype(float)
    level: tuple[float, float] = (0.3, 0.5)
    hint: float = 0.0
    cold: float = 0.0
    group: int = 1
    tokens: bool = True

    @property
    def is_noise(self) -> bool:
        """No setting does anything."""
        return self.hint == self.cold == 0.0


def skewed(rng: np.random.Generator, chance: np.ndarray) -> np.ndarray:
    """Rewards near 0 or 1 for most of them, with mean `chance`: of Beta(0.4 c, 0.4 (1 - c))."""
    return rng.beta(0.4 * chance, 0.4 * (1.0 - chance))


KINDS = {
    "noise": Kind(),
    "noise, prompts that differ": Kind(level=(0.02, 0.98)),
    "noise, rare successes": Kind(n=150, level=(0.03, 0.12), tokens=False),
    "noise, groups of 3 prompts": Kind(n=180, group=3, level=(0.1, 0.9)),
    "noise, greedy, one sample": Kind(samples=1, space=GREEDY),
    "noise, skewed rewards": Kind(draw=skewed, level=(0.1, 0.5)),
    "effects": Kind(hint=0.1, cold=-0.05),
    "effects, groups of 3 prompts": Kind(n=180, group=3, hint=0.1, cold=-0.05),
    "effects, greedy, one sample": Kind(n=120, samples=1, space=GREEDY, hint=0.15),
    "effects, skewed rewards": Kind(n=120, draw=skewed, hint=0.1, cold=0.05),
    "effects, 600 prompts": Kind(n=600, tasks=4, hint=0.02, cold=0.01),
}


def make_table(kind: Kind, rng: np.random.Generator) -> hag.SweepTable:
    """A table of the kind."""
    owner = np.arange(kind.n) // kind.group
    count = int(owner.max()) + 1
    level = rng.uniform(*kind.level, count)[owner]
    # Real effects differ between groups, evenly around their mean and by as much and .1 more.
    spread = 0.0 if kind.is_noise else 0.1
    hint, cold = (
        (mean + rng.uniform(-1.0, 1.0, count) * (spread + abs(mean)))[owner] if spread else np.zeros(kind.n)
        for mean in (kind.hint, kind.cold)
    )
    hinted = np.array([bool(config.hint) for config in kind.space])
    colder = np.array([0.0 < config.temperature < 1.0 for config in kind.space])
    chance = level[:, None] + hint[:, None] * hinted + cold[:, None] * colder
    assert ((chance >= 0.0) & (chance <= 1.0)).all()
    cells = np.repeat(chance[:, :, None], kind.samples, axis=2)
    rewards = np.clip(kind.draw(rng, cells), 0.0, 1.0)
    tokens = None
    if kind.tokens:
        longer = np.where(hinted & (not kind.is_noise), 0.1, 0.0)
        usual = rng.normal(4.0, 0.5, count)[owner][:, None, None]
        tokens = np.exp(usual + longer[:, None] + rng.normal(0.0, 0.3, rewards.shape))
    return hag.SweepTable.from_arrays(
        [f"prompt {number}" for number in range(kind.n)],
        kind.space,
        rewards,
        tasks=[f"task {group % kind.tasks}" for group in owner],
        groups=owner.tolist(),
        tokens=tokens,
    )


def find_truth(kind: Kind, effect: hag.Effect) -> float | None:
    """What the effect is on average over all prompts there could be; None for tokens where settings change them."""
    if effect.measure == "tokens" and not kind.is_noise:
        return None
    if effect.kind != "setting":  # effects add up, and tasks are changed alike
        return 0.0
    cold = "temperature" in effect.fields and kind.space is GRID
    return kind.hint if "hint" in effect.fields else kind.cold if cold else 0.0


def run(kind: str, start: int) -> dict[str, Any]:
    """What came of `AT_ONCE` tables of a kind."""
    held = {"setting": 0, "interaction": 0, "task": 0}
    told = dict.fromkeys(held, 0)
    marked = best = 0
    for seed in range(start, start + AT_ONCE):
        table = make_table(KINDS[kind], np.random.default_rng([list(KINDS).index(kind), seed]))
        found = hag.effects(table, seed=seed)
        marked += bool(found.marked)
        best += any(cell.best for cell in found.grid)
        for effect in found.effects:
            truth = find_truth(KINDS[kind], effect)
            if truth is not None:
                told[effect.kind] += 1
                held[effect.kind] += effect.estimate.low <= truth <= effect.estimate.high
    return {"marked": marked, "best": best, "held": held, "told": told}


def build_figures(rows: list[dict[str, Any]]) -> list[Figure]:
    """Coverage, all kinds and each, and the tables of noise in which anything was marked."""
    figures = [cover("all kinds", rows)]
    figures += [cover(name, [row for row in rows if row["kind"] == name]) for name in KINDS]
    for part in ("setting", "interaction", "task"):
        figures.append(cover(f"all kinds, of kind {part}", rows, (part,)))
    noise = [row for row in rows if KINDS[row["kind"]].is_noise]
    for name, mine in [("all kinds", noise), *((k, [r for r in noise if r["kind"] == k]) for k in KINDS)]:
        if mine:
            tables = len(mine) * AT_ONCE
            figures.append(
                share(f"tables of noise with a mark, {name}", sum(r["marked"] for r in mine), tables, at_most=0.05)
            )
            figures.append(share(f"tables of noise with a best config, {name}", sum(r["best"] for r in mine), tables))
    return figures


def cover(name: str, rows: list[dict[str, Any]], parts: tuple[str, ...] = ("setting", "interaction", "task")) -> Figure:
    """The share of intervals that hold the truth, with an interval over batches of tables."""
    held = np.array([sum(row["held"][part] for part in parts) for row in rows], dtype=float)
    told = np.array([sum(row["told"][part] for part in parts) for row in rows], dtype=float)
    draws = np.random.default_rng(0).integers(0, len(rows), (2000, len(rows)))
    low, high = np.quantile(held[draws].sum(axis=1) / told[draws].sum(axis=1), [0.025, 0.975])
    value, said = float(held.sum() / told.sum()), f"intervals that hold the truth, {name}"
    return figure(said, value, float(low), float(high), unit="share", at_least=0.93, at_most=0.97)


def main() -> int:
    args = arguments(__doc__ or "", more=add_options)
    worlds = 50 if args.quick else args.worlds
    cases = [{"kind": kind, "start": start} for kind in args.kinds for start in range(0, worlds, AT_ONCE)]
    rows = resumed(RESULTS / "effects" / "tables.jsonl", cases, run, store=not args.quick)
    notes = (
        f"{worlds} tables of each of {len(args.kinds)} kinds. Truths are means over all prompts there could be; tokens "
        "count where nothing changes them. Intervals of shares of intervals are bootstraps over batches of 25 tables."
    )
    return record(CLAIM, build_figures(rows), args, notes)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))


if __name__ == "__main__":
    raise SystemExit(main())
