"""From what was fitted to a `Policy`: export, check parity, write the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy.bundle import new_salt, salted
from hagpolicy.estimates import Evaluation, candidate_sentence
from hagpolicy.graphs.policy_graph import check_parity, policy_graph
from hagpolicy.policy import Policy

if TYPE_CHECKING:
    from hagpolicy.encoders.base import Encoder
    from hagpolicy.graphs.novelty import Novelty
    from hagpolicy.learners.base import FittedLearner, Learner
    from hagpolicy.table import SweepTable

# Prompts the exported graph is compared with the learner on; all of a usual sweep's.
_CHECKED = 1000


def assemble(
    table: SweepTable,
    encoder: Encoder,
    learner: Learner,
    fitted: FittedLearner,
    novelty: Novelty,
    margin: float,
    evaluation: Evaluation,
    per_prompt: bool,
    features: np.ndarray,
) -> Policy:
    """The policy of a fitted learner.

    Args:
        table: the training prompts, each with a scored sample of every config.
        encoder: of the prompts.
        learner: what was fitted, for its name.
        fitted: what it became on all of the table.
        novelty: fitted on all of the table.
        margin: in units of reward.
        evaluation: stored with the policy.
        per_prompt: False when the single best config ships: then `fitted` is the constant learner.
        features: float32 (n_prompts, n_features), the encoder's, of the table's prompts.

    Raises:
        HagError: the exported graph differs from the learner.
    """
    means = table.means.mean(axis=0)
    reference = int(means.argmax())
    known = novelty if per_prompt else None
    model = policy_graph(encoder, fitted, reference, margin, known)
    step = max(1, -(-len(table.prompts) // _CHECKED))
    check_parity(model, encoder, fitted, table.prompts[::step], features[::step], reference, margin)
    salt = new_salt()
    manifest: dict[str, Any] = {
        "space": table.space.to_json(),
        "training_means": means.tolist(),
        "margin": margin,
        "sbs": reference,
        "default": table.default,
        "ships_sbs": not per_prompt,
        "reason": _reason(evaluation, per_prompt),
        "encoder": encoder.spec(),
        "learner": learner.name,
        "carries_vectors": learner.carries_vectors,
        "fingerprint": dict(table.fingerprint),
        "max_tokens": table.max_tokens,
        "evaluation": evaluation.to_json(),
        "trained_on": {
            "n_prompts": len(table.prompts),
            "salt": salt,
            "digests": sorted(set(salted(table.prompts, salt))),
        },
    }
    return Policy(manifest, model.SerializeToString(), encoder.files())


def _reason(evaluation: Evaluation, per_prompt: bool) -> str:
    """What this policy does and why, in one sentence."""
    candidate = evaluation.candidate
    if candidate is None:
        return "a per-prompt policy" if per_prompt else "the single best config"
    if per_prompt and not candidate.shipped:
        return f"held back by the gate, not proven: {candidate.name}, gain {candidate.gain:+}"
    return candidate_sentence(candidate)
