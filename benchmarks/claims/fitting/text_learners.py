"""What could stand in place of the default learner of texts, on every stored sweep and objective, out of fold.

    python -m benchmarks run text_learners --data DIR

Resumable: one line a study or world in benchmarks/results/text_learners/.

On real sweeps every learner is fitted on the static embedding over the five foldings of `fit`; its gain is that of its
best margin, averaged over the points of the dial, before the gate. The difference to the default, the mean of ridge and
MLP, is paired by prompt, its interval drawn over groups as for learned choices; nothing is corrected for the number of
learners, so that one of them alone above 0 by a hair is no find. What was tried:

- the default as it was before, with LightGBM as a third part; the parts; a forest, and the mean with it;
- "full rank": ridge with all directions across configs, where the package's keeps few;
- "binomial" (mean rewards alone): the same, linear in the logits, by the likelihood of rewards in [0, 1] (Papke and
  Wooldridge, *Journal of Applied Econometrics* 11, 1996). What it adds is its difference to "full rank";
- "shrunk" (mean rewards alone): the default, learning from each prompt's posterior mean under a normal prior whose
  covariance across configs is estimated from the training prompts (empirical Bayes), so that configs share evidence;
- "by fields": the same with a prior under which configs are alike as their fields are;
- "calibrated": the default's advantages times the slope of achieved on predicted ones, which the other folds tell,
  shrunk towards 1 by its error.

In simulated worlds, none of which any choice was made on, the learners are fitted on everything, and what their
choices gain over the single best config is read off the world on 1,000 new prompts.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import hagpolicy as hag
from benchmarks.baselines.learners import Binomial, FullRank, Shrunk
from benchmarks.claims.fitting import worlds
from benchmarks.studies.catalog import STUDIES, Study
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, bootstrap, figure, not_run, record
from benchmarks.tools.resumable import Row, resumed
from hagpolicy.analysis.estimates import choose_configs, take_chosen
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.fitting.crossfit import MARGINS, get_margins
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.registry import get_encoders
from hagpolicy.fitting.learners.base import Learner, split_advantages
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.prepare import FitData, prepare_fit
from hagpolicy.fitting.training import Training
from hagpolicy.policy.dial import compute_weighted_sum

CLAIM = Claim(
    name="text_learners",
    states="What other learners of texts gain over the default one, on every stored sweep (exploration).",
    groups=("explore",),
    headline="workload: before minus default",
    needs=("data",),
    after=("workload_sweep", "stronger_sweep", "drafting"),
)
SEED = 0
DEFAULT = ("ridge", "mlp")
# As it was when LightGBM was a part of it.
BEFORE = (*DEFAULT, "lightgbm")
# Of the slope before anything is seen, around 1.
SLOPE_SPREAD = 0.5
KINDS = ("weak", "strong", "gap-200x8", "gap-600x2")
FIRST = 8000  # seeds from here on: worlds on which no choice was made


def measure_noise(table: hag.SweepTable) -> np.ndarray:
    """float64 (n_configs,): mean variance of a cell's mean over its samples, 0 for a deterministic config."""
    counts = table.counts
    several = np.nanvar(table.rewards, axis=2) * counts / np.maximum(counts - 1, 1) / np.maximum(counts, 1)
    return np.where(table.space.deterministic, 0.0, several.mean(axis=0))


def compare_fields(space: hag.DecodingSpace) -> np.ndarray:
    """float64 (n_configs, n_configs): how alike configs are by the numbers in their fields, 1 for equal ones."""
    rows = [[one.to_dict().get(field) for field in space.varying] for one in space]
    columns = np.array([[float(one) if isinstance(one, int | float) else 0.0 for one in row] for row in rows])
    spread = columns.std(axis=0)
    columns = columns / np.where(spread > 0.0, spread, 1.0)
    distances = ((columns[:, None] - columns[None]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-distances / max(float(np.median(distances)), 1e-9)))


def calibrate(data: FitData, predicted: np.ndarray) -> np.ndarray:
    """Predictions whose advantages are stretched by the slope that the other folds tell.

    Args:
        data: prompts, targets and foldings.
        predicted: float32 (n_foldings, n_heads, n_prompts, n_configs), out of fold.
    """
    groups, found = data.prepared.groups, predicted.copy()
    for folding, folds in enumerate(data.prepared.foldings):
        for head, targets in enumerate(data.prepared.targets.full):
            relative, level = split_advantages(predicted[folding, head].astype(np.float64))
            achieved, _ = split_advantages(targets)
            centres = {fold: achieved[folds != fold].mean(axis=0) for fold in np.unique(folds)}
            centre = np.array([centres[fold] for fold in folds])
            for fold in centres:
                inside, rest = folds == fold, folds != fold
                slope = find_slope((relative - centre)[rest], (achieved - centre)[rest], groups[rest])
                stretched = centre[inside] + slope * (relative - centre)[inside]
                found[folding, head, inside] = level[inside, None] + stretched
    return found


def find_slope(predicted: np.ndarray, achieved: np.ndarray, groups: np.ndarray) -> float:
    """Slope of achieved on predicted advantages, at least 0, shrunk towards 1 by its error over groups."""
    total = float((predicted**2).sum())
    if total <= 0.0:
        return 1.0
    slope = float((predicted * achieved).sum()) / total
    scores = np.bincount(groups, (predicted * (achieved - slope * predicted)).sum(axis=1))
    error = max(float((scores**2).sum()) / total**2, 1e-12)
    sure, prior = 1.0 / error, 1.0 / SLOPE_SPREAD**2
    return max(0.0, (slope * sure + prior) / (sure + prior))


def predict(data: FitData, learner: Learner) -> np.ndarray:
    """float32 (n_foldings, n_heads, n_prompts, n_configs), out of fold."""
    foldings = [data.trainings[0].refold(folds) for folds in data.prepared.foldings]
    return np.stack([one.predict_out_of_fold(learner) for one in foldings])


def measure_gain(data: FitData, predicted: np.ndarray) -> np.ndarray:
    """float64 (n_prompts,): over the reference, at each point's best margin, averaged over foldings and points."""
    foldings = [data.trainings[0].refold(folds) for folds in data.prepared.foldings]
    margins, found = get_margins(data, None), []
    for point, comparison in enumerate(data.comparisons):
        reference, Y = comparison.reference, comparison.Y
        values = [compute_weighted_sum(data.prepared.targets.weights[point], heads) for heads in predicted]
        spread = np.mean([(one - one[:, [reference]]).std(axis=0).mean() for one in values])
        scale = float(spread) if data.prepared.targets.spread_margins else 1.0
        gains = [
            np.mean(
                [_choose(one, mine, reference, margin * scale, Y) for one, mine in zip(foldings, values, strict=True)],
                axis=0,
            )
            for margin in margins
        ]
        found.append(max(gains, key=np.mean))
    return np.asarray(np.mean(found, axis=0))


def _choose(training: Training, values: np.ndarray, reference: int, margin: float, Y: np.ndarray) -> np.ndarray:
    """float64 (n_prompts,): what the choices of one folding gain over the reference."""
    chosen = choose_configs(values, reference, float(np.float32(margin)))
    return np.asarray(take_chosen(Y, np.where(training.out_of_distribution, reference, chosen)) - Y[:, reference])


def measure_slope(data: FitData, predicted: np.ndarray) -> float:
    """Slope of achieved on predicted advantages at the first point, without what all prompts share."""
    own, came = [], []
    for heads in predicted:
        for values, into in ((heads, own), (data.prepared.targets.common, came)):
            relative, _ = split_advantages(compute_weighted_sum(data.prepared.targets.weights[0], values))
            into.append(relative - relative.mean(axis=0))
    return float((np.array(own) * np.array(came)).sum() / max(float((np.array(own) ** 2).sum()), 1e-12))


def list_learners(table: hag.SweepTable, heads: Sequence[str]) -> dict[str, Learner]:
    """Learners by name, the parts of the default first."""
    found: dict[str, Learner] = {name: get_learner(name) for name in (*BEFORE, "forest")}
    found["full rank"] = FullRank()
    if tuple(heads) == ("values",):
        found["binomial"] = Binomial()
        noise, alike = measure_noise(table), compare_fields(table.space)
        found |= {f"shrunk {name}": Shrunk(get_learner(name), noise) for name in DEFAULT}
        found |= {f"by fields {name}": Shrunk(get_learner(name), noise, alike) for name in DEFAULT}
    return found


def average(parts: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Means of what some learners predict."""
    return np.asarray(np.mean([parts[name] for name in names], axis=0, dtype=np.float64), np.float32)


def measure(data_folder: str, study: str, quick: bool) -> Row:
    """Gain, difference to the default, slope and fit time of every learner on one study, each with its interval."""
    chosen = find_study(study)
    table = chosen.table(Path(data_folder))
    if study == FEW or quick:
        table = table.take(np.arange(len(table.prompts)) % 5 == 0)
    with threadpool_limits(1):
        data = prepare_fit(table, get_encoders("static"), get_objectives(chosen.objective), SEED, None)
        parts, seconds = {}, {}
        for name, learner in list_learners(data.prepared.table, data.prepared.targets.names).items():
            begun = time.perf_counter()
            parts[name] = predict(data, learner)
            seconds[name] = time.perf_counter() - begun
    default = average(parts, DEFAULT)
    found = {"default": default, "before": average(parts, BEFORE), "calibrated": calibrate(data, default)}
    for prefix in ("shrunk", "by fields"):
        if f"{prefix} {DEFAULT[0]}" in parts:
            found[prefix] = average(parts, [f"{prefix} {name}" for name in DEFAULT])
    found["default and forest"] = average(parts, [*DEFAULT, "forest"])
    found |= {name: one for name, one in parts.items() if not name.startswith(("shrunk", "by fields"))}
    own = measure_gain(data, default)
    base = sum(seconds[name] for name in DEFAULT)
    seconds["before"] = sum(seconds[name] for name in BEFORE)
    return {
        "prompts": len(data.prepared.table.prompts),
        "learners": {name: tell(data, one, own) for name, one in found.items()},
        "fit time": {name: round(seconds[name] / base, 2) for name in found if name in seconds},
    }


def tell(data: FitData, predicted: np.ndarray, default: np.ndarray) -> Row:
    """Gain, difference to the default's, and slope."""
    gain = measure_gain(data, predicted)
    over, more = (data.prepared.boot.mean(one, learned=True) for one in (gain, gain - default))
    return {
        "gain": [over.value, over.low, over.high],
        "minus default": [more.value, more.low, more.high],
        "slope": round(measure_slope(data, predicted), 3),
    }


FEW = "workload, every fifth prompt"


def find_study(name: str) -> Study:
    """The study of a name; `FEW` is the workload."""
    return next(one for one in STUDIES if one.name == ("workload" if name == FEW else name))


def measure_world(kind: str, seed: int) -> Row:
    """True gain over the single best config, by learner and margin, in one world."""
    engine, table = worlds.draw(worlds.KINDS[kind], seed)
    encoder, means = get_encoders("static")[0], table.means
    new = list(engine.prompts(worlds.N_NEW, seed=2))
    features, unseen = (compute_features(encoder, prompts)[0] for prompts in (table.prompts, new))
    truth, reference = engine.truth(new, table.space), int(means.mean(axis=0).argmax())
    learners = {name: get_learner(name) for name in BEFORE} | {"full rank": FullRank()}
    with threadpool_limits(1):
        fitted = {name: one.fit(features, means, table.groups, SEED) for name, one in learners.items()}
    found = {name: one.predict(unseen) for name, one in fitted.items()}
    found |= {"default": average(found, DEFAULT), "before": average(found, BEFORE)}
    row: Row = {}
    for name, values in found.items():
        for margin in MARGINS[:2]:
            chosen = choose_configs(values, reference, margin)
            row[f"{name}, margin {margin:g}"] = float((take_chosen(truth, chosen) - truth[:, reference]).mean())
    return row


def list_world_figures(kind: str, rows: Sequence[Row]) -> list[Figure]:
    """Mean true gain of the default in worlds of a kind, and what the others gain over it, paired by world."""
    figures = []
    for margin in MARGINS[:2]:
        gains = {
            name.rpartition(", margin")[0]: np.array([row[name] for row in rows])
            for name in rows[0]
            if name.endswith(f", margin {margin:g}")
        }
        of, own = f"worlds {kind}, margin {margin:g}", gains.pop("default")
        figures.append(figure(f"{of}: default", *bootstrap(own, np.mean), unit="true gain"))
        for name, gain in gains.items():
            figures.append(figure(f"{of}: {name} minus default", *bootstrap(gain - own, np.mean), unit="true gain"))
    return figures


def list_figures(row: Row) -> list[Figure]:
    """The figures of one study."""
    found, of = [], row["study"]
    for name, one in row["learners"].items():
        if name == "default":
            found.append(figure(f"{of}: default over the reference", *one["gain"], unit="reward gain"))
        else:
            found.append(figure(f"{of}: {name} minus default", *one["minus default"], unit="reward gain"))
        if name in ("default", "before", "calibrated"):
            found.append(figure(f"{of}: {name}, slope of achieved on predicted advantages", one["slope"], unit="×"))
    found += [
        figure(f"{of}: {name}, fit time over the default's", value, unit="×")
        for name, value in row["fit time"].items()
        if name not in DEFAULT
    ]
    return found


def main() -> int:
    args = arguments(CLAIM.states, more=lambda parser: parser.add_argument("--worlds", type=int, default=32))
    if args.data is None:
        return not_run(CLAIM, "it needs --data", args)
    names = ["majority"] if args.quick else [*(one.name for one in STUDIES), FEW]
    run = partial(measure, str(args.data), quick=args.quick)
    path = RESULTS / CLAIM.name / "studies.jsonl"
    rows = resumed(path, [{"study": name} for name in names], run, store=not args.quick)
    figures = [one for row in rows for one in list_figures(row)]
    for kind in KINDS:
        cases = [{"seed": FIRST + number} for number in range(2 if args.quick else args.worlds)]
        found = resumed(path.with_name(f"{kind}.jsonl"), cases, partial(measure_world, kind), store=not args.quick)
        figures += list_world_figures(kind, found)
    notes = (
        "Before the gate, out of fold, over five foldings; a dial's points are averaged. The default is the mean of "
        "ridge and MLP; before, LightGBM was a third part. Mean rewards alone: binomial, shrunk, by fields. Worlds: "
        f"{args.worlds} a kind. Prompts: " + ", ".join(f"{row['study']} {row['prompts']}" for row in rows) + "."
    )
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
