"""Small ONNX models for tests of the graph: the inputs that a policy has, and whatever nodes a test adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUTS = {
    "ids": (TensorProto.INT64, ["batch", "tokens"]),
    "mask": (TensorProto.UINT8, ["batch", "tokens"]),
    "vectors": (TensorProto.FLOAT, ["batch", 4]),
}
FEED = {
    "ids": np.array([[0, 1, 2], [3, 2, 1]]),
    "mask": np.ones((2, 3), np.uint8),
    "vectors": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4),
}


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any] | None = None,
    outputs: Mapping[str, tuple[int, Sequence[Any]]] | None = None,
    inputs: Mapping[str, tuple[int, Sequence[Any]]] = INPUTS,
) -> onnx.ModelProto:
    """A model as `GraphBuilder` writes it; by default it gives the vectors."""
    nodes = list(nodes)
    if outputs is None:
        nodes.append(helper.make_node("Identity", ["vectors"], ["out"]))
        outputs = {"out": (TensorProto.FLOAT, ["batch", 4])}
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="hagpolicy")
