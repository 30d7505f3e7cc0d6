"""`judge_experiment`: whether the policy beats the default in a randomised experiment, told at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hagpolicy._checks import is_number
from hagpolicy._text import TextTable, format_count, format_duration
from hagpolicy.analysis.logged.sequence import SequencePath, compute_sequence
from hagpolicy.analysis.logged.units import number_units
from hagpolicy.data.decisions import LoggedDecisions
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate

__all__ = ["DAY", "Experiment", "compute_mismatch", "judge_experiment"]

DAY = 86_400.0
"""Seconds of a unit's calls that count, unless told otherwise."""
ExperimentVerdict = Literal["policy", "default", "open"]
"""Which arm is proven to be better; "open": neither so far."""
# Evidence of so many to one that units were not assigned, or rewards did not come, as an experiment needs it.
_ALARM = 1000.0


@dataclass(frozen=True)
class Experiment:
    """The difference policy - default so far; see `judge_experiment`.

    Attributes:
        gain: mean reward of a unit under the policy less that under the default, in [-1, 1], with the interval of this
            look; None before the first unit counts, as are the next three.
        running: the same with the intersection of the intervals of all looks, which is for differences that do not
            change with time.
        policy: mean reward of the policy's units.
        default: mean reward of the default's units.
        verdict: "policy" or "default", whichever the interval of this look proves to be better, or "open".
        proven_after: units after which it was proven first, by the running interval; None: not so far.
        share: probability with which a unit is assigned to the policy.
        window: seconds of a unit's calls that count.
        n_calls: logged in all.
        n_units: that count, in the policy's arm and the default's.
        n_waiting: whose window has not ended.
        n_unrewarded: whose window has ended without a reward.
        path: interval after each unit that counts.
        seconds: float64 (n,), since the first call, at which each of these units began to count.
        warnings: in plain words.
    """

    gain: Estimate | None
    running: Estimate | None
    policy: float | None
    default: float | None
    verdict: ExperimentVerdict
    proven_after: int | None
    share: float
    window: float
    n_calls: int
    n_units: tuple[int, int]
    n_waiting: int
    n_unrewarded: int
    path: SequencePath
    seconds: np.ndarray
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes but for `path` and `seconds`."""
        plain = {
            name: value.to_json() if isinstance(value, Estimate) else value
            for name, value in vars(self).items()
            if name not in ("path", "seconds")
        }
        return {**plain, "n_units": list(self.n_units), "warnings": list(self.warnings)}

    def __str__(self) -> str:
        rows = [
            ("policy", "–" if self.policy is None else f"{self.policy:.3f}", format_count(self.n_units[0], "unit")),
            ("default", "–" if self.default is None else f"{self.default:.3f}", format_count(self.n_units[1], "unit")),
        ]
        lines = [TextTable(("", "reward", ""), rows).to_text()]
        if self.gain is not None and self.running is not None:
            lines.append(f"policy over default: {self.gain:+}, at this look and all others with 95 %")
            lines.append(f"if it does not change with time: {self.running:+}")
        lines.append(
            f"{self.n_calls} calls; {format_count(self.n_waiting, 'unit')} waiting for the end of "
            f"{format_duration(self.window)}, {self.n_unrewarded} ended without a reward"
        )
        words = {"policy": "the policy is better", "default": "the default is better", "open": "not told apart so far"}
        after = "" if self.proven_after is None else f", first proven after {self.proven_after} units"
        return "\n".join([*lines, *(f"warning: {one}" for one in self.warnings), f"{words[self.verdict]}{after}"])


def judge_experiment(decisions: LoggedDecisions, *, window: float = DAY, now: float | None = None) -> Experiment:
    """The difference policy - default, with an interval that may be looked at after every unit and holds at all looks.

    What is compared are units, since these are assigned and their calls are not independent. A unit is the mean reward
    of its calls in the first `window` seconds from its first one, and counts when these have passed, so that what it
    adds no longer changes; each unit counts alike, however many calls it sends. Assumed is that units are assigned
    independently with the share that is logged, that one unit's treatment does nothing to another, and that the
    rewards of a unit have come by the end of its window, or never. The interval is of the mean difference over the
    units so far, which may drift (`compute_sequence`).

    Args:
        decisions: of an experiment.
        window: in seconds, at least 0. 0: a unit's first call alone, right away: for experiments in which each call
            is a unit of its own. Fixed before the first look.
        now: seconds since the first call; None: the time of the last call.

    Raises:
        InvalidInput: decisions without an experiment, or a window that is none.
    """
    if decisions.share is None:
        raise InvalidInput("decisions", "those of an experiment, policy against default", "none with a share of units")
    if not is_number(window) or not 0.0 <= window < math.inf:
        raise InvalidInput("window", "seconds, at least 0", window)
    share = float(decisions.share)
    units = _close_units(decisions, float(window), float(decisions.seconds.max()) if now is None else now)
    counting = ~np.isnan(units.reward)
    arms, rewards = units.by_policy[counting], units.reward[counting]
    path = compute_sequence(arms, rewards, share)
    proven = np.flatnonzero((path.highest_low > 0.0) | (path.lowest_high < 0.0))
    gain = running = None
    verdict: ExperimentVerdict = "open"
    if len(rewards):
        value, low, high = (float(ends[-1]) for ends in (path.value, path.low, path.high))
        gain = Estimate(value, low, high)
        running = _intersect(path, value)
        verdict = "policy" if low > 0.0 else "default" if high < 0.0 else "open"
    return Experiment(
        gain=gain,
        running=running,
        policy=float(rewards[arms].mean()) if arms.any() else None,
        default=float(rewards[~arms].mean()) if not arms.all() else None,
        verdict=verdict,
        proven_after=int(proven[0]) + 1 if len(proven) else None,
        share=share,
        window=float(window),
        n_calls=len(decisions),
        n_units=(int(arms.sum()), int((~arms).sum())),
        n_waiting=units.waiting,
        n_unrewarded=int((~counting).sum()),
        path=path,
        seconds=units.seconds[counting],
        warnings=_warn(units, counting, share),
    )


@dataclass(frozen=True)
class _ClosedUnits:
    """Units whose window has ended, in the order in which they count.

    Attributes:
        by_policy: bool (n,), arm of the unit's first call.
        reward: float64 (n,), mean of its rewards; NaN without any.
        seconds: float64 (n,), at which the window ended.
        waiting: units whose window has not ended.
        moved: units with calls in both arms.
    """

    by_policy: np.ndarray
    reward: np.ndarray
    seconds: np.ndarray
    waiting: int
    moved: int


def _close_units(decisions: LoggedDecisions, window: float, now: float) -> _ClosedUnits:
    order = np.argsort(decisions.seconds, kind="stable")
    units, seconds = number_units(decisions.unit)[order], decisions.seconds[order]
    by_policy, reward = decisions.by_policy[order], decisions.reward[order]
    first = np.unique(units, return_index=True)[1]
    begun = seconds[first]
    inside = seconds <= begun[units] + window
    if window == 0.0:  # of calls at the same time, too, the first alone
        inside = np.zeros(len(units), dtype=bool)
        inside[first] = True
    inside &= ~np.isnan(reward)
    counts = np.bincount(units[inside], minlength=len(first))
    sums = np.bincount(units[inside], weights=reward[inside], minlength=len(first))
    means = np.where(counts > 0, np.clip(sums / np.maximum(counts, 1), 0.0, 1.0), np.nan)
    moved = np.bincount(units, weights=by_policy[first][units] != by_policy, minlength=len(first)) > 0
    turn = np.argsort(first, kind="stable")
    closed = turn[(begun + window <= now)[turn]]
    return _ClosedUnits(
        by_policy[first][closed],
        means[closed],
        (begun + window)[closed],
        len(first) - len(closed),
        int(moved.sum()),
    )


def _intersect(path: SequencePath, value: float) -> Estimate:
    """The intersection of all intervals so far; where there is none, since the difference drifts, it has no width."""
    low, high = float(path.highest_low[-1]), float(path.lowest_high[-1])
    if low > high:
        low = high = (low + high) / 2.0
    return Estimate(min(max(value, low), high), low, high)


def _warn(units: _ClosedUnits, counting: np.ndarray, share: float) -> tuple[str, ...]:
    """What an experiment needs and these units do not show."""
    warnings = []
    for whose, arms in (("units", units.by_policy), ("units with a reward", units.by_policy[counting])):
        if compute_mismatch(int(arms.sum()), len(arms), share) >= _ALARM:
            found = f"{arms.mean():.1%} of the {whose} are the policy's, where {share:.1%} should be"
            warnings.append(f"{found}: assignment or logging is not as told, and the difference means nothing")
            break
    if len(counting) and (lost := float((~counting).mean())) > 0.0:
        warnings.append(f"{lost:.0%} of the units ended without a reward; the difference is that of the others")
    if units.moved:
        warnings.append(f"{format_count(units.moved, 'unit')} with calls in both arms count in that of the first call")
    return tuple(warnings)


def compute_mismatch(by_policy: int, n: int, share: float) -> float:
    """How many times as likely the arms of units are under some other share as under the one that is told; at least 0.

    Under the told share it ever exceeds b with a probability of at most 1 / b, at any number of looks (a Bayes factor
    under a beta prior around the share; Lindon and Malek, *NeurIPS* 2022).

    Args:
        by_policy: units of the policy's arm.
        n: units.
        share: in (0, 1).
    """
    a, b = 2.0 * share, 2.0 * (1.0 - share)
    log = math.lgamma(a + by_policy) + math.lgamma(b + n - by_policy) - math.lgamma(a + b + n)
    log += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log -= by_policy * math.log(share) + (n - by_policy) * math.log(1.0 - share)
    return math.exp(min(log, 700.0))
