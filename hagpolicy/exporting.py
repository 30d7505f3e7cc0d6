"""From a fitted learner to a `Policy`: one graph, checked against the learner, and its manifest."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from hagpolicy.bundle import salted
from hagpolicy.encoders.base import Encoder
from hagpolicy.graphs.novelty import Novelty
from hagpolicy.graphs.policy_graph import check_parity, policy_graph
from hagpolicy.learners.base import FittedLearner, Learner
from hagpolicy.policy import Policy
from hagpolicy.results import Evaluation, candidate_sentence
from hagpolicy.table import SweepTable


def export_policy(
    table: SweepTable,
    encoder: Encoder,
    learner: Learner,
    fitted: FittedLearner,
    novelty: Novelty,
    margin: float,
    evaluation: Evaluation,
    features: np.ndarray,
    *,
    per_prompt: bool,
) -> Policy:
    """The policy of a fitted learner, after its graph was compared with it on the training prompts.

    Args:
        table: the comparable part of the sweep it was fitted on.
        encoder: of the prompts.
        learner: what was fitted.
        fitted: what it became.
        novelty: tells prompts unlike the training prompts.
        margin: in units of reward.
        evaluation: of the procedure that chose it.
        features: float32 (n_prompts, n_features), of the table's prompts.
        per_prompt: False for the single best config.

    Raises:
        HagError: the graph does not equal the learner.
    """
    means = table.common_means.mean(axis=0)
    sbs = int(means.argmax())
    # A constant policy has no use for novelty, and must not pay for it.
    newness = novelty if per_prompt else None
    model = policy_graph(encoder, fitted, sbs, margin, newness)
    check_parity(model, encoder, fitted, table.prompts, features, sbs, margin)
    salt = secrets.token_hex(16)
    manifest: dict[str, Any] = {
        "space": table.space.to_json(),
        "training_means": [float(mean) for mean in means],
        "sbs": sbs,
        "default": table.default,
        "task_best": _task_best(table),
        "margin": margin,
        "ships_sbs": not per_prompt,
        "reason": _reason(evaluation, per_prompt),
        "encoder": encoder.spec(),
        "learner": learner.name,
        "carries_vectors": learner.carries_vectors,
        "fingerprint": dict(table.fingerprint),
        "max_tokens": table.max_tokens,
        "scorers": dict(table.scorers),
        "evaluation": evaluation.to_json(),
        "trained_on": {
            "salt": salt,
            "digests": sorted(salted((prompt.text for prompt in table.prompts), salt)),
            "groups": sorted(set(salted((p.group for p in table.prompts if p.group is not None), salt))),
        },
    }
    return Policy(manifest, model.SerializeToString(), encoder.files())


def _reason(evaluation: Evaluation, per_prompt: bool) -> str:
    if evaluation.candidate is None:
        return ""
    sentence = candidate_sentence(evaluation.candidate)
    if per_prompt and not evaluation.candidate.shipped:
        return f"not proven, for comparison only: {sentence}"
    return sentence


def _task_best(table: SweepTable) -> dict[str, int]:
    """Index of the best config of each task, for the ladder on another table."""
    means, tasks = table.common_means, table.tasks
    return {str(task): int(means[tasks == task].mean(axis=0).argmax()) for task in np.unique(tasks)}
