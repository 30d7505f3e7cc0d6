"""The search for the best number of requests in flight, on servers whose curve is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hagpolicy.engines.openai.concurrency import ConcurrencyLimiter, Ticket, list_slot_counts

Curve = Callable[[int], float]


@dataclass
class _Attempt:
    ticket: Ticket
    sent: float
    size: float
    left: float
    refused: bool


@dataclass
class Simulated:
    """A server by the clock of a simulation: requests in flight share its rate, `curve(in flight)`.

    Attributes:
        curve: tokens per second with so many requests at work.
        noise: standard deviation of the rate from one answer to the next, as a share of it.
        most: requests beyond so many are refused.
        fails: share of requests that are refused whatever the load.
    """

    curve: Curve
    noise: float = 0.0
    most: int = 10**9
    fails: float = 0.0
    seed: int = 0
    now: float = 0.0
    flying: list[_Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.wobble = 1.0

    def run(self, limiter: ConcurrencyLimiter, answers: int) -> float:
        """Tokens per second over so many answers, with as many requests in flight as the limiter allows."""
        begun, tokens, done = self.now, 0.0, 0
        while done < answers:
            while limiter.in_flight < limiter.limit:
                self._send(limiter)
            size = self._next(limiter)
            done, tokens = done + (size > 0.0), tokens + size
        return tokens / (self.now - begun)

    def _send(self, limiter: ConcurrencyLimiter) -> None:
        limiter.acquire()
        working = sum(not one.refused for one in self.flying)
        refused = working >= self.most or self.draw.random() < self.fails
        # A refused request waits a little before it comes back; it keeps its slot.
        size = 0.0 if refused else self.draw.uniform(20.0, 200.0)
        left = self.draw.uniform(0.2, 0.4) if refused else size
        self.flying.append(_Attempt(limiter.start_attempt(), self.now, size, left, refused))

    def _next(self, limiter: ConcurrencyLimiter) -> float:
        """The next event: the tokens of an answer, 0 for a refusal."""
        working = sum(not one.refused for one in self.flying)
        speed = self.wobble * self.curve(working) / max(working, 1)
        first = min(self.flying, key=lambda one: one.left / (1.0 if one.refused else speed))
        step = first.left / (1.0 if first.refused else speed)
        self.now += step
        for one in self.flying:
            one.left -= step * (1.0 if one.refused else speed)
        self.flying.remove(first)
        self.wobble = max(0.3, 1.0 + self.noise * self.draw.gauss(0.0, 1.0)) if self.noise else 1.0
        if first.refused:
            limiter.record_refusal(first.ticket, self.now - first.sent)
        else:
            limiter.record_success(first.ticket, self.now - first.sent, first.size)
        limiter.release()
        return first.size


class Fixed(ConcurrencyLimiter):
    """Always the same number in flight: what the search is compared with."""

    def __init__(self, many: int) -> None:
        super().__init__(many)
        self._at = self._best = len(self._steps) - 1

    def _finish_round(self) -> None:
        self._start_round()

    def _halve(self) -> None:
        self._start_round()


CURVES: dict[str, Curve] = {
    "saturates at 8": lambda many: 10.0 * min(many, 8),
    "saturates at 48": lambda many: 10.0 * min(many, 48),
    "one at a time": lambda many: 10.0,
    "collapses beyond 8": lambda many: 10.0 * min(many, 8) / (1.0 + 0.1 * max(many - 8, 0)),
    "rises to 12 and falls": lambda many: 20.0 * many / (1.0 + (many / 12.0) ** 2),
    "bends slowly": lambda many: 160.0 * many / (many + 16.0),
}


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("name", CURVES)
def test_settles_at_nine_tenths_of_the_best_rate(name: str, noise: float) -> None:
    best = max(Simulated(CURVES[name], noise, seed=1).run(Fixed(many), 600) for many in list_slot_counts(128))
    rates = []
    for seed in range(3):
        server, limiter = Simulated(CURVES[name], noise, seed=seed), ConcurrencyLimiter(128)
        server.run(limiter, 1500)
        rates.append(server.run(limiter, 1000))
    assert sum(rates) / len(rates) >= 0.9 * best


def test_starts_low_and_stays_within_its_bounds() -> None:
    assert ConcurrencyLimiter(256).limit == 2
    assert ConcurrencyLimiter(1).limit == 1
    assert (list_slot_counts(1), list_slot_counts(2), list_slot_counts(10)) == ((1,), (1, 2), (1, 2, 3, 4, 6, 8, 10))
    for seed in range(20):
        draw, limiter = random.Random(seed), ConcurrencyLimiter(12)
        flying: list[Ticket] = []
        for _ in range(2000):
            assert 1 <= limiter.limit <= 12
            if limiter.in_flight < limiter.limit and draw.random() < 0.7:
                limiter.acquire()
                flying.append(limiter.start_attempt())
            elif flying:
                ticket = flying.pop(draw.randrange(len(flying)))
                if draw.random() < 0.2:
                    limiter.record_refusal(ticket, draw.random())
                else:
                    limiter.record_success(ticket, draw.random(), draw.random())
                limiter.release()


def test_a_server_that_takes_only_so_many_is_not_pressed() -> None:
    server, limiter = Simulated(CURVES["saturates at 48"], most=8), ConcurrencyLimiter(128)
    server.run(limiter, 500)
    assert server.run(limiter, 1000) >= 0.9 * 80.0
    assert limiter.settled <= 11


def test_chance_refusals_do_not_stop_the_climb() -> None:
    server, limiter = Simulated(CURVES["saturates at 48"], fails=0.05), ConcurrencyLimiter(128)
    server.run(limiter, 1500)
    assert server.run(limiter, 1500) >= 0.9 * 480.0


def test_a_wave_of_refusals_halves_once_a_round_and_passes() -> None:
    server, limiter = Simulated(CURVES["saturates at 48"]), ConcurrencyLimiter(128)
    server.run(limiter, 1500)
    limit = limiter.limit
    assert limit >= 33
    tickets = []
    while limiter.in_flight < limit:
        limiter.acquire()
        tickets.append(limiter.start_attempt())
    for ticket in tickets:
        limiter.record_refusal(ticket, 0.1)
        limiter.release()
    in_flight = [one.ticket for one in server.flying]
    for ticket in in_flight:  # sent before the halving: they may not halve it again
        limiter.record_refusal(ticket, 0.1)
    assert limit / 3 <= limiter.limit <= limit / 2
    server.run(limiter, 3000)
    assert server.run(limiter, 1000) >= 0.9 * 480.0


def test_follows_a_server_that_changes() -> None:
    server, limiter = Simulated(CURVES["saturates at 8"]), ConcurrencyLimiter(128)
    server.run(limiter, 1000)
    server.curve = CURVES["saturates at 48"]
    server.run(limiter, 4000)
    assert server.run(limiter, 1000) >= 0.9 * 480.0
    server.curve = CURVES["collapses beyond 8"]
    server.run(limiter, 4000)
    assert server.run(limiter, 1000) >= 0.9 * 80.0


def test_a_load_that_does_not_fill_the_slots_teaches_nothing() -> None:
    limiter = ConcurrencyLimiter(64)
    for _ in range(500):
        limiter.acquire()
        limiter.record_success(limiter.start_attempt(), 1.0, 10.0)
        limiter.release()
    assert limiter.limit == 2
