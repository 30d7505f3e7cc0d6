"""What a policy keeps of the prompts it is fitted on, so that it can explain its decisions."""

from __future__ import annotations

import numpy as np

from hagpolicy.fitting.crossfit import CrossFittedLearner
from hagpolicy.fitting.encoders.scaling import find_medians
from hagpolicy.fitting.prepare import FitData
from hagpolicy.fitting.training import Training
from hagpolicy.policy.training_prompts import FeatureScale, TrainingPrompts

__all__ = ["collect_training"]


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
    return TrainingPrompts(
        ids=tuple(str(row) if one.id is None else one.id for one, row in zip(prompts, rows, strict=True)),
        tasks=tuple(prompt.task for prompt in prompts),
        heads=data.prepared.targets.common.astype(np.float32),
        features=scale.apply(features),
        scale=scale,
        medians=find_medians(training.features) if reads_vectors else None,
        achieved=() if winner is None else winner.achieved,
        texts=tuple(prompt.text for prompt in prompts),
    )
