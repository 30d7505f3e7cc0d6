"""A server that takes so many requests a second is used at no less than .85 of that.

    python -m benchmarks run request_rate [--quick]

The server is a process of its own on a real socket (`tests/support/stub_server.py`). It takes 20 requests a second and
refuses the others with 429 and Retry-After in whole seconds: by a bucket that holds a second's requests, or counted in
windows of one second, or of ten. Answers take .1 s, or a second. The engine is told nothing, and starts with 2 requests
in flight. Counted by the server's own clock, in the second half: requests that it took over the time, as a share of
what it would have taken in that time (of windows of ten seconds: in whole ones, which may begin within one and
then hold a little more); and those that it refused, in all.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.claims.engines.http_concurrency import units
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, record
from hagpolicy import load_engine
from tests.support.stub_server import StubProcess

CLAIM = Claim(
    name="request_rate",
    states="A server that takes 20 requests a second is used at no less than .85 of that.",
    groups=("bench",),
    headline="rate / allowed rate, bucket",
)
RATE = 20.0
# seconds of the window in which the server counts, 0 for a bucket; seconds of an answer
SERVERS = {
    "bucket": (0.0, 0.1),
    "bucket, slow answers": (0.0, 1.0),
    "windows of 1 s": (1.0, 0.1),
    "windows of 10 s": (10.0, 0.1),
}


def measure(window: float, service: float, cells: int) -> tuple[float, int]:
    """(requests taken over what was allowed in their time, requests refused)."""
    with StubProcess(service=service, rate=RATE, window=window) as stub:
        engine = load_engine(f"openai:{stub.url}", max_concurrency=64)
        try:
            for _, outcome in engine.stream(units(cells)):
                if isinstance(outcome, Exception):
                    raise outcome
                assert all(completion.finish != "error" for completion in outcome), outcome
        finally:
            engine.close()
        notes = stub.record()
    refused = sum(note["word"] == "429" for note in notes)
    taken = np.sort([note["at"] for note in notes if note["word"] != "429"])
    # Without the last ones, which are too few to fill the slots; of long windows whole ones.
    half = taken[len(taken) // 2 : -int(RATE)]
    seconds = half[-1] - half[0]
    if window > 1.0:
        seconds = max(window, seconds // window * window)
        half = half[half < half[0] + seconds]
    return len(half) / (RATE * seconds), refused


def main() -> int:
    args = arguments(__doc__.split("\n")[0])
    figures: list[Figure] = []
    cells = 600 if args.quick else 1200
    for name, (window, service) in SERVERS.items():
        ratio, refused = measure(window, service, cells)
        figures.append(figure(f"rate / allowed rate, {name}", ratio, unit="times", at_least=0.85))
        figures.append(figure(f"requests refused, {name}", refused, unit="requests"))
    return record(CLAIM, figures, args, f"{cells:,} requests to each server, 20 a second allowed")


if __name__ == "__main__":
    sys.exit(main())
