"""`estimate_value`: what a policy would have been worth on logged calls that another one decided.

Three estimators, all of importance weights w = (probability of the chosen config under the target) / (that under which
it was drawn):

- IPS, the mean of w × reward (Horvitz and Thompson, *Journal of the American Statistical Association* 47, 1952);
- SNIPS, the same over the mean of w (Swaminathan and Joachims, *NeurIPS* 2015);
- doubly robust, the mean of what the target's choices are predicted to be worth plus w × (reward - prediction) (Dudík,
  Langford and Li, *ICML* 2011), whose predictions know nothing of the unit that they are for (cross-fitting:
  Chernozhukov et al., *Econometrics Journal* 21, 2018).

Read the doubly robust one. It is right whatever the predictions are, since the probabilities are logged and not
guessed, and predictions only narrow it. IPS is right too, and wider; SNIPS errs by little and is there to compare.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hagpolicy._text import TextTable, format_count
from hagpolicy.analysis.logged.predictions import complete_predictions
from hagpolicy.analysis.logged.units import clip_estimate, compute_error, estimate_mean, number_units
from hagpolicy.analysis.rule import MIN_GROUPS
from hagpolicy.data.decisions import UNCHANGED, LoggedDecisions
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate, format_gain

__all__ = ["MIN_MATCHED", "LoggedValue", "PolicyValue", "estimate_value"]

MIN_MATCHED = 50
"""Fewer logged decisions that chose what the target departs to say nothing about it."""
# What is drawn with more than this probability is what runs; the rest was drawn to learn about it.
_USUAL = 0.5
# So much of the target's probability may lie where nothing was drawn before it is told.
_UNSEEN = 0.01


@dataclass(frozen=True)
class PolicyValue:
    """What a policy is worth by one estimator.

    Attributes:
        value: mean reward of a call under it, in [0, 1].
        gain: difference to the mean reward of what ran, on the same calls, in [-1, 1].
    """

    value: Estimate
    gain: Estimate

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return {"value": self.value.to_json(), "gain": self.gain.to_json()}


@dataclass(frozen=True)
class LoggedValue:
    """What a policy would have been worth on logged calls; see `estimate_value`.

    Attributes:
        doubly_robust: the estimate to read; None where nothing can be said, as are the next two.
        ips: inverse propensity scores.
        snips: the same, self-normalised.
        reason: why nothing can be said, in words; "" where something can.
        ran: mean reward of what ran, exploration included; None where no reward came.
        n_calls: that count: decided by the logged policy, with a reward.
        n_units: of these calls.
        departing: share of calls, of those decided as usual, in which the target chooses otherwise, in [0, 1].
        matched: decisions drawn by exploration that are the target's; those of a target that draws count by their
            probability.
        effective: calls that would tell as much if the target had decided them itself (Kish: (Σw)² / Σw²).
        weight: mean of the weights; 1 where everything that the target wants could be drawn.
        warnings: in plain words.
    """

    doubly_robust: PolicyValue | None
    ips: PolicyValue | None
    snips: PolicyValue | None
    reason: str
    ran: Estimate | None
    n_calls: int
    n_units: int
    departing: float
    matched: float
    effective: float
    weight: Estimate | None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes."""
        plain = {
            name: value.to_json() if isinstance(value, Estimate | PolicyValue) else value
            for name, value in vars(self).items()
        }
        return {**plain, "warnings": list(self.warnings)}

    def __str__(self) -> str:
        named = [("doubly robust", self.doubly_robust), ("SNIPS", self.snips), ("IPS", self.ips)]
        rows = [] if self.ran is None else [("what ran", str(self.ran), "")]
        rows += [(name, str(one.value), format_gain(one.gain)) for name, one in named if one is not None]
        lines = [TextTable(("", "reward [95 %]", "over what ran [95 %]"), rows).to_text()] if rows else []
        calls = f"{self.n_calls} calls of {format_count(self.n_units, 'unit')}"
        if self.n_calls:
            lines.append(
                f"{calls}; the policy departs in {self.departing:.1%}, {self.matched:.0f} logged decisions match "
                f"that, {self.effective:.0f} calls effectively"
            )
        lines += [f"nothing can be said: {self.reason}"] if self.reason else []
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def estimate_value(
    decisions: LoggedDecisions, target: np.ndarray, predictions: np.ndarray | None = None, *, seed: int = 0
) -> LoggedValue:
    """What a target policy would have been worth on the calls that the logged policy decided, by three estimators.

    Calls of an experiment's default arm are left out: the arms are assigned by chance, so those of the policy stand
    for all. Calls without a reward are left out too, which takes it that a reward's coming does not depend on the
    choice. Intervals are of 95 % and over units: calls of one unit may depend on each other.

    Args:
        decisions: with what was drawn, and how likely that was.
        target: int (n,), the target's choice for each call, an index of the space or -1 for unchanged; or float64
            (n, n_configs), its probabilities, whose rows sum to 1 or less: the rest is for unchanged.
        predictions: float64 (n, n_configs) or (n, n_configs + 1), in [0, 1]: expected reward of each config for each
            call, the last of n_configs + 1 columns for unchanged. They must not have been learned from these rewards.
            None: the mean reward of each config in the calls of other units (`complete_predictions`).
        seed: of the folds of units.

    Raises:
        InvalidInput: a target or predictions of another shape, or out of range.
    """
    target = _check_target(target, decisions)
    mine = decisions.by_policy
    known = mine & ~np.isnan(decisions.reward)
    if not known.any():
        reason = "no call that the policy decided has a reward" if mine.any() else "the policy decided no call"
        return LoggedValue(None, None, None, reason, None, 0, 0, 0.0, 0.0, 0.0, None)
    expected = complete_predictions(decisions, known, predictions, seed)[known]
    rate = float(known.sum() / mine.sum())
    kept, wanted = decisions.take(known), target[known]
    units = number_units(kept.unit)
    weights = _look_up(wanted, kept.chosen) / kept.propensity
    departing, matched, matched_units = _count_matches(kept, wanted)
    found = LoggedValue(
        doubly_robust=None,
        ips=None,
        snips=None,
        reason=_find_reason(kept, departing, matched),
        ran=estimate_mean(kept.reward, units, 0.0, 1.0),
        n_calls=len(kept),
        n_units=int(units.max()) + 1,
        departing=departing,
        matched=matched,
        effective=float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0,
        weight=estimate_mean(weights, units, 0.0, np.inf),
    )
    if found.reason:
        return replace(found, warnings=_warn_of_rewards(rate))
    unseen = _warn_of_unseen(found, kept, wanted)
    few = _warn_of_few(departing, matched_units)
    estimates = [
        _mark(one, not unseen and not few)
        for one in (
            _estimate_doubly_robust(kept.reward, weights, wanted, kept.chosen, expected, units),
            _estimate_ips(kept.reward, weights, units),
            _estimate_snips(kept.reward, weights, units),
        )
    ]
    warnings = (*unseen, *few, *_warn_of_rewards(rate))
    return replace(found, doubly_robust=estimates[0], ips=estimates[1], snips=estimates[2], warnings=warnings)


def _check_target(target: np.ndarray, decisions: LoggedDecisions) -> np.ndarray:
    """int64 (n,), or float64 (n, n_configs + 1) whose last column is unchanged."""
    n, k = len(decisions), len(decisions.space)
    target = np.asarray(target)
    if target.shape == (n,) and target.dtype.kind in "iu":
        if not ((target >= UNCHANGED) & (target < k)).all():
            raise InvalidInput("target", f"indices of the space, 0 to {k - 1}, or -1", f"up to {target.max()}")
        return target.astype(np.int64)
    if target.shape != (n, k) or target.dtype.kind not in "fiu":
        expected = f"choices, whole numbers of shape ({n},), or probabilities of shape ({n}, {k})"
        raise InvalidInput("target", expected, f"{target.dtype} of shape {target.shape}")
    rest = 1.0 - target.sum(axis=1, dtype=np.float64)
    if not ((target >= 0.0).all() and (rest >= -1e-6).all()):
        raise InvalidInput("target", "probabilities of at least 0, at most 1 in each row", "others")
    return np.asarray(np.column_stack([target, np.maximum(rest, 0.0)]))


def _look_up(target: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float64 (n,): the probability of what was chosen under a checked target."""
    if target.ndim == 1:
        return np.asarray(target == chosen, dtype=np.float64)
    return np.asarray(target[np.arange(len(chosen)), chosen], dtype=np.float64)  # -1 is the last column


def _count_matches(kept: LoggedDecisions, target: np.ndarray) -> tuple[float, float, int]:
    """Share of usual decisions that the target departs from, explored decisions that are the target's, their units."""
    agreeing = _look_up(target, kept.chosen)
    usual = kept.propensity > _USUAL
    departing = float(np.round(1.0 - agreeing[usual].mean(), 12)) if usual.any() else 1.0
    matching = ~usual & (agreeing > 0.0)
    return departing, float(agreeing[matching].sum()), len(np.unique(kept.unit[matching]))


def _find_reason(kept: LoggedDecisions, departing: float, matched: float) -> str:
    """Why nothing can be said of a target; "" where something can."""
    if departing == 0.0 or matched >= MIN_MATCHED:
        return ""
    if (kept.propensity == 1.0).all():
        return (
            "exploration was off, so the log holds nothing but what ran; serve with an exploration share, and this "
            "policy's departures will be drawn now and then"
        )
    return (
        f"{matched:.0f} logged decisions match this policy where it departs from what ran, and fewer than "
        f"{MIN_MATCHED} say nothing; log more calls, or explore more"
    )


def _warn_of_unseen(found: LoggedValue, kept: LoggedDecisions, target: np.ndarray) -> tuple[str, ...]:
    """What to say where the target wants what could not be drawn."""
    warnings = []
    if found.weight is not None and found.weight.high < 1.0 - _UNSEEN:
        lost = f"{1.0 - found.weight.value:.0%}"
        warnings.append(
            f"about {lost} of what the policy chooses could not be drawn for the call at hand; IPS counts it as 0, "
            "SNIPS as the mean of the rest, doubly robust as what is predicted"
        )
    wanted = (
        np.bincount(target + 1, minlength=len(kept.space) + 1)
        if target.ndim == 1
        else np.roll((target > 0.0).sum(axis=0), 1)
    )
    drawn = np.bincount(kept.chosen + 1, minlength=len(kept.space) + 1)
    missing = np.flatnonzero((wanted > 0) & (drawn == 0)) - 1
    names = ["unchanged" if index == UNCHANGED else f"config {kept.space[index]}" for index in missing.tolist()]
    if names:
        warnings.append(f"the policy chooses what was never drawn: {', '.join(names)}")
    return tuple(warnings)


def _warn_of_few(departing: float, units: int) -> tuple[str, ...]:
    if departing == 0.0 or units >= MIN_GROUPS:
        return ()
    return (f"the decisions that match are of {format_count(units, 'unit')}, too few for an interval over units",)


def _warn_of_rewards(rate: float) -> tuple[str, ...]:
    if rate == 1.0:
        return ()
    return (
        f"rewards came for {rate:.0%} of the calls, and all figures are of these; where that depends on what was "
        "chosen they are wrong",
    )


def _mark(estimate: PolicyValue, reliable: bool) -> PolicyValue:
    return PolicyValue(replace(estimate.value, reliable=reliable), replace(estimate.gain, reliable=reliable))


def _estimate_ips(reward: np.ndarray, weights: np.ndarray, units: np.ndarray) -> PolicyValue:
    weighted = weights * reward
    return PolicyValue(estimate_mean(weighted, units, 0.0, 1.0), estimate_mean(weighted - reward, units, -1.0, 1.0))


def _estimate_snips(reward: np.ndarray, weights: np.ndarray, units: np.ndarray) -> PolicyValue:
    """Intervals by linearising the ratio."""
    value, ran = float((weights * reward).sum() / weights.sum()), float(reward.mean())
    deviations = weights * (reward - value) / weights.mean()
    return PolicyValue(
        clip_estimate(value, compute_error(deviations, units), 0.0, 1.0),
        clip_estimate(value - ran, compute_error(deviations - (reward - ran), units), -1.0, 1.0),
    )


def _estimate_doubly_robust(
    reward: np.ndarray,
    weights: np.ndarray,
    target: np.ndarray,
    chosen: np.ndarray,
    expected: np.ndarray,
    units: np.ndarray,
) -> PolicyValue:
    rows = np.arange(len(reward))
    by_target = expected[rows, target] if target.ndim == 1 else (target * expected).sum(axis=1)
    values = by_target + weights * (reward - expected[rows, chosen])
    return PolicyValue(estimate_mean(values, units, 0.0, 1.0), estimate_mean(values - reward, units, -1.0, 1.0))
