"""Candidates fitted on all folds but one and scored on that one, in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hagpolicy.analysis.estimates import choose_configs, take_chosen
from hagpolicy.analysis.objectives.targets import Targets
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.graphs.ood import OutOfDistribution, fit_ood
from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.policy.dial import weighted_sum


@dataclass(frozen=True)
class Training:
    """The training prompts of one encoder as arrays; what every candidate is fitted on.

    Attributes:
        encoder: of the prompts.
        features: float32 (n_prompts, n_features), from the encoder's graph.
        unknown: float32 (n_prompts,), share of unknown tokens.
        targets: what candidates are compared by and what learners learn from, which are the common samples and
            those that were added where the choice was uncertain.
        groups: int64 (n_prompts,).
        folds: int64 (n_prompts,).
        seed: of everything random.
    """

    encoder: Encoder
    features: np.ndarray
    unknown: np.ndarray
    targets: Targets
    groups: np.ndarray
    folds: np.ndarray
    seed: int

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Masks (n_prompts,) of training and test prompts, one pair a fold."""
        for fold in np.unique(self.folds):
            yield self.folds != fold, self.folds == fold

    def fit_ood(self, rows: np.ndarray) -> OutOfDistribution:
        """What tells prompts unlike those in `rows`, bool (n_prompts,)."""
        return fit_ood(self.features[rows], self.unknown[rows], self.groups[rows], self.seed, self.encoder.length)

    def fitted(self, learner: Learner, rows: np.ndarray) -> dict[str, FittedLearner]:
        """The learner fitted on the prompts in `rows`, bool (n_prompts,), once for each head."""
        heads = {}
        for name, common, full in zip(self.targets.names, self.targets.common, self.targets.full, strict=True):
            shifted, Y = full[rows], common[rows]
            if not np.array_equal(shifted, Y):
                # Added samples went where the choice was uncertain, so what they say of a config's mean is
                # skewed: they teach how prompts differ, the common samples say how good a config is.
                shifted = shifted - shifted.mean(axis=0) + Y.mean(axis=0)
            heads[name] = learner.fit(self.features[rows], shifted, self.groups[rows], self.seed)
        return heads

    def predicted(self, learner: Learner) -> np.ndarray:
        """float32 (n_heads, n_prompts, n_configs): every prompt by a learner that has not seen its fold."""
        found = np.empty(self.targets.common.shape, dtype=np.float32)
        for train, test in self.parts():
            for number, head in enumerate(self.fitted(learner, train).values()):
                found[number, test] = head.predict(self.features[test])
        return found

    @cached_property
    def unlike(self) -> np.ndarray:
        """bool (n_prompts,): unlike the prompts of the other folds; such a prompt falls back to SBS."""
        found = np.zeros(len(self.features), dtype=bool)
        for train, test in self.parts():
            found[test] = self.fit_ood(train).score(self.features[test], self.unknown[test]) > 1.0
        return found


@dataclass(frozen=True)
class Contender:
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


def cross_fit(
    training: Training, learner: Learner, margins: Sequence[float], references: Sequence[np.ndarray]
) -> Contender:
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
    predicted = training.predicted(learner)
    used, chosen, gains, departs = [], [], [], []
    over: list[dict[int, np.ndarray]] = []
    for point, (weights, reference) in enumerate(zip(targets.weights, references, strict=True)):
        Y, values = targets.Y(point), weighted_sum(weights, predicted)
        best = int(Y.mean(axis=0).argmax())
        scale = _spread(values, best) if targets.spread_margins else 1.0
        steps = [float(np.float32(margin * scale)) for margin in margins]
        over.append({})
        for sbs in np.flatnonzero(reference.any(axis=0)).tolist():
            departing = [_choices(training, values, sbs, step) for step in steps]
            over[-1][sbs] = np.column_stack([take_chosen(Y, choice) - Y[:, sbs] for choice in departing])
        used.append(steps)
        chosen.append(np.column_stack([_choices(training, values, best, step) for step in steps]))
        gains.append(sum(reference[:, [sbs]] * gain for sbs, gain in over[-1].items()))
        departs.append(chosen[-1] != best)
    arrays = np.array(used), np.array(chosen), np.array(gains), np.array(departs)
    return Contender(training, learner, *arrays, tuple(over))


def _choices(training: Training, values: np.ndarray, sbs: int, margin: float) -> np.ndarray:
    """int64 (n_prompts,): the best by predicted values, float32 (n_prompts, n_configs); SBS where the margin is not
    exceeded, or where the prompt is unlike those learned from."""
    return np.where(training.unlike, sbs, choose_configs(values, sbs, margin))


def _spread(values: np.ndarray, sbs: int) -> float:
    """Standard deviation of the predicted advantages over SBS within a config, 0 where there are none."""
    over = values - values[:, [sbs]]
    return float(over.std(axis=0).mean())
