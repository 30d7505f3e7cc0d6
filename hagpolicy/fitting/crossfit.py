"""Step 2 of `fit`: baselines and learners fitted on all folds but one and scored on that one, in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.estimates import choose_configs, take_chosen
from hagpolicy.analysis.rule import MIN_GROUPS
from hagpolicy.fitting.baselines.base import Baseline, crossfit_baseline
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.prepare import FitData
from hagpolicy.fitting.training import Training
from hagpolicy.policy.dial import compute_weighted_sum

# For rewards in [0, 1]; chosen on simulated worlds before this was written.
MARGINS = (0.0, 0.03, 0.06, 0.12)
# Under a price: in standard deviations of the predicted advantages.
SPREADS = (0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True, eq=False)
class CrossFittedLearner:
    """A learner on an encoder before selection, at every point of the dial and every margin.

    Attributes:
        training: what it was fitted on.
        learner: which one.
        margins: float64 (n_points, n_margins).
        choices: int64 (n_points, n_prompts, n_margins), out of fold, departing from the best config of all prompts.
        gains: float64 (n_points, n_prompts, n_margins), over the point's SBS.
        over: a point's gains over each config that may be its SBS, by index: float64 (n_prompts, n_margins).
        departs: bool of the same shape: another choice than the best config of all prompts.
    """

    training: Training
    learner: Learner
    margins: np.ndarray
    choices: np.ndarray
    gains: np.ndarray
    departs: np.ndarray
    over: tuple[Mapping[int, np.ndarray], ...]

    @property
    def name(self) -> str:
        """Learner and encoder."""
        return f"{self.learner.name} on {self.training.encoder.name}"


@dataclass(frozen=True, eq=False)
class CrossFittedBaseline:
    """A baseline's choices for prompts that it has not learned from.

    Attributes:
        baseline: which one.
        choices: int64 (n_prompts,) for each point of the dial; below 0 where it could not say.
    """

    baseline: Baseline
    choices: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class CrossFits:
    """Everything that was cross-fitted.

    Attributes:
        learners: each learner on each encoder; none with fewer groups than can prove anything.
        baselines: in their order.
    """

    learners: tuple[CrossFittedLearner, ...]
    baselines: tuple[CrossFittedBaseline, ...]


def cross_fit(
    data: FitData,
    learners: Sequence[Learner],
    baselines: Sequence[Baseline],
    margins: Sequence[float] | None,
) -> CrossFits:
    """Baselines, then learners, fitted on all folds but one and scored on that one, in turn.

    Args:
        data: prompts, features and comparisons.
        learners: each is fitted on each encoder.
        baselines: other ways to choose.
        margins: see `cross_fit_learner`; None: `MARGINS`, under a price `SPREADS`.

    Raises:
        InvalidInput: a baseline or learner gave what is no choice or prediction for each prompt.
    """
    prepared = data.prepared
    table, folds, seed = prepared.table, prepared.folds, prepared.seed
    chosen = tuple(
        CrossFittedBaseline(
            one, tuple(crossfit_baseline(one, table, item.Y, folds, seed).indices for item in data.comparisons)
        )
        for one in baselines
    )
    if prepared.boot.n_groups < MIN_GROUPS:  # SBS ships without a search
        return CrossFits((), chosen)
    if margins is None:
        margins = SPREADS if prepared.targets.spread_margins else MARGINS
    weights = [comparison.sbs for comparison in data.comparisons]
    fitted = (cross_fit_learner(one, item, margins, weights) for one in data.trainings for item in learners)
    return CrossFits(tuple(fitted), chosen)


def cross_fit_learner(
    training: Training, learner: Learner, margins: Sequence[float], references: Sequence[np.ndarray]
) -> CrossFittedLearner:
    """A learner fitted on all folds but one and scored on that one, in turn.

    Args:
        training: the prompts.
        learner: to be fitted.
        margins: in units of the objective; under a price, multiples of the standard deviation of the
            predicted advantages over SBS.
        references: float64 (n_prompts, n_configs) a point: the weights of SBS, see `bootstrap.ResampledBest`.
    """
    targets = training.targets
    # In float32, as the graph decides: what is evaluated is what is deployed, ties included.
    predicted = training.predict_out_of_fold(learner)
    used, chosen, gains, departs = [], [], [], []
    over: list[dict[int, np.ndarray]] = []
    for point, (weights, reference) in enumerate(zip(targets.weights, references, strict=True)):
        Y, values = targets.Y(point), compute_weighted_sum(weights, predicted)
        best = int(Y.mean(axis=0).argmax())
        scale = _spread(values, best) if targets.spread_margins else 1.0
        steps = [float(np.float32(margin * scale)) for margin in margins]
        over.append({})
        for sbs in np.flatnonzero(reference.any(axis=0)).tolist():
            departing = [_choose(training, values, sbs, step) for step in steps]
            over[-1][sbs] = np.column_stack([take_chosen(Y, choice) - Y[:, sbs] for choice in departing])
        used.append(steps)
        chosen.append(np.column_stack([_choose(training, values, best, step) for step in steps]))
        gains.append(sum(reference[:, [sbs]] * gain for sbs, gain in over[-1].items()))
        departs.append(chosen[-1] != best)
    arrays = np.array(used), np.array(chosen), np.array(gains), np.array(departs)
    return CrossFittedLearner(training, learner, *arrays, tuple(over))


def _choose(training: Training, values: np.ndarray, sbs: int, margin: float) -> np.ndarray:
    """int64 (n_prompts,): the best by predicted values, float32 (n_prompts, n_configs); SBS where the margin is not
    exceeded, or where the prompt is unlike those learned from."""
    return np.where(training.out_of_distribution, sbs, choose_configs(values, sbs, margin))


def _spread(values: np.ndarray, sbs: int) -> float:
    """Standard deviation of the predicted advantages over SBS within a config, 0 where there are none."""
    over = values - values[:, [sbs]]
    return float(over.std(axis=0).mean())
