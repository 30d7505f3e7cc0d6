"""The one graph of a policy: encoder, heads, out-of-distribution score and decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy.errors import HagError, InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import open_encoded
from hagpolicy.fitting.graphs.builder import DOUBLE, FLOAT, INT64, GraphBuilder
from hagpolicy.fitting.graphs.ood import LENGTH_POWER, OutOfDistribution
from hagpolicy.fitting.learners.base import FittedLearner
from hagpolicy.policy.dial import compute_weighted_sum
from hagpolicy.policy.graph.rule import NEVER
from hagpolicy.policy.training_prompts import FEATURES

if TYPE_CHECKING:
    import onnx

# Allowed difference between a graph's values and the learner's own, as a share of the values' scale.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Rule:
    """The decision rule that a graph's `choice` follows.

    Attributes:
        reference: index of the config that stands for a prompt from which it does not depart.
        margin: depart from the reference only past this advantage; None: never.
        weights: of the heads, in the sum that is compared.
        told_margin: the same as `margin`, for a prompt whose task is told.
    """

    reference: int
    margin: float | None
    weights: tuple[float, ...] = (1.0,)
    told_margin: float | None = None

    def __post_init__(self) -> None:
        # As they are compared, in the graph and in Python.
        object.__setattr__(self, "weights", tuple(float(np.float32(weight)) for weight in self.weights))
        if self.reference < 0:
            raise InvalidInput("reference", "an index of the space", self.reference)
        for name, margin in (("margin", self.margin), ("told_margin", self.told_margin)):
            if margin is not None and not (np.isfinite(margin) and margin >= 0):
                raise InvalidInput(name, "a number in [0, inf), or None", margin)

    def decide(self, heads: np.ndarray, ood_score: np.ndarray, told: bool = False) -> np.ndarray:
        """int64 (n,): the rule in numpy, equal to the graph's `choice`.

        The first config with the highest weighted sum of heads, if the prompt is in distribution and its sum
        exceeds the reference's by more than the margin; else the reference. All in float32.

        Args:
            heads: float32 (n_heads, n, n_configs).
            ood_score: float32 (n,), of `OutOfDistribution.score`.
            told: the prompts' tasks are.
        """
        margin = self.told_margin if told else self.margin
        values = compute_weighted_sum(self.weights, heads)
        best = values.argmax(axis=1)
        gain = values.max(axis=1) - values[:, self.reference]
        clear = gain > np.float32(np.inf if margin is None else margin)
        return np.where((ood_score <= np.float32(1.0)) & clear, best, self.reference).astype(np.int64)

    def export(
        self, graph: GraphBuilder, heads: Sequence[str], ood_score: str, task: str = "", n_tasks: int = 0
    ) -> str:
        """Append the nodes of `decide`; returns the name of an int64 tensor (batch,).

        Args:
            graph: that has the heads.
            heads: names of their tensors.
            ood_score: name of the tensor.
            task: name of the input that holds the number of the prompt's task; "": there is none.
            n_tasks: that may be told.
        """
        parts = [
            head if weight == 1 else graph.node("Mul", [graph.constant(np.array(weight, np.float32)), head])
            for weight, head in zip(self.weights, heads, strict=True)
            if weight
        ]
        values = parts[0]
        for part in parts[1:]:
            values = graph.node("Add", [values, part])
        best = graph.node("ArgMax", [values], axis=1, keepdims=0, select_last_index=0)
        highest = graph.node("ReduceMax", [values], axes=[1], keepdims=0)
        index = graph.constant(np.array(self.reference, np.int64), "reference")
        gain = graph.node("Sub", [highest, graph.node("Gather", [values, index], axis=1)])
        if task:
            steps = [NEVER if one is None else one for one in (self.margin, *[self.told_margin] * n_tasks)]
            margin = graph.node("Gather", [graph.constant(np.array(steps, np.float32), "margin"), task], axis=0)
        else:
            step = np.inf if self.margin is None else self.margin
            margin = graph.constant(np.array(step, np.float32), "margin")
        clear = graph.node("Greater", [gain, margin])
        known = graph.node("LessOrEqual", [ood_score, graph.constant(np.array(1.0, np.float32))])
        return graph.node("Where", [graph.node("And", [clear, known]), best, index])


@dataclass(frozen=True, eq=False)
class TaskTable:
    """What the graph makes of a task that is told: a head's values are share × the learner's + offsets.

    Attributes:
        names: of the tasks, n_tasks of them; the graph's input `task` counts them from 1, and 0 is "not told".
        share: float32 (n_tasks + 1,), of the learner's values, 1 or 0; with 0 the text does not matter, and no prompt
            counts as out of distribution.
        offsets: float32 (n_heads, n_tasks + 1, n_configs).
    """

    names: tuple[str, ...]
    share: np.ndarray
    offsets: np.ndarray

    @property
    def reads(self) -> bool:
        """True where the text matters beside a task that is told."""
        return bool(self.share[1:].any())

    def apply(self, heads: np.ndarray, tasks: np.ndarray) -> np.ndarray:
        """float32 (n_heads, n, n_configs): the learner's values as the graph gives them for tasks of some numbers.

        Args:
            heads: float32 (n_heads, n, n_configs).
            tasks: int64 (n,).
        """
        return np.asarray(self.share[tasks][:, None] * heads + self.offsets[:, tasks])

    def export(self, graph: GraphBuilder, heads: Sequence[str], task: str) -> list[str]:
        """Append the nodes of `apply`; returns the names of the heads' new tensors."""
        share = graph.node("Gather", [graph.constant(self.share[:, None], "share"), task], axis=0)
        return [
            graph.node(
                "Add",
                [
                    graph.node("Mul", [share, head]),
                    graph.node("Gather", [graph.constant(offsets, "offsets"), task], axis=0),
                ],
            )
            for head, offsets in zip(heads, self.offsets, strict=True)
        ]


# Who finds the file alone is told where the rest is.
_ABOUT = (
    "hagpolicy: from a prompt to the number of a configuration, 'choice'. The configurations are in policy.json beside "
    "this file; README.md there says under 'Without Python' how a text becomes the inputs."
)


def build_policy_graph(
    encoder: Encoder,
    heads: Mapping[str, FittedLearner],
    rule: Rule,
    ood: OutOfDistribution | None = None,
    tasks: TaskTable | None = None,
) -> onnx.ModelProto:
    """One model from prompt to decision.

    Inputs are the encoder's and, with `tasks`, `task`: int64 (batch,), the number of each prompt's task, 0 where it is
    not told. Outputs, for a batch of prompts:
        one of each head's name: float32 (batch, n_configs), such as "values", the expected reward of
            every config, or "costs", its expected cost as a share of the largest.
        novelty: float32 (batch,), the out-of-distribution score, above 1 for a prompt unlike everything seen in
            training.
        choice: int64 (batch,), the config by the one decision rule.
    The tensor `features` within it holds the prompts' features, float32 (batch, n_features), and is no output.

    Args:
        encoder: of the prompts.
        heads: fitted learners by the name of their output.
        rule: what `choice` follows.
        ood: None: no prompt counts as out of distribution.
        tasks: None: no task can be told.
    """
    graph = GraphBuilder()
    features, unknown = encoder.export(graph)
    graph.rename(features, FEATURES)
    tensors = [graph.cast(head.export(graph, features), FLOAT) for head in heads.values()]
    task = "" if tasks is None else graph.input("task", INT64, ["batch"])
    if tasks is not None:
        tensors = tasks.export(graph, tensors, task)
    ood_score = _score_ood(graph, features, unknown, ood)
    if tasks is not None:
        read = graph.node("Gather", [graph.constant(tasks.share, "read"), task], axis=0)
        ood_score = graph.node("Mul", [ood_score, read])
    for name, tensor in zip(heads, tensors, strict=True):
        graph.output(tensor, name, FLOAT, ["batch", "n_configs"])
    graph.output(ood_score, "novelty", FLOAT, ["batch"])
    choice = rule.export(graph, tensors, ood_score, task, 0 if tasks is None else len(tasks.names))
    graph.output(choice, "choice", INT64, ["batch"])
    return graph.model("policy", _ABOUT)


def check_parity(
    model: onnx.ModelProto,
    encoder: Encoder,
    heads: Mapping[str, FittedLearner],
    prompts: Sequence[Any],
    features: np.ndarray,
    rule: Rule,
    tasks: TaskTable | None = None,
) -> float:
    """Compare a policy's graph with the learners themselves on some prompts.

    Args:
        model: of `build_policy_graph`.
        encoder: of the prompts.
        heads: the fitted learners.
        prompts: n prompts, or vectors where the encoder takes vectors; at least one.
        features: float32 (n, n_features), theirs, from `encoders.features.compute_features`.
        rule: as the graph was made with.
        tasks: the same; every task is told of some prompts.

    Returns the largest difference of a value, as a share of the values' scale (their largest
    absolute value, at least 1).

    Raises:
        HagError: a value differs by more than 1e-6 of the scale, or a choice differs.
    """
    expected = np.stack([head.predict(features) for head in heads.values()])
    session = open_encoded(encoder, model.SerializeToString())
    numbers = np.zeros(len(prompts), np.int64) if tasks is None else np.arange(len(prompts)) % (len(tasks.names) + 1)
    parts, done = [], 0
    for arrays in encoder.inputs(prompts):
        rows = slice(done, done + len(next(iter(arrays.values()))))
        more = {} if tasks is None else {"task": numbers[rows]}
        parts.append(session.run([*heads, "novelty", "choice"], {**arrays, **more}))
        done = rows.stop
    expected = expected if tasks is None else tasks.apply(expected.astype(np.float32), numbers)
    *found, ood_score, choice = (np.concatenate(part) for part in zip(*parts, strict=True))
    values = np.stack(found)
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(values - expected).max()) / scale
    if not difference <= TOLERANCE:
        raise HagError(f"the exported graph differs from the learner by {difference:.2g} of its scale: not exported")
    if not np.array_equal(
        choice, np.where(numbers > 0, *(rule.decide(values, ood_score, told) for told in (True, False)))
    ):
        raise HagError("the exported graph decides otherwise than the decision rule: not exported")
    return difference


def _score_ood(graph: GraphBuilder, features: str, unknown: str, ood: OutOfDistribution | None) -> str:
    """The nodes of `OutOfDistribution.score`; in float64, so that no batch size changes a rounded value."""
    if ood is None:
        return graph.node("Mul", [unknown, graph.constant(np.array(0.0, np.float32))])
    wide = graph.cast(features, DOUBLE)
    # Distances in units of the threshold: the division by it costs no node of its own.
    scaled = graph.node("Mul", [wide, graph.constant(1.0 / (ood.spread * ood.distance))])
    centroids = ood.centroids / ood.distance
    # |z - c|² = |z|² + (|c|² - 2 z·c), and |z|² is the same for all centroids.
    # MatMul and Add: in float64 onnxruntime's Gemm is the slower of the two.
    cross = graph.node("MatMul", [scaled, graph.constant(-2.0 * centroids.T)])
    cross = graph.node("Add", [cross, graph.constant((centroids**2).sum(axis=1))])
    nearest = graph.node("ReduceMin", [cross], axes=[1], keepdims=0)
    ratio = graph.node("Add", [graph.node("ReduceSumSquare", [scaled], axes=[1], keepdims=0), nearest])
    if ood.length is not None:
        column, factor = ood.length
        log_count = graph.node("Gather", [wide, graph.constant(np.array(column, np.int64))], axis=1)
        base = graph.constant(np.array(np.exp(LENGTH_POWER / factor)))
        ratio = graph.node("Mul", [ratio, graph.node("Pow", [base, log_count])])
    share = graph.node("Mul", [unknown, graph.constant(np.array(1.0 / ood.unknown, np.float32))])
    return graph.node("Max", [graph.cast(ratio, FLOAT), share])
