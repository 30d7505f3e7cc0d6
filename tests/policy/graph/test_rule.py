"""One truth: `predict`, `decide` and the graph's own `choice` follow one rule, or the bundle is refused."""

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from hagpolicy import load
from hagpolicy._digest import digest, digest_bytes
from hagpolicy.errors import BundleError
from hagpolicy.policy.decision import choose_index, decide
from hagpolicy.results import Ships
from tests.support import making
from tests.support.paths import FIXTURES

FIXTURE = FIXTURES / "bundle_v3"


def resigned(folder: Path, change=lambda manifest: None) -> Path:
    """Change the manifest, and put all digests right again."""
    manifest = json.loads((folder / "policy.json").read_text("utf-8"))
    change(manifest)
    manifest["files"]["policy.onnx"] = digest_bytes((folder / "policy.onnx").read_bytes())
    manifest.pop("digest")
    manifest["digest"] = digest(manifest)
    (folder / "policy.json").write_text(json.dumps(manifest), "utf-8")
    return folder


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(FIXTURE, tmp_path / "copy"))


def point(**values):
    return lambda manifest: manifest["dial"]["points"][0].update(values)


def other_reference(manifest):
    manifest["dial"]["points"][0]["reference"] = 1


def other_first_point(manifest):
    points = manifest["dial"]["points"]
    points.insert(0, {**points[0], "at": -1.0, "margin": 0.3})
    manifest["task_best"] *= 2


@pytest.mark.parametrize(
    "change",
    [
        point(margin=0.06),
        point(margin=0.0),
        point(margin=0.05000001),
        point(ships="single_best"),
        point(weights=[2.0]),
        point(weights=[-1.0]),
        point(weights=[0.0]),
        other_reference,
        other_first_point,
    ],
)
def test_a_manifest_with_another_rule_than_its_graph_is_refused(copy, change):
    load(resigned(copy))
    with pytest.raises(BundleError, match=r"another rule|nothing turns"):
        load(resigned(copy, change))


def constant(name, value):
    def change(model):
        one = next(one for one in model.graph.initializer if one.name.startswith(name))
        one.CopyFrom(numpy_helper.from_array(value, one.name))

    return change


def step(op, **parts):
    def change(model):
        one = next(one for one in reversed(model.graph.node) if one.op_type == op)
        for name, value in parts.items():
            if isinstance(value, list):
                getattr(one, name)[:] = value
            elif name == "op_type":
                one.op_type = value
            else:
                next(attribute for attribute in one.attribute if attribute.name == name).i = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        constant("margin", np.float32(0.06)),
        constant("margin", np.float32(np.inf)),
        constant("margin", np.full(1, 0.05, np.float32)),
        constant("reference", np.int64(1)),
        constant("reference", np.int64(-6)),
        constant("const_30", np.float32(2.0)),
        step("Where", input=["and_32", "reference_25", "argmax_23"]),
        step("And", input=["greater_29", "greater_29"]),
        step("LessOrEqual", input=["const_30", "novelty"]),
        step("Greater", op_type="LessOrEqual"),
        step("Sub", input=["gather_26", "reducemax_24"]),
        step("ReduceMax", op_type="ReduceMean"),
        step("ArgMax", axis=-1),
        step("Gather", input=["values", "argmax_23"]),
    ],
)
def test_a_graph_with_another_choice_than_its_manifest_is_refused(copy, change):
    model = onnx.load(copy / "policy.onnx")
    change(model)
    (copy / "policy.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"policy\.onnx"):
        load(resigned(copy))


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("ships", get_args(Ships))
def test_predict_decide_and_the_choice_of_the_graph_agree(tmp_path, margin, ships):
    made = making.sums_against_lists(making.PrecomputedEncoder(), margin, ships=ships)
    policy = load(made.save(tmp_path / "policy"))
    vectors = np.random.default_rng(0).normal(0, 1.5, (300, 8)).astype(np.float32)
    choice = onnxruntime.InferenceSession(tmp_path / "policy" / "policy.onnx").run(["choice"], {"vectors": vectors})[0]
    expected = [policy.space[int(index)] for index in choice]
    assert [policy.predict(one) for one in vectors] == expected == policy.predict_batch(list(vectors))
    assert [policy.decide(one).config for one in vectors] == expected
    assert [one.config for one in policy.decide_batch(list(vectors))] == expected


def test_values_that_are_no_numbers_are_an_error_and_never_a_choice(copy):
    """Finite weights of any size: their sum leaves float32 for some vectors, not for the one that is tried at load."""
    model = onnx.load(copy / "policy.onnx")
    weights = next(one for one in model.graph.initializer if one.name.startswith("weights"))
    wide = numpy_helper.to_array(weights).copy()
    wide[0, 3], wide[1, 3] = 1e308, -1e308
    weights.CopyFrom(numpy_helper.from_array(wide, weights.name))
    (copy / "policy.onnx").write_bytes(model.SerializeToString())
    policy = load(resigned(copy))
    for vector in (np.full(8, 3e4, np.float32), np.array([1, 0, 0, 0, 0, 0, 0, 0], np.float32)):
        for call in (policy.predict, policy.decide):
            with pytest.raises(BundleError, match="NaN or infinity"):
                call(vector)
        for call in (policy.predict_batch, policy.decide_batch):
            with pytest.raises(BundleError, match="NaN or infinity"):
                call([making.vector(1.0) * 0, vector])


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_value_that_is_no_number_is_enough(copy, place, value):
    rule = load(copy).dial.rule_at()
    values = np.array([0.1, 0.2, 0.3, 0.0, 0.0, 0.0], np.float32)
    assert choose_index(rule, values, 0.5)[0] == 2
    values[place] = value
    for score in (0.5, 2.0):
        with pytest.raises(BundleError, match="NaN or infinity"):
            choose_index(rule, values, score)
    with pytest.raises(BundleError, match="NaN or infinity"):
        choose_index(rule, np.zeros(6, np.float32), np.nan)


def test_a_cost_that_is_no_number_is_an_error():
    policy = load(FIXTURE)
    values = [np.zeros(6, np.float32)]
    args = (policy.space, policy.dial.rule_at(), values, 0.5, None, None)
    assert decide(*args, np.full(6, 3.0, np.float32)).cost == 3.0
    with pytest.raises(BundleError, match="finite cost"):
        decide(*args, np.full(6, np.inf, np.float32))


def test_a_graph_that_fails_on_some_prompt_is_an_error_of_the_bundle(tmp_path):
    """Its table of logarithms ends before long prompts do."""
    folder = making.sums_against_lists().save(tmp_path / "policy")
    model = onnx.load(folder / "policy.onnx")
    logs = next(one for one in model.graph.initializer if one.name.startswith("logs"))
    logs.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(logs)[:10], logs.name))
    (folder / "policy.onnx").write_bytes(model.SerializeToString())
    policy = load(resigned(folder))
    policy.predict("A short prompt")
    for call in (policy.predict, policy.decide, lambda one: policy.predict_batch([one])):
        with pytest.raises(BundleError, match="does not take"):
            call("a prompt of many words " * 20)


def test_a_batch_is_run_in_parts_that_fit(monkeypatch, copy):
    vectors = list(np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    whole = load(copy)
    monkeypatch.setattr("hagpolicy.policy.policy._BATCH_BYTES", 7 * 431)
    parts = load(copy)
    assert (whole._batch > 1000, parts._batch) == (True, 7)
    assert np.array_equal(whole.values(vectors), parts.values(vectors))
    assert whole.predict_batch(vectors) == parts.predict_batch(vectors)
