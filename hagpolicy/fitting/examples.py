"""What a policy keeps of the prompts it is fitted on, so that it can explain its decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.rule import MIN_DEPARTING
from hagpolicy.fitting.crossfit import CrossFittedLearner, Departures
from hagpolicy.fitting.prepare import FitData
from hagpolicy.fitting.training import Training
from hagpolicy.policy.training_prompts import AchievedAdvantage, FeatureScale, TrainingPrompts

__all__ = ["collect_training", "summarise_departures"]

# Bands of predicted advantage, at most: quarters of the decisions that would depart.
BANDS = 4


def collect_training(
    data: FitData, training: Training, features: np.ndarray, winner: CrossFittedLearner | None
) -> TrainingPrompts:
    """What is kept of the prompts.

    Args:
        data: the prompts.
        training: of the encoder that ships.
        features: float32 (n_prompts, n_features), theirs, as the policy's graph makes them.
        winner: what was chosen by cross-fitting; None: nothing was.
    """
    prompts, rows = data.prepared.table.prompts, data.prepared.rows.tolist()
    scale = FeatureScale.of(features)
    reads_vectors = training.encoder.spec()["inputs"] == "vectors"
    achieved: tuple[tuple[AchievedAdvantage, ...], ...] = ()
    if winner is not None:
        groups, seed = data.prepared.groups, data.prepared.seed
        achieved = tuple(summarise_departures(one, groups, seed) for one in winner.departures)
    return TrainingPrompts(
        ids=tuple(str(row) if one.id is None else one.id for one, row in zip(prompts, rows, strict=True)),
        tasks=tuple(prompt.task for prompt in prompts),
        heads=data.prepared.targets.common.astype(np.float32),
        features=scale.apply(features),
        scale=scale,
        medians=np.median(training.features, axis=0).astype(np.float32) if reads_vectors else None,
        achieved=achieved,
        texts=tuple(prompt.text for prompt in prompts),
    )


def summarise_departures(departures: Departures, groups: np.ndarray, seed: int) -> tuple[AchievedAdvantage, ...]:
    """What departing achieved, in bands of predicted advantage with as many decisions each, in rising order.

    A decision is a prompt in one folding, by a learner that has not seen it. Those for which the reference is predicted
    to be best are in no band, and achieve nothing: the bands' gains, weighed by their shares, add up to what a learner
    gains that departs for any advantage. Intervals are of choices learned on the other folds (`GroupBootstrap.mean`).

    Args:
        departures: at one point of the dial.
        groups: int64 (n_prompts,), independent groups.
        seed: of the draws.
    """
    predicted = departures.predicted
    folding, prompt = np.nonzero(np.nan_to_num(predicted) > 0.0)
    advantage, gain = predicted[folding, prompt], departures.achieved[folding, prompt]
    count = min(BANDS, len(np.unique(groups[prompt])) // MIN_DEPARTING) or min(1, len(prompt))
    bands = []
    for part in np.array_split(np.argsort(advantage, kind="stable"), count) if count else []:
        inside = prompt[part]
        n_groups = len(np.unique(groups[inside]))
        mean = GroupBootstrap(groups[inside], seed=seed).mean(gain[part], learned=True)
        bands.append(
            AchievedAdvantage(
                low=float(advantage[part].min()),
                high=float(advantage[part].max()),
                gain=replace(mean, reliable=n_groups >= MIN_DEPARTING),
                n_prompts=len(np.unique(inside)),
                n_groups=n_groups,
                share=len(part) / predicted.size,
            )
        )
    return tuple(bands)
