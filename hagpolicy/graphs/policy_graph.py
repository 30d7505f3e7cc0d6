"""The one graph of a policy: encoder, learner's head, novelty and decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from hagpolicy.errors import HagError, InvalidInput
from hagpolicy.graphs.builder import DOUBLE, FLOAT, INT64, GraphBuilder
from hagpolicy.graphs.novelty import LENGTH_POWER, Novelty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hagpolicy.encoders.base import Encoder
    from hagpolicy.learners.base import FittedLearner
    from hagpolicy.prompts import Prompt

# Allowed difference between a graph's values and the learner's own, as a share of the values' scale.
TOLERANCE = 1e-6


def policy_graph(
    encoder: Encoder, head: FittedLearner, reference: int, margin: float, novelty: Novelty | None = None
) -> onnx.ModelProto:
    """One model from prompt to decision.

    Inputs are the encoder's. Outputs, for a batch of prompts:
        values: float32 (batch, n_configs), expected reward of every config.
        novelty: float32 (batch,), above 1 for a prompt unlike everything seen in training.
        choice: int64 (batch,), the config by the one decision rule (see `decide_rows`).

    Args:
        encoder: of the prompts.
        head: the fitted learner.
        reference: index of the config with the best training mean.
        margin: depart from the reference only past this advantage.
        novelty: None: no prompt counts as new.

    Raises:
        InvalidInput: a negative reference, or a margin that is negative or not finite.
    """
    if reference < 0:
        raise InvalidInput("reference", "an index of the space", reference)
    if not (np.isfinite(margin) and margin >= 0):
        raise InvalidInput("margin", "a number in [0, inf)", margin)
    graph = GraphBuilder()
    features, unknown = encoder.export(graph)
    values = graph.cast(head.export(graph, features), FLOAT)
    newness = _novelty(graph, features, unknown, novelty)
    graph.output(values, "values", FLOAT, ["batch", "n_configs"])
    graph.output(newness, "novelty", FLOAT, ["batch"])
    graph.output(_choice(graph, values, newness, reference, margin), "choice", INT64, ["batch"])
    return graph.model("policy")


def decide_rows(values: np.ndarray, novelty: np.ndarray, reference: int, margin: float) -> np.ndarray:
    """int64 (n,): the decision rule in numpy, equal to the graph's `choice`.

    The first config with the highest value, if the prompt is not new and its value exceeds the
    reference's by more than the margin; else the reference. All in float32, as in the graph.

    Args:
        values: float32 (n, n_configs).
        novelty: float32 (n,).
        reference: index of the config with the best training mean.
        margin: a float that is rounded to float32.
    """
    best = values.argmax(axis=1)
    gain = values.max(axis=1) - values[:, reference]
    return np.where((novelty <= np.float32(1.0)) & (gain > np.float32(margin)), best, reference).astype(np.int64)


def check_parity(
    model: onnx.ModelProto,
    encoder: Encoder,
    head: FittedLearner,
    prompts: Sequence[Prompt],
    features: np.ndarray,
    reference: int,
    margin: float,
) -> float:
    """Compare a policy's graph with the learner itself on some prompts.

    Args:
        model: of `policy_graph`.
        encoder: of the prompts.
        head: the fitted learner.
        prompts: n prompts, at least one.
        features: float32 (n, n_features), theirs, from `encoders.encode`.
        reference: as the graph was made with.
        margin: as the graph was made with.

    Returns the largest difference of a value, as a share of the values' scale (their largest
    absolute value, at least 1).

    Raises:
        HagError: a value differs by more than 1e-6 of the scale, or a choice differs.
    """
    from hagpolicy.session import open_session

    expected = head.predict(features)
    session = open_session(model.SerializeToString())
    parts = [session.run(["values", "novelty", "choice"], feed) for feed in encoder.feeds(prompts)]
    values, newness, choice = (np.concatenate(part) for part in zip(*parts, strict=True))
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(values - expected).max()) / scale
    if not difference <= TOLERANCE:
        raise HagError(f"the exported graph differs from the learner by {difference:.2g} of its scale: not exported")
    if not np.array_equal(choice, decide_rows(values, newness, reference, margin)):
        raise HagError("the exported graph decides otherwise than the decision rule: not exported")
    return difference


def _choice(graph: GraphBuilder, values: str, newness: str, reference: int, margin: float) -> str:
    """The nodes of `decide_rows`."""
    best = graph.node("ArgMax", [values], axis=1, keepdims=0, select_last_index=0)
    highest = graph.node("ReduceMax", [values], axes=[1], keepdims=0)
    index = graph.constant(np.array(reference, np.int64), "reference")
    gain = graph.node("Sub", [highest, graph.node("Gather", [values, index], axis=1)])
    clear = graph.node("Greater", [gain, graph.constant(np.array(margin, np.float32), "margin")])
    known = graph.node("LessOrEqual", [newness, graph.constant(np.array(1.0, np.float32))])
    return graph.node("Where", [graph.node("And", [clear, known]), best, index])


def _novelty(graph: GraphBuilder, features: str, unknown: str, novelty: Novelty | None) -> str:
    """The nodes of `Novelty.score`; in float64, so that no batch size changes a rounded value."""
    if novelty is None:
        return graph.node("Mul", [unknown, graph.constant(np.array(0.0, np.float32))])
    wide = graph.cast(features, DOUBLE)
    # Distances in units of the threshold: the division by it costs no node of its own.
    scaled = graph.node("Mul", [wide, graph.constant(1.0 / (novelty.spread * novelty.distance))])
    centroids = novelty.centroids / novelty.distance
    # |z - c|² = |z|² + (|c|² - 2 z·c), and |z|² is the same for all centroids.
    # MatMul and Add: in float64 onnxruntime's Gemm is the slower of the two.
    cross = graph.node("MatMul", [scaled, graph.constant(-2.0 * centroids.T)])
    cross = graph.node("Add", [cross, graph.constant((centroids**2).sum(axis=1))])
    nearest = graph.node("ReduceMin", [cross], axes=[1], keepdims=0)
    ratio = graph.node("Add", [graph.node("ReduceSumSquare", [scaled], axes=[1], keepdims=0), nearest])
    if novelty.length is not None:
        column, factor = novelty.length
        log_count = graph.node("Gather", [wide, graph.constant(np.array(column, np.int64))], axis=1)
        base = graph.constant(np.array(np.exp(LENGTH_POWER / factor)))
        ratio = graph.node("Mul", [ratio, graph.node("Pow", [base, log_count])])
    share = graph.node("Mul", [unknown, graph.constant(np.array(1.0 / novelty.unknown, np.float32))])
    return graph.node("Max", [graph.cast(ratio, FLOAT), share])
