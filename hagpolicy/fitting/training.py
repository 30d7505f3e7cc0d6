"""The training prompts of one encoder, and learners fitted on all of their folds but one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from hagpolicy.analysis.objectives.targets import Targets
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.scaling import FeatureScaling, Imputation, ScaledEncoder
from hagpolicy.fitting.graphs.ood import OutOfDistribution, fit_ood
from hagpolicy.fitting.learners.base import FittedLearner, Learner, split_advantages
from hagpolicy.fitting.timing import FitTimer, TimeLimit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Training:
    """The training prompts of one encoder as arrays; what every candidate is fitted on.

    Attributes:
        encoder: of the prompts.
        features: float32 (n_prompts, n_features), from the encoder's graph, as they come.
        unknown: float32 (n_prompts,), share of unknown tokens.
        targets: what candidates are compared by and what learners learn from, which are the common samples and
            those that were added where the choice was uncertain.
        groups: int64 (n_prompts,).
        folds: int64 (n_prompts,).
        seed: of everything random.
        refused: bool (n_prompts,), chats that the policy would not read; None: none.
        items: what the encoder made its inputs of, one a prompt; None: what is read of the prompts.
    """

    encoder: Encoder
    features: np.ndarray
    unknown: np.ndarray
    targets: Targets
    groups: np.ndarray
    folds: np.ndarray
    seed: int
    refused: np.ndarray | None = None
    items: Sequence[Any] | None = None

    def refold(self, folds: np.ndarray) -> Self:
        """The same prompts with other folds, int64 (n_prompts,)."""
        return replace(self, folds=folds)

    def split_folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Masks (n_prompts,) of training and test prompts, one pair a fold."""
        for fold in np.unique(self.folds):
            yield self.folds != fold, self.folds == fold

    def read_by(self, encoder: Encoder, features: np.ndarray, unknown: np.ndarray) -> Self:
        """The same prompts and folds by another encoder of the same items, with its features and unknown tokens."""
        return replace(self, encoder=encoder, features=features, unknown=unknown)

    def untuned(self) -> Training:
        """The same prompts by the encoder as it comes, for what learns nothing from its features."""
        return self

    def fit_encoder(self, rows: np.ndarray) -> Encoder:
        """The encoder whose features are those of `scale_features`, for the prompts in `rows`, bool (n_prompts,)."""
        scaling = self.fit_scaling(rows)
        return self.encoder if scaling is None else ScaledEncoder(self.encoder, scaling)

    def fit_scaling(self, rows: np.ndarray) -> FeatureScaling | Imputation | None:
        """What fills the features and brings them to one scale, fitted on the prompts in `rows`, bool (n_prompts,);
        None: nothing."""
        if self.encoder.missing:
            return Imputation.of(self.features[rows])
        return FeatureScaling.of(self.features[rows]) if self.encoder.any_scale else None

    def scale_features(self, rows: np.ndarray) -> np.ndarray:
        """float32 (n_prompts, n_features): all prompts' features, scaled as those in `rows`, bool (n_prompts,), ask."""
        scaling = self.fit_scaling(rows)
        return self.features if scaling is None else scaling.apply(self.features)

    def fit_ood(self, rows: np.ndarray) -> OutOfDistribution:
        """The out-of-distribution score fitted on the prompts in `rows`, bool (n_prompts,), on features so scaled."""
        features = self.scale_features(rows)[rows]
        return fit_ood(features, self.unknown[rows], self.groups[rows], self.seed, self.encoder.length)

    def fit_heads(self, learner: Learner, rows: np.ndarray) -> dict[str, FittedLearner]:
        """The learner fitted on the prompts in `rows`, bool (n_prompts,), once for each head, on features so scaled."""
        heads, features = {}, self.scale_features(rows)[rows]
        for name, common, full in zip(self.targets.names, self.targets.common, self.targets.full, strict=True):
            shifted, Y = full[rows], common[rows]
            if not np.array_equal(shifted, Y):
                # Added samples went where the choice was uncertain, so what they say of a config's mean is
                # skewed: they teach how prompts differ, the common samples say how good a config is.
                shifted = shifted - shifted.mean(axis=0) + Y.mean(axis=0)
            heads[name] = learner.fit(features, shifted, self.groups[rows], self.seed)
        return heads

    def predict_out_of_fold(self, learner: Learner, timer: FitTimer | None = None) -> np.ndarray:
        """float32 (n_heads, n_prompts, n_configs): every prompt by a learner that has not seen its fold.

        Args:
            learner: to be fitted.
            timer: of the fits in all foldings of the prompts; None: this folding is the only one.

        Raises:
            InvalidInput: the learner predicts what is no finite number for each prompt and config.
            OutOfTime: see `FitTimer.begin`.
        """
        found = np.empty(self.targets.common.shape, dtype=np.float32)
        timer = time_fits([self], learner) if timer is None else timer
        for train, test in self.split_folds():
            timer.begin()
            features = self.scale_features(train)[test]
            for number, head in enumerate(self.fit_heads(learner, train).values()):
                _check_export(learner, head)
                found[number, test] = _check(learner, head.predict(features), found[number, test].shape)
        return found

    @cached_property
    def out_of_distribution(self) -> np.ndarray:
        """bool (n_prompts,): unlike the prompts of the other folds, or not read; such a prompt falls back."""
        found = np.zeros(len(self.features), dtype=bool)
        for train, test in self.split_folds():
            found[test] = self.fit_ood(train).score(self.scale_features(train)[test], self.unknown[test]) > 1.0
        return found if self.refused is None else found | self.refused


@dataclass(frozen=True, eq=False)
class TunedTraining(Training):
    """The training prompts of an encoder whose features are learned, anew for each choice of prompts to learn from.

    Attributes:
        known: features that were computed, by the prompts that they were learned from; shared by all foldings.
        whole: the encoder that learned from all prompts, once there is one.
    """

    known: dict[bytes, np.ndarray] = field(default_factory=dict)
    whole: list[Encoder] = field(default_factory=list)

    def read_by(self, encoder: Encoder, features: np.ndarray, unknown: np.ndarray) -> Self:
        """See `Training.read_by`; what this one learned is another encoder's."""
        return replace(self, encoder=encoder, features=features, unknown=unknown, known={}, whole=[])

    def untuned(self) -> Training:
        """See `Training.untuned`."""
        rest = self.unknown, self.targets, self.groups, self.folds, self.seed, self.refused, self.items
        return Training(self.encoder, self.features, *rest)

    def fit_encoder(self, rows: np.ndarray) -> Encoder:
        """See `Training.fit_encoder`; nothing of the other prompts is looked at."""
        if rows.all() and self.whole:
            return self.whole[0]
        logger.info("fit: tuning %s on %d prompts", self.encoder.name, int(rows.sum()))
        found = self.encoder.tune(*self.take_examples(rows), self.seed)
        if rows.all():
            self.whole.append(found)
        return found

    def take_examples(self, rows: np.ndarray) -> tuple[list[Any], np.ndarray, np.ndarray]:
        """What an encoder learns from: items, targets and groups of the prompts in `rows`, see `Encoder.tune`."""
        if self.items is None:
            raise InvalidInput("items", "what the encoder makes its inputs of", None)
        targets = np.concatenate([split_advantages(full[rows])[0] for full in self.targets.full], axis=1)
        chosen = [item for item, inside in zip(self.items, rows, strict=True) if inside]
        return chosen, targets, self.groups[rows]

    def fit_scaling(self, rows: np.ndarray) -> None:
        """None: learned features are of one scale."""

    def scale_features(self, rows: np.ndarray) -> np.ndarray:
        """float32 (n_prompts, n_features): all prompts' features, as learned from those in `rows`."""
        key = rows.tobytes()
        if key not in self.known:
            self.known[key], _ = compute_features(self.fit_encoder(rows), self.items or ())
        return self.known[key]


def time_fits(
    foldings: Sequence[Training],
    learner: Learner,
    limit: TimeLimit | None = None,
    always: bool = False,
    least: float = 0.0,
) -> FitTimer:
    """The timer of a learner's fits in some foldings of the same prompts; see `FitTimer`."""
    total = sum(len(np.unique(one.folds)) for one in foldings)
    return FitTimer(f"{learner.name} on {foldings[0].encoder.name}", total, limit, always, least)


def _check_export(learner: Learner, head: FittedLearner) -> None:
    """Refuse, in the first fold, a learner that could not ship and does not say so."""
    if not callable(getattr(head, "predict", None)):
        do = "Return it from `fit`; see docs/extending.md."
        raise InvalidInput(f"learner {learner.name}", "a fitted learner with a `predict`", type(head).__name__, do)
    if learner.exports and getattr(type(head), "export", FittedLearner.export) is FittedLearner.export:
        do = "Write it (docs/extending.md), or set exports = False in the learner's class: then it is compared only."
        raise InvalidInput(f"learner {learner.name}", "a fitted learner with an `export`", type(head).__name__, do)


def _check(learner: Learner, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The predictions as float64 of some shape. Raises InvalidInput for what is no finite number for each prompt and
    config."""
    name = f"predictions of learner {learner.name}"
    try:
        predicted = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(name, "an array of numbers", f"{error!s:.100}") from error
    if predicted.shape != shape:
        raise InvalidInput(name, f"shape {shape}, a row a prompt and a column a config", f"shape {predicted.shape}")
    if not np.isfinite(predicted).all():
        raise InvalidInput(name, "finite numbers", "NaN or infinity")
    return predicted
