"""Step 2 of `fit`: baselines and learners fitted on all folds but one and scored on that one, in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hagpolicy.analysis.comparison import Comparison
from hagpolicy.analysis.estimates import take_chosen
from hagpolicy.analysis.rule import MIN_GROUPS
from hagpolicy.fitting.baselines.base import Baseline, crossfit_baseline
from hagpolicy.fitting.departures import Departures, summarise_departures
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.prepare import FitData
from hagpolicy.fitting.timing import FitTimer, OutOfTime, TimeLimit
from hagpolicy.fitting.training import Training, time_fits
from hagpolicy.policy.dial import compute_weighted_sum
from hagpolicy.policy.training_prompts import AchievedAdvantage

# For rewards in [0, 1]; chosen on simulated worlds before this was written.
MARGINS = (0.0, 0.03, 0.06, 0.12)
# Under a price: in standard deviations of the predicted advantages.
SPREADS = (0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True, eq=False)
class CrossFittedLearner:
    """A learner on an encoder before selection, at every point of the dial and every margin.

    Every prompt is decided out of fold once in each folding, and gains are means over foldings.

    Attributes:
        training: what it was fitted on.
        learner: which one.
        margins: float64 (n_points, n_margins).
        choices: int64 (n_foldings, n_points, n_prompts, n_margins), departing from the point's reference.
        gains: float64 (n_points, n_prompts, n_margins), over the point's reference.
        departs: bool of the same shape: another choice than the reference in most foldings.
        over: a point's gains over each config that may be its reference, by index: float64 (n_prompts, n_margins).
        departures: at each point, what departing from its reference for the config that is predicted to be best would
            promise and achieve.
    """

    training: Training
    learner: Learner
    margins: np.ndarray
    choices: np.ndarray
    gains: np.ndarray
    departs: np.ndarray
    over: tuple[Mapping[int, np.ndarray], ...]
    departures: tuple[Departures, ...] = ()

    @property
    def name(self) -> str:
        """Learner and encoder."""
        return f"{self.learner.name} on {self.training.encoder.name}"

    @cached_property
    def achieved(self) -> tuple[tuple[AchievedAdvantage, ...], ...]:
        """What its departures achieved at each point, in bands of predicted advantage."""
        training = self.training
        return tuple(summarise_departures(one, training.groups, training.seed) for one in self.departures)


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
        not_fitted: what a time limit left out, see `TimeLimit.left_out`.
    """

    learners: tuple[CrossFittedLearner, ...]
    baselines: tuple[CrossFittedBaseline, ...]
    not_fitted: tuple[str, ...] = ()


def cross_fit(
    data: FitData,
    learners: Sequence[Learner],
    baselines: Sequence[Baseline],
    margins: Sequence[float] | None,
    limit: TimeLimit | None = None,
) -> CrossFits:
    """Baselines, then learners, fitted on all folds but one and scored on that one, in turn.

    Args:
        data: prompts, features and comparisons.
        learners: each is fitted on each encoder.
        baselines: other ways to choose.
        margins: see `cross_fit_learner`; None: `MARGINS`, under a price `SPREADS`.
        limit: learners whose fits take longer than is left of it are left out, but never the first one; what follows
            the cross-fits is to be reserved there before.

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
    if prepared.boot.n_groups < MIN_GROUPS:  # the reference ships without a search
        return CrossFits((), chosen)
    fitted = _cross_fit_learners(data, learners, get_margins(data, margins), limit)
    return CrossFits(fitted, chosen, () if limit is None else tuple(limit.left_out))


def _cross_fit_learners(
    data: FitData, learners: Sequence[Learner], margins: Sequence[float], limit: TimeLimit | None
) -> tuple[CrossFittedLearner, ...]:
    """Each learner on each encoder, in the order in which they are named, but for those that a limit leaves out."""
    fitted: list[CrossFittedLearner] = []
    folded = [[one.refold(folds) for folds in data.prepared.foldings] for one in data.trainings]
    for several in folded:
        encoder, least = several[0].encoder, 0.0
        for one in choose_learners(learners, encoder):
            timer = time_fits(several, one, limit, always=not fitted, least=least)
            try:
                fitted.append(cross_fit_learner(several, one, margins, data.comparisons, timer))
                least = 0.0
            except OutOfTime:
                # In the folds that were begun the next learner finds the features of a tuned encoder, in others not.
                least = timer.at_least if encoder.tuned else 0.0
    return tuple(fitted)


def choose_learners(learners: Sequence[Learner], encoder: Encoder) -> list[Learner]:
    """The learners as they are fitted on an encoder's features."""
    return [found for one in learners for found in one.for_features(any_scale=encoder.any_scale)]


def get_margins(data: FitData, given: Sequence[float] | None) -> Sequence[float]:
    """The margins given; None: `MARGINS`, under a price `SPREADS`."""
    if given is not None:
        return given
    return SPREADS if data.prepared.targets.spread_margins else MARGINS


def cross_fit_learner(
    foldings: Sequence[Training],
    learner: Learner,
    margins: Sequence[float],
    comparisons: Sequence[Comparison],
    timer: FitTimer | None = None,
) -> CrossFittedLearner:
    """A learner fitted on all folds but one and scored on that one, in turn, in each folding of the prompts.

    Args:
        foldings: the same prompts, each with folds of its own.
        learner: to be fitted.
        margins: in units of the objective; under a price, multiples of the standard deviation of the
            predicted advantages over the reference.
        comparisons: one a point, with the reference.
        timer: of its fits; None: one without a limit.

    Raises:
        InvalidInput: the learner gave what is no prediction for each prompt.
        OutOfTime: see `FitTimer.begin`.
    """
    targets, timer = foldings[0].targets, time_fits(foldings, learner) if timer is None else timer
    # In float32, as the graph decides: what is evaluated is what is deployed, ties included.
    predicted = [one.predict_out_of_fold(learner, timer) for one in foldings]
    timer.end()
    used, chosen, gains, departs = [], [], [], []
    over: list[dict[int, np.ndarray]] = []
    departures = []
    for weights, comparison in zip(targets.weights, comparisons, strict=True):
        reference, drawn = comparison.reference, comparison.drawn_reference.weights
        values = [compute_weighted_sum(weights, heads) for heads in predicted]
        scale = np.mean([_spread(one, reference) for one in values]) if targets.spread_margins else 1.0
        steps = [float(np.float32(margin * scale)) for margin in margins]
        parts = [_Advantages.of(*one) for one in zip(foldings, values, strict=True)]
        over.append({})
        for one in np.flatnonzero(drawn.any(axis=0)).tolist():
            found = (_score(part.choose(one, step), comparison.Y, one) for part in parts for step in steps)
            over[-1][one] = np.array(list(found)).reshape(len(parts), len(steps), -1).mean(axis=0).T
        used.append(steps)
        chosen.append([np.column_stack([part.choose(reference, step) for step in steps]) for part in parts])
        gains.append(sum(drawn[:, [one]] * gain for one, gain in over[-1].items()))
        departs.append((np.array(chosen[-1]) != reference).mean(axis=0) > 0.5)
        departures.append(
            Departures(
                np.array([part.predict_advantage(reference) for part in parts]),
                np.array([_score(part.best, comparison.Y, reference) for part in parts]),
            )
        )
    choices = np.array(chosen).swapaxes(0, 1)
    return CrossFittedLearner(
        foldings[0],
        learner,
        np.array(used),
        choices,
        np.array(gains),
        np.array(departs),
        tuple(over),
        tuple(departures),
    )


class _Advantages(NamedTuple):
    """What a learner predicts in one folding: the best config of each prompt, for those like the ones learned from."""

    values: np.ndarray
    best: np.ndarray
    highest: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, training: Training, values: np.ndarray) -> _Advantages:
        """Those of predicted values, float32 (n_prompts, n_configs)."""
        return cls(values, values.argmax(axis=1), values.max(axis=1), ~training.out_of_distribution)

    def choose(self, reference: int, margin: float) -> np.ndarray:
        """int64 (n_prompts,): the best; the reference where the margin is not exceeded, or where the prompt is unlike
        those learned from."""
        return np.where(self.known & (self.highest - self.values[:, reference] > margin), self.best, reference)

    def predict_advantage(self, reference: int) -> np.ndarray:
        """float64 (n_prompts,): the best over the reference; NaN for a prompt unlike those learned from."""
        advantage = (self.highest - self.values[:, reference]).astype(np.float64)
        return np.where(self.known, advantage, np.nan)


def _score(choices: np.ndarray, Y: np.ndarray, reference: int) -> np.ndarray:
    """float64 (n_prompts,): what choices gain over a config."""
    return np.asarray(take_chosen(Y, choices) - Y[:, reference])


def _spread(values: np.ndarray, reference: int) -> float:
    """Standard deviation of the predicted advantages over the reference within a config, 0 where there are none."""
    over = values - values[:, [reference]]
    return float(over.std(axis=0).mean())
