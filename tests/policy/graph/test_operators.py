"""The table of operators: every entry is used by a graph that runs, has the shape that was foreseen, and its neighbours
are refused."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hagpolicy.errors import BundleError
from hagpolicy.policy.graph.model import Graph
from hagpolicy.policy.graph.operators import DTYPES, OPERATORS
from tests.support.onnx_models import FEED, model

TREE = {
    "nodes_treeids": [0, 0, 0, 1],
    "nodes_nodeids": [0, 1, 2, 0],
    "nodes_featureids": [3, 0, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0, 0.0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 0, 0],
    "nodes_falsenodeids": [2, 0, 0, 0],
    "target_treeids": [0, 0, 1],
    "target_nodeids": [1, 2, 0],
    "target_ids": [0, 1, 1],
    "target_weights": [0.25, 0.5, 1.0],
    "n_targets": 2,
    "post_transform": "NONE",
}
CONSTANTS = {
    "w": np.ones((4, 3), np.float32),
    "low": np.float32(-0.5),
    "high": np.float32(0.5),
    "axis": np.array([1]),
    "last": np.array([2]),
    "index": np.array([2, 0]),
    "table": np.arange(20, dtype=np.int8).reshape(4, 5),
    "k": np.array([2]),
    "shape": np.array([0, 4]),
    "square": np.array([0, 2, 2]),
    "along": np.int64(1),
    "scale": np.ones(4, np.float32),
}
# What is made of the inputs before the operator.
MADE = [
    helper.make_node("Greater", ["vectors", "low"], ["flag"]),
    helper.make_node("Cast", ["vectors"], ["whole"], to=TensorProto.INT32),
    helper.make_node("Unsqueeze", ["mask", "axis"], ["rows"]),
    helper.make_node("Gather", ["table", "ids"], ["codes"]),
    helper.make_node("Shape", ["vectors"], ["sizes"], start=0, end=1),
    helper.make_node("Reshape", ["vectors", "square"], ["deep"]),
]
VALUE = numpy_helper.from_array(np.array([1.5], np.float32))
# Operator: its inputs, and its attributes.
CASES = {
    **dict.fromkeys(("Abs", "Erf", "Exp", "Log", "Neg", "Relu", "Round", "Sigmoid", "Sqrt", "Tanh"), (["vectors"], {})),
    "Add": (["vectors", "low"], {}),
    "And": (["flag", "flag"], {}),
    "ArgMax": (["vectors"], {"axis": 1, "keepdims": 0, "select_last_index": 0}),
    "Cast": (["vectors"], {"to": TensorProto.DOUBLE}),
    "Clip": (["vectors", "low", "high"], {}),
    "Concat": (["vectors", "vectors"], {"axis": 1}),
    "ConstantOfShape": (["sizes"], {"value": VALUE}),
    "CumSum": (["ids", "along"], {"exclusive": 1}),
    "Div": (["vectors", "high"], {}),
    "Gather": (["vectors", "index"], {"axis": 1}),
    "Greater": (["vectors", "low"], {}),
    "Identity": (["whole"], {}),
    "LayerNormalization": (["vectors", "scale", "scale"], {"axis": -1, "epsilon": 1e-5}),
    "LessOrEqual": (["vectors", "low"], {}),
    "MatMul": (["vectors", "w"], {}),
    "MatMulInteger": (["rows", "codes"], {}),
    "Max": (["vectors", "low"], {}),
    "Mul": (["whole", "whole"], {}),
    "Pow": (["high", "vectors"], {}),
    "ReduceMax": (["vectors"], {"axes": [1], "keepdims": 0}),
    "ReduceMean": (["vectors"], {"axes": [1], "keepdims": 1}),
    "ReduceMin": (["vectors"], {"axes": [-1]}),
    "ReduceSum": (["vectors", "axis"], {"keepdims": 0}),
    "ReduceSumSquare": (["vectors"], {"axes": [1], "keepdims": 0}),
    "Reshape": (["deep", "shape"], {}),
    "Shape": (["vectors"], {"start": 1, "end": 2}),
    "Softmax": (["vectors"], {"axis": 1}),
    "Squeeze": (["rows", "axis"], {}),
    "Sub": (["vectors", "low"], {}),
    "TopK": (["whole", "k"], {"axis": 1, "largest": 0, "sorted": 1}),
    "Transpose": (["deep"], {"perm": [0, 2, 1]}),
    "TreeEnsembleRegressor": (["vectors"], TREE),
    "Unsqueeze": (["vectors", "last"], {}),
    "Where": (["flag", "vectors", "low"], {}),
}
# Attributes that have one value of their type only, or none that is wrong by itself.
ODD = {"i": [8, -9, 2**40], "s": ["SOFTMAX", ""], "ints": [[9], [0, 0], [2**62]]}


def built(op, inputs, attributes, constants=CONSTANTS, domain=None):
    names = ["found", "second"][: 2 if op == "TopK" else 1]
    domain = OPERATORS[op].domain if domain is None else domain
    return model([*MADE, helper.make_node(op, inputs, names, domain=domain, **attributes)], constants)


def refused(one, said="policy.onnx"):
    with pytest.raises(BundleError, match=said):
        Graph(one.SerializeToString())


def test_every_operator_has_a_case():
    assert CASES.keys() == OPERATORS.keys()


@pytest.mark.parametrize("op", OPERATORS)
def test_an_operator_is_taken_and_gives_what_was_foreseen(op):
    made = built(op, *CASES[op])
    tensor = Graph(made.SerializeToString()).tensors["found"]
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info("found", tensor.dtype, None))
    session = onnxruntime.InferenceSession(made.SerializeToString())
    found = session.run(["found"], FEED)[0]
    assert found.dtype == np.dtype(DTYPES[tensor.dtype])
    assert found.shape == tuple({"batch": 2, "tokens": 3}.get(size, size) for size in tensor.shape)


@pytest.mark.parametrize("op", OPERATORS)
def test_the_neighbours_of_an_operator_are_refused(op):
    inputs, attributes = CASES[op]
    refused(built(op, [*inputs, inputs[0]], attributes))
    refused(built(op, inputs[: len(inputs) - 1 - OPERATORS[op].optional], attributes))
    refused(built(op, inputs, {**attributes, "auto_pad": 1}), "auto_pad")
    refused(built(op, inputs, attributes, domain="com.microsoft"), "operators that policies use")
    twice = built(op, inputs, attributes)
    twice.graph.node[-2].attribute.extend([helper.make_attribute("x", 1)] * 2)
    refused(twice, "once")
    for name in OPERATORS[op].required:
        refused(built(op, inputs, {key: value for key, value in attributes.items() if key != name}), name)
    for name, (kind, allowed) in OPERATORS[op].attributes.items():
        for other in (1.5, "word", 1, [1, 2]):
            if kind != {float: "f", str: "s", int: "i", list: "ints"}[type(other)]:
                refused(built(op, inputs, {**attributes, name: other}))
        if allowed is not None or kind == "ints":
            for value in ODD[kind]:
                refused(built(op, inputs, {**attributes, name: value}))


@pytest.mark.parametrize("op", OPERATORS)
def test_inputs_of_other_types_are_refused(op):
    inputs, attributes = CASES[op]
    for place, allowed in enumerate(OPERATORS[op].inputs[: len(inputs)]):
        for dtype in (set(DTYPES) - set(allowed)) & {1, 2, 6, 7, 11}:
            # The operator would get the same numbers in another type.
            made = built(op, ["other" if number == place else name for number, name in enumerate(inputs)], attributes)
            made.graph.node.insert(len(MADE), helper.make_node("Cast", [inputs[place]], ["other"], to=dtype))
            refused(made, "types")


@pytest.mark.parametrize(
    "op", ["If", "Loop", "Scan", "Constant", "Expand", "Tile", "Pad", "Resize", "RandomNormal", ""]
)
def test_operators_that_are_not_in_the_table_are_refused(op):
    refused(model([helper.make_node(op, ["vectors"], ["found"])]), "operators that policies use")


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Gather", ["vectors", "far"], {"axis": 1}),
        ("Gather", ["vectors", "index"], {"axis": 2}),
        ("Concat", ["vectors", "w"], {"axis": 1}),
        ("Concat", ["vectors", "vectors"], {"axis": 0}),
        ("MatMul", ["vectors", "vectors"], {}),
        ("MatMul", ["vectors", "low"], {}),
        ("Clip", ["vectors", "vectors", "vectors"], {}),
        ("Add", ["vectors", "w"], {}),
        ("Squeeze", ["vectors", "axis"], {}),
        ("Unsqueeze", ["vectors", "ids"], {}),
        ("ReduceSum", ["vectors", "ids"], {}),
        ("TopK", ["whole", "many"], {}),
        ("TopK", ["whole", "ids"], {}),
        ("ConstantOfShape", ["index"], {}),
        ("ConstantOfShape", ["index"], {"value": numpy_helper.from_array(np.ones(2, np.float32))}),
        ("Shape", ["vectors"], {"start": 1, "end": 1}),
        ("Where", ["flag", "vectors", "index"], {}),
        ("Unsqueeze", ["low", "nine"], {}),
        ("Reshape", ["deep", "index"], {}),
        ("Reshape", ["deep", "fixed"], {}),
        ("Reshape", ["deep", "guessed"], {}),
        ("Reshape", ["deep", "ids"], {}),
        ("Transpose", ["deep"], {"perm": [0, 1]}),
        ("Transpose", ["deep"], {"perm": [1, 0, 2]}),
        ("CumSum", ["ids", "far"], {}),
        ("CumSum", ["ids", "third"], {}),
        ("LayerNormalization", ["vectors", "scale", "low"], {"axis": -1, "epsilon": 1e-5}),
        ("LayerNormalization", ["vectors", "scale", "scale"], {"axis": -1, "epsilon": 0.0}),
        ("LayerNormalization", ["vectors", "scale", "scale"], {"axis": -1, "epsilon": float("nan")}),
    ],
)
def test_shapes_that_do_not_fit_are_refused(op, inputs, attributes):
    more = {"far": np.array([4]), "many": np.array([5]), "nine": np.arange(9), "third": np.int64(2)}
    more |= {"fixed": np.array([2, 4]), "guessed": np.array([0, -1])}
    refused(built(op, inputs, attributes, {**CONSTANTS, **more}))


def changed(**lists):
    return built("TreeEnsembleRegressor", ["vectors"], {**TREE, **lists})


@pytest.mark.parametrize(
    "lists",
    [
        {"nodes_featureids": [4, 0, 0, 0]},
        {"nodes_featureids": [-1, 0, 0, 0]},
        {"nodes_truenodeids": [0, 0, 0, 0]},  # a circle: onnxruntime would never end
        {"nodes_truenodeids": [2, 0, 0, 0]},
        {"nodes_truenodeids": [3, 0, 0, 0]},
        {"nodes_falsenodeids": [2**40, 0, 0, 0]},
        {"nodes_falsenodeids": [-1, 0, 0, 0]},
        {"nodes_nodeids": [0, 1, 1, 0]},
        {"nodes_nodeids": [0, 1, 2, 1]},
        {"nodes_nodeids": [1, 2, 3, 0]},
        {"nodes_treeids": [0, 0, 0, 2]},
        {"nodes_treeids": [1, 1, 1, 0]},
        {"nodes_values": [0.5, 0.0, 0.0]},
        {"nodes_values": [float("nan"), 0.0, 0.0, 0.0]},
        {"nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ"]},
        {"nodes_modes": ["LEAF", "LEAF", "LEAF", "LEAF"]},
        {"nodes_modes": ["BRANCH_LT", "LEAF", "LEAF", "LEAF"]},
        {"target_nodeids": [0, 2, 0]},
        {"target_nodeids": [1, 1, 0]},
        {"target_nodeids": [1, 2**62, 0]},
        {"target_nodeids": [2, 1, 0]},
        {"target_treeids": [0, 0, 2]},
        {"target_treeids": [0, 0, -1]},
        {"target_ids": [0, 1, 2]},
        {"target_ids": [0, -1, 1]},
        {"target_weights": [0.25, 0.5]},
        {"target_weights": [float("inf"), 0.5, 1.0]},
        {"n_targets": 1},
        {"n_targets": 0},
        {"n_targets": 2**40},
        {"post_transform": "PROBIT"},
    ],
)
def test_trees_that_cannot_be_followed_are_refused(lists):
    Graph(changed().SerializeToString())
    refused(changed(**lists))


def test_trees_that_are_too_deep_are_refused():
    """A chain: onnxruntime goes down it by recursion."""

    def chain(levels):
        count = 2 * levels + 1
        inner = np.arange(count) % 2 * (np.arange(count) < count - 1) == 0
        inner[-1] = False
        numbers = np.arange(count)
        leaves = numbers[~inner]
        return {
            **TREE,
            "nodes_treeids": [0] * count,
            "nodes_nodeids": numbers.tolist(),
            "nodes_featureids": [0] * count,
            "nodes_values": [0.0] * count,
            "nodes_modes": ["BRANCH_LEQ" if one else "LEAF" for one in inner],
            "nodes_truenodeids": [int(n) + 1 if one else 0 for n, one in zip(numbers, inner, strict=True)],
            "nodes_falsenodeids": [int(n) + 2 if one else 0 for n, one in zip(numbers, inner, strict=True)],
            "target_treeids": [0] * len(leaves),
            "target_nodeids": leaves.tolist(),
            "target_ids": [0] * len(leaves),
            "target_weights": [1.0] * len(leaves),
        }

    Graph(built("TreeEnsembleRegressor", ["vectors"], chain(60)).SerializeToString())
    refused(built("TreeEnsembleRegressor", ["vectors"], chain(70)), "levels")
