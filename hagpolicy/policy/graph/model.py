"""`Graph`: a policy's graph as it was understood, and the model that is handed to onnxruntime, written from that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy.errors import BundleError
from hagpolicy.policy.graph.operators import (
    BOOL,
    DTYPES,
    FLOAT,
    INT64,
    OPERATORS,
    UINT8,
    Dim,
    Tensor,
    count_elements,
)
from hagpolicy.policy.graph.wire import Message, Run, read_message, write_message

IR_VERSION = 9
OPSETS = {"": 17, "ai.onnx.ml": 3}
MAX_BYTES = 512 << 20
MAX_NODES = 4096
MAX_RANK = 8
# Tokens of the longest prompt, where it is read whole.
MAX_TOKENS = 32_000
_TOKENS, _PAIRS = ("batch", "tokens"), ("batch", "tokens", "tokens")
# What all tensors of a run may take together, in bytes: without a prompt, for each prompt, for all tokens of one.
_LIMITS = {(): 64 << 20, ("batch",): 16 << 20, _TOKENS: (32 << 10) * MAX_TOKENS}
# Elements that all nodes of a run may go through, multiplications of products included: in the same order.
_WORK = {(): 1 << 28, ("batch",): 1 << 28, _TOKENS: (1 << 20) * MAX_TOKENS}
# Attribute types of onnx.proto: the field that holds the value, and its kind in the table of operators.
_ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}


@dataclass(frozen=True)
class Node:
    """A step: operator, names of its inputs and outputs, attributes as kind and value by name."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, tuple[str, Any]]
    message: Message


class Graph:
    """A policy's graph, every part of it known and checked.

    Args:
        model: bytes of an ONNX file.
        most_tokens: of a prompt that it is given: what it takes for each of them is bounded by their number.

    Attributes:
        tensors: what is known of every tensor, by name.
        makers: the node that makes a tensor, by the tensor's name.
        inputs, outputs: names, in order.
        row_bytes: what one prompt of one token takes in a run, at most.

    Raises:
        BundleError: anything that a policy's graph does not need, whatever onnxruntime would make of it.
    """

    def __init__(self, model: bytes, most_tokens: int = MAX_TOKENS) -> None:
        # onnxruntime would take its own flatbuffer format for a model too; nothing here could read that.
        if model[4:8] == b"ORTM":
            raise BundleError("policy.onnx: expected an ONNX file, got onnxruntime's own format")
        if len(model) > MAX_BYTES:
            raise BundleError(f"policy.onnx: expected at most {MAX_BYTES:,} bytes, got {len(model):,}")
        self._message = read_message("model", model)
        self._graph: Message = self._message.get("graph", {})
        if not self._graph:
            raise BundleError("policy.onnx: expected an ONNX file, got one without a graph")
        self.tensors: dict[str, Tensor] = {}
        self.makers: dict[str, Node] = {}
        self.most_tokens = most_tokens
        self._bytes = dict.fromkeys((*_LIMITS, _PAIRS), 0)
        self._work = dict.fromkeys((*_LIMITS, _PAIRS), 0)
        self._infinite: set[str] = set()
        _check_versions(self._message)
        for tensor in self._graph.get("initializer", []):
            self._add_constant(tensor)
        self.inputs = tuple(self._add_input(value) for value in self._graph.get("input", []))
        nodes = self._graph.get("node", [])
        if len(nodes) > MAX_NODES:
            raise BundleError(f"policy.onnx: expected at most {MAX_NODES:,} nodes, got {len(nodes):,}")
        for node in nodes:
            self._add_node(node)
        self.outputs = tuple(self._check_output(value) for value in self._graph.get("output", []))
        if len(set(self.outputs)) < len(self.outputs):
            raise BundleError("policy.onnx: expected outputs of different names, got one twice")

    @property
    def row_bytes(self) -> int:
        """What one prompt of one token takes in a run, at most."""
        return max(1, self._bytes["batch",] + self._bytes[_TOKENS] + self._bytes[_PAIRS])

    def encode(self, outputs: Sequence[str] | None = None) -> bytes:
        """The model written anew from what was read.

        Args:
            outputs: that are wanted, with all that they need; None: the whole graph. A tensor within the graph may be
                one of them.
        """
        graph = dict(self._graph)
        if outputs is not None:
            needed = self._needed_for(outputs)
            graph["node"] = [node for node in graph["node"] if not needed.isdisjoint(node["output"])]
            graph["initializer"] = [one for one in graph.get("initializer", []) if one["name"] in needed]
            inner = [name for name in outputs if name not in self.outputs]
            graph["output"] = [one for one in graph["output"] if one["name"] in outputs]
            graph["output"] += [_make_value_info(name, self.tensors[name]) for name in inner]
        return b"".join(write_message("model", {**self._message, "graph": graph}))

    def _needed_for(self, outputs: Sequence[str]) -> set[str]:
        needed, waiting = set(outputs), list(outputs)
        while waiting:
            maker = self.makers.get(waiting.pop())
            more = set(maker.inputs if maker is not None else ()) - needed
            needed |= more
            waiting += more
        return needed

    def _add(self, name: str, tensor: Tensor) -> None:
        if not name or name in self.tensors:
            raise BundleError(f"policy.onnx: expected tensors of different names, got {name!r} twice or no name")
        if len(tensor.shape) > MAX_RANK:
            raise BundleError(f"policy.onnx: {name}: expected at most {MAX_RANK} dimensions, got {len(tensor.shape)}")
        self.tensors[name] = tensor

    def _add_constant(self, message: Message) -> None:
        tensor, name = _read_tensor(message), message.get("name", "")
        self._add(name, tensor)
        values = tensor.constant
        if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
            if values.size > 1 or np.isnan(values).any():
                raise BundleError(f"policy.onnx: {name}: expected finite numbers, got NaN or infinity")
            self._infinite.add(name)

    def _add_input(self, message: Message) -> str:
        name, dtype, shape = _read_value_info(message)
        rank = len(shape)
        wanted = ("batch", "tokens")[:rank] if dtype in (INT64, UINT8) else ("batch", *shape[1:])
        sizes = [size for size in wanted if isinstance(size, int)]
        if dtype not in (FLOAT, INT64, UINT8) or not 1 <= rank <= 2 or shape != wanted or not all(sizes):
            raise BundleError(f"policy.onnx: expected inputs of one row a prompt, got {name} of the shape {shape}")
        if dtype == FLOAT and rank == 2 and not sizes:
            raise BundleError(f"policy.onnx: expected vectors of a known length, got {name} of the shape {shape}")
        self._add(name, Tensor(dtype, shape))
        return name

    def _add_node(self, message: Message) -> None:
        op = message.get("op_type", "")
        if op not in OPERATORS or message.get("domain", "") != OPERATORS[op].domain:
            got = f"{op!r} of the domain {message.get('domain', '')!r}"
            raise BundleError(f"policy.onnx: expected operators that policies use, got {got}")
        attributes: dict[str, tuple[str, Any]] = {}
        for one in message.get("attribute", []):
            name, kind, value = _read_attribute(one)
            if name in attributes:
                raise BundleError(f"policy.onnx: {op}: expected each attribute once, got {name} twice")
            attributes[name] = (kind, value)
        node = Node(op, tuple(message.get("input", ())), tuple(message.get("output", ())), attributes, message)
        for place, name in enumerate(node.inputs):
            if name not in self.tensors:
                raise BundleError(f"policy.onnx: {op}: expected inputs that are made before it, got {name!r}")
            if name in self._infinite and (op, place) != ("Greater", 1):
                raise BundleError(f"policy.onnx: {name}: expected finite numbers, got infinity")
        inputs = [self.tensors[name] for name in node.inputs]
        found = OPERATORS[op].apply(op, inputs, attributes)
        if len(found) != len(node.outputs):
            raise BundleError(f"policy.onnx: {op}: expected {len(found)} outputs, got {len(node.outputs)}")
        for name, tensor in zip(node.outputs, found, strict=True):
            self._add(name, tensor)
            self.makers[name] = node
        self._count(op, inputs, found)

    def _count(self, op: str, inputs: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        """Add what a node takes and does to the sums, and hold them to their limits."""
        for tensor in found:
            self._bytes[_kind(tensor.shape)] += count_elements(tensor) * np.dtype(DTYPES[tensor.dtype]).itemsize
            if op.startswith("MatMul"):
                whole = (*tensor.shape, *inputs[0].shape[-1:])
                self._work[_kind(whole)] += count_elements(Tensor(BOOL, whole))
        # Gather looks at the rows that it takes.
        for tensor in (*found, *(inputs[1:] if op == "Gather" else inputs)):
            self._work[_kind(tensor.shape)] += count_elements(tensor)
        for kind, limit in _LIMITS.items():
            if self._sum(self._bytes, kind) > limit or self._sum(self._work, kind) > _WORK[kind]:
                what = f"for {' and '.join(kind) or 'constants'}"
                raise BundleError(f"policy.onnx: expected a graph of at most {limit:,} bytes {what}, got a larger one")

    def _sum(self, counts: Mapping[tuple[str, ...], int], kind: tuple[str, ...]) -> int:
        """What is counted of a kind: for the tokens of the longest prompt, and their pairs, where there are tokens."""
        if kind != _TOKENS:
            return counts[kind]
        return self.most_tokens * (counts[_TOKENS] + self.most_tokens * counts[_PAIRS])

    def _check_output(self, message: Message) -> str:
        name, dtype, shape = _read_value_info(message)
        tensor = self.tensors.get(name)
        if tensor is None or (name not in self.makers and name not in self.inputs):
            raise BundleError(f"policy.onnx: expected outputs that a node makes, got {name!r}")
        fits = len(shape) == len(tensor.shape) and all(
            isinstance(said, str) or said == size for said, size in zip(shape, tensor.shape, strict=True)
        )
        if dtype != tensor.dtype or not fits:
            raise BundleError(f"policy.onnx: {name}: expected the type and shape that it has, got others")
        return name


def _kind(shape: tuple[Dim, ...]) -> tuple[str, ...]:
    """What the size of a tensor depends on."""
    kind = tuple(size for size in shape if isinstance(size, str))
    if kind not in _LIMITS and kind != _PAIRS:
        raise BundleError(f"policy.onnx: expected one row a prompt, got a tensor of the shape {shape}")
    return kind


def _check_versions(model: Message) -> None:
    opsets = [(one.get("domain", ""), one.get("version")) for one in model.get("opset_import", [])]
    if model.get("ir_version") != IR_VERSION or len(dict(opsets)) < len(opsets):
        raise BundleError(f"policy.onnx: expected IR version {IR_VERSION} and each operator set once, got others")
    if ("", OPSETS[""]) not in opsets or any(OPSETS.get(domain) != version for domain, version in opsets):
        raise BundleError(f"policy.onnx: expected ONNX's own operators of the versions {OPSETS}, got {opsets}")


def _read_tensor(message: Message) -> Tensor:
    dtype, raw = message.get("data_type", 0), message.get("raw_data", memoryview(b""))
    shape = tuple(message.get("dims", ()))
    if dtype not in DTYPES or dtype == BOOL or len(shape) > MAX_RANK or not all(0 < size < 1 << 40 for size in shape):
        raise BundleError(f"policy.onnx: expected tensors of numbers, got one of type {dtype} and shape {shape}")
    kind = np.dtype(DTYPES[dtype])
    if math.prod(shape) * kind.itemsize != len(raw):
        raise BundleError(f"policy.onnx: expected {math.prod(shape):,} numbers in a tensor, got {len(raw):,} bytes")
    return Tensor(dtype, shape, np.frombuffer(raw, kind).reshape(shape))


def _read_value_info(message: Message) -> tuple[str, int, tuple[Dim, ...]]:
    """Name, type and shape of an input or output."""
    tensor = message.get("type", {}).get("tensor_type", {})
    sizes: list[Dim] = []
    for dim in tensor.get("shape", {}).get("dim", []):
        if len(dim) != 1 or (size := next(iter(dim.values()))) == "" or (isinstance(size, int) and size < 1):
            raise BundleError("policy.onnx: expected sizes that are a number or a name, got something else")
        sizes.append(size)
    return message.get("name", ""), tensor.get("elem_type", 0), tuple(sizes)


def _make_value_info(name: str, tensor: Tensor) -> Message:
    """Name, type and shape of a tensor as an output."""
    dims = [{"dim_param" if isinstance(size, str) else "dim_value": size} for size in tensor.shape]
    return {"name": name, "type": {"tensor_type": {"elem_type": tensor.dtype, "shape": {"dim": dims}}}}


def _read_attribute(message: Message) -> tuple[str, str, Any]:
    """Name, kind and value; a list as `Run`, a tensor as `Tensor`."""
    kind = _ATTRIBUTES.get(message.get("type", 0), "")
    name = message.get("name", "")
    if not kind or message.keys() != {"name", "type", kind}:
        raise BundleError(f"policy.onnx: expected attributes of one value of a known type, got {name!r}")
    value = message[kind]
    if kind == "t":
        value = _read_tensor(value)
    numbers = value.values if isinstance(value, Run) else value.constant if isinstance(value, Tensor) else None
    numbers = np.array(value) if kind == "f" else numbers
    if numbers is not None and numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        raise BundleError(f"policy.onnx: {name}: expected finite numbers, got NaN or infinity")
    return name, kind, value
