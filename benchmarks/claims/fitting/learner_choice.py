"""Why `learner="auto"` is one average of learners on texts, and not the best of four that compete.

    python -m benchmarks run learner_choice [--quick] [--data DIR] [-- --worlds 16]

On simulated worlds other than those of `worlds.py`. Both are fitted to the same table; what each gains is read off the
world on 1,000 new prompts. Resumable: one line a world in benchmarks/results/learner_choice/<kind>.jsonl. Then on two
real sweeps, neither of them the workload that the average was first tried on: what `fit` estimates.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from functools import partial
from pathlib import Path

import numpy as np

import hagpolicy as hag
from benchmarks.claims.fitting import worlds
from benchmarks.claims.sweeping import enlarged_demo
from benchmarks.studies.catalog import PRICES
from benchmarks.sweeps.stronger import stronger_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, bootstrap, figure, record
from benchmarks.tools.resumable import Row, resumed, share
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.learners.blend import Blend

CLAIM = Claim(
    name="learner_choice",
    states="In simulated worlds the mean of three learners gains what the best of four competing ones gains",
    groups=("simulation",),
    headline="weak: candidate's true gain, blend minus competing",
    needs=("data",),
    after=("enlarged_demo", "stronger_sweep"),
)
# The mean as it was then; LightGBM has left it since (text_learners.py).
BLEND = Blend(["ridge", "lightgbm", "mlp"])
WAYS: dict[str, str | Learner | list[str | Learner]] = {"compete": ["ridge", "knn", "lightgbm", "mlp"], "blend": BLEND}
KINDS = ("weak", "strong", "gap-600x2", "different")
FIRST = 1000  # seeds from here on: worlds that no reported figure is made of


def run_world(kind: str, seed: int) -> Row:
    """What both ways gave in one world."""
    engine, table = worlds.draw(worlds.KINDS[kind], seed)
    row: Row = {}
    for way, learner in WAYS.items():
        found = worlds.judged(engine, hag.fit(table, learner=learner), seed)
        row |= {f"{way} shipped": found.shipped, f"{way} gain": found.candidate_gain, f"{way} low": found.low}
        row |= {f"{way} shipped_gain": found.shipped_gain, f"{way} width": found.high - found.low}
        row |= {f"{way} covered": found.low <= found.candidate_gain <= found.high}
    return row


def figures(kind: str, rows: list[Row]) -> list[Figure]:
    """Paired differences, blend minus competing, and how often each ships and covers."""
    made: list[Figure] = []
    names = {"gain": "candidate's true gain", "shipped_gain": "true gain of what ships", "width": "width of interval"}
    for name, words in names.items():
        difference = np.array([row[f"blend {name}"] - row[f"compete {name}"] for row in rows])
        found = bootstrap(difference, np.mean)
        made.append(figure(f"{kind}: {words}, blend minus competing", *found, unit="reward gain"))
    for way in WAYS:
        made.append(share(f"{kind}: a policy ships, {way}", sum(row[f"{way} shipped"] for row in rows), len(rows)))
        made.append(share(f"{kind}: interval covers, {way}", sum(row[f"{way} covered"] for row in rows), len(rows)))
    return made


def on_sweeps(data: Path | None) -> list[Figure]:
    """What both ways gain over the single best config on real sweeps, before the gate."""
    sweeps = {"enlarged demo": (hag.load_table(enlarged_demo.FOLDER), "reward")}
    if data is not None:
        sweeps["Qwen2.5-Coder-1.5B"] = (stronger_table(data), f"price/token@{PRICES}")
    made = []
    for sweep, (table, objective) in sweeps.items():
        for way, learner in WAYS.items():
            for found in hag.fit(table, learner=learner, objective=objective).evaluations:
                gain = found.candidate.gain
                label = f"{sweep}, {found.objective}: over SBS, {way}"
                made.append(figure(label, gain.value, gain.low, gain.high, unit="reward gain"))
    return made


def main() -> int:
    args = arguments(CLAIM.states, more=lambda parser: parser.add_argument("--worlds", type=int, default=16))
    found: list[Figure] = []
    for kind in KINDS:
        cases = [{"seed": FIRST + number} for number in range(3 if args.quick else args.worlds)]
        path = RESULTS / "learner_choice" / f"{kind}.jsonl"
        found += figures(kind, resumed(path, cases, partial(run_world, kind), store=not args.quick))
    if not args.quick:
        found += on_sweeps(args.data)
    notes = f"{args.worlds} worlds a kind, paired. The last kind holds nothing to be won per prompt."
    return record(CLAIM, found, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
