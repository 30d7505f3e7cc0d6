"""Claim: on public algorithm-selection scenarios `auto` learns what a random forest learns, from raw features too.

    python -m benchmarks run algorithm_selection --data DIR

Resumable: one line a scenario in benchmarks/results/algorithm_selection/scenarios.jsonl.

Seven scenarios of ASlib (coseal/aslib_data @ 551b22b; Bischl et al., *Artificial Intelligence* 237, 2016): instances
are prompts, algorithms are configs, the reward is 1 − PAR10 / (10 · cutoff). `raw` features have medians for missing
values; `std` is sign · log(1 + |raw|), standardised, clipped at 5, with up to 20 columns that mark missing values.
Closed gap: what choosing per instance gains over the single best algorithm, as a share of what always choosing the best
one gains, out of fold. Beside it scikit-learn's multi-output random forest with its defaults, on the foldings by which
`auto` is judged.
The control: no more than one of the seven policies ships whose instances have each other's features.
The scenarios told how learners and scaling were chosen, so they are no proof that others are learned as well.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, not_run, record
from benchmarks.tools.resumable import Row, resumed
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.analysis.prepare import prepare

CLAIM = Claim(
    name="algorithm_selection",
    states="On seven algorithm-selection scenarios `auto` closes what a plain random forest closes.",
    groups=("bench",),
    headline="scenarios on which auto is level with the forest or above",
    needs=("data",),
)
SCENARIOS = (
    "QBF-2011",
    "MAXSAT12-PMS",
    "SAT12-HAND",
    "MAXSAT-WPMS-2016",
    "ASP-POTASSCO",
    "CSP-2010",
    "SAT18-EXP",
)
SEED = 0
FOREST = "scikit-learn's forest, std"


def make_table(rewards: np.ndarray) -> hag.SweepTable:
    """Instances as prompts and algorithms as configs: what they are called does not matter, features are given."""
    space = [hag.DecodingConfig(temperature=0.01 * index) for index in range(rewards.shape[1])]
    return hag.SweepTable.from_arrays([f"instance {row}" for row in range(len(rewards))], space, rewards)


def choose_by_forest(table: hag.SweepTable, features: np.ndarray) -> np.ndarray:
    """float64 (n_prompts,): what scikit-learn's forest is worth on each instance, averaged over foldings of `fit`."""
    from sklearn.ensemble import RandomForestRegressor

    prepared = prepare(table, get_objectives("reward"), SEED)
    Y, found = table.means, []
    for folds in prepared.foldings:
        worth = np.empty(len(Y))
        for fold in np.unique(folds):
            train, test = folds != fold, folds == fold
            forest = RandomForestRegressor(random_state=SEED, n_jobs=1).fit(features[train], Y[train])
            worth[test] = Y[test, forest.predict(features[test]).argmax(axis=1)]
        found.append(worth)
    return np.asarray(np.mean(found, axis=0))


def measure(data: str, scenario: str, quick: bool) -> Row:
    """Closed gaps of one scenario, each with its interval, and whether a policy of shuffled features ships."""
    with np.load(Path(data) / f"{scenario}.npz", allow_pickle=False) as arrays:
        rewards, kinds = arrays["reward"].astype(np.float64), {name: arrays[name] for name in ("std", "raw")}
    rows = slice(None, None, 4 if quick else 1)
    table = make_table(rewards[rows])
    given = {name: values[rows] for name, values in kinds.items()}
    policies = {name: hag.fit(table, encoder=values, seed=SEED) for name, values in given.items()}
    evaluations = {name: policy.evaluation for name, policy in policies.items()}
    found = {name: one for name, one in evaluations.items() if one and one.per_prompt}
    values = {name: one.per_prompt.values for name, one in found.items() if one.per_prompt}
    sbs, best = values["std"]["sbs"], values["std"]["naive_vbs"]
    gap = float((best - sbs).mean())
    chosen = {f"auto, {name}": own[find_row(found[name])] for name, own in values.items()}
    chosen[FOREST] = choose_by_forest(table, given["std"])
    boot = GroupBootstrap(table.groups, seed=SEED)
    shares = {name: worth - sbs for name, worth in chosen.items()}
    shares["auto over the forest"] = chosen["auto, std"] - chosen[FOREST]
    shares["lost by raw features"] = chosen["auto, std"] - chosen["auto, raw"]
    closed = {name: boot.mean(gained / gap) for name, gained in shares.items()}
    shuffled = given["std"][np.random.default_rng(SEED).permutation(len(table.prompts))]
    ships = hag.fit(table, encoder=shuffled, seed=SEED).ships
    return {"closed": {name: [one.value, one.low, one.high] for name, one in closed.items()}, "shuffled": ships}


def list_figures(rows: list[Row]) -> list[Figure]:
    """The figures of all scenarios."""
    figures = []
    for row in rows:
        for name, (value, low, high) in row["closed"].items():
            most = {"at_most": 0.03} if name == "lost by raw features" else {}
            figures.append(figure(f"{row['scenario']}: {name}", value, low, high, unit="of the gap", **most))
    return figures


def find_row(evaluation: hag.Evaluation) -> str:
    """The row of the learner that won."""
    assert evaluation.candidate is not None
    return evaluation.candidate.name.partition(" on ")[0]


def main() -> int:
    args = arguments(CLAIM.states)
    if args.data is None or not (args.data / "aslib").is_dir():
        return not_run(CLAIM, "it needs --data with the folder aslib", args)
    names = SCENARIOS[:1] if args.quick else SCENARIOS
    path = RESULTS / CLAIM.name / "scenarios.jsonl"
    cases = [{"scenario": name} for name in names]
    run = partial(measure, str(args.data / "aslib"), quick=args.quick)
    rows = resumed(path, cases, run, store=not args.quick)
    over = [row["closed"]["auto over the forest"][0] for row in rows]
    least = None if args.quick else 6
    level = sum(one >= 0.0 for one in over)
    ships = sum(row["shuffled"] == "per_prompt" for row in rows)
    figures = [
        *list_figures(rows),
        figure("scenarios on which a policy of shuffled features ships", ships, unit="scenarios", at_most=1),
        figure(CLAIM.headline, level, unit="scenarios", at_least=least),
    ]
    notes = (
        "Closed gap of the naive VBS; intervals by a bootstrap over instances. `auto` is the winner of `fit`, ridge or "
        "forest, with its margin, averaged over the foldings; scikit-learn's forest, on the same ones, always takes "
        "its best. Shuffled: every instance has another one's features, so that there is nothing to learn."
    )
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
