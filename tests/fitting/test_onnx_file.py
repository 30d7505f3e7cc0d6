"""Parts of a graph that another library made: an encoder from an ONNX file, a model included by a learner."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.onnx_file import OnnxEncoder
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.policy.session import open_session
from tests.support.making import LISTS, SUMS

onnx = pytest.importorskip("onnx")
TEXTS = [*SUMS, *LISTS]


def make_bag(path: Path, op: str = "Relu", names: tuple[str, str] = ("input_ids", "attention_mask")) -> Path:
    """A bag of embeddings as other tools export it, with constants as nodes, in an older operator set."""
    helper, table = onnx.helper, np.random.default_rng(0).normal(size=(40_000, 6)).astype(np.float32)
    ids, mask = names
    axis = onnx.numpy_helper.from_array(np.array([2], np.int64), "two")
    nodes = [
        helper.make_node("Constant", [], ["axis"], value=axis),
        helper.make_node("Gather", ["table", ids], ["rows"]),
        helper.make_node("Cast", [mask], ["weights"], to=FLOAT),
        helper.make_node("Unsqueeze", ["weights", "axis"], ["wide"]),
        helper.make_node("Mul", ["rows", "wide"], ["masked"]),
        helper.make_node("ReduceMax", ["masked"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node(op, ["pooled"], ["features"]),
    ]
    shape = ["batch", "tokens"]
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape) for name in names]
    outputs = [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", 6])]
    graph = helper.make_graph(nodes, "bag", inputs, outputs, [onnx.numpy_helper.from_array(table, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    values = json.loads(StaticEncoder().files()["tokenizer.json"])
    # What a tokenizer.json holds that comes with a model.
    values |= {
        "padding": {"strategy": "BatchLongest"},
        "decoder": {"type": "WordPiece"},
        "truncation": {"max_length": 9},
    }
    values["added_tokens"] = [{"id": 0, "content": "[PAD]", "special": True}]
    (path.parent / "tokenizer.json").write_text(json.dumps(values), "utf-8")
    return path


def test_a_policy_is_fitted_saved_and_loaded_with_an_encoder_from_a_file(tmp_path: Path) -> None:
    encoder = OnnxEncoder(make_bag(tmp_path / "bag.onnx"))
    features, unknown = compute_features(encoder, [hag.Prompt(text) for text in TEXTS])
    session = __import__("onnxruntime").InferenceSession((tmp_path / "bag.onnx").read_bytes())
    for text, row in zip(TEXTS, features, strict=True):
        (arrays,) = encoder.inputs([hag.Prompt(text)])
        given = {"input_ids": arrays["ids"], "attention_mask": arrays["mask"].astype(np.int64)}
        np.testing.assert_allclose(session.run(None, given)[0][0], row, rtol=1e-6)
    assert not unknown.any()
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.7])
    rewards = np.array([[1.0, 0.0]] * len(SUMS) + [[0.0, 1.0]] * len(LISTS))
    table = hag.SweepTable.from_arrays(TEXTS, space, rewards)
    policy = hag.fit(table, str(tmp_path / "bag.onnx"), "ridge")
    policy.save(tmp_path / "bundle")
    (tmp_path / "bag.onnx").unlink()
    loaded = hag.load(tmp_path / "bundle")
    assert loaded.encoder["name"] == "bag"
    np.testing.assert_array_equal(loaded.values(TEXTS), policy.values(TEXTS))


def test_what_a_bundle_may_not_hold_is_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "bag.onnx", op="Sign")
    with pytest.raises(InvalidInput, match=r"encoder bag: expected a graph.* that a bundle may hold.*Sign"):
        compute_features(OnnxEncoder(path), [hag.Prompt("text")])
    with pytest.raises(InvalidInput, match="expected the inputs input_ids and attention_mask alone, got"):
        OnnxEncoder(make_bag(path, names=("input_ids", "token_type_ids")))
    with pytest.raises(InvalidInput, match=r"an \.onnx file with its tokenizer\.json beside it"):
        OnnxEncoder(tmp_path / "nothing.onnx")
    path.write_bytes(b"no model")
    with pytest.raises(InvalidInput, match="model: expected an ONNX model of operator set 17"):
        OnnxEncoder(path)
    make_bag(path)
    values = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**values, "pre_tokenizer": {"type": "ByteLevel"}}), "utf-8")
    with pytest.raises(BundleError, match="ByteLevel"):
        OnnxEncoder(path)


def test_the_command_line_tries_the_file_before_it_reads_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_bag(tmp_path / "bag.onnx", op="Sign")
    assert main(["fit", str(tmp_path / "no sweep"), "--encoder", str(path), "--out", str(tmp_path / "policy")]) == 2
    assert "encoder bag: expected a graph" in capsys.readouterr().err


def test_an_included_model_keeps_its_values_beside_another_one(tmp_path: Path) -> None:
    model = make_bag(tmp_path / "bag.onnx").read_bytes()
    graph = GraphBuilder()
    ids, mask = (graph.input(name, 7, ["batch", "tokens"]) for name in ("ids", "mask"))
    twice = [graph.include(model, {"input_ids": ids, "attention_mask": mask})[0] for _ in range(2)]
    graph.output(graph.node("Add", twice), "sum", FLOAT, ["batch", 6])
    arrays = {"ids": np.array([[3, 4]]), "mask": np.array([[1, 1]])}
    alone = __import__("onnxruntime").InferenceSession(model)
    single = alone.run(None, {"input_ids": arrays["ids"], "attention_mask": arrays["mask"]})[0]
    found = open_session(graph.model("twice").SerializeToString()).run(["sum"], arrays)[0]
    np.testing.assert_array_equal(found, single + single)
    with pytest.raises(InvalidInput, match="inputs of the model: expected attention_mask, input_ids, got ids"):
        graph.include(model, {"ids": ids})
