"""The default learner as it was and as it is: what it gains, how long it takes to fit and to predict, and its size.

    python -m benchmarks run default_change --data DIR

Resumable: one line a study in benchmarks/results/default_change/studies.jsonl.

Before: the mean of ridge, LightGBM and MLP ("blend"), on texts and on vectors. Now: on texts the mean of ridge and MLP;
on vectors ridge and a forest, which compete. On every stored sweep and objective, and on seven algorithm-selection
scenarios (see `algorithm_selection`), both are fitted by `fit` on the same foldings. The difference is that of the
winners before the gate, paired by prompt, a dial's points averaged, its interval drawn over groups as for learned
choices. The other figures are ratios of one run: seconds of `fit`; the median of what `predict` takes for one prompt or
vector, both policies in turn on each; bytes of the folder. A policy that does not ship is measured as if it did;
where there is none, the reference is. The first study loads the libraries, at the cost of "before".
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.claims.fitting.algorithm_selection import SCENARIOS, SEED, find_row, make_table
from benchmarks.studies.catalog import STUDIES
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, not_run, record, take_complete
from benchmarks.tools.resumable import Row, resumed
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.learners.blend import Blend

CLAIM = Claim(
    name="default_change",
    states="What the default learner gains and costs on every stored workload and scenario, over what it was before.",
    groups=("explore",),
    headline="workload: now minus before",
    needs=("data",),
    after=("workload_sweep", "stronger_sweep", "drafting"),
)
LEARNERS: dict[str, str | Learner] = {"before": Blend(["ridge", "lightgbm", "mlp"]), "now": "auto"}
RATIOS = ("fit time", "predict time", "size")
TIMED = 100


def read_values(evaluation: hag.Evaluation | None) -> tuple[np.ndarray, np.ndarray]:
    """float64 (n_prompts,) each: what the winner's choices are worth before the gate, and the single best config."""
    assert evaluation is not None
    assert evaluation.per_prompt is not None
    values = evaluation.per_prompt.values
    found = evaluation.candidate is not None and evaluation.candidate.found
    return values[find_row(evaluation) if found else "sbs"], values["sbs"]


def measure_size(policy: hag.Policy) -> int:
    """Bytes of a policy's folder."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "policy"
        policy.save(target)
        return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())


def time_predict(policies: Sequence[hag.Policy], items: Sequence[Any]) -> float:
    """Median time of the last policy's `predict` over that of the first one's, both in turn on each item."""
    seconds = np.empty((len(items), len(policies)))
    for row, item in enumerate([items[0], *items]):  # the first one warms up
        for column, policy in enumerate(policies):
            begun = time.perf_counter()
            policy.predict(item)
            seconds[max(row - 1, 0), column] = time.perf_counter() - begun
    first, *_, last = np.median(seconds, axis=0)
    return float(last / first)


def compare(table: hag.SweepTable, items: Sequence[Any], objective: str, encoder: Any) -> Row:
    """Both learners on one table.

    Args:
        table: a sweep.
        items: what the policies predict for, to be timed.
        objective: as of `fit`.
        encoder: as of `fit`.
    """
    policies, seconds, gains = {}, {}, {}
    for name, learner in LEARNERS.items():
        begun = time.perf_counter()
        fitted = hag.fit(table, encoder, learner, objective=objective, seed=SEED)
        seconds[name] = time.perf_counter() - begun
        worth = [read_values(one) for one in fitted.evaluations]
        gains[name] = np.mean([own - sbs for own, sbs in worth], axis=0)
        policies[name] = (fitted.candidate or fitted, fitted.ships)
    boot = GroupBootstrap(table.groups[table.complete], seed=SEED)
    found = {name: boot.mean(one, learned=True) for name, one in gains.items()}
    found["now minus before"] = boot.mean(gains["now"] - gains["before"], learned=True)
    before, now = (policies[name][0] for name in LEARNERS)
    return {
        "gains": {name: [one.value, one.low, one.high] for name, one in found.items()},
        "ships": {name: one for name, (_, one) in policies.items()},
        "fit time": round(seconds["now"] / seconds["before"], 2),
        "predict time": round(time_predict([before, now], items[:TIMED]), 2),
        "size": round(measure_size(now) / measure_size(before), 2),
    }


def measure(data: str, study: str, quick: bool) -> Row:
    """Both learners on a stored sweep or a scenario."""
    if study in SCENARIOS:
        with np.load(Path(data) / "aslib" / f"{study}.npz", allow_pickle=False) as arrays:
            rewards, vectors = arrays["reward"].astype(np.float64), arrays["std"]
        rows = slice(None, None, 4 if quick else 1)
        return compare(make_table(rewards[rows]), list(vectors[rows]), "reward", vectors[rows])
    chosen = next(one for one in STUDIES if one.name == study)
    table = take_complete(chosen.table(Path(data)), quick, 2)
    return compare(table, [prompt.content for prompt in table.prompts], chosen.objective, "static")


def list_figures(row: Row) -> list[Figure]:
    """The figures of one study."""
    of = row["study"]
    before, difference = row["gains"]["before"], row["gains"]["now minus before"]
    return [
        figure(f"{of}: before, over the single best config", *before, unit="reward gain"),
        figure(f"{of}: now minus before", *difference, unit="reward gain"),
        *(
            figure(f"{of}: {name}, now over before", row[name], unit="×")
            for name in ("fit time", "predict time", "size")
        ),
        *(
            figure(f"{of}: a per-prompt policy ships, {name}", float(one == "per_prompt"), unit="yes = 1")
            for name, one in row["ships"].items()
        ),
    ]


def main() -> int:
    args = arguments(CLAIM.states)
    if args.data is None:
        return not_run(CLAIM, "it needs --data", args)
    names = ["majority"] if args.quick else [*(one.name for one in STUDIES), *SCENARIOS]
    path = RESULTS / CLAIM.name / "studies.jsonl"
    run = partial(measure, str(args.data), quick=args.quick)
    rows = resumed(path, [{"study": name} for name in names], run, store=not args.quick)
    notes = (
        "Sweeps by text first, then scenarios by their standardised features. Gains are before the gate, of the "
        "margin, and on vectors of the learner, that gained most, for which nothing is taken off; over what the single "
        "best config is worth on average, as draws choose it. Ratios of time are of a machine that also did "
        "other work."
    )
    return record(CLAIM, [one for row in rows for one in list_figures(row)], args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
