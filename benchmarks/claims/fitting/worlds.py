"""Claim: on simulated worlds with known truth, `fit` ships what it should and its interval covers.

In each world a table is drawn, a policy is fitted with learner="auto", and its true gain over the
single best config is read off the world on 1,000 new prompts.

    python -m benchmarks run worlds [--quick] [-- --worlds 200 --workers 2 --kinds tied gap-200x8]

Resumable: finished worlds are kept in benchmarks/results/worlds/<kind>.jsonl, one line each;
delete a file to run its worlds again. `-- --recheck 3` runs three stored worlds of each kind again and
says whether the code still gives what is stored.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

# One thread a world: worlds run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, figure, record
from benchmarks.tools.resumable import resumed, share

CLAIM = Claim(
    name="worlds",
    states="SBS ships where nothing is to be won, intervals cover, and predictable gaps are closed",
    groups=("bench", "simulation"),
    headline="gap-600x2: gap closed on new prompts",
)

# Racing's study judges its shares the same way.
_share = share
STORE = RESULTS / "worlds"
N_NEW = 1000
# Of each kind with something to be won, and of each of the five without.
REAL_WORLDS, NULL_WORLDS = 200, 100
# Sampled configs and one greedy, so that every world has one whose luck repeats.
SPACE = hag.DecodingSpace(
    [
        hag.DecodingConfig(),
        hag.DecodingConfig(temperature=0.0),
        *hag.DecodingSpace.grid(temperature=[0.4, 0.7, 1.3], top_p=[0.9, 1.0]),
        *hag.DecodingSpace.grid(temperature=[0.7], repetition_penalty=[1.1, 1.2], min_p=[0.0, 0.1]),
    ]
)


@dataclass(frozen=True)
class Kind:
    """A kind of world: how prompts and configs act together, and how much of it is seen."""

    n_prompts: int
    n_samples: int
    gap: float = 0.0
    config_effect: float = 0.04
    predictable: bool = True
    copies: int = 1
    null: bool = False
    closes: bool = False


KINDS = {
    "tied": Kind(300, 4, config_effect=0.0, null=True),
    "nearly-tied": Kind(300, 4, config_effect=0.01, null=True),
    "different": Kind(300, 4, config_effect=0.1, null=True),
    "unpredictable": Kind(300, 4, gap=0.12, predictable=False, null=True),
    "duplicates": Kind(300, 4, gap=0.12, predictable=False, copies=5, null=True),
    "weak": Kind(300, 4, gap=0.04),
    "strong": Kind(300, 4, gap=0.15),
    "gap-200x8": Kind(200, 8, gap=0.12, closes=True),
    "gap-600x2": Kind(600, 2, gap=0.12, closes=True),
}


@dataclass(frozen=True)
class Outcome:
    """What one world gave. Gains are of expected reward, over the single best config."""

    seed: int
    shipped: bool
    candidate: str
    margin: float
    estimate: float
    low: float
    high: float
    candidate_gain: float
    shipped_gain: float
    gap: float


def draw(kind: Kind, seed: int, *, told: bool = False) -> tuple[hag.SimulatedEngine, hag.SweepTable]:
    """A world of this kind and a table of it; its prompts name their task where it is `told`."""
    engine = hag.SimulatedEngine(
        seed, gap=kind.gap, config_effect=kind.config_effect, predictable=kind.predictable, space=SPACE
    )
    bases = engine.prompts(kind.n_prompts // kind.copies, seed=1)
    truth = engine.truth(bases, SPACE).repeat(kind.copies, axis=0)
    prompts = [
        hag.Prompt(
            f"{base.text} Version {copy}." if kind.copies > 1 else base.text,
            task=base.task if told else "",
            group=str(number),
        )
        for number, base in enumerate(bases)
        for copy in range(kind.copies)
    ]
    rng = np.random.default_rng(seed)
    rewards = (rng.random((*truth.shape, kind.n_samples)) < truth[:, :, None]).astype(float)
    rewards[:, SPACE.deterministic, 1:] = np.nan
    return engine, hag.SweepTable.from_arrays(prompts, SPACE, rewards, default=0)


def judged(engine: hag.SimulatedEngine, policy: hag.Policy, seed: int) -> Outcome:
    """What the policy and the candidate behind it gain on new prompts of the world, whose truth is known."""
    new = engine.prompts(N_NEW, seed=2)
    truth = engine.truth(new, policy.space)
    reference = truth[:, policy.reference_index]

    def gain(chooser: hag.Policy | None) -> float:
        if chooser is None:
            return 0.0
        chosen = [decision.index for decision in chooser.decide_batch(list(new))]
        return float((truth[np.arange(N_NEW), chosen] - reference).mean())

    found = policy.evaluation.candidate
    candidate_gain = gain(policy if policy.ships == "per_prompt" else policy.candidate)
    return Outcome(
        seed=seed,
        shipped=policy.ships == "per_prompt",
        candidate=found.name,
        margin=found.margin,
        estimate=found.gain.value,
        low=found.gain.low,
        high=found.gain.high,
        candidate_gain=candidate_gain,
        shipped_gain=candidate_gain if policy.ships == "per_prompt" else 0.0,
        gap=float((truth.max(axis=1) - reference).mean()),
    )


def run_world(name: str, seed: int, mask: Callable[[hag.SweepTable], hag.SweepTable] | None = None) -> Outcome:
    """Draw a table, fit, and look at the truth.

    With a mask, such as racing's, fit what it leaves of the table; prompts then tell their task,
    so that the mask may use it.
    """
    engine, table = draw(KINDS[name], seed, told=mask is not None)
    return judged(engine, hag.fit(mask(table) if mask else table), seed)


def run_kind(name: str, worlds: int, workers: int, store: bool) -> list[Outcome]:
    """All worlds of a kind; finished ones are read from the store."""
    cases = [{"seed": seed} for seed in range(worlds)]
    rows = resumed(STORE / f"{name}.jsonl", cases, partial(_row, name), workers=workers, store=store)
    return [Outcome(**row) for row in rows]


def _row(name: str, seed: int) -> dict[str, Any]:
    return asdict(run_world(name, seed))


def rechecked(name: str, worlds: int) -> tuple[int, int]:
    """How many of the first stored worlds come out again as they are stored, and how many were tried."""
    stored = run_kind(name, worlds, 1, store=True)
    fresh = run_kind(name, worlds, 1, store=False)
    return sum(old == new for old, new in zip(stored, fresh, strict=True)), worlds


def figures(name: str, outcomes: list[Outcome]) -> list[Figure]:
    """The claims about one kind, each a share of worlds with its Wilson interval."""
    kind, n = KINDS[name], len(outcomes)
    found = []
    if kind.null:
        held = sum(not outcome.shipped for outcome in outcomes)
        found.append(share(f"{name}: SBS ships", held, n, 0.95))
    found.append(share(f"{name}: interval covers the candidate's true gain", _covered(outcomes), n, 0.9))
    if not kind.null:
        shipped = sum(outcome.shipped for outcome in outcomes)
        found.append(share(f"{name}: per-prompt policy ships", shipped, n))
        gains = np.array([outcome.shipped_gain for outcome in outcomes])
        gaps = np.array([outcome.gap for outcome in outcomes])
        draws = np.random.default_rng(0).integers(n, size=(2000, n))
        ratios = gains[draws].mean(axis=1) / gaps[draws].mean(axis=1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        closed = float(gains.mean() / gaps.mean())
        least = 0.8 if kind.closes else None
        found.append(figure(f"{name}: gap closed on new prompts", closed, low, high, unit="share", at_least=least))
    return found


def pooled(outcomes: dict[str, list[Outcome]]) -> list[Figure]:
    """The claims about several kinds together, every world counted once."""
    null = [outcome for name, some in outcomes.items() if KINDS[name].null for outcome in some]
    real = [outcome for name, some in outcomes.items() if not KINDS[name].null for outcome in some]
    shipped = [outcome for outcome in real if outcome.shipped]
    found = []
    if null:
        alarms = sum(outcome.shipped for outcome in null)
        found.append(share("all null kinds: false alarms", alarms, len(null), at_most=0.05))
        found.append(share("all null kinds: interval covers", _covered(null), len(null), 0.9))
    every = null + real
    found.append(share("all kinds: interval covers", _covered(every), len(every), 0.9, at_most=0.98))
    if shipped:
        label = "shipped where there is a real gain: interval covers"
        found.append(share(label, _covered(shipped), len(shipped), 0.9))
        for name, some in outcomes.items():
            if not KINDS[name].null and (mine := [outcome for outcome in some if outcome.shipped]):
                found.append(share(f"of these, {name}", _covered(mine), len(mine)))
    return found


def _covered(outcomes: list[Outcome]) -> int:
    return sum(outcome.low <= outcome.candidate_gain <= outcome.high for outcome in outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 worlds a kind, nothing stored")
    parser.add_argument("--worlds", type=int, help=f"of each kind; else {REAL_WORLDS}, of each null kind {NULL_WORLDS}")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--recheck", type=int, default=0, metavar="N", help="run N stored worlds a kind again")
    parser.add_argument("--data", help="not needed: these worlds are simulated")
    options = parser.parse_args()
    if options.recheck:
        again = {name: rechecked(name, options.recheck) for name in options.kinds}
        for name, (equal, tried) in again.items():
            print(f"{name}: {equal} of {tried} stored worlds come out the same")
        return int(any(equal < tried for equal, tried in again.values()))
    counts = {name: NULL_WORLDS if KINDS[name].null else REAL_WORLDS for name in options.kinds}
    counts = {name: 4 if options.quick else options.worlds or count for name, count in counts.items()}
    outcomes = {name: run_kind(name, count, options.workers, store=not options.quick) for name, count in counts.items()}
    found = [item for name, some in outcomes.items() for item in figures(name, some)] + pooled(outcomes)
    real = [outcome for name, some in outcomes.items() if not KINDS[name].null for outcome in some]
    above = sum(outcome.candidate_gain > outcome.high for outcome in real)
    below = sum(outcome.candidate_gain < outcome.low for outcome in real)
    notes = (
        f"Worlds: {', '.join(f'{count} {name}' for name, count in counts.items())}. "
        "Each: 12 configs, one of them greedy and drawn once; the candidate's "
        f"true gain is read off the world on {N_NEW} new prompts. Null kinds, where no word of a prompt tells its best "
        f"config: {', '.join(name for name in options.kinds if KINDS[name].null)}; all of them count, alone and "
        f"together. In the {len(real)} worlds with a real gain the truth lies above the interval {above} times and "
        f"below it {below} times: the gain is over the single best config of all training prompts, the estimate over "
        "that of each bootstrap draw, and they differ where configs nearly tie."
    )
    return record(CLAIM, found, options, notes)


if __name__ == "__main__":
    sys.exit(main())
