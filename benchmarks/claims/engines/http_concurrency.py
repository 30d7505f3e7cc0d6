"""Concurrency over HTTP settles at no less than 90 % of a server's best rate.

    python -m benchmarks run http_concurrency [--quick]

The server is a process of its own on a real socket (`tests/support/stub_server.py`), whose curve is known: it
works on so many requests at a time, each for a fixed time, and on one of them every request beyond
those slows all. The engine starts at 2 requests in flight and is told nothing. After a first part, in
which it may look around, answers are counted by the server's own clock; the probing that goes on is
in them. Each run has a server and an engine of its own; intervals are over blocks of answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, record
from hagpolicy import DecodingConfig, Prompt, Request, load_engine
from hagpolicy.engines.openai.engine import OpenAIEngine
from tests.support.stub_server import StubProcess

CLAIM = Claim(
    name="http_concurrency",
    states="Over HTTP, concurrency settles at no less than 90 % of the server's best rate.",
    groups=("bench",),
    headline="rate / best rate, 8 at a time, slowed by each one more",
)
BLOCK = 40
# slots, seconds a request takes, slowing by each request beyond the slots
CURVES = {
    "8 at a time": (8, 0.32, 0.0),
    "24 at a time": (24, 0.64, 0.0),
    "8 at a time, slowed by each one more": (8, 0.32, 0.05),
    "one at a time": (1, 0.04, 0.0),
}


def units(count: int) -> Iterator[list[Request]]:
    """Units of 16 cells, `count` cells in all."""
    for first in range(0, count, 16):
        prompt = Prompt(f"prompt {first}")
        yield [Request(prompt, DecodingConfig(temperature=0.7), at, first + at, 16) for at in range(16)]


def measure(slots: int, service: float, penalty: float, cells: int) -> tuple[np.ndarray, int]:
    """(answers per second in blocks of the second half, number in flight that it settled at)."""
    with StubProcess(slots=slots, service=service, penalty=penalty) as stub:
        engine = load_engine(f"openai:{stub.url}")
        try:
            for _, outcome in engine.stream(units(cells)):
                if isinstance(outcome, Exception):
                    raise outcome
            assert isinstance(engine, OpenAIEngine)
            settled = engine.concurrency
        finally:
            engine.close()
        done = np.sort([note["done"] for note in stub.record()])
    # The last block runs dry: too few cells are left to fill the slots.
    edges = done[len(done) // 2 : len(done) - BLOCK : BLOCK]
    return BLOCK / np.diff(edges), settled


def main() -> int:
    args = arguments(__doc__.split("\n")[0])
    figures: list[Figure] = []
    for name, (slots, service, penalty) in CURVES.items():
        rates, settled = measure(slots, service, penalty, 640 if args.quick else 2560)
        best = slots / service
        ratio, low, high = bootstrap(rates / best, lambda block, axis: 1.0 / np.mean(1.0 / block, axis=axis))
        figures.append(figure(f"rate / best rate, {name}", ratio, low, high, unit="times", at_least=0.9))
        figures.append(figure(f"requests in flight, {name}", settled, unit="requests"))
    return record(CLAIM, figures, args, "best rate = requests at a time / seconds of one")


if __name__ == "__main__":
    sys.exit(main())
