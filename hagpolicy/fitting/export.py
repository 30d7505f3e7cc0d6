"""Step 5 of `fit`: what ships, refitted on everything, as one graph that is checked against it, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hagpolicy.analysis.objectives.targets import Targets
from hagpolicy.data.table import SweepTable
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.gate import Gated
from hagpolicy.fitting.graphs.ood import OutOfDistribution
from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.policy_graph import Rule, build_policy_graph, check_parity
from hagpolicy.fitting.prepare import FitData
from hagpolicy.fitting.training import Training
from hagpolicy.policy.dial import Dial, OperatingPoint
from hagpolicy.policy.manifest import PolicyManifest, TrainedOn
from hagpolicy.policy.policy import Policy
from hagpolicy.results import Evaluation, describe_candidate


def export_fit(data: FitData, gated: Gated, evaluations: tuple[Evaluation, ...]) -> Policy:
    """The policy that the gate lets through, refitted on all prompts; a held-back one is its `candidate`.

    Args:
        data: the prompts.
        gated: the winner, and where it ships.
        evaluations: one for each point of the dial.

    Raises:
        HagError: the graph does not equal the learner.
    """
    ships = tuple(candidate.shipped for candidate in gated.candidates)
    constant = _Refitted(data.trainings[0], get_learner("constant"))
    if gated.winner is None:
        return constant.export(data, gated, evaluations, ships)
    winner = _Refitted(gated.winner.training, gated.winner.learner)
    everywhere = winner.export(data, gated, evaluations, tuple(True for _ in ships))
    if all(ships):
        return everywhere
    policy = (winner if any(ships) else constant).export(data, gated, evaluations, ships)
    policy.candidate = everywhere
    return policy


@dataclass(frozen=True, eq=False)
class _Refitted:
    """A learner fitted on all prompts, once, when it is first exported."""

    training: Training
    learner: Learner

    @cached_property
    def heads(self) -> dict[str, FittedLearner]:
        return self.training.fit_heads(self.learner, self._everything)

    @cached_property
    def ood(self) -> OutOfDistribution:
        return self.training.fit_ood(self._everything)

    @property
    def _everything(self) -> np.ndarray:
        return np.ones(len(self.training.features), dtype=bool)

    def export(
        self, data: FitData, gated: Gated, evaluations: tuple[Evaluation, ...], ships: tuple[bool, ...]
    ) -> Policy:
        """The policy that ships at some points of the dial."""
        targets, margins = data.prepared.targets, tuple(candidate.margin for candidate in gated.candidates)
        points = build_points(targets, evaluations, margins, ships)
        encoder, features = self.training.encoder, self.training.features
        return export_policy(
            data.prepared.table, targets, encoder, self.learner, self.heads, self.ood, points, features
        )


def export_policy(
    table: SweepTable,
    targets: Targets,
    encoder: Encoder,
    learner: Learner,
    fitted: Mapping[str, FittedLearner],
    ood: OutOfDistribution,
    points: tuple[OperatingPoint, ...],
    features: np.ndarray,
) -> Policy:
    """The policy of a fitted learner, after its graph was compared with it on the training prompts.

    Args:
        table: the comparable part of the sweep it was fitted on.
        targets: its heads and the dial's weights.
        encoder: of the prompts.
        learner: what was fitted.
        fitted: what it became, by head.
        ood: tells prompts unlike the training prompts.
        points: what the gate decided at each point of the dial.
        features: float32 (n_prompts, n_features), of the table's prompts.

    Raises:
        HagError: the graph does not equal the learner.
    """
    objective = targets.objectives[0]
    means = targets.common.mean(axis=1)
    dial = Dial(objective.dial, objective.unit, targets.names, targets.scales, means, points)
    first, departs = dial.rule_at(), any(point.ships for point in points)
    # A constant policy has no use for the score, and must not pay for it.
    used = ood if departs else None
    rule = Rule(first.reference, first.margin if first.ships else None, points[0].weights)
    model = build_policy_graph(encoder, fitted, rule, used)
    check_parity(model, encoder, fitted, table.prompts, features, rule)
    manifest = PolicyManifest(
        space=table.space,
        dial=dial,
        task_best=tuple(_task_best(table, targets.Y(number)) for number in range(len(points))),
        encoder=encoder.spec(),
        learner=learner.name,
        carries_vectors=learner.carries_vectors,
        default=table.default,
        fingerprint=dict(table.fingerprint),
        max_tokens=table.max_tokens,
        scorers=dict(table.scorers),
        trained_on=TrainedOn.of(table.prompts),
    )
    return Policy(manifest, model.SerializeToString(), encoder.files())


def build_points(
    targets: Targets, evaluations: tuple[Evaluation, ...], margins: tuple[float, ...], ships: tuple[bool, ...]
) -> tuple[OperatingPoint, ...]:
    """The dial's points, with what the gate decided at each one of them."""
    parts = zip(targets.objectives, targets.weights, evaluations, margins, ships, strict=True)
    return tuple(
        OperatingPoint(
            at=objective.at,
            name=objective.name,
            objective=objective.written,
            weights=tuple(float(weight) for weight in weights),
            margin=margin,
            ships=shipped,
            reason=_reason(evaluation, shipped),
            evaluation=evaluation,
        )
        for objective, weights, evaluation, margin, shipped in parts
    )


def _reason(evaluation: Evaluation, ships: bool) -> str:
    if evaluation.candidate is None:
        return ""
    sentence = describe_candidate(evaluation.candidate)
    if ships and not evaluation.candidate.shipped:
        return f"not proven, for comparison only: {sentence}"
    return sentence


def _task_best(table: SweepTable, Y: np.ndarray) -> dict[str, int]:
    """Index of the best config of each task, for the comparison on another table."""
    return {str(task): int(Y[table.tasks == task].mean(axis=0).argmax()) for task in np.unique(table.tasks)}
