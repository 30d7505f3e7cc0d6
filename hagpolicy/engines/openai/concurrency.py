"""An adaptive limit on the requests in flight: the number at which a server completes the most work.

A hill climb on measured throughput, in the spirit of the adaptive concurrency limits of service
meshes and of TCP (double first, probe around the best, halve when refused). What is measured is not
completions by the clock, which come in bursts, but Little's law: with `limit` slots always filled,
throughput = limit × work done in them / seconds spent in them. Long answers take their seconds and
bring their tokens, so that a window of mixed lengths misleads little. A refused request brings its
seconds and no work.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConcurrencyLimiter", "Ticket"]

START = 2
# Requests to be measured before a number of slots is judged: this many, and this many a slot.
LEAST_MEASURED, MEASURED_A_SLOT = 8, 2
# A larger number of slots must gain more than this a step of the climb (a factor of 1.4) to be kept;
# a smaller one may lose this much: it leaves the server's other users more, and answers sooner.
GAIN, LOSS = 0.03, 0.01
KEPT = 0.5
"""Share of its weight that an earlier measurement keeps when a new one of the same number arrives."""
LONGEST_GAP = 16
CHANGED = 0.3
# Halved when at least so many requests of one round were refused, and more than this share of them. A server
# that refuses one in twenty at random is not overloaded: it loses that share at any number of slots.
REFUSALS, REFUSED_SHARE = 3, 0.3
FIRST_COOLDOWN, LONGEST_COOLDOWN = 4, 64


@dataclass(frozen=True)
class Ticket:
    """A request in flight.

    Attributes:
        round: number of the round of measurement in which it was sent.
        full: whether it filled the slots when it was sent.
    """

    round: int
    full: bool


def list_slot_counts(highest: int) -> tuple[int, ...]:
    """Numbers of slots that are tried: 1 to `highest`, each about √2 times the one before."""
    steps = [1]
    while steps[-1] < highest:
        steps.append(min(max(steps[-1] + 1, round(steps[-1] * 2**0.5)), highest))
    return tuple(steps)


class ConcurrencyLimiter:
    """Finds the number of requests in flight at which the most work is done per second.

    It starts at 2, doubles while that pays, then stays at the best number and looks at its
    neighbours, more and more seldom (every 1, 2, 4, … 16 rounds of measurement) until one of them
    is better or the rate changes. A wave of refusals halves the number, once a round, and the
    refused number is not tried again for 4 to 64 rounds, more where it is refused again.

    It reads no clock: the caller says how many seconds a request took.

    Args:
        highest: the most requests in flight, at least 1.
    """

    def __init__(self, highest: int) -> None:
        self._steps = list_slot_counts(highest)
        self._at = self._best = self._step_of(START)
        self._top = len(self._steps) - 1
        self._known: dict[int, tuple[float, float]] = {}  # step -> (work, slot seconds), faded
        self._climbing = True
        self._up, self._gap, self._quiet = True, 1, 0
        self._cooldown, self._raise_in = FIRST_COOLDOWN, 0
        self.in_flight = 0
        self._round = 0
        self._start_round()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self._steps[self._at]

    @property
    def settled(self) -> int:
        """The best number of requests in flight known so far; `limit` departs from it while it looks around."""
        return self._steps[self._best]

    def acquire(self) -> None:
        """Take a slot for a request, which it keeps through all its attempts and the waits between them."""
        self.in_flight += 1

    def release(self) -> None:
        """Give a request's slot back."""
        self.in_flight -= 1

    def start_attempt(self, *, paced: bool = False) -> Ticket:
        """A ticket for an attempt that is sent now; `paced`: after a wait for a limit on the requests a second, so that
        it says nothing of the number in flight."""
        self._sent += 1
        return Ticket(self._round, self.in_flight >= self.limit and not paced)

    def record_success(self, ticket: Ticket, seconds: float, work: float) -> None:
        """Record that an attempt was answered after `seconds`; `work` is what it brought, such as its tokens."""
        if ticket.round == self._round and ticket.full and self.in_flight >= self.limit:
            self._measure(seconds, work)

    def record_refusal(self, ticket: Ticket, seconds: float) -> None:
        """Record that an attempt was refused (429, 503) or timed out; `seconds` with the wait before the next one."""
        if ticket.round != self._round:
            return  # sent before the number was last changed: that change may already be the answer to it
        self._refusals += 1
        # Of those sent, not of those answered: refusals come back first.
        if self._refusals >= REFUSALS and self._refusals > REFUSED_SHARE * self._sent:
            self._halve()
        elif ticket.full and self.in_flight >= self.limit:
            self._measure(seconds, 0.0)

    def _measure(self, seconds: float, work: float) -> None:
        # The first requests after a change meet a server that is not yet as busy as it will be.
        if self._settling > 0:
            self._settling -= 1
            return
        self._work += work
        self._seconds += seconds
        self._count += 1
        if self._count >= max(LEAST_MEASURED, MEASURED_A_SLOT * self.limit):
            self._finish_round()

    def _finish_round(self) -> None:
        """A round is measured: enter it, and choose the number of slots for the next one."""
        work, seconds = self._known.get(self._at, (0.0, 0.0))
        before = self._rate(self._at)
        self._known[self._at] = (KEPT * work + self._work, KEPT * seconds + self._seconds)
        if self._raise_in > 0:
            self._raise_in -= 1
            if self._raise_in == 0 and self._top < len(self._steps) - 1:
                self._top += 1
                self._cooldown = max(self._cooldown // 2, FIRST_COOLDOWN)
                self._raise_in = self._cooldown
        if self._climbing:
            self._climb()
        elif self._at != self._best:
            self._compare()
        else:
            self._stay(before)
        self._start_round()

    def _climb(self) -> None:
        """Double while that pays."""
        step = self._at
        if step != self._best and self._rate(step) <= self._rate(self._best) * (1.0 + GAIN) ** (step - self._best):
            self._climbing, self._at = False, self._best
            return
        self._best = step
        self._at = min(self._step_of(2 * self.limit), self._top)
        self._climbing = self._at != step

    def _compare(self) -> None:
        """A neighbour was measured: move there if it is better, else go back."""
        wanted = self._rate(self._best) * (1.0 + GAIN if self._at > self._best else 1.0 - LOSS)
        if self._rate(self._at) > wanted:
            self._best, self._gap = self._at, 1
        else:
            self._at, self._up, self._gap = self._best, not self._up, min(2 * self._gap, LONGEST_GAP)
        self._quiet = 0

    def _stay(self, before: float) -> None:
        """The best number was measured once more: look at a neighbour when it is time."""
        fresh = self.limit * self._work / max(self._seconds, 1e-9)
        if before > 0.0 and abs(fresh / before - 1.0) > CHANGED:
            self._known = {self._at: (self._work, self._seconds)}
            self._gap = 1
        self._quiet += 1
        if self._quiet < self._gap:
            return
        for up in (self._up, not self._up):
            neighbour = self._at + (1 if up else -1)
            if 0 <= neighbour <= self._top:
                self._up, self._at = up, neighbour
                return

    def _halve(self) -> None:
        self._top = max(self._at - 1, 0)
        self._known = {step: known for step, known in self._known.items() if step <= self._top}
        self._at = self._best = self._step_of(max(self.limit // 2, 1))
        self._climbing, self._up, self._gap, self._quiet = False, True, 1, 0
        self._raise_in = self._cooldown
        self._cooldown = min(4 * self._cooldown, LONGEST_COOLDOWN)
        self._start_round()

    def _rate(self, step: int) -> float:
        """Work per second with the slots of a step; 0 where it is not known."""
        work, seconds = self._known.get(step, (0.0, 0.0))
        return self._steps[step] * work / max(seconds, 1e-9)

    def _step_of(self, slots: int) -> int:
        """The highest step of at most `slots`."""
        return max(step for step, many in enumerate(self._steps) if many <= max(slots, 1))

    def _start_round(self) -> None:
        self._round += 1
        self._settling = self.limit
        self._work = self._seconds = 0.0
        self._count = self._sent = self._refusals = 0
