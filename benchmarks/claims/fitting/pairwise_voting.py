"""Why no learner votes by pairs of configs: on algorithm-selection scenarios a forest for all configs is as good.

    python -m benchmarks run pairwise_voting --data DIR

Resumable: one line a scenario in benchmarks/results/pairwise_voting/scenarios.jsonl.

SATzilla chooses an algorithm by one cost-sensitive forest for each pair of algorithms, which learns which of the two
is better and weighs each instance by how much (Xu, Hutter, Hoos and Leyton-Brown, SAT 2012). Here, on the scenarios of
`algorithm_selection.py` and the foldings by which `fit` judges, beside the learner `forest`:

- votes: the config for which most pairs vote, as in SATzilla. Votes are no expected rewards, as margins need them;
- calibrated votes: the share of a pair's trees, times what the pair's difference is for a share of 1 by the votes of
  trees that have not seen the prompt; such differences, on the level of `forest`, are expected rewards;
- differences: the same trees, but a leaf holds the mean difference of the two configs, on the same level;
- regressions: extremely randomised trees that regress each pair's difference, on the same level;
- forest and …: the mean of what `forest` and one of these predict.

Pairs are those of the configs that compete: the best one on average, then whichever adds most to the best of those
chosen for each prompt, eight at most; no other one is chosen there. The best prediction is always taken, without a
margin.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier

from benchmarks.claims.fitting.algorithm_selection import SCENARIOS, SEED, make_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, not_run, record
from benchmarks.tools.resumable import Row, resumed
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.estimates import take_chosen
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.fitting.learners.forest import Forest
from hagpolicy.fitting.prepare import prepare_fit
from hagpolicy.fitting.training import Training

CLAIM = Claim(
    name="pairwise_voting",
    states="Voting by pairs of configs, as SATzilla does, gains nothing over one forest for all configs.",
    groups=("explore",),
    headline="mean of scenarios: forest and calibrated votes, over forest",
    needs=("data",),
)
VOTES = "votes"
WAYS = (VOTES, "calibrated votes", "differences", "regressions")
FOLDINGS = 2
COMPETING = 8
TREES = 600  # of all pairs, where that is 20 to 100 a pair


def find_competing(targets: np.ndarray) -> np.ndarray:
    """int64 (k,), ascending: the best config on average, then those that add most to the best of those before.

    Args:
        targets: float64 (n, n_configs).
    """
    chosen = [int(targets.mean(axis=0).argmax())]
    while len(chosen) < min(COMPETING, targets.shape[1]):
        best = targets[:, chosen].max(axis=1, keepdims=True)
        added = np.maximum(targets - best, 0.0).mean(axis=0)
        if added.max() <= 0.0:
            break
        chosen.append(int(added.argmax()))
    return np.sort(chosen)


def predict_ways(training: Training, train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """What `forest` and every way make of the test prompts: float64 (n_test, n_configs) each, the highest is chosen.

    Args:
        training: the prompts of a folding.
        train: bool (n_prompts,), those to learn from.
        test: bool (n_prompts,).
    """
    features, targets = training.scale_features(train), training.targets.common[0]
    forest = Forest().fit(features[train], targets[train], training.groups[train], SEED).predict(features[test])
    competing, draw = find_competing(targets[train]), np.random.default_rng(SEED)
    pairs = list(combinations(range(len(competing)), 2))
    trees = int(np.clip(TREES // max(len(pairs), 1), 20, 100))
    sums = {way: np.zeros((int(test.sum()), len(competing))) for way in WAYS}
    for one, other in pairs:
        difference = targets[train, competing[one]] - targets[train, competing[other]]
        found = predict_pair(features[train], difference, features[test], trees, int(draw.integers(2**31)))
        for way, advantage in found.items():
            sums[way][:, one] += advantage
            sums[way][:, other] -= advantage
    values = {"forest": forest}
    level = forest[:, competing].mean(axis=1, keepdims=True)
    for way, total in sums.items():
        values[way] = np.full_like(forest, -np.inf)  # of what does not compete, so that it is never chosen
        values[way][:, competing] = total if way == VOTES else level + total / len(competing)
    return values | {f"forest and {way}": (forest + values[way]) / 2 for way in WAYS if way != VOTES}


def predict_pair(
    features: np.ndarray, difference: np.ndarray, given: np.ndarray, trees: int, seed: int
) -> dict[str, np.ndarray]:
    """By every way: float64 (n_given,), the pair's vote, or the difference that it predicts.

    Args:
        features: float32 (n, n_features), of training prompts.
        difference: float64 (n,), what one config gains over another.
        given: float32 (n_given, n_features), of the prompts to predict.
        trees: of each forest.
        seed: of the trees.
    """
    regressor = ExtraTreesRegressor(trees, min_samples_leaf=2, max_features=1 / 3, random_state=seed, n_jobs=1)
    regressed = regressor.fit(features, difference).predict(given)
    wins, apart = difference > 0.0, difference != 0.0
    if wins[apart].all() or not wins.any():  # one of them is never better
        constants = np.sign(difference.sum()), difference.mean(), difference.mean(), regressed
        return {way: np.broadcast_to(value, len(given)) for way, value in zip(WAYS, constants, strict=True)}
    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=1)
    forest.fit(features[apart], wins[apart], sample_weight=np.abs(difference[apart]))
    votes, means = np.zeros((2, len(given)))
    unseen, count = np.zeros((2, len(features)))
    nodes = zip(forest.apply(features).T, forest.apply(given).T, strict=True)
    for tree, drawn, (learned, leaves) in zip(forest.estimators_, forest.estimators_samples_, nodes, strict=True):
        vote = np.sign(tree.tree_.value[:, 0, 1] - tree.tree_.value[:, 0, 0])
        outside = np.ones(len(features), dtype=bool)
        outside[np.flatnonzero(apart)[drawn]] = False
        unseen += np.where(outside, vote[learned], 0.0)
        count += outside
        sums, sizes = np.bincount(learned, weights=difference), np.bincount(learned)
        votes += vote[leaves] / trees
        means += (sums / np.maximum(sizes, 1))[leaves] / trees
    share = unseen / np.maximum(count, 1)
    slope = max(0.0, float(share @ difference / max(share @ share, 1e-12)))
    # One vote a pair; a thousandth of its trees' share parts configs of equally many.
    return dict(zip(WAYS, (np.sign(votes) + 0.001 * votes, slope * votes, means, regressed), strict=True))


def measure(data: str, scenario: str, quick: bool) -> Row:
    """The closed gap of `forest` on a scenario and what every way gains over it, with intervals."""
    with np.load(Path(data) / f"{scenario}.npz", allow_pickle=False) as arrays:
        rewards, features = arrays["reward"].astype(np.float64), arrays["std"]
    rows = slice(None, None, 4 if quick else 1)
    encoder = PrecomputedEncoder(vectors=features[rows])
    fit_data = prepare_fit(make_table(rewards[rows]), [encoder], get_objectives("reward"), SEED, None)
    Y, reference = fit_data.prepared.table.means, fit_data.comparisons[0].reference
    worth: dict[str, np.ndarray] = {}
    for folds in fit_data.prepared.foldings[:FOLDINGS]:
        training = fit_data.trainings[0].refold(folds)
        for train, test in training.split_folds():
            for name, values in predict_ways(training, train, test).items():
                gained = take_chosen(Y[test], values.argmax(axis=1))
                worth.setdefault(name, np.zeros(len(Y)))[test] += gained / FOLDINGS
    gap = float((Y.max(axis=1) - Y[:, reference]).mean())
    boot = GroupBootstrap(fit_data.prepared.groups, seed=SEED)
    forest = worth.pop("forest")
    closed = {"forest": boot.mean((forest - Y[:, reference]) / gap)}
    closed |= {f"{name}, over forest": boot.mean((found - forest) / gap) for name, found in worth.items()}
    return {"closed": {name: [one.value, one.low, one.high] for name, one in closed.items()}}


def average_scenarios(rows: list[Row]) -> list[Figure]:
    """The mean over scenarios of each difference; its interval as of independent normal ones."""
    figures = []
    for name in rows[0]["closed"]:
        values, lows, highs = np.array([row["closed"][name] for row in rows]).T
        half = float(np.sqrt((((highs - lows) / 2) ** 2).sum()) / len(rows))
        mean = float(values.mean())
        figures.append(figure(f"mean of scenarios: {name}", mean, mean - half, mean + half, unit="of the gap"))
    return figures


def main() -> int:
    args = arguments(CLAIM.states)
    if args.data is None or not (args.data / "aslib").is_dir():
        return not_run(CLAIM, "it needs --data with the folder aslib", args)
    cases = [{"scenario": name} for name in (SCENARIOS[:1] if args.quick else SCENARIOS)]
    path = RESULTS / CLAIM.name / "scenarios.jsonl"
    run = partial(measure, str(args.data / "aslib"), quick=args.quick)
    rows = resumed(path, cases, run, store=not args.quick)
    figures = [
        figure(f"{row['scenario']}: {name}", *found, unit="of the gap")
        for row in rows
        for name, found in row["closed"].items()
    ]
    figures += average_scenarios(rows)
    notes = (
        f"Closed gap of the naive VBS, averaged over the first {FOLDINGS} foldings of `fit`; intervals by a bootstrap "
        "over instances, paired with `forest`. The scenarios told how `forest` was chosen."
    )
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
