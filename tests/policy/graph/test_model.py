"""What onnxruntime gets is written anew from known fields: what a stranger's file could hold beside them is refused."""

import random
import struct

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hagpolicy.errors import BundleError
from hagpolicy.policy.graph import model as limits
from hagpolicy.policy.graph.model import Graph
from hagpolicy.policy.graph.wire import read_message, write_message
from hagpolicy.policy.session import open_session
from tests.support.onnx_models import FEED, model
from tests.support.onnx_tensors import external
from tests.support.paths import FIXTURES


def refused(data, said="policy.onnx"):
    with pytest.raises(BundleError, match=said):
        Graph(data if isinstance(data, bytes) else data.SerializeToString())


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, **attributes)


def plain():
    return model([node("Add", ["vectors", "w"], ["sum"])], {"w": np.ones(4, np.float32)})


def hostile():
    own = node("Identity", ["vectors"], ["same"])
    found = {name: model([own]) for name in ("training", "sparse", "metadata", "function", "imported", "quantized")}
    found["training"].training_info.add()
    found["sparse"].graph.sparse_initializer.add(values=external("v"), indices=external("i"), dims=[3])
    found["metadata"].metadata_props.add(key="ort_config", value='{"session_options": {}}')
    found["function"].functions.append(
        helper.make_function("evil", "f", ["x"], ["y"], [own], [helper.make_opsetid("", 17)])
    )
    found["imported"].opset_import.append(helper.make_opsetid("evil", 1))
    found["quantized"].graph.quantization_annotation.add()
    only_path, only_flag = external(), external()
    only_path.data_location = TensorProto.DEFAULT
    del only_flag.external_data[:]
    for name, tensor in (("external", external()), ("path", only_path), ("flag", only_flag)):
        found[name] = plain()
        found[name].graph.initializer[0].CopyFrom(tensor)
    inner = helper.make_graph([own], "inner", [], [])
    found["subgraph"] = model([node("Identity", ["vectors"], ["same"], then_branch=inner)])
    found["value"] = model([node("ConstantOfShape", ["sizes"], ["y"], value=external())])
    found["domain"] = model([node("Identity", ["vectors"], ["same"], domain="evil")])
    found["reference"] = model([own])
    found["reference"].graph.node[0].attribute.add(name="axis", type=2, i=1, ref_attr_name="x")
    return {name: one.SerializeToString() for name, one in found.items()}


@pytest.mark.parametrize("name", sorted(hostile()))
def test_a_hostile_graph_is_refused(name):
    Graph(plain().SerializeToString())
    refused(hostile()[name])


@pytest.mark.parametrize("data", [b"", b"junk", b"\x00" * 50, b"\x10\x00\x00\x00ORTM" + b"\x00" * 40, b"\x80" * 20])
def test_bytes_that_are_no_onnx_file_are_refused(data):
    refused(data)


def test_a_torn_graph_is_refused(saved):
    data = (saved / "policy.onnx").read_bytes()
    Graph(data)
    for cut in (1, 100, len(data) // 2):
        refused(data[:-cut])


def varint(value, pad=0):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value]) if not pad else bytes([*out, value | 0x80, *[0x80] * (pad - 1), 0])


def field(number, value, tag_bits=0, pad=0):
    """A field as protobuf writes it; with more bits in its tag, or `pad` bytes of nothing after it."""
    key = number << 3 | (2 if isinstance(value, bytes) else 0) | tag_bits
    if isinstance(value, bytes):
        return varint(key, pad) + varint(len(value)) + value
    return varint(key, pad) + varint(value)


def inside(graph=b"", tensor=b"", attribute=b"", first=b"", last=b"", in_node=b""):
    """A model of raw parts: what is added to each message."""
    data = np.ones(4, "<f4").tobytes()
    weights = field(1, 4) + field(2, 1) + field(8, b"w") + field(9, data) + tensor
    keep = field(1, b"keepdims") + field(3, 0) + field(20, 2) + attribute
    axes = field(1, b"axes") + field(8, 1) + field(20, 7)
    step = field(1, b"sum") + field(2, b"low") + field(4, b"ReduceMin") + field(5, axes) + field(5, keep) + in_node
    add = field(1, b"vectors") + field(1, b"w") + field(2, b"sum") + field(4, b"Add")
    shape = field(1, field(2, b"batch")) + field(1, field(1, 4))
    taken = field(1, b"vectors") + field(2, field(1, field(1, 1) + field(2, shape)))
    given = field(1, b"low") + field(2, field(1, field(1, 1) + field(2, field(1, field(2, b"batch")))))
    parts = field(1, add) + field(1, step) + field(2, b"policy") + field(5, weights) + field(11, taken)
    opset = field(8, field(1, b"") + field(2, 17))
    return first + field(1, 9) + field(7, parts + field(12, given) + graph) + opset + last


def test_raw_parts_are_a_model():
    data = inside()
    graph = Graph(data)
    assert graph.encode() == data == onnx.load_from_string(data).SerializeToString()
    assert open_session(data).run(["low"], {"vectors": FEED["vectors"]})[0].tolist() == [0.0, pytest.approx(8 / 7)]


WIDE = 1 << 35  # a bit of a tag beyond 32 bits: other readers drop it, and see field 13 (external data) or 7 (domain)
PLACES = ["graph", "tensor", "attribute", "in_node", "first", "last"]


@pytest.mark.parametrize("place", PLACES)
def test_whatever_is_not_a_known_field_in_its_one_form_is_refused(place):
    known = {"graph": 2, "tensor": 8, "attribute": 1, "in_node": 3, "first": 2, "last": 2}[place]
    once = {} if place not in ("in_node", "first", "last") else {"ok": field(known, b"x")}
    for name, extra in {
        "wide tag of external data": field(13, b"\n\x08location\x12\x04.env", WIDE),
        "wide tag of a domain": field(7, b"evil", WIDE),
        "wide tag of a known field": field(known, b"x", WIDE),
        "wide by 32 bits": field(known, b"x", 1 << 32),
        "overlong tag": field(known, b"x", pad=1),
        "very overlong tag": field(known, b"x", pad=8),
        "unknown number": field(77, b"x"),
        "number zero": b"\x02\x01x",
        "wrong wire type": field(known, 3),
        "eight bytes": varint(known << 3 | 1) + bytes(8),
        "four bytes": varint(known << 3 | 5) + bytes(4),
        "group": varint(known << 3 | 3) + varint(known << 3 | 4),
        "group alone": b"\x0b\x0c",
        "end alone": varint(known << 3 | 4),
        "wire type 6": varint(known << 3 | 6) + b"\x01",
        "twice": field(known, b"x") * 2,
        "overlong size": varint(known << 3 | 2) + b"\x81\x00x",
        "huge size": varint(known << 3 | 2) + varint(2**63 - 1),
        "size beyond 64 bits": varint(known << 3 | 2) + b"\xff" * 9 + b"\x7f",
        "endless number": varint(known << 3 | 2) + b"\xff" * 30,
        "no size": varint(known << 3 | 2),
        "no ASCII": field(known, "é".encode()),
        "control characters": field(known, b"a\x1b[2J"),
        "long name": field(known, b"x" * 256),
    }.items():
        try:
            Graph(inside(**{place: extra}))
        except BundleError:
            continue
        pytest.fail(f"{name} was taken")
    for extra in once.values():
        Graph(inside(**{place: extra}))


@pytest.mark.parametrize(
    ("part", "extra"),
    [
        ("tensor", field(1, 4)),  # another dimension
        ("tensor", field(2, 1)),
        ("tensor", field(4, np.ones(4, "<f4").tobytes())),  # float_data beside raw_data
        ("tensor", field(3, field(1, 0) + field(2, 1))),  # a segment
        ("tensor", field(14, 1)),
        ("attribute", field(3, 0)),
        ("attribute", field(8, 1)),
        ("attribute", field(8, b"\x01")),  # packed
        ("attribute", field(2, 0) + bytes(4)),
        ("attribute", field(6, b"")),
        ("attribute", field(20, 2)),
        ("graph", field(13, b"")),
        ("last", field(7, b"")),  # a second graph would be merged into the first
        ("last", field(8, field(1, b"") + field(2, 18))),
        ("last", field(14, field(1, b"ort_config"))),
    ],
)
def test_fields_that_are_given_again_or_in_other_ways_are_refused(part, extra):
    refused(inside(**{part: extra}))


def test_lists_of_numbers_are_read_as_protobuf_writes_them_and_in_no_other_form():
    rng = random.Random(0)
    numbers = [rng.getrandbits(rng.randrange(1, 64)) * rng.choice((1, -1)) for _ in range(500)]
    numbers += [0, -1, 2**63 - 1, -(2**63)]
    floats = [rng.uniform(-1, 1) for _ in range(300)]
    words = ["LEAF" if rng.random() < 0.5 else "BRANCH_LEQ" for _ in range(300)]
    for values, kind in ((numbers, "ints"), (floats, "floats"), (words, "strings")):
        data = helper.make_attribute("x", values).SerializeToString()
        found = read_message("attribute", data)
        assert b"".join(write_message("attribute", found)) == data
        expected = [word == "BRANCH_LEQ" for word in words] if kind == "strings" else values
        assert found[kind].values.tolist() == (pytest.approx(expected) if kind == "floats" else expected)
    tag = varint(8 << 3)
    for number in (b"\x80\x00", b"\xff" * 9 + b"\x02", b"\xff" * 10 + b"\x01", b"\xff" * 12, b"\x80"):
        for before, after in ((b"", b""), (tag + b"\x05", b""), (tag + b"\x05", tag + b"\x07")):
            with pytest.raises(BundleError):
                read_message("attribute", before + tag + number + after)
    for data in (b"\x3d\x00\x00", b"\x3d" * 4, b"\x4a\x04LEAX", b"\x4a\x84\x00LEAF", b"\x4a\x04LEA"):
        with pytest.raises(BundleError):
            read_message("attribute", data)


def test_what_is_written_is_what_was_understood():
    """Fields in another order are the same model; onnx reads from the bytes what was read here."""
    parts = list(onnx.load_from_string(inside()).SerializeToString())
    swapped = inside(first=field(2, b"x"))  # the producer before the version
    found = Graph(swapped).encode()
    assert found == onnx.load_from_string(swapped).SerializeToString() != swapped
    assert len(found) == len(parts) + 3
    for version in (1, 2):
        data = (FIXTURES / f"bundle_v{version}" / "policy.onnx").read_bytes()
        assert Graph(data).encode() == data
    kept = onnx.load_from_string(Graph(data).encode(["values"]))
    onnx.checker.check_model(kept)
    whole = onnx.load_from_string(data)
    assert [one.name for one in kept.graph.output] == ["values"]
    assert {one.name for one in kept.graph.node} < {one.name for one in whole.graph.node}
    feed = {"vectors": np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)}
    first, second = (onnxruntime.InferenceSession(one.SerializeToString()) for one in (whole, kept))
    assert np.array_equal(first.run(["values"], feed)[0], second.run(["values"], feed)[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.opset_import[0].__setattr__("version", 18), "versions"),
        (lambda one: one.opset_import[1].__setattr__("version", 5), "versions"),
        (lambda one: one.opset_import.__delitem__(0), "versions"),
        (lambda one: one.__setattr__("ir_version", 11), "IR version"),
        (lambda one: one.ClearField("graph"), "without a graph"),
        (lambda one: one.graph.initializer[0].dims.__setitem__(0, 5), "numbers in a tensor"),
        (lambda one: one.graph.initializer[0].dims.__setitem__(0, -4), "tensors of numbers"),
        (lambda one: one.graph.initializer[0].dims.extend([2**31, 2**31, 2**31]), "numbers in a tensor"),
        (lambda one: one.graph.initializer[0].dims.extend([0]), "tensors of numbers"),
        (lambda one: one.graph.initializer[0].dims.extend([1] * 8), "tensors of numbers"),
        (lambda one: one.graph.initializer[0].__setattr__("data_type", 10), "tensors of numbers"),
        (lambda one: one.graph.initializer[0].__setattr__("data_type", 8), "tensors of numbers"),
        (lambda one: one.graph.initializer[0].__setattr__("data_type", 2), "numbers in a tensor"),
        (lambda one: one.graph.initializer[0].__setattr__("name", ""), "no name"),
        (lambda one: one.graph.initializer[0].__setattr__("name", "vectors"), "twice"),
        (lambda one: one.graph.node[0].output.__setitem__(0, "vectors"), "twice"),
        (lambda one: one.graph.node[0].output.append("more"), "outputs"),
        (lambda one: one.graph.node[0].input.__setitem__(0, "out"), "before it"),
        (lambda one: one.graph.input[2].type.tensor_type.__setattr__("elem_type", 11), "row a prompt"),
        (lambda one: one.graph.input[2].type.tensor_type.shape.dim.add(dim_value=3), "row a prompt"),
        (lambda one: one.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 2**40), "row a prompt"),
        (lambda one: one.graph.output[0].type.tensor_type.__setattr__("elem_type", 7), "type and shape"),
        (lambda one: one.graph.output[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 5), "type and shape"),
        (lambda one: one.graph.output[0].__setattr__("name", "w"), "that a node makes"),
        (lambda one: one.graph.output.append(one.graph.output[0]), "one twice"),
        (lambda one: one.graph.initializer[0].__setattr__("raw_data", np.full(4, np.nan, "<f4").tobytes()), "finite"),
        (lambda one: one.graph.initializer[0].__setattr__("raw_data", np.full(4, np.inf, "<f4").tobytes()), "finite"),
        (lambda one: one.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(np.inf), "w")), "finite"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, said):
    one = plain()
    change(one)
    refused(one, said)


def ones(*shape):
    return np.ones(shape, np.float32)


def bombs():
    """Few bytes that would become many in memory, or take long."""
    doubled = [node("Concat", [f"x{n}", f"x{n}"], [f"x{n + 1}"], axis=1) for n in range(40)]
    again = [node("Mul", ["big", "big"], [f"again{n}"]) for n in range(100)]
    products = [node("MatMul", ["p", "fat"], [f"q{n}"]) for n in range(80)]
    insert = [node("Unsqueeze", ["wide", "two"], ["u"]), node("Unsqueeze", ["wide", "one"], ["v"])]
    cast = node("Cast", ["ids"], ["wide"], to=TensorProto.FLOAT)
    axes = {"one": np.array([1]), "two": np.array([2])}
    long = {"column": ones(60_000, 1), "row": ones(1, 60_000)}
    thin = node("MatMul", ["vectors", "thin"], ["p"])
    rows = {"wide": ones(2, 9000), "many": np.zeros((1000, 1000), np.int64)}
    batches = [node("Unsqueeze", ["vectors", "one"], ["u"]), node("Add", ["u", "vectors"], ["y"])]
    return {
        "product of constants": ([node("MatMul", ["column", "row"], ["y"])], long),
        "sum of constants": ([node("Add", ["column", "row"], ["y"])], long),
        "doubled forty times": ([node("Relu", ["vectors"], ["x0"]), *doubled], {}),
        "rows taken again and again": ([node("Gather", ["wide", "many"], ["y"])], rows),
        "wide rows for each token": ([node("Gather", ["wide", "ids"], ["y"])], {"wide": ones(2, 9000)}),
        "wide rows for each prompt": ([node("Add", ["vectors", "big"], ["y"])], {"big": ones(2_000_000, 1, 4)}),
        "batch by batch": (batches, axes),
        "tokens by tokens": ([cast, *insert, node("Mul", ["u", "v"], ["y"])], axes),
        "the same work again": (again, {"big": ones(1000, 4000)}),
        "the same product again": ([thin, *products], {"thin": ones(4, 2000), "fat": ones(2000, 2000)}),
        "many nodes": ([node("Relu", ["vectors"], [f"y{n}"]) for n in range(limits.MAX_NODES + 1)], {}),
        "many dimensions": ([node("Unsqueeze", ["vectors", "eight"], ["y"])], {"eight": np.arange(8)}),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_what_would_take_much_memory_or_time_is_refused(name):
    refused(
        model(*bombs()[name]), "batch" if name in ("batch by batch", "tokens by tokens") else "at most|row a prompt"
    )


def test_very_many_fields_and_very_long_lists_are_refused():
    refused(inside(graph=field(1, b"") * 200_000), "fields")
    attribute = field(1, b"x") + field(8, 1) * (5 << 20)
    refused(inside(in_node=field(5, attribute)), "list")


def test_infinity_may_be_compared_with_and_nothing_else():
    one = model([node("Greater", ["vectors", "top"], ["flag"])], {"top": np.float32(np.inf)})
    Graph(one.SerializeToString())
    one.graph.node[0].input[:] = ["top", "vectors"]
    refused(one, "infinity")
    one = model([node("ConstantOfShape", ["s"], ["y"], value=numpy_helper.from_array(np.full(1, np.nan, np.float32)))])
    one.graph.node.insert(0, node("Shape", ["vectors"], ["s"], start=0, end=1))
    refused(one, "finite")


def test_mutants_are_refused_or_mean_the_same_to_onnx():
    """What was understood of a changed file is what the onnx package reads from the bytes that are handed on."""
    rng = random.Random(1)
    data, taken = (FIXTURES / "bundle_v2" / "policy.onnx").read_bytes(), 0
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(changed))
            how = rng.randrange(4)
            if how == 0:
                changed[place] ^= 1 << rng.randrange(8)
            elif how == 1:
                changed[place : place + 1] = bytes([changed[place] | 0x80, rng.choice((0, 1, 0x80))])
            elif how == 2:
                del changed[place]
            else:
                changed[place:place] = field(
                    rng.choice((1, 7, 13, 14, 20)), b"\n\x08location\x12\x04.env", rng.choice((0, WIDE))
                )
        try:
            graph = Graph(bytes(changed))
        except BundleError:
            continue
        again = onnx.load_from_string(graph.encode())
        taken += 1
        for one in again.graph.node:
            maker = graph.makers[one.output[0]]
            assert (maker.op, maker.inputs, maker.outputs) == (one.op_type, tuple(one.input), tuple(one.output))
            assert maker.attributes.keys() == {attribute.name for attribute in one.attribute}
        assert again.SerializeToString() == graph.encode()
        for tensor in again.graph.initializer:
            assert np.array_equal(numpy_helper.to_array(tensor), graph.tensors[tensor.name].constant)
    assert taken > 50


def test_a_float_is_four_bytes():
    assert read_message("attribute", b"\x15" + struct.pack("<f", 0.5)) == {"f": 0.5}
