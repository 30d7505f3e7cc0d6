"""That a graph's `choice` follows the decision rule of the manifest, so that every reader of a bundle decides alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from hagpolicy.errors import BundleError
from hagpolicy.policy.dial import Dial
from hagpolicy.policy.graph.model import Graph
from hagpolicy.policy.graph.operators import INT64
from hagpolicy.policy.graph.wire import Run

# No gain of finite values exceeds it: a table of margins holds it where the policy never departs.
NEVER = float(np.finfo(np.float32).max)

# The name of a tensor; a constant; or an operator with its attributes, and what its inputs are.
Pattern = str | np.generic | np.ndarray | tuple[Any, ...]


def check_rule(graph: Graph, dial: Dial, ood_score: str, choice: str, n_tasks: int = 0) -> None:
    """Accept a graph whose `choice` is the rule at the dial's first point, node by node.

    Args:
        graph: of the policy.
        dial: of the manifest.
        ood_score: name of the output that holds the out-of-distribution score.
        choice: name of the output that holds the index.
        n_tasks: that may be told.

    Raises:
        BundleError: another rule, or the same in other words.
    """
    if graph.tensors[choice].dtype != INT64 or not _matches(graph, choice, _pattern(dial, ood_score, n_tasks)):
        raise BundleError(
            "policy.onnx: its choice follows another rule than policy.json says: "
            "one of them was changed; fit the policy again"
        )


def _pattern(dial: Dial, ood_score: str, n_tasks: int) -> Pattern:
    """What `fitting.policy_graph.Rule.export` writes for a rule."""
    rule = dial.rule_at()
    threshold: Pattern = np.float32(rule.margin if rule.ships == "per_prompt" else np.inf)
    if any(point.told_ships for point in dial.points):
        untold, told = (one.margin if one.ships == "per_prompt" else NEVER for one in (rule, dial.rule_at(told=True)))
        steps = np.array([untold, *[told] * n_tasks], dtype=np.float32)
        threshold = ("Gather", {"axis": 0}, steps, "task")
    parts: list[Pattern] = [
        head if weight == 1 else ("Mul", {}, weight, head)
        for weight, head in zip(rule.weights, dial.heads, strict=True)
        if weight
    ]
    values = parts[0] if parts else ""
    for part in parts[1:]:
        values = ("Add", {}, values, part)
    reference = np.int64(rule.reference)
    best: Pattern = ("ArgMax", {"axis": 1, "keepdims": 0, "select_last_index": 0}, values)
    highest: Pattern = ("ReduceMax", {"axes": [1], "keepdims": 0}, values)
    gain: Pattern = ("Sub", {}, highest, ("Gather", {"axis": 1}, values, reference))
    clear: Pattern = ("Greater", {}, gain, threshold)
    known: Pattern = ("LessOrEqual", {}, ood_score, np.float32(1.0))
    return "Where", {}, ("And", {}, clear, known), best, reference


def _matches(graph: Graph, name: str, pattern: Pattern) -> bool:
    if isinstance(pattern, str):
        return name == pattern
    if isinstance(pattern, np.generic | np.ndarray):
        constant = graph.tensors[name].constant
        if constant is None or constant.shape != pattern.shape or constant.dtype != pattern.dtype:
            return False
        return np.array_equal(constant, pattern)
    op, attributes, *inputs = pattern
    node = graph.makers.get(name)
    if node is None or node.op != op or len(node.inputs) != len(inputs):
        return False
    values = {
        key: value.values.tolist() if isinstance(value, Run) else value for key, (_, value) in node.attributes.items()
    }
    return values == attributes and all(map(lambda one, inner: _matches(graph, one, inner), node.inputs, inputs))
