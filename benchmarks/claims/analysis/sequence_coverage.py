"""Claim: the interval of an experiment holds however often it is looked at, and what that costs.

    python -m benchmarks run sequence_coverage [--quick] [-- --experiments 2000]

Experiments of known truth, policy against default, drawn anew in each repetition: 20,000 requests each, by request or
by users who send several, with equal arms and with a small one, without a difference, with a gain of .05, and with a
gain that comes and goes. After every unit that counts the interval is looked at; counted is how many experiments have
an interval, at any look, without the truth, which is the mean difference over the units so far. The same is counted of
a fixed-n interval, which is made for one look. Where the gain is .05, it is told after how many requests it is proven:
by the sequence at the first look that excludes 0, and by a fixed-n interval at the number of requests fixed beforehand
at which that share of experiments would succeed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, record
from benchmarks.tools.resumable import share
from hagpolicy import DecodingSpace
from hagpolicy.analysis.logged.experiment import judge_experiment
from hagpolicy.analysis.logged.sequence import compute_sequence
from hagpolicy.data.decisions import LoggedDecisions

CLAIM = Claim(
    name="sequence_coverage",
    states="Looked at after every request, at most 5 of 100 experiments ever exclude the truth",
    groups=("simulation",),
    headline="sequence excludes the truth, gain .05",
)
EXPERIMENTS, REQUESTS, AT_ONCE = 1000, 20_000, 25
FIRST_LOOK = 100  # of the fixed-n interval, which means nothing before
GAIN = 0.05
SPACE = DecodingSpace.grid(temperature=[0.0, 1.0])


@dataclass(frozen=True)
class Kind:
    """Experiments of one kind, each request a unit.

    Attributes:
        default: chance that a request of the default's arm succeeds.
        gain: more than that under the policy, at each request, of its number from 0 to 1.
        share: of units that are assigned to the policy.
        graded: rewards are of Beta(2 c, 2 (1 - c)) and not 0 or 1.
    """

    default: float = 0.55
    gain: Callable[[np.ndarray], np.ndarray] = lambda time: 0.0 * time
    share: float = 0.5
    graded: bool = False


KINDS = {
    "no difference": Kind(),
    "no difference, a tenth by the policy": Kind(share=0.1),
    "no difference, rare successes": Kind(default=0.02),
    "gain .05": Kind(gain=lambda time: 0.0 * time + GAIN),
    "gain .05, a tenth by the policy": Kind(gain=lambda time: 0.0 * time + GAIN, share=0.1),
    "gain .05, graded rewards": Kind(gain=lambda time: 0.0 * time + GAIN, graded=True),
    "gain that comes and goes": Kind(gain=lambda time: 0.15 * np.sin(8.0 * np.pi * time)),
}
USERS = "gain .05, users of several requests"
SENT = 4.0  # requests of a user beyond the first, on average


@dataclass(frozen=True)
class Found:
    """What came of some experiments of a kind.

    Attributes:
        excluded: bool (n,): the sequence excludes the truth at some look.
        peeked: bool (n,): so does the fixed-n interval.
        proven: float64 (n,): requests until the sequence excludes 0 for good reasons, infinite: never.
        fixed: bool (n, n_requests): the fixed-n interval lies above 0 at so many requests.
    """

    excluded: np.ndarray
    peeked: np.ndarray
    proven: np.ndarray
    fixed: np.ndarray


def run(kind: Kind, rng: np.random.Generator, count: int, n: int) -> Found:
    """What comes of so many experiments of a kind, of n requests each."""
    by_policy = rng.random((count, n)) < kind.share
    gain = kind.gain(np.arange(n) / n)
    chance = kind.default + np.where(by_policy, gain, 0.0)
    reward = rng.beta(2.0 * chance, 2.0 * (1.0 - chance)) if kind.graded else (rng.random((count, n)) < chance) * 1.0
    truth = np.cumsum(gain) / np.arange(1, n + 1)
    path = compute_sequence(by_policy, reward, kind.share)
    low, high = compute_fixed(by_policy, reward)
    outside = ((truth < low) | (truth > high))[:, FIRST_LOOK:]
    return Found(
        ((truth < path.low - 1e-9) | (truth > path.high + 1e-9)).any(axis=1),
        outside.any(axis=1),
        count_until(path.low > 0.0),
        low > 0.0,
    )


def compute_fixed(by_policy: np.ndarray, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the usual 95 % interval of a difference of two means, (n_experiments, n_requests), at each n."""
    means, errors = [], []
    for mine in (by_policy, ~by_policy):
        count = np.maximum(np.cumsum(mine, axis=1), 1)
        mean = np.cumsum(mine * reward, axis=1) / count
        spread = np.cumsum(mine * reward**2, axis=1) / count - mean**2
        means.append(mean)
        errors.append(spread / np.maximum(count - 1, 1))
    half = 1.96 * np.sqrt(np.maximum(errors[0] + errors[1], 1e-12))
    return means[0] - means[1] - half, means[0] - means[1] + half


def count_until(proven: np.ndarray) -> np.ndarray:
    """float64 (n_experiments,): looks until the first that is marked; infinite where none is."""
    return np.where(proven.any(axis=1), proven.argmax(axis=1) + 1.0, np.inf)


def run_users(rng: np.random.Generator, n: int) -> tuple[bool, float]:
    """Whether an experiment by users ever excludes the truth, and requests until the gain is proven.

    Users differ in how often they succeed, send some requests over a day, and count when it has passed.
    """
    unit = np.repeat(np.arange(n), 1 + rng.poisson(SENT, n))[:n]
    count = int(unit.max()) + 1
    arm, level = rng.random(count) < 0.5, rng.uniform(0.2, 0.9, count)
    seconds = np.sort(rng.uniform(0.0, 30 * 86_400.0, count))[unit] + np.where(
        np.r_[True, unit[1:] != unit[:-1]], 0.0, rng.uniform(0.0, 86_400.0, n)
    )
    order = np.argsort(seconds, kind="stable")
    unit, seconds = unit[order], seconds[order]
    reward = (rng.random(n) < level[unit] + GAIN * arm[unit]).astype(float)
    decisions = LoggedDecisions(
        SPACE,
        np.where(arm[unit], 0, -1),
        np.ones(n),
        reward,
        arm[unit],
        unit,
        seconds - seconds[0],
        share=0.5,
    )
    found = judge_experiment(decisions)
    outside = ((found.path.low > GAIN) | (found.path.high < GAIN)).any()
    proven = np.flatnonzero(found.path.low > 0.0)
    after = np.searchsorted(decisions.seconds, found.seconds[proven[0]]) + 1.0 if len(proven) else np.inf
    return bool(outside), float(after)


def gather(name: str, experiments: int, n: int) -> list[Found]:
    """What comes of all experiments of a kind, in parts."""
    parts = []
    for start in range(0, experiments, AT_ONCE):
        rng = np.random.default_rng([list(KINDS).index(name), start])
        found = run(KINDS[name], rng, min(AT_ONCE, experiments - start), n)
        kept = found.fixed if name == "gain .05" else found.fixed[:, :0]
        parts.append(Found(found.excluded, found.peeked, found.proven, kept))
        print(f"\rsequence_coverage, {name}: {start + AT_ONCE}/{experiments}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return parts


def build_figures(name: str, parts: list[Found]) -> list[Figure]:
    """Experiments with a false interval, and requests until the gain is proven, of a kind."""
    excluded, peeked, proven = (
        np.concatenate([getattr(part, field) for part in parts]) for field in ("excluded", "peeked", "proven")
    )
    figures = [
        share(f"sequence excludes the truth, {name}", int(excluded.sum()), len(excluded), at_most=0.05),
        share(f"fixed-n interval excludes the truth at some look, {name}", int(peeked.sum()), len(peeked)),
    ]
    if name.startswith("gain .05"):
        figures += time_figures(name, proven)
    if name == "gain .05":
        figures += fixed_figures(np.concatenate([part.fixed for part in parts]), proven)
    return figures


def time_figures(name: str, proven: np.ndarray) -> list[Figure]:
    """Requests until half and four fifths of experiments have proven the gain; none where they have not."""
    figures = []
    for part, words in ((0.5, "half"), (0.8, "four fifths")):
        if np.isfinite(proven).mean() >= part + 0.05:
            most = np.where(np.isfinite(proven), proven, 1e9)
            after = bootstrap(most, lambda rows, axis, part=part: np.quantile(rows, part, axis=axis), draws=1000)
            figures.append(figure(f"requests until {words} prove it by the sequence, {name}", *after, unit="requests"))
    return figures


def fixed_figures(fixed: np.ndarray, proven: np.ndarray) -> list[Figure]:
    """The same of the fixed-n interval at one look, and how many times as many the sequence takes."""
    figures = []
    powers = fixed.mean(axis=0)
    for part, words in ((0.5, "half"), (0.8, "four fifths")):
        enough = np.flatnonzero((powers >= part) & (np.arange(len(powers)) >= FIRST_LOOK))
        if len(enough) and np.isfinite(np.quantile(proven, part)):
            n = int(enough[0]) + 1
            figures.append(figure(f"requests at which {words} prove it by a fixed-n interval", n, unit="requests"))
            times = float(np.quantile(proven, part)) / n
            figures.append(figure(f"requests, sequence over fixed-n, {words}", times, unit="times"))
    return figures


def main() -> int:
    args = arguments(__doc__ or "", more=add_options)
    experiments, n = (50, 5000) if args.quick else (args.experiments, REQUESTS)
    figures: list[Figure] = []
    for name in KINDS:
        figures += build_figures(name, gather(name, experiments, n))
    by_users = []
    for seed in range(experiments):
        by_users.append(run_users(np.random.default_rng([99, seed]), n))
        print(f"\rsequence_coverage, {USERS}: {seed + 1}/{experiments}", end="", file=sys.stderr)
    print(file=sys.stderr)
    outside, after = (np.array(values) for values in zip(*by_users, strict=True))
    figures.append(share(f"sequence excludes the truth, {USERS}", int(outside.sum()), len(outside), at_most=0.05))
    figures += time_figures(USERS, after)
    notes = (
        f"{experiments} experiments of {n:,} requests of each kind. The fixed-n interval is looked at from request "
        f"{FIRST_LOOK} on. Users send {SENT + 1:.0f} requests on average within a day and count when it has passed, so "
        "their requests are those that came until then."
    )
    return record(CLAIM, figures, args, notes)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--experiments", type=int, default=EXPERIMENTS)


if __name__ == "__main__":
    raise SystemExit(main())
