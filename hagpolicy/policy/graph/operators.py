"""The operators that a policy's graph may use, in one table: what each takes, and the shape of what it gives.

To allow another operator, add its entry to `OPERATORS` and its case to `tests/policy/graph/test_operators.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hagpolicy.errors import BundleError
from hagpolicy.policy.graph.trees import check_ensemble
from hagpolicy.policy.graph.wire import Run

# Types of `onnx.TensorProto`, whose numbers are part of the format.
FLOAT, UINT8, INT8, INT32, INT64, BOOL, DOUBLE = 1, 2, 3, 6, 7, 9, 11
DTYPES = {FLOAT: "<f4", UINT8: "u1", INT8: "i1", INT32: "<i4", INT64: "<i8", BOOL: "?", DOUBLE: "<f8"}

Dim = int | str


@dataclass(frozen=True, eq=False)
class Tensor:
    """What is known of a tensor before anything runs.

    Attributes:
        dtype: of `DTYPES`.
        shape: sizes; "batch" and "tokens" are known at call time only.
        constant: its value, where the graph holds it.
        sizes: of a shape as a tensor, such as that of `Shape`: what it holds.
    """

    dtype: int
    shape: tuple[Dim, ...]
    constant: np.ndarray | None = None
    sizes: tuple[Dim, ...] | None = None


Attributes = Mapping[str, Any]
Infer = Callable[[Sequence[Tensor], Attributes], Tensor | list[Tensor]]


@dataclass(frozen=True)
class Operator:
    """An operator as a policy's graph may use it.

    Attributes:
        inputs: types that each input may have.
        infer: gives the outputs from inputs and attributes; raises ValueError where they do not fit.
        attributes: the kind of each attribute ("f", "i", "s", "t", "ints", "floats", "strings") and its allowed
            values, None for those that `infer` checks.
        required: attributes that must be there.
        domain: of the operator.
        same: the first inputs that must have one type.
        optional: the last inputs that may be left out.
    """

    inputs: tuple[tuple[int, ...], ...]
    infer: Infer
    attributes: Mapping[str, tuple[str, tuple[Any, ...] | None]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    domain: str = ""
    same: int = 0
    optional: int = 0

    def apply(self, name: str, inputs: Sequence[Tensor], attributes: Mapping[str, tuple[str, Any]]) -> list[Tensor]:
        """The outputs.

        Args:
            name: of the operator, for messages.
            inputs: what is known of them.
            attributes: kind and value by name.

        Raises:
            BundleError: inputs or attributes that it may not have.
        """
        if not 0 <= len(self.inputs) - len(inputs) <= self.optional or any(
            tensor.dtype not in allowed for tensor, allowed in zip(inputs, self.inputs, strict=False)
        ):
            raise BundleError(f"policy.onnx: {name}: expected {len(self.inputs)} inputs of its types, got others")
        if len({tensor.dtype for tensor in inputs[: self.same]}) > 1:
            raise BundleError(f"policy.onnx: {name}: expected inputs of one type, got several")
        for attribute, (kind, value) in attributes.items():
            expected, allowed = self.attributes.get(attribute, ("", None))
            if kind != expected or (allowed is not None and value not in allowed):
                raise BundleError(f"policy.onnx: {name}: got the attribute {attribute} with a value it may not have")
        if missing := sorted(self.required - attributes.keys()):
            raise BundleError(f"policy.onnx: {name}: expected the attributes {', '.join(missing)}, got none")
        try:
            found = self.infer(inputs, {key: value for key, (_, value) in attributes.items()})
        except ValueError as error:
            raise BundleError(f"policy.onnx: {name}: {error}") from error
        return found if isinstance(found, list) else [found]


def _broadcast(*shapes: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The common shape. A size known at call time fits 1 and itself alone: it must not depend on the batch."""
    width = max(map(len, shapes))
    sizes = []
    for column in zip(*((1,) * (width - len(shape)) + shape for shape in shapes), strict=True):
        others = set(column) - {1}
        if len(others) > 1:
            raise ValueError(f"sizes {sorted(map(str, others))} do not fit each other")
        sizes.append(others.pop() if others else 1)
    return tuple(sizes)


def _elementwise(dtype: int | None = None) -> Infer:
    """Outputs with the type of the last input, or a given one."""
    return lambda inputs, _: Tensor(dtype or inputs[-1].dtype, _broadcast(*(tensor.shape for tensor in inputs)))


def _matmul(dtype: int | None = None) -> Infer:
    def infer(inputs: Sequence[Tensor], _: Attributes) -> Tensor:
        left, right = inputs[0].shape, inputs[1].shape
        if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
            raise ValueError(f"shapes {left} and {right} cannot be multiplied")
        if len(inputs) > 2 and inputs[2].shape != ():
            raise ValueError("expected a zero point for all")
        return Tensor(dtype or inputs[0].dtype, (*_broadcast(left[:-2], right[:-2]), left[-2], right[-1]))

    return infer


def _axis(value: Any, rank: int) -> int:
    if not -rank <= value < rank:
        raise ValueError(f"axis {value} of {rank} dimensions")
    return int(value) % rank


def _axes(values: Any, rank: int) -> list[int]:
    axes = [_axis(value, rank) for value in values]
    if not 1 <= len(axes) <= rank or len(set(axes)) < len(axes):
        raise ValueError(f"axes {axes}")
    return axes


def _axes_of(tensor: Tensor, rank: int) -> list[int]:
    """Axes that are given as the second input: a constant list."""
    if tensor.constant is None or len(tensor.shape) != 1 or tensor.constant.size > 8:
        raise ValueError("expected axes that the graph holds")
    return _axes(tensor.constant.tolist(), rank)


def _drop(shape: tuple[Dim, ...], axes: Sequence[int], keep: bool) -> tuple[Dim, ...]:
    sizes = [(1 if number in axes else size, number in axes) for number, size in enumerate(shape)]
    return tuple(size for size, dropped in sizes if keep or not dropped)


def _reduce(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    tensor = inputs[0]
    axes = _axes(attributes["axes"].values[:9].tolist(), len(tensor.shape))
    return Tensor(tensor.dtype, _drop(tensor.shape, axes, attributes.get("keepdims", 1) == 1))


def _reduce_sum(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    axes = _axes_of(inputs[1], len(inputs[0].shape))
    return Tensor(inputs[0].dtype, _drop(inputs[0].shape, axes, attributes.get("keepdims", 1) == 1))


def _arg_max(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    shape = inputs[0].shape
    axes = [_axis(attributes["axis"], len(shape))]
    return Tensor(INT64, _drop(shape, axes, attributes.get("keepdims", 1) == 1))


def _gather(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    data, index = inputs
    axis = _axis(attributes.get("axis", 0), len(data.shape))
    size = data.shape[axis]
    if index.constant is not None and isinstance(size, int):
        low, high = int(index.constant.min()), int(index.constant.max())
        if low < -size or high >= size:
            raise ValueError(f"expected indices below {size}, got {low} to {high}")
    return Tensor(data.dtype, (*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]))


def _unsqueeze(inputs: Sequence[Tensor], _: Attributes) -> Tensor:
    count = inputs[1].constant.size if inputs[1].constant is not None else 0
    axes = _axes_of(inputs[1], len(inputs[0].shape) + count)
    sizes = iter(inputs[0].shape)
    shape = tuple(1 if number in axes else next(sizes) for number in range(len(inputs[0].shape) + count))
    return Tensor(inputs[0].dtype, shape)


def _squeeze(inputs: Sequence[Tensor], _: Attributes) -> Tensor:
    axes = _axes_of(inputs[1], len(inputs[0].shape))
    if any(inputs[0].shape[axis] != 1 for axis in axes):
        raise ValueError(f"axes {axes} of {inputs[0].shape} are not of size 1")
    return Tensor(inputs[0].dtype, _drop(inputs[0].shape, axes, False))


def _concat(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    shapes = [tensor.shape for tensor in inputs]
    axis = _axis(attributes["axis"], len(shapes[0]))
    sizes = [shape[axis] for shape in shapes if len(shape) == len(shapes[0])]
    whole = [size for size in sizes if isinstance(size, int)]
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(whole) < len(shapes) or len(rest) > 1:
        raise ValueError(f"shapes {shapes} cannot be joined")
    return Tensor(inputs[0].dtype, (*shapes[0][:axis], sum(whole), *shapes[0][axis + 1 :]))


def _clip(inputs: Sequence[Tensor], _: Attributes) -> Tensor:
    if any(tensor.shape != () for tensor in inputs[1:]):
        raise ValueError("expected limits that are single numbers")
    return Tensor(inputs[0].dtype, inputs[0].shape)


def _shape(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    shape = inputs[0].shape
    start, end = attributes.get("start", 0), attributes.get("end", len(shape))
    if not 0 <= start < end <= len(shape):
        raise ValueError(f"sizes {start} to {end} of {len(shape)}")
    return Tensor(INT64, (end - start,), sizes=shape[start:end])


def _constant_of_shape(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    if inputs[0].sizes is None:
        raise ValueError("expected the shape of another tensor")
    value = attributes.get("value")
    if value is not None and value.shape != (1,):
        raise ValueError("expected one value")
    return Tensor(FLOAT if value is None else value.dtype, inputs[0].sizes)


def _top_k(inputs: Sequence[Tensor], attributes: Attributes) -> list[Tensor]:
    shape, k = inputs[0].shape, inputs[1].constant
    axis = _axis(attributes.get("axis", -1), len(shape))
    size = shape[axis]
    if k is None or k.shape != (1,) or not isinstance(size, int) or not 1 <= int(k[0]) <= size:
        raise ValueError(f"expected at most as many as there are ({size})")
    kept = (*shape[:axis], int(k[0]), *shape[axis + 1 :])
    return [Tensor(inputs[0].dtype, kept), Tensor(INT64, kept)]


def _where(inputs: Sequence[Tensor], _: Attributes) -> Tensor:
    if inputs[1].dtype != inputs[2].dtype:
        raise ValueError("expected both values of one type")
    return Tensor(inputs[1].dtype, _broadcast(*(tensor.shape for tensor in inputs)))


def _softmax(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    _axis(attributes.get("axis", -1), len(inputs[0].shape))
    return Tensor(inputs[0].dtype, inputs[0].shape)


def _reshape(inputs: Sequence[Tensor], _: Attributes) -> Tensor:
    shape, wanted = inputs[0].shape, inputs[1].constant
    if wanted is None or wanted.ndim != 1 or wanted.size > 8:
        raise ValueError("expected a shape that the graph holds")
    given = wanted.tolist()
    if any(size < 0 or (size == 0 and at >= len(shape)) for at, size in enumerate(given)):
        raise ValueError(f"expected sizes, and 0 for those that stay, got {given}")
    found = tuple(shape[at] if size == 0 else size for at, size in enumerate(given))
    named = [[size for size in sizes if isinstance(size, str)] for sizes in (shape, found)]
    if named[0] != named[1] or count_elements(Tensor(FLOAT, shape)) != count_elements(Tensor(FLOAT, found)):
        raise ValueError(f"a tensor of the shape {shape} cannot have the shape {given}")
    return Tensor(inputs[0].dtype, found)


def _transpose(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    order = attributes["perm"].values[:9].tolist()
    if sorted(order) != list(range(len(inputs[0].shape))) or order[:1] != [0]:
        raise ValueError(f"expected each of {len(inputs[0].shape)} axes once, the first in its place, got {order}")
    return Tensor(inputs[0].dtype, tuple(inputs[0].shape[axis] for axis in order))


def _cum_sum(inputs: Sequence[Tensor], _: Attributes) -> Tensor:
    axis = inputs[1].constant
    if axis is None or axis.shape != ():
        raise ValueError("expected one axis that the graph holds")
    _axis(int(axis), len(inputs[0].shape))
    return Tensor(inputs[0].dtype, inputs[0].shape)


def _layer_normalization(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    shape, sizes = inputs[0].shape, [tensor.shape for tensor in inputs[1:]]
    if not shape or not isinstance(shape[-1], int) or any(size != shape[-1:] for size in sizes):
        raise ValueError(f"expected a scale and a shift of the last size of {shape}, got {sizes}")
    if not 0.0 < attributes["epsilon"] < 1.0:
        raise ValueError(f"expected an epsilon between 0 and 1, got {attributes['epsilon']}")
    return Tensor(inputs[0].dtype, shape)


def _ensemble(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    shape = inputs[0].shape
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise ValueError(f"expected rows of features, got the shape {shape}")
    lists = {name: value.values for name, value in attributes.items() if isinstance(value, Run)}
    check_ensemble(lists, shape[1], attributes["n_targets"])
    return Tensor(FLOAT, (shape[0], attributes["n_targets"]))


_REAL = (FLOAT, DOUBLE)
_FLAG: tuple[str, tuple[Any, ...] | None] = ("i", (0, 1))
_INT: tuple[str, tuple[Any, ...] | None] = ("i", None)
_AXES: tuple[str, tuple[Any, ...] | None] = ("ints", None)
_ANY = tuple(DTYPES)
_NODES = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
_TREES: dict[str, tuple[str, tuple[Any, ...] | None]] = {
    **{f"nodes_{name}": ("ints", None) for name in _NODES},
    **{f"target_{name}": ("ints", None) for name in ("treeids", "nodeids", "ids")},
    "nodes_values": ("floats", None),
    "target_weights": ("floats", None),
    "nodes_modes": ("strings", None),
    "n_targets": _INT,
    "post_transform": ("s", ("NONE",)),
}
_REDUCING = Operator((_REAL,), _reduce, {"axes": _AXES, "keepdims": _FLAG}, frozenset({"axes"}))

_UNARY = Operator((_REAL,), _elementwise())

# Integers are never divided: a division by zero would end the process. Some of the functions of one number are for
# learners that others add.
OPERATORS: dict[str, Operator] = {
    "Abs": _UNARY,
    "Add": Operator((_REAL, _REAL), _elementwise(), same=2),
    "And": Operator(((BOOL,), (BOOL,)), _elementwise()),
    "ArgMax": Operator(
        (_REAL,), _arg_max, {"axis": _INT, "keepdims": _FLAG, "select_last_index": ("i", (0,))}, frozenset({"axis"})
    ),
    "Cast": Operator(
        (_ANY,),
        lambda inputs, attributes: Tensor(attributes["to"], inputs[0].shape),
        {"to": ("i", (FLOAT, UINT8, INT32, INT64, DOUBLE))},
        frozenset({"to"}),
    ),
    "Clip": Operator(((*_REAL, INT32),) * 3, _clip, same=3),
    "Concat": Operator((_REAL, _REAL), _concat, {"axis": _INT}, frozenset({"axis"}), same=2),
    "ConstantOfShape": Operator(((INT64,),), _constant_of_shape, {"value": ("t", None)}),
    "CumSum": Operator(((INT64,), (INT64,)), _cum_sum, {"exclusive": _FLAG}),
    "Div": Operator((_REAL, _REAL), _elementwise(), same=2),
    "Erf": Operator(((FLOAT,),), _elementwise()),
    "Exp": _UNARY,
    "Gather": Operator((_ANY, (INT32, INT64)), _gather, {"axis": _INT}),
    "Greater": Operator((_REAL, _REAL), _elementwise(BOOL), same=2),
    "Identity": Operator((_ANY,), _elementwise()),
    "LayerNormalization": Operator(
        ((FLOAT,),) * 3,
        _layer_normalization,
        {"axis": ("i", (-1,)), "epsilon": ("f", None)},
        frozenset({"axis", "epsilon"}),
    ),
    "LessOrEqual": Operator((_REAL, _REAL), _elementwise(BOOL), same=2),
    "Log": _UNARY,
    "MatMul": Operator((_REAL, _REAL), _matmul(), same=2),
    "MatMulInteger": Operator(((UINT8,), (INT8, UINT8), (UINT8,)), _matmul(INT32), optional=1),
    "Max": Operator((_REAL, _REAL), _elementwise(), same=2),
    "Mul": Operator(((*_REAL, INT32),) * 2, _elementwise(), same=2),
    "Neg": _UNARY,
    "Pow": Operator((_REAL, _REAL), _elementwise(), same=2),
    "ReduceMax": _REDUCING,
    "ReduceMean": _REDUCING,
    "ReduceMin": _REDUCING,
    "ReduceSum": Operator(((*_REAL, INT32), (INT64,)), _reduce_sum, {"keepdims": _FLAG}),
    "ReduceSumSquare": _REDUCING,
    "Relu": _UNARY,
    "Reshape": Operator(((FLOAT,), (INT64,)), _reshape),
    "Round": _UNARY,
    "Shape": Operator((_ANY,), _shape, {"start": _INT, "end": _INT}),
    "Sigmoid": _UNARY,
    "Softmax": Operator((_REAL,), _softmax, {"axis": _INT}),
    "Sqrt": _UNARY,
    "Squeeze": Operator((_ANY, (INT64,)), _squeeze),
    "Sub": Operator(((*_REAL, INT32),) * 2, _elementwise(), same=2),
    "Tanh": _UNARY,
    "TopK": Operator(((INT32,), (INT64,)), _top_k, {"axis": _INT, "largest": _FLAG, "sorted": ("i", (1,))}),
    "Transpose": Operator(((FLOAT,),), _transpose, {"perm": _AXES}, frozenset({"perm"})),
    "TreeEnsembleRegressor": Operator(((FLOAT,),), _ensemble, _TREES, frozenset(_TREES), "ai.onnx.ml"),
    "Unsqueeze": Operator((_ANY, (INT64,)), _unsqueeze),
    "Where": Operator(((BOOL,), (*_REAL, INT64), (*_REAL, INT64)), _where),
}


def count_elements(tensor: Tensor) -> int:
    """Elements of a tensor, of one prompt and one token where it has those."""
    return math.prod(size for size in tensor.shape if isinstance(size, int))
