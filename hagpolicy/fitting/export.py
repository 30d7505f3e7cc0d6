"""Step 5 of `fit`: what ships, refitted on everything, as one graph that is checked against it, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hagpolicy.analysis.objectives.targets import Targets
from hagpolicy.data.table import SweepTable
from hagpolicy.data.ties import choose_best
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.examples import collect_training
from hagpolicy.fitting.gate import Gated
from hagpolicy.fitting.graphs.ood import OutOfDistribution
from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.fitting.learners.linear import Constant
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.policy_graph import Rule, TaskTable, build_policy_graph, check_parity
from hagpolicy.fitting.prepare import FitData
from hagpolicy.fitting.told import FittedTold, GatedTold, Told, ToldTraining
from hagpolicy.fitting.training import Training
from hagpolicy.policy.dial import Dial, OperatingPoint
from hagpolicy.policy.forms import Forms
from hagpolicy.policy.manifest import PolicyManifest, TrainedOn
from hagpolicy.policy.policy import Policy
from hagpolicy.policy.reading import Reads, read_for_training
from hagpolicy.policy.training_prompts import TrainingPrompts
from hagpolicy.results import Evaluation, Ships, describe_candidate


def export_fit(
    data: FitData, gated: Gated, evaluations: tuple[Evaluation, ...], told: GatedTold | None = None
) -> Policy:
    """The policy that the gate lets through, refitted on all prompts; a held-back one is its `candidate`.

    Args:
        data: the prompts.
        gated: the winner, and where it ships.
        evaluations: one for each point of the dial.
        told: what the gate made of policies that are told the task.

    Raises:
        HagError: the graph does not equal the learner.
    """
    # At the first point or nowhere: the graph's `choice` stands there, and reads one table.
    told = told if told is not None and told.ships[0] else None
    ships = tuple(candidate.shipped for candidate in gated.candidates)
    constant = _Refitted(data.trainings[0].untuned(), get_learner("constant"))
    if gated.winner is None:
        return constant.export(data, gated, evaluations, ships, told)
    winner = _Refitted(gated.winner.training, gated.winner.learner)
    everywhere = winner.export(data, gated, evaluations, tuple(True for _ in ships), told)
    if all(ships):
        return everywhere
    needed = any(ships) or (told is not None and not isinstance(told.base, Constant))
    policy = (winner if needed else constant).export(data, gated, evaluations, ships, told)
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
        self,
        data: FitData,
        gated: Gated,
        evaluations: tuple[Evaluation, ...],
        ships: tuple[bool, ...],
        told: GatedTold | None,
    ) -> Policy:
        """The policy that ships at some points of the dial."""
        targets, references = data.prepared.targets, tuple(comparison.reference for comparison in data.comparisons)
        stands = zip(gated.candidates, references, ships, strict=True)
        decided = tuple(Decided(c.margin, "per_prompt" if s else c.over, r) for c, r, s in stands)
        points = build_points(targets, evaluations, decided)
        table, encoder = data.prepared.table, self.training.fit_encoder(self._everything)
        features = self.training.scale_features(self._everything)
        tasks = None
        if told is not None:
            tasks = self._tabulate(table, told, any(ships))
            parts = zip(points, told.candidates, strict=True)
            points = tuple(replace(point, told_ships=c.shipped, told_margin=c.margin) for point, c in parts)
        return export_policy(
            table,
            targets,
            encoder,
            self.learner,
            self.heads,
            self.ood,
            points,
            features,
            data.reads,
            tasks,
            self.training.items,
            collect_training(data, self.training, features, gated.winner),
        )

    def _tabulate(self, table: SweepTable, told: GatedTold, ships: bool) -> TaskTable:
        """What the graph makes of each task, and of none: where nothing ships without one, the means of training."""
        training = ToldTraining.of(self.training, table.tasks)
        fitted = training.fit_heads(Told(told.base, len(told.names)), self._everything)
        offsets = np.stack([head.offsets for head in fitted.values() if isinstance(head, FittedTold)])
        share = np.ones(len(told.names) + 1)
        means = self.training.targets.common.mean(axis=1)
        if isinstance(told.base, Constant) and not isinstance(self.learner, Constant):
            share[1:] = 0.0
            offsets[:, 1:] += means[:, None]
        if not ships and not isinstance(self.learner, Constant):
            share[0] = 0.0
            offsets[:, 0] = means
        return TaskTable(told.names, share.astype(np.float32), offsets.astype(np.float32))


def export_policy(
    table: SweepTable,
    targets: Targets,
    encoder: Encoder,
    learner: Learner,
    fitted: Mapping[str, FittedLearner],
    ood: OutOfDistribution,
    points: tuple[OperatingPoint, ...],
    features: np.ndarray,
    reads: Reads = "last_user",
    tasks: TaskTable | None = None,
    items: Sequence[Any] | None = None,
    training: TrainingPrompts | None = None,
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
        reads: what is read of a chat.
        tasks: what the graph makes of a task that is told; None: none can be.
        items: what the encoder makes its inputs of, one a prompt; None: what is read of the table's prompts.
        training: by which the policy explains decisions; None: it cannot.

    Raises:
        HagError: the graph does not equal the learner.
    """
    items = read_for_training(table.prompts, reads)[0] if items is None else items
    objective = targets.objectives[0]
    means = targets.common.mean(axis=1)
    dial = Dial(objective.dial, objective.unit, targets.names, targets.scales, means, points, table.default)
    first, departs = dial.rule_at(), any(point.ships == "per_prompt" for point in points)
    departs |= tasks is not None and tasks.reads
    # A constant policy has no use for the score, and must not pay for it.
    used = ood if departs else None
    margins = (one.margin if one.ships == "per_prompt" else None for one in (first, dial.rule_at(told=True)))
    rule = Rule(first.reference, next(margins), points[0].weights, next(margins))
    model = build_policy_graph(encoder, fitted, rule, used, tasks)
    check_parity(model, encoder, fitted, items, features, rule, tasks)
    reads_text = encoder.spec()["inputs"] != "vectors" or encoder.embed is not None
    manifest = PolicyManifest(
        space=table.space,
        dial=dial,
        task_best=tuple(_task_best(table, targets.Y(number)) for number in range(len(points))),
        encoder=encoder.spec(),
        learner=learner.name,
        carries_vectors=learner.carries_vectors,
        fingerprint=dict(table.fingerprint),
        max_tokens=table.max_tokens,
        scorers=dict(table.scorers),
        trained_on=TrainedOn.of(table.prompts),
        reads=reads,
        tasks=() if tasks is None else tasks.names,
        told_reads=tasks is None or tasks.reads,
        table=table.digest,
        forms=Forms.of(prompt.content for prompt in table.prompts) if reads_text and reads != "last_user" else None,
    )
    return Policy(manifest, model.SerializeToString(), encoder.files(), encoder.embed, training=training)


class Decided(NamedTuple):
    """What the gate decided at a point of the dial, see `OperatingPoint`."""

    margin: float
    ships: Ships
    reference: int


def build_points(
    targets: Targets, evaluations: tuple[Evaluation, ...], decided: tuple[Decided, ...]
) -> tuple[OperatingPoint, ...]:
    """The dial's points, with what the gate decided at each one of them."""
    parts = zip(targets.objectives, targets.weights, evaluations, decided, strict=True)
    return tuple(
        OperatingPoint(
            at=objective.at,
            name=objective.name,
            objective=objective.written,
            weights=tuple(float(weight) for weight in weights),
            margin=gate.margin,
            ships=gate.ships,
            reference=gate.reference,
            reason=_reason(evaluation, gate.ships),
            evaluation=evaluation,
        )
        for objective, weights, evaluation, gate in parts
    )


def _reason(evaluation: Evaluation, ships: Ships) -> str:
    if evaluation.candidate is None:
        return ""
    sentence = describe_candidate(evaluation.candidate)
    if ships != evaluation.candidate.ships:
        return f"not proven, for comparison only: {sentence}"
    return sentence


def _task_best(table: SweepTable, Y: np.ndarray) -> dict[str, int]:
    """Index of the best config of each task, for the comparison on another table."""
    return {str(task): int(choose_best(Y[table.tasks == task].mean(axis=0))) for task in np.unique(table.tasks)}
