"""Claim: `fit` with learner="auto" on 300 prompts × 12 configs takes at most 60 s on 2 cores, and on 2,000 configs at
most 5 times as long as on 500 (200 prompts, 2 samples).

    python -m benchmarks run fit_speed [--quick]

The time is also given as a multiple of a fixed piece of work in the same run (a singular value
decomposition of 600 × 400 on one thread), since machines are shared.
"""

from __future__ import annotations

import time

import numpy as np
from threadpoolctl import threadpool_limits

import hagpolicy as hag
from benchmarks.claims.fitting.worlds import SPACE
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, bootstrap, figure, record

CLAIM = Claim(
    name="fit_speed",
    states='fit with learner="auto" on 300 prompts × 12 configs takes at most 60 s; 2,000 configs, at most 5 times 500',
    groups=("bench",),
    headline="fit, 300 prompts*",
)


def main() -> int:
    args = arguments(__doc__ or "")
    world = hag.SimulatedEngine(0, gap=0.1, space=SPACE)
    prompts = world.prompts(300)
    truth = world.truth(prompts, SPACE)
    rewards = np.random.default_rng(0).random((*truth.shape, 4)) < truth[:, :, None]
    table = hag.SweepTable.from_arrays(prompts, SPACE, rewards.astype(float), default=0)
    work = np.random.default_rng(0).normal(size=(600, 400))
    hag.fit(table)  # imports and first-use costs belong to the first call of a process, not to fitting
    seconds, units = [], []
    for _ in range(1 if args.quick else 5):
        start = time.perf_counter()
        with threadpool_limits(1):
            np.linalg.svd(work, full_matrices=False)
        middle = time.perf_counter()
        hag.fit(table)
        end = time.perf_counter()
        seconds.append(end - middle)
        units.append((end - middle) / (middle - start))
    times = fit_many_configs(1 if args.quick else 2, *((60, 240) if args.quick else (500, 2000)))
    figures = [
        figure(f"fit, 300 prompts × {len(SPACE)} configs", *bootstrap(seconds), unit="s", at_most=60),
        figure("the same, in decompositions of 600 × 400", *bootstrap(units), unit="times"),
        figure("fit, 200 prompts × 2,000 configs", *bootstrap(times[1]), unit="s"),
        figure("the same, over 500 configs", *bootstrap(times[1] / times[0]), unit="times", at_most=5),
    ]
    return record(CLAIM, figures, args)


def fit_many_configs(repeats: int, *sizes: int) -> np.ndarray:
    """float64 (n_sizes, n_repeats): seconds of `fit` for so many configs, in turn."""
    draw = np.random.default_rng(0)
    drawn = zip(draw.uniform(0.1, 1.5, max(sizes)), draw.uniform(0.5, 1.0, max(sizes)), strict=True)
    configs = [hag.DecodingConfig(temperature=float(one), top_p=float(other)) for one, other in drawn]
    world = hag.SimulatedEngine(0, gap=0.1, space=SPACE)
    prompts = world.prompts(200)
    rewards = draw.random((len(prompts), max(sizes), 2)) < world.truth(prompts, configs)[:, :, None]
    seconds = np.zeros((len(sizes), repeats))
    for repeat in range(repeats):
        for row, size in enumerate(sizes):
            table = hag.SweepTable.from_arrays(prompts, configs[:size], rewards[:, :size].astype(float), default=0)
            start = time.perf_counter()
            hag.fit(table)
            seconds[row, repeat] = time.perf_counter() - start
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
