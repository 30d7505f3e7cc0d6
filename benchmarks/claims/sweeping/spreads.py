"""Claim: what a preview assumes of the spread of rewards is what the stored sweeps have.

    python -m benchmarks run spreads --data DIR

Of every pair of configs of a stored sweep: the variance over prompts of the difference in mean reward, for pairs of
deterministic configs, and for pairs that sample with one and with four answers. The median pair is compared with
`hagpolicy.analysis.provable`.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

import hagpolicy as hag
from benchmarks.claims.sweeping import enlarged_demo
from benchmarks.sweeps.workload.tables import workload_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, figure, record
from hagpolicy.analysis.provable import DIFFERENCE, DRAWN

CLAIM = Claim(
    name="spreads",
    states="The spread of rewards that a preview assumes is that of stored sweeps",
    groups=("stored",),
    headline="*assumed*",
    needs=("data",),
    after=("enlarged_demo", "workload_sweep"),
)


def measure_variance(rewards: np.ndarray) -> float:
    """The variance over prompts of the difference between two configs, of the median pair.

    Args:
        rewards: float64 (n_prompts, n_configs).
    """
    return float(
        np.median([np.var(rewards[:, a] - rewards[:, b]) for a, b in combinations(range(rewards.shape[1]), 2)])
    )


def main() -> int:
    args = arguments(__doc__ or "")
    tables = {"enlarged demo": hag.load_table(enlarged_demo.FOLDER), "workload": workload_table(args.data)}
    figures = []
    for name, table in tables.items():
        whole = table.take(table.complete)
        drawn = ~whole.space.deterministic
        figures += [
            figure(f"{name}: two deterministic configs", measure_variance(whole.means[:, ~drawn]), unit="reward²"),
            figure(
                f"{name}: two that sample, one answer", measure_variance(whole.rewards[:, drawn, 0]), unit="reward²"
            ),
            figure(f"{name}: two that sample, four answers", measure_variance(whole.means[:, drawn]), unit="reward²"),
        ]
    figures += [
        figure("assumed of one answer", DIFFERENCE, unit="reward²"),
        figure("assumed of four that are drawn", DIFFERENCE - DRAWN * 0.75, unit="reward²"),
    ]
    return record(CLAIM, figures, args)


if __name__ == "__main__":
    raise SystemExit(main())
