"""Claim: off-policy intervals hold the true value of policies that never ran.

    python -m benchmarks run off_policy_coverage [--quick] [-- --traffics 1000]

Traffic of known truth, drawn anew in each repetition: 20,000 requests of users who send several, who differ in how
often they succeed, in how much they send and in the kinds of their prompts; configs that are good for some kinds and
bad for others; one request in ten that the caller has fixed, one reward in five that never comes. One policy decides,
and in 5 % of the requests a config is drawn at random. From that log the value of three others is estimated: one that
chooses the best config of each kind, one that departs for two thirds of the kinds, and one that draws its configs.
Counted is how many of the 95 % intervals, over users, hold the true value, and the true difference to what ran.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, record
from benchmarks.tools.resumable import share
from hagpolicy import DecodingSpace
from hagpolicy.analysis.logged.value import LoggedValue, PolicyValue, estimate_value
from hagpolicy.data.decisions import UNCHANGED, LoggedDecisions

CLAIM = Claim(
    name="off_policy_coverage",
    states="95 % intervals of the value of policies that never ran hold it in 90 to 98 of 100 logs of 20,000 requests",
    groups=("simulation",),
    headline="doubly robust, value, all policies",
)
TRAFFICS, REQUESTS, EXPLORED = 400, 20_000, 0.05
FIXED, LOST = 0.1, 0.2  # requests that the caller fixed, rewards that never come
KINDS, CONFIGS = 6, 6
SPACE = DecodingSpace.grid(temperature=[index / CONFIGS for index in range(CONFIGS)])
# What a user's requests succeed more or less often by, and how many more requests than one such a user sends.
USERS = np.array([-1.2, -0.5, 0.0, 0.5, 1.2])
SENT = np.array([6.0, 4.0, 3.0, 2.0, 1.0])
ESTIMATORS = {"doubly_robust": "doubly robust", "snips": "SNIPS", "ips": "IPS"}


def make_chances() -> np.ndarray:
    """float64 (users, kinds, configs): chance that a request succeeds."""
    rng = np.random.default_rng(7)
    kinds, configs = rng.normal(0.3, 0.6, KINDS)[:, None], rng.normal(0.0, 0.5, (KINDS, CONFIGS))
    return 1.0 / (1.0 + np.exp(-(USERS[:, None, None] + kinds + configs)))


CHANCES = make_chances()
WEIGHTS = (1.0 + SENT) / (1.0 + SENT).sum()
MEANS = np.tensordot(WEIGHTS, CHANCES, axes=1)  # (kinds, configs): over the requests of all users
UNFIXED = 0.5  # chance of success of a request that the caller fixed


def make_policies() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Probabilities of the logged policy without exploration, and of the three others, each (kinds, configs)."""
    best, second = np.argsort(-MEANS, axis=1)[:, :2].T
    logged = second.copy()
    logged[0] = 0
    some = np.where(np.arange(KINDS) < 2 * KINDS // 3, best, logged)
    drawn = np.exp(4.0 * MEANS)
    return np.eye(CONFIGS)[logged], {
        "best of each kind": np.eye(CONFIGS)[best],
        "departs for two thirds": np.eye(CONFIGS)[some],
        "draws its configs": drawn / drawn.sum(axis=1, keepdims=True),
    }


LOGGED, POLICIES = make_policies()
BEHAVIOUR = (1.0 - EXPLORED) * LOGGED + EXPLORED / CONFIGS


def find_truth(policy: np.ndarray) -> float:
    """Mean reward of a request under a policy, (kinds, configs)."""
    return FIXED * UNFIXED + (1.0 - FIXED) * float((policy * MEANS).sum(axis=1).mean())


def draw_traffic(rng: np.random.Generator, n: int) -> tuple[LoggedDecisions, np.ndarray, np.ndarray]:
    """A log of n requests, the kind of each, int64 (n,), and whether the caller fixed it, bool (n,)."""
    users = rng.integers(len(USERS), size=n)
    unit = np.repeat(np.arange(n), 1 + rng.poisson(SENT[users]))[:n]
    main = rng.integers(KINDS, size=n)
    kind = np.where(rng.random(n) < 0.6, main[unit], rng.integers(KINDS, size=n))
    fixed = rng.random(n) < FIXED
    chosen = (rng.random(n)[:, None] > np.cumsum(BEHAVIOUR[kind], axis=1)[:, :-1]).sum(axis=1)
    chance = np.where(fixed, UNFIXED, CHANCES[users[unit], kind, chosen])
    reward = (rng.random(n) < chance).astype(float)
    reward[rng.random(n) < LOST] = np.nan
    decisions = LoggedDecisions(
        SPACE,
        np.where(fixed, UNCHANGED, chosen),
        np.where(fixed, 1.0, BEHAVIOUR[kind, chosen]),
        reward,
        np.ones(n, dtype=bool),
        unit,
        np.arange(n, dtype=float),
    )
    return decisions, kind, fixed


def estimate(seed: int, n: int) -> dict[str, LoggedValue]:
    """What a log of n requests tells of each policy."""
    decisions, kind, fixed = draw_traffic(np.random.default_rng(seed), n)
    found = {}
    for name, policy in POLICIES.items():
        target = policy[kind]
        if (target.max(axis=1) == 1.0).all():
            found[name] = estimate_value(decisions, np.where(fixed, UNCHANGED, target.argmax(axis=1)))
        else:
            found[name] = estimate_value(decisions, np.where(fixed[:, None], 0.0, target))
    return found


def count_held(runs: list[dict[str, LoggedValue]]) -> dict[tuple[str, str, str], np.ndarray]:
    """By estimator, quantity and policy: float64 (runs, 3), held or not, width of the interval, error of the value."""
    ran = find_truth(BEHAVIOUR)
    rows = {}
    for name, policy in POLICIES.items():
        truth = find_truth(policy)
        for estimator in ESTIMATORS:
            for quantity, true in (("value", truth), ("gain", truth - ran)):
                told = [getattr(run[name], estimator) for run in runs]
                ends = [getattr(one, quantity) for one in told if isinstance(one, PolicyValue)]
                rows[estimator, quantity, name] = np.array(
                    [(end.low <= true <= end.high, end.high - end.low, end.value - true) for end in ends]
                )
    return rows


def build_figures(runs: list[dict[str, LoggedValue]]) -> list[Figure]:
    """Coverage by estimator, of all policies and each; widths and errors beside it."""
    rows, figures = count_held(runs), []
    for estimator, words in ESTIMATORS.items():
        for quantity in ("value", "gain"):
            mine = {name: rows[estimator, quantity, name] for name in POLICIES}
            every = np.concatenate(list(mine.values()))
            for name, values in {"all policies": every, **mine}.items():
                figures.append(
                    share(
                        f"{words}, {quantity}, {name}", int(values[:, 0].sum()), len(values), at_least=0.9, at_most=0.98
                    )
                )
    for estimator, words in ESTIMATORS.items():
        for name in POLICIES:
            values = rows[estimator, "gain", name]
            error = float(values[:, 2].std() / np.sqrt(len(values)))
            mean = float(values[:, 2].mean())
            figures.append(figure(f"{words}, width of the gain, {name}", float(values[:, 1].mean()), unit="reward"))
            figures.append(
                figure(
                    f"{words}, mean error of the gain, {name}",
                    mean,
                    mean - 1.96 * error,
                    mean + 1.96 * error,
                    unit="reward",
                )
            )
    told = [run[name].doubly_robust is not None for run in runs for name in POLICIES]
    figures.append(share("logs that tell something", sum(told), len(told)))
    return figures


def main() -> int:
    args = arguments(__doc__ or "", more=add_options)
    count = 40 if args.quick else args.traffics
    runs = []
    for seed in range(count):
        runs.append(estimate(seed, REQUESTS))
        print(f"\roff_policy_coverage: {seed + 1}/{count}", end="", file=sys.stderr)
    print(file=sys.stderr)
    gains = ", ".join(f"{name} {find_truth(policy) - find_truth(BEHAVIOUR):+.3f}" for name, policy in POLICIES.items())
    notes = (
        f"{count} logs of {REQUESTS:,} requests, {EXPLORED:.0%} explored among {CONFIGS} configs. True gains over what "
        f"ran: {gains}. Matching decisions in the first log: "
        + ", ".join(f"{name} {value.matched:.0f}" for name, value in runs[0].items())
        + "."
    )
    return record(CLAIM, build_figures(runs), args, notes)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--traffics", type=int, default=TRAFFICS)


if __name__ == "__main__":
    raise SystemExit(main())
