"""A policy that is told each prompt's task ships where tasks differ, and hardly ever where they do not.

    python -m benchmarks run told_tasks [--quick]

Worlds of 120 or 240 prompts of three or six tasks, 6 configs, 1 or 4 samples of 0 or 1. In null worlds every config is
as good in one task as in another, with one config ahead of all, or none, and tasks are of unequal difficulty. In the
others each task has a best config of its own, .15 ahead. Texts say nothing of the task. Fitted with the constant
learner: what is measured is the gate of the tasks. Intervals are Wilson's.
"""

from __future__ import annotations

import sys
import warnings
from itertools import product

import numpy as np

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, figure, record, wilson

CLAIM = Claim(
    name="told_tasks",
    states=(
        "What only the task tells ships for prompts whose task is told; where tasks do not differ, in at most .025 of "
        "worlds."
    ),
    groups=("simulation",),
    headline="false alarms, all null worlds",
)
SPACE = hag.DecodingSpace.grid(temperature=[0.3, 0.7, 1.0], top_p=[1.0, 0.9])
AHEAD = 0.15


def make_world(seed: int, size: int, n_tasks: int, samples: int, null: bool) -> hag.SweepTable:
    """One table."""
    rng = np.random.default_rng([seed, size, n_tasks, samples, null])
    tasks = rng.integers(n_tasks, size=size)
    level = rng.uniform(0.3, 0.7, n_tasks)[tasks] + rng.uniform(-0.15, 0.15, size)
    chance = np.repeat(level[:, None], len(SPACE), axis=1)
    if null:
        chance[:, int(rng.integers(len(SPACE)))] += rng.choice([0.0, 0.05, 0.1])
    else:
        chance[np.arange(size), rng.permutation(len(SPACE))[tasks % len(SPACE)]] += AHEAD
    rewards = (rng.random((*chance.shape, samples)) < chance[:, :, None]).astype(np.float64)
    words = rng.choice(["river", "stone", "lamp", "cloud", "bread", "wheel", "paper", "glass"], (size, 5))
    prompts = [hag.Prompt(f"{' '.join(row)} {n}", task=f"kind {tasks[n]}") for n, row in enumerate(words)]
    return hag.SweepTable.from_arrays(prompts, SPACE, rewards)


def ships(table: hag.SweepTable) -> bool:
    """Whether a policy that is told the task ships."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hag.fit(table, learner="constant", baselines=[]).dial.points[0].told_ships


def main() -> int:
    args = arguments(__doc__.split("\n")[0])
    kinds = list(product((120, 240), (3, 6), (1, 4)))
    each = {True: 2 if args.quick else 25, False: 1 if args.quick else 4}
    found = {
        (null, kind): [ships(make_world(seed, *kind, null)) for seed in range(each[null])]
        for null in (True, False)
        for kind in kinds
    }
    figures = []
    for null, name, most in ((True, "false alarms", 0.025), (False, "shipped where tasks differ", None)):
        pooled = [one for (key, _), several in found.items() if key is null for one in several]
        share = sum(pooled) / len(pooled)
        worlds = f"all {'null ' * null}worlds"
        figures.append(
            figure(f"{name}, {worlds}", share, *wilson(sum(pooled), len(pooled)), unit="share", at_most=most)
        )
        figures.append(figure(f"{name}, number of worlds", len(pooled), unit="worlds"))
        for size, n_tasks, samples in kinds:
            several = found[null, (size, n_tasks, samples)]
            label = f"{name}, {size} prompts, {n_tasks} tasks, {samples} sample(s)"
            interval = wilson(sum(several), len(several))
            figures.append(figure(label, sum(several) / len(several), *interval, unit="share"))
    return record(CLAIM, figures, args)


if __name__ == "__main__":
    sys.exit(main())
