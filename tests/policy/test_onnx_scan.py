"""What a hostile ONNX file could hold, and that none of it gets past the scan."""

import pytest
from onnx import TensorProto, helper

from hagpolicy.errors import BundleError
from hagpolicy.policy.onnx_scan import scan
from tests.support.onnx_tensors import external


def model_of(nodes, initializers=(), domain=None, functions=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def hostile():
    add = helper.make_node("Add", ["x", "w"], ["y"])
    own = helper.make_node("Identity", ["x"], ["y"])
    only_path, only_flag = external(), external()
    only_path.data_location = TensorProto.DEFAULT
    del only_flag.external_data[:]
    constant = helper.make_node("Constant", [], ["w"], value=external())
    inner = helper.make_graph([constant], "inner", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    sparse = model_of([own])
    sparse.graph.sparse_initializer.add(values=external("v"), indices=external("i"), dims=[3])
    training = model_of([own])
    training.training_info.add()
    function = helper.make_function("evil", "f", ["x"], ["y"], [own], [helper.make_opsetid("", 17)])
    inner_evil = helper.make_graph([helper.make_node("Op", [], ["w"], domain="evil")], "i", [], [])
    return {
        "external": model_of([add], [external()]),
        "external path only": model_of([add], [only_path]),
        "external flag only": model_of([add], [only_flag]),
        "external in attribute": model_of([constant, add]),
        "external in subgraph": model_of([branch]),
        "external in sparse": sparse,
        "domain of node": model_of([helper.make_node("Op", ["x"], ["y"], domain="evil")]),
        "domain of contributed operators": model_of([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]),
        "domain in subgraph": model_of([helper.make_node("If", ["c"], ["y"], then_branch=inner_evil)]),
        "domain imported": model_of([own], domain="evil"),
        "function": model_of([own], functions=[function]),
        "training": training,
    }


@pytest.mark.parametrize("name", sorted(hostile()))
def test_a_hostile_graph_is_refused(name):
    data = hostile()[name].SerializeToString()
    scan(model_of([helper.make_node("Identity", ["x"], ["y"])]).SerializeToString())
    with pytest.raises(BundleError):
        scan(data)


@pytest.mark.parametrize("data", [b"", b"junk", b"\x00" * 50, b"\x10\x00\x00\x00ORTM" + b"\x00" * 40, b"\x80" * 20])
def test_bytes_that_are_no_onnx_file_are_refused(data):
    with pytest.raises(BundleError):
        scan(data)


def test_a_torn_graph_is_refused(saved):
    data = (saved / "policy.onnx").read_bytes()
    scan(data)
    for cut in (1, 100, len(data) // 2):
        with pytest.raises(BundleError):
            scan(data[:-cut])
