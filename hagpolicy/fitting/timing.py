"""What the fits of a learner take: told as progress, and forecast against the time limit of a whole `fit`."""

from __future__ import annotations

import logging
import math
from time import monotonic

from hagpolicy._checks import is_number
from hagpolicy._text import format_duration
from hagpolicy.errors import InvalidInput

logger = logging.getLogger(__name__)

# Seconds, at most, of a learner's first fit that go into loading what later ones find: libraries.
_LOADING = 10.0


class OutOfTime(Exception):
    """The fits of a learner take longer than is left of a time limit."""


class TimeLimit:
    """The time that a whole `fit` has, counted from now, and what is left out for it.

    Args:
        seconds: above 0.

    Attributes:
        left_out: learner on encoder and the reason, of all that were left out. Nothing that was measured is in it, so
            that it is the same text whenever the same ones are left out.

    Raises:
        InvalidInput: what is no number of seconds above 0.
    """

    def __init__(self, seconds: float) -> None:
        if not is_number(seconds) or not 0.0 < seconds < math.inf:
            raise InvalidInput("time_limit", "a number of seconds above 0, or None for no limit", seconds)
        self.left_out: list[str] = []
        self._seconds, self._end = float(seconds), monotonic() + float(seconds)
        self._following, self._slowest = 0, 0.0

    @property
    def left(self) -> float:
        """Seconds that are left, below 0 where it is over."""
        return self._end - monotonic()

    def reserve(self, fits: int) -> None:
        """So many more fits of the best learner follow when all learners are cross-fitted."""
        self._following += fits

    def note(self, each: float) -> None:
        """A learner was fitted, in so many seconds a fit: it may be the best."""
        self._slowest = max(self._slowest, each)

    def forecast(self, fits: int, each: float) -> float:
        """Seconds of so many fits of so many each, and of those that follow, should the slowest learner be the best."""
        return fits * each + self._following * max(each, self._slowest)

    def leave_out(self, name: str, needed: float) -> None:
        """A learner on an encoder is left out, which needs at least so many seconds more, with what follows."""
        limit = format_duration(self._seconds)
        self.left_out.append(f"{name}, for which too little was left of the time limit of {limit}")
        if self.left <= 0.0:
            logger.warning("fit: %s is left out: nothing is left of %s", name, limit)
            return
        words = format_duration(needed), format_duration(self.left), limit
        logger.warning("fit: %s is left out: to the end it takes %s or more, and %s are left of %s", name, *words)


class FitTimer:
    """Counts and times a learner's fits on all folds but one; tells how far they are and what the rest takes.

    Args:
        name: learner and encoder.
        total: number of fits.
        limit: they are left out where they take longer than is left of it, by the first fit or the second one; without
            a fit where nothing is left.
        always: fitted whatever the limit.
        least: seconds that a fit is known to take at least.
    """

    def __init__(
        self, name: str, total: int, limit: TimeLimit | None = None, always: bool = False, least: float = 0.0
    ) -> None:
        self.name, self._total, self._limit, self._least = name, total, limit, least
        self._decided = always or limit is None
        self._times: list[float] = []

    @property
    def each(self) -> float:
        """Seconds that a fit takes, by those that have ended; by the first only where it is alone."""
        if len(self._times) < 2:
            return self._least
        first, *rest = self._times
        measured = (rest[-1] - rest[0]) / (len(rest) - 1) if len(rest) > 1 else rest[0] - first
        return max(measured, self._least)

    @property
    def at_least(self) -> float:
        """Seconds that a fit takes at least: one alone, less what may be the loading of libraries."""
        return self.each if len(self._times) > 2 else max(self.each - _LOADING, self._least)

    def begin(self) -> None:
        """The next fit begins, and the one before it has ended.

        Raises:
            OutOfTime: the rest does not fit into the limit; this is noted there.
        """
        self._times.append(monotonic())
        done, rest = len(self._times) - 1, ""
        self._decide(done)
        if done > 1 or self.each > _LOADING:
            rest = f", the rest in about {format_duration((self._total - done) * self.each)}"
        logger.info("fit: %s, %d of %d fits%s", self.name, done + 1, self._total, rest)

    def end(self) -> None:
        """The last fit has ended."""
        self._times.append(monotonic())
        if self._limit is not None:
            self._limit.note(self.each)

    def _decide(self, done: int) -> None:
        """Whether the learner is fitted, once: by what its fits take, and by nothing of how well it does."""
        if self._decided or self._limit is None:
            return
        fits, left = self._total - done, self._limit.left
        needed = self._limit.forecast(fits, self.at_least)
        if self._limit.forecast(fits, self.each) <= left:
            self._decided = done > 0
        elif needed > left:
            self._limit.leave_out(self.name, needed)
            raise OutOfTime
