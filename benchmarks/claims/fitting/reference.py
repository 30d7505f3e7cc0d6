"""What the choice of the reference does: the single best config of the other folds, or of every bootstrap draw.

    python -m benchmarks run reference --data DIR

Both on the mixed workload, with the same learner, folds and draws. The engine's default stands for a baseline that
always names the same config.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.sweeps.workload.tables import workload_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, record, stored, take_complete
from hagpolicy import SweepTable
from hagpolicy.analysis.comparison import Comparison, compare
from hagpolicy.analysis.estimates import crossfit_sbs
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.analysis.prepare import Prepared, prepare
from hagpolicy.fitting.crossfit import MARGINS, cross_fit_learner
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.gate import gate
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.training import Training
from hagpolicy.results import Estimate

CLAIM = Claim(
    name="reference",
    states="What a policy and the engine's default gain over the single best config, by how that one is chosen.",
    groups=("stored",),
    headline="every draw: policy over it",
    needs=("data",),
    after=("workload_sweep",),
)
SEED = 0


def comparisons(prepared: Prepared) -> dict[str, Comparison]:
    """The comparison of mean reward under both references."""
    choices = crossfit_sbs(prepared.targets.Y(0), prepared.folds)
    folded = np.eye(len(prepared.table.space))[choices]
    return {"other folds": compare(prepared, sbs=folded), "every draw": compare(prepared)}


def figures_of(table: SweepTable) -> list[Figure]:
    """Value of the reference, and gains over it, under both."""
    prepared, encoder = prepare(table, get_objectives("reward"), SEED), get_encoder("static")
    features = compute_features(encoder, table.prompts)
    training = Training(encoder, *features, prepared.targets, prepared.groups, prepared.folds, SEED)
    assert table.default is not None
    default = np.full(len(table.prompts), table.default)
    figures = [figure("engine's default", prepared.targets.Y(0)[:, table.default].mean(), unit="reward")]
    for name, comparison in comparisons(prepared).items():
        fitted = cross_fit_learner([training], get_learner("blend"), MARGINS, [comparison])
        (candidate,) = gate([fitted], [comparison]).candidates
        figures.append(figure(f"{name}: single best config", comparison.sbs_values.mean(), unit="reward"))
        figures.append(_gain(f"{name}: engine's default over it", comparison.score_choices(default).gain))
        figures.append(_gain(f"{name}: policy over it", candidate.gain))
    return figures


def _gain(name: str, estimate: Estimate) -> Figure:
    return figure(name, estimate.value, estimate.low, estimate.high, unit="reward gain")


def main() -> int:
    args = arguments(CLAIM.states)
    table = stored(workload_table, CLAIM, args)
    if table is None:
        return 0
    table = take_complete(table, args.quick, 4)
    with threadpool_limits(1):
        figures = figures_of(table)
    return record(CLAIM, figures, args, f"{len(table.prompts)} prompts, learner blend, seed {SEED}.")


if __name__ == "__main__":
    raise SystemExit(main())
