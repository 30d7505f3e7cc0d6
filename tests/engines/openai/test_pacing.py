"""The rate of requests: what servers that count them take is found and used, and others are not slowed."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import pytest

from hagpolicy.engines.openai.pacing import LOWEST, RatePacer

Refuses = Callable[[float], float]
"""Seconds of Retry-After for a request that comes at some time; 0: it is taken."""


class Bucket:
    """Takes `rate` requests a second, and has room for a second's."""

    def __init__(self, rate: float) -> None:
        self.rate, self.tokens, self.at = rate, rate, 0.0

    def __call__(self, now: float) -> float:
        self.tokens, self.at = min(self.tokens + (now - self.at) * self.rate, max(self.rate, 1.0)), now
        if self.tokens < 1.0:
            return math.ceil((1.0 - self.tokens) / self.rate)
        self.tokens -= 1.0
        return 0.0


class Window:
    """Takes so many in each window of some seconds."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.most, self.seconds, self.number, self.taken = rate * seconds, seconds, -1, 0

    def __call__(self, now: float) -> float:
        if int(now / self.seconds) != self.number:
            self.number, self.taken = int(now / self.seconds), 0
        self.taken += 1
        return math.ceil((self.number + 1) * self.seconds - now) if self.taken > self.most else 0.0


def run(
    refuses: Refuses, seconds: float, callers: int = 30, service: float = 0.5
) -> tuple[list[tuple[float, bool]], RatePacer]:
    """(when, refused) of each attempt of some callers, who wait as they are asked to, and some more at random; a
    refusal takes 10 ms on its way back."""
    pacer, draw = RatePacer(), random.Random(1)
    ready = [(0.0, caller) for caller in range(callers)]
    told: list[tuple[float, int, float]] = []  # refusals on their way back
    found = []
    while ready[0][0] < seconds:
        now, caller = heapq.heappop(ready)
        while told and told[0][0] <= now:
            at, number, asked = heapq.heappop(told)
            pacer.refuse(number, at, asked)
        if wait := pacer.wait(now):
            heapq.heappush(ready, (now + wait, caller + 1000 if caller < 1000 else caller))
            continue
        number = pacer.start(now, waited=caller >= 1000)
        asked = refuses(now)
        found.append((now, asked > 0.0))
        if asked:
            heapq.heappush(told, (now + 0.01, number, asked))
        heapq.heappush(ready, (now + (asked + draw.random() if asked else service), caller % 1000))
    return found, pacer


def measure(found: list[tuple[float, bool]], since: float) -> tuple[float, float]:
    """(taken a second, share refused) since some time."""
    late = [refused for at, refused in found if at >= since]
    return late.count(False) / (found[-1][0] - since), late.count(True) / len(late)


@pytest.mark.parametrize("service", [0.1, 1.0])
@pytest.mark.parametrize(
    ("refuses", "rate", "used"),
    [
        (lambda: Bucket(20.0), 20.0, 0.9),
        (lambda: Bucket(3.0), 3.0, 0.9),
        (lambda: Window(20.0, 1.0), 20.0, 0.9),
        (lambda: Window(10.0, 10.0), 10.0, 0.9),
        (lambda: Window(1.0, 60.0), 1.0, 0.9),
        (lambda: Bucket(0.8), 0.8, 0.65),  # it says 2 s where 1.25 would do, and has no room to make up for them
    ],
)
def test_a_limit_on_requests_is_found_and_used(
    refuses: Callable[[], Refuses], rate: float, used: float, service: float
) -> None:
    found, _ = run(refuses(), 60.0 + 1600.0 / rate, service=service)
    taken, share = measure(found, 30.0 + 600.0 / rate)
    assert taken >= used * rate
    assert share <= 0.25


def test_nobody_waits_where_nothing_is_refused() -> None:
    found, pacer = run(lambda _: 0.0, 20.0)
    assert pacer.rate is None
    assert measure(found, 0.0)[0] == pytest.approx(60.0, rel=0.05)


def test_a_server_that_refuses_one_in_twenty_at_random_is_not_slowed() -> None:
    draw = random.Random(0)
    found, _ = run(lambda _: float(draw.random() < 0.05), 300.0)
    free = 30.0 / (0.95 * 0.5 + 0.05 * 1.5) * 0.95
    assert measure(found, 0.0)[0] >= 0.7 * free


def test_a_limit_that_is_lifted_is_found_out() -> None:
    limit = Bucket(10.0)
    found, _ = run(lambda now: limit(now) if now < 60.0 else 0.0, 150.0)
    assert measure(found, 120.0)[0] >= 50.0


@pytest.mark.parametrize("asked", [1.0, 5.0])
def test_a_server_that_takes_nothing_is_asked_ever_more_seldom(asked: float) -> None:
    found, pacer = run(lambda _: asked, 600.0)
    assert pacer.rate is not None
    assert LOWEST <= pacer.rate < 1.0
    assert len(found) < 600
