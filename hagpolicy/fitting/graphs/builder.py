"""A small builder of ONNX graphs: named constants and nodes, appended in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.errors import InvalidInput

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

    def rename(self, tensor: str, name: str) -> None:
        """Give `tensor` a name by which a reader of the model finds it; it becomes no output."""
        self._public.setdefault(tensor, []).append(name)

    def cast(self, tensor: str, dtype: int) -> str:
        """Append a Cast to an `onnx.TensorProto` type."""
        return self.node("Cast", [tensor], to=dtype)

    def include(self, model: bytes | onnx.ModelProto, inputs: Mapping[str, str]) -> list[str]:
        """Append another model's nodes and constants under names of their own; returns the names of its outputs.

        So what another library exports, such as skl2onnx, becomes a part of a policy. Its operators must be among
        those that a bundle may hold (`hagpolicy.policy.graph.operators`), which is checked where a policy is made.

        Args:
            model: one graph; an older operator set is converted to 17.
            inputs: the tensor of this graph that stands for each input of that one, by the input's name.

        Raises:
            InvalidInput: no ONNX model, one with functions, subgraphs or data in other files, an operator set that
                cannot be converted, or `inputs` that are not the model's.
        """
        part = self._read_part(model)
        graph, own = part.graph, {item.name for item in part.graph.initializer}
        wanted = {item.name for item in graph.input} - own
        if set(inputs) != wanted:
            raise InvalidInput("inputs of the model", ", ".join(sorted(wanted)), ", ".join(sorted(inputs)))
        names = {"": "", **inputs}
        for tensor in graph.initializer:
            names[tensor.name] = self.constant(self._onnx.numpy_helper.to_array(tensor), "part")
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                value = self._onnx.numpy_helper.to_array(node.attribute[0].t)
                names[node.output[0]] = self.constant(value, "part")
                continue
            made = {name: self._name(node.op_type.lower()) for name in node.output if name}
            copy = self._onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = next(iter(made.values()))
            copy.input[:] = [names[name] for name in node.input]
            names |= made
            copy.output[:] = [names[name] for name in node.output]
            self.nodes.append(copy)
        return [names[item.name] for item in graph.output]

    def _read_part(self, model: bytes | onnx.ModelProto) -> onnx.ModelProto:
        """The model in our operator set. Raises InvalidInput for what cannot be a part."""
        try:
            part: onnx.ModelProto = self._onnx.load_from_string(model) if isinstance(model, bytes) else model
            self._onnx.checker.check_model(part)
            main = next((item.version for item in part.opset_import if item.domain in ("", "ai.onnx")), OPSET)
            if main != OPSET:
                part = self._onnx.version_converter.convert_version(part, OPSET)
        except Exception as error:  # protobuf, checker and converter each raise their own, without a common base
            raise InvalidInput("model", f"an ONNX model of operator set {OPSET}", f"{error!s:.300}") from error
        graphs = {self._onnx.AttributeProto.GRAPH, self._onnx.AttributeProto.GRAPHS}
        inner = [node.op_type for node in part.graph.node for item in node.attribute if item.type in graphs]
        outside = [item.name for item in part.graph.initializer if item.external_data]
        if len(part.functions) or inner or outside:
            got = "functions" if len(part.functions) else f"{(inner or outside)[0]}, which has an inner graph or a file"
            raise InvalidInput("model", "one plain graph that holds its own constants", got)
        return part

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

    def model(self, name: str, about: str = "") -> onnx.ModelProto:
        """The finished, checked model.

        Args:
            name: of the graph.
            about: what whoever finds the file alone should know.
        """
        helper = self._onnx.helper
        graph = helper.make_graph(self._named_nodes(), name, self.inputs, self.outputs, self.initializers)
        model: onnx.ModelProto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
            ir_version=IR_VERSION,
            producer_name="hagpolicy",
            doc_string=about,
        )
        self._onnx.checker.check_model(model)
        return model
