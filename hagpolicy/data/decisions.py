"""`LoggedDecisions`: what was decided in live traffic, with which probability, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hagpolicy._checks import is_number
from hagpolicy.config.space import DecodingSpace
from hagpolicy.errors import InvalidInput

__all__ = ["UNCHANGED", "LoggedDecisions"]

UNCHANGED = -1
"""In place of an index: the call went out as it came."""


@dataclass(frozen=True, eq=False)
class LoggedDecisions:
    """Logged calls as arrays, one element a call. A reward that never came is NaN, never 0.

    Attributes:
        space: n_configs configs that could be chosen.
        chosen: int64 (n,), index of the config in the space; -1 (`UNCHANGED`): the call went out as it came.
        propensity: float64 (n,), in (0, 1]: the probability with which `chosen` was drawn, given the prompt and the arm
            of the experiment; 1 where nothing was drawn.
        reward: float64 (n,), in [0, 1], or NaN where none came.
        by_policy: bool (n,), arm of an experiment: True where the policy decided, False where the call was left to what
            runs without it; all True without an experiment.
        unit: int64 (n,), at least 0: what the experiment assigns as a whole, such as a user; calls of one unit are not
            independent. Without units each call has a number of its own.
        seconds: float64 (n,), at least 0: since the first call. Need not rise.
        share: in (0, 1): the probability with which a unit is assigned to the policy; None without an experiment.

    Raises:
        InvalidInput: arrays of different lengths or none at all, a value out of its range, a default arm in which
            something was chosen or without a share.
    """

    space: DecodingSpace
    chosen: np.ndarray
    propensity: np.ndarray
    reward: np.ndarray
    by_policy: np.ndarray
    unit: np.ndarray
    seconds: np.ndarray
    share: float | None = None

    def __post_init__(self) -> None:
        for name in ("chosen", "unit"):
            _keep(self, name, _as_whole(name, getattr(self, name)))
        for name in ("propensity", "reward", "seconds"):
            _keep(self, name, _as_numbers(name, getattr(self, name)))
        _keep(self, "by_policy", _as_marks(self.by_policy))
        for name in ("propensity", "reward", "by_policy", "unit", "seconds"):
            values = getattr(self, name)
            if values.shape != self.chosen.shape:
                raise InvalidInput(name, f"the length of chosen, {len(self.chosen)}", f"shape {values.shape}")
        if not len(self.chosen):
            raise InvalidInput("chosen", "at least one logged call", "none")
        last = len(self.space) - 1
        known = (self.chosen >= UNCHANGED) & (self.chosen <= last)
        _check("chosen", self.chosen, known, f"an index of the space, 0 to {last}, or -1 for unchanged")
        inside = (self.propensity > 0.0) & (self.propensity <= 1.0)
        _check("propensity", self.propensity, inside, "a probability in (0, 1]: what was chosen cannot have had none")
        rewarded = (self.reward >= 0.0) & (self.reward <= 1.0)
        _check("reward", self.reward, rewarded | np.isnan(self.reward), "a reward in [0, 1], or NaN where none came")
        _check("unit", self.unit, self.unit >= 0, "a number of at least 0")
        _check("seconds", self.seconds, (self.seconds >= 0.0) & (self.seconds < np.inf), "finite, at least 0")
        left = self.by_policy | (self.chosen == UNCHANGED)
        _check("chosen", self.chosen, left, "-1 in the default arm, whose calls go out as they came")
        self._check_share()

    def _check_share(self) -> None:
        if self.share is None:
            if not self.by_policy.all():
                expected = "the probability with which units are assigned to the policy, since some are not"
                raise InvalidInput("share", expected, None)
        elif not is_number(self.share) or not 0.0 < self.share < 1.0:
            raise InvalidInput("share", "a probability in (0, 1), or None without an experiment", self.share)

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, calls: np.ndarray) -> LoggedDecisions:
        """Some of the calls, with their numbers of units as they are.

        Args:
            calls: bool (n,), or indices; at least one call.
        """
        names = ("chosen", "propensity", "reward", "by_policy", "unit", "seconds")
        return replace(self, **{name: getattr(self, name)[calls] for name in names})


def _keep(decisions: LoggedDecisions, name: str, values: np.ndarray) -> None:
    values.flags.writeable = False
    object.__setattr__(decisions, name, values)


def _as_whole(name: str, given: object) -> np.ndarray:
    values = np.array(given)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise InvalidInput(name, "whole numbers of shape (n,)", f"{values.dtype} of shape {values.shape}")
    return values.astype(np.int64)


def _as_numbers(name: str, given: object) -> np.ndarray:
    values = np.array(given)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "fiu"):
        raise InvalidInput(name, "numbers of shape (n,)", f"{values.dtype} of shape {values.shape}")
    return values.astype(np.float64)


def _as_marks(given: object) -> np.ndarray:
    values = np.array(given)
    if values.ndim != 1 or (values.size and values.dtype.kind != "b"):
        raise InvalidInput("by_policy", "True or False, of shape (n,)", f"{values.dtype} of shape {values.shape}")
    return values.astype(bool)


def _check(name: str, values: np.ndarray, good: np.ndarray, expected: str) -> None:
    """Raise InvalidInput that names the first value which is not good."""
    if not good.all():
        at = int(np.argmin(good))
        raise InvalidInput(f"{name}[{at}]", expected, values[at].item())
