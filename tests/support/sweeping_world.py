"""What the tests of the sweep share: an engine that counts, a small sweep, comparing tables."""

from collections import Counter

import numpy as np
import pyarrow.parquet

from hagpolicy import DecodingConfig, DecodingSpace, SimulatedEngine, sweep

SPACE = DecodingSpace.grid(temperature=[0.0, 0.7]).with_config(DecodingConfig(temperature=1.0, top_p=0.9))[0]


class Counting(SimulatedEngine):
    """The simulated engine, which also keeps what it was asked for, and may stop at a unit."""

    def __init__(self, *args, stop_at=None, error=KeyboardInterrupt, **options):
        super().__init__(*args, **options)
        self.units, self.stop_at, self.error = [], stop_at, error

    def generate(self, unit):
        if self.stop_at is not None and len(self.units) >= self.stop_at:
            raise self.error
        self.units.append([request.seed for request in unit])
        return super().generate(unit)

    @property
    def seeds(self):
        return Counter(seed for unit in self.units for seed in unit)


def run(engine, out, n=6, samples=2, **options):
    options = {"max_tokens": 8, "progress": False, "scorer": engine.scorer, "space": SPACE, **options}
    prompts = options.pop("prompts", engine.prompts(n))
    return sweep(engine, prompts, options.pop("space"), out=out, samples=samples, **options)


def same(a, b):
    assert a.prompts == b.prompts
    assert a.space == b.space
    for name in ("rewards", "tokens", "seconds"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.default, a.fingerprint, a.max_tokens, a.scorers, a.failures) == (
        b.default, b.fingerprint, b.max_tokens, b.scorers, b.failures,
    )  # fmt: skip
    return True


def cells_of(out):
    tables = [pyarrow.parquet.read_table(path) for path in sorted((out / "cells").glob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]
