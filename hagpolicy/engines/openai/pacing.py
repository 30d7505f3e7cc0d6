"""The rate at which a server that counts requests takes them, learned from what it refuses.

A limit of so many requests a second or minute is no matter of concurrency: few slots with short answers pass it, and
many slots with long ones do not. So attempts are spaced in time as soon as a server refuses a share of them with 429.
Measured is, over short rounds, how many of those sent were not refused; the rate is set just below that, and grows
while nothing is refused, faster after a while, so that a limit that was lifted is found out. For a few refusals it is
eased off a little, which is enough where a limit is the reason. Where that does not end them, they are none:
a server that refuses one in twenty at random does so at any rate.

Retry-After is in whole seconds, and a second is all that a limit of many requests a second can say; it holds for the
request that was refused. A longer one says when requests are counted anew: nothing is sent before.
"""

from __future__ import annotations

__all__ = ["RatePacer"]

# A round has at least so many seconds and attempts.
ROUND_SECONDS, ROUND_SENT = 1.0, 40
# The rate is lowered where more of a round was refused than one in twenty would be at random (by three standard
# deviations); and before a round ends for a larger share, from so many attempts on.
RANDOM_SHARE, DEVIATIONS = 0.05, 3.0
EARLY_SHARE, EARLY_SENT, REFUSALS = 0.3, 10, 3
LOWERED = 0.95
"""Times the rate at which attempts were taken."""
EASED, EASED_MOST, EASED_ROUNDS = 0.98, 0.85, 5
"""After a round in which few were refused, down to this share of what the rate was; so many rounds are tried there."""
GROWTH, QUICK_GROWTH, QUICK_AFTER = 1.05, 1.25, 10
"""After a round in which nothing was refused; after so many of them in a row."""
LOWEST = 0.02
LONG_WAIT = 1.0


class RatePacer:
    """Says how long to wait before the next attempt, so that no more are sent than the server takes.

    It reads no clock: callers say what time it is, in seconds of any clock that does not go back. Nothing waits until
    attempts were refused.

    Attributes:
        rate: attempts a second; None: as many as there are.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self._next = 0.0  # when the next attempt may be sent
        self._paused = 0.0  # until when nothing may be
        self._clean = 0  # rounds in a row without a refusal
        self._ceiling: float | None = None  # the rate before it was eased
        self._eased = 0  # rounds with few refusals at the lowest that easing goes
        self._at_random = False  # few refusals tell nothing
        self._round, self._begun, self._resumed = 0, 0.0, False  # of the round: its number, and when it began
        self._sent = self._refused = self._waited = 0  # attempts of it

    def wait(self, now: float) -> float:
        """Seconds until an attempt may be sent; 0 where it may be now, and then it is `start`ed."""
        return max(self._paused - now, 0.0 if self.rate is None else self._next - now, 0.0)

    def holds_back(self, now: float) -> bool:
        """Whether attempts are spaced or paused."""
        return self.rate is not None or self._paused > now

    def start(self, now: float, *, waited: bool = False) -> int:
        """Count an attempt that is sent now, where it `waited` for its turn; returns the number of its round, for
        `refuse`."""
        if now - self._begun >= ROUND_SECONDS and self._sent >= ROUND_SENT:
            self._end(now)
        if not self._sent:
            self._begun = now
        self._sent += 1
        self._waited += waited
        if self.rate is not None:
            # From when it was due, not from when its task was woken: what is late would be lost for good.
            self._next = max(self._next, now - 1.0 / self.rate) + 1.0 / self.rate
        return self._round

    def refuse(self, number: int, now: float, wait: float = 0.0) -> None:
        """Count an attempt as refused by a limit on requests (429).

        Args:
            number: of its round.
            now: when it was refused.
            wait: seconds that the server asks to wait, and for which the request will.
        """
        if wait > LONG_WAIT:
            self._paused = max(self._paused, now + wait)
        if number != self._round:
            return  # sent before the rate was last changed: that change may already be the answer to it
        self._refused += 1
        if wait > LONG_WAIT:
            # Where it began with the count, what was taken is for the whole of it.
            if self._resumed and self._refused >= REFUSALS:
                self._lower(now, wait)
            if not self._resumed or self._refused >= REFUSALS:
                self._begin(now, resumed=True)
        elif self._refused >= REFUSALS and self._sent >= EARLY_SENT and self._refused > EARLY_SHARE * self._sent:
            self._end(now)

    def _end(self, now: float) -> None:
        """A round is over: choose the rate of the next one."""
        usual = RANDOM_SHARE * self._sent
        if self._refused > usual + DEVIATIONS * usual**0.5:
            self._lower(now, 0.0)
        elif self.rate is not None and self._refused and not self._at_random:
            self._ease(self.rate)
        elif self.rate is not None and 2 * self._waited > self._sent:
            self.rate *= GROWTH if self._clean < QUICK_AFTER else QUICK_GROWTH
            self._ceiling = None
        self._clean = 0 if self._refused else self._clean + 1
        self._begin(now)

    def _lower(self, now: float, wait: float) -> None:
        seconds = max(now - self._begun + wait, 1e-3)
        taken = (self._sent - self._refused) / seconds
        if self.rate is not None:  # where all were refused, nothing is known but that it is less
            taken = min(max(taken, self.rate / 2.0), self.rate)
        elif not taken:
            taken = 1.0 / max(seconds, ROUND_SECONDS)
        self.rate = max(LOWERED * taken, LOWEST)
        self._next = max(self._next, now + 1.0 / self.rate)
        self._ceiling, self._at_random = None, False

    def _ease(self, rate: float) -> None:
        if self._ceiling is None:
            self._ceiling, self._eased = rate, 0
        self.rate = max(EASED * rate, EASED_MOST * self._ceiling, LOWEST)
        self._eased += self.rate == rate
        if self._eased > EASED_ROUNDS:
            self.rate, self._ceiling, self._at_random = self._ceiling, None, True

    def _begin(self, now: float, *, resumed: bool = False) -> None:
        self._round += 1
        self._begun, self._sent, self._refused, self._waited = now, 0, 0, 0
        self._resumed = resumed  # the first round after a pause
