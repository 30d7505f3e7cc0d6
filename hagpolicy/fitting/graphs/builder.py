"""A small builder of ONNX graphs: named constants and nodes, appended in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy._extras import require

if TYPE_CHECKING:
    import onnx

# Types of `onnx.TensorProto`, whose numbers are part of the format: learners name them where onnx is not installed.
FLOAT, UINT8, INT32, INT64, DOUBLE = 1, 2, 6, 7, 11
OPSET = 17
ML_OPSET = 3
IR_VERSION = 9


class GraphBuilder:
    """Collects nodes and constants; tensors are named by strings.

    Parts (encoder, learner's head, decision) append to one builder and pass tensor names on.

    Raises:
        MissingExtra: onnx is not installed.
    """

    def __init__(self) -> None:
        self._onnx: Any = require("onnx", "fit", "building a policy's graph")
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._public: dict[str, list[str]] = {}
        self._count = 0

    def _name(self, hint: str) -> str:
        self._count += 1
        return f"{hint}_{self._count}"

    def constant(self, array: np.ndarray | float | int, hint: str = "const", dtype: Any = None) -> str:
        """Add a constant tensor; returns its name."""
        name = self._name(hint)
        # ascontiguousarray makes a scalar an array of one; the shape is put back.
        values = np.ascontiguousarray(np.asarray(array, dtype=dtype)).reshape(np.shape(array))
        self.initializers.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, inputs: list[str], *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.node_multi(op, inputs, 1, domain=domain, **attributes)[0]

    def node_multi(self, op: str, inputs: list[str], outputs: int, *, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their names."""
        names = [self._name(op.lower()) for _ in range(outputs)]
        self.nodes.append(self._onnx.helper.make_node(op, inputs, names, name=names[0], domain=domain, **attributes))
        return names

    def input(self, name: str, dtype: int, shape: list[int | str]) -> str:
        """Declare a graph input (dtype: an `onnx.TensorProto` type); returns its name."""
        self.inputs.append(self._onnx.helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, tensor: str, name: str, dtype: int, shape: list[int | str]) -> None:
        """Declare `tensor` a graph output under a public name; other nodes may go on using it."""
        self._public[tensor] = self._public.get(tensor, [])
        self._public[tensor].append(name)
        self.outputs.append(self._onnx.helper.make_tensor_value_info(name, dtype, shape))

    def cast(self, tensor: str, dtype: int) -> str:
        """Append a Cast to an `onnx.TensorProto` type."""
        return self.node("Cast", [tensor], to=dtype)

    def _named_nodes(self) -> list[onnx.NodeProto]:
        """The nodes with outputs under their public names: a rename where it can be one, since each
        Identity would cost half a microsecond a call."""
        made = {tensor for node in self.nodes for tensor in node.output}
        renamed = {tensor: names[0] for tensor, names in self._public.items() if tensor in made}
        nodes = []
        for node in self.nodes:
            copy = self._onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [renamed.get(tensor, tensor) for tensor in node.input]
            copy.output[:] = [renamed.get(tensor, tensor) for tensor in node.output]
            nodes.append(copy)
        for tensor, names in self._public.items():
            for name in names[1:] if tensor in renamed else names:
                nodes.append(self._onnx.helper.make_node("Identity", [renamed.get(tensor, tensor)], [name], name=name))
        return nodes

    def model(self, name: str) -> onnx.ModelProto:
        """The finished, checked model."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._named_nodes(), name, self.inputs, self.outputs, self.initializers)
        model: onnx.ModelProto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
            ir_version=IR_VERSION,
            producer_name="hagpolicy",
        )
        self._onnx.checker.check_model(model)
        return model
