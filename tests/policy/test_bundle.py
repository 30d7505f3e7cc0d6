"""The bundle: what is read back, what is refused, and that writing never loses anything."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hagpolicy import load
from hagpolicy._digest import digest, digest_bytes
from hagpolicy.errors import BundleError
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.policy.bundle import Bundle, read_bundle, write_bundle
from hagpolicy.policy.manifest import FORMAT_VERSION
from hagpolicy.policy.onnx_scan import scan
from tests.support import making
from tests.support.paths import FIXTURES

NAMES = ["README.md", "policy.json", "policy.onnx", "tokenizer.json"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved policy on the static encoder; tests copy it before they harm it."""
    return making.sums_against_lists().save(tmp_path_factory.mktemp("bundle") / "policy")


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def edited(folder: Path, change) -> None:
    """Change the manifest and put its own digest right again."""
    path = folder / "policy.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    manifest.pop("digest")
    manifest["digest"] = digest(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def test_a_bundle_holds_its_four_files_and_reads_back(saved):
    assert sorted(path.name for path in saved.iterdir()) == NAMES
    policy, again = making.sums_against_lists(), load(saved)
    prompts = [*making.SUMS, *making.LISTS]
    assert np.array_equal(policy.values(prompts), again.values(prompts))
    assert again.space == policy.space
    assert again.evaluation == policy.evaluation


def test_training_texts_are_not_in_a_bundle(saved):
    for path in saved.iterdir():
        data = path.read_bytes()
        assert b"apples does Tom" not in data
        assert b"List 3 different" not in data


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_every_format_version_ever_written_stays_readable(version):
    policy = load(FIXTURES / f"bundle_v{version}")
    assert policy.predict(making.vector(1.0)) == making.SPACE[0]
    assert policy.predict(making.vector(-1.0)) == making.SPACE[4]
    assert policy.decide(making.vector(99.0)).reason == "unlike_training"
    assert policy.evaluation is not None
    assert policy.trained_on([making.SUMS[0], "never seen"]).tolist() == [True, False]


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(FIXTURES / "bundle_v1", tmp_path / "old"))


@pytest.mark.parametrize("key", ["training_means", "sbs", "margin", "ships_sbs", "reason"])
def test_a_manifest_of_version_1_that_lacks_a_part_is_refused(old, key):
    edited(old, lambda manifest: manifest.pop(key))
    with pytest.raises(BundleError, match=f"format version 1, got one without '{key}'"):
        load(old)


ODD = [None, [], {}, "x", 3, [3], [[]], {"x": 3}, [{"x": 99}]]
PARTS = ["space", "encoder", "dial", "task_best", "learner", "default", "fingerprint", "files"]
PARTS += ["evaluation", "margin", "training_means", "ships_sbs"]  # those of version 1
INNER = ["argument", "heads", "scales", "means", "points"]
POINT = ["at", "weights", "margin", "ships", "evaluation"]


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_a_manifest_of_odd_parts_is_refused_or_read_and_nothing_else(version, tmp_path):
    """Whoever signs a manifest anew may have written anything into it."""
    source = FIXTURES / f"bundle_v{version}"
    keys = [(part,) for part in PARTS] + [("dial", name) for name in INNER]
    keys += [("dial", "points", 0, name) for name in POINT]
    there = json.loads((source / "policy.json").read_text("utf-8"))
    refused, keys = 0, [key for key in keys if key[0] in there]
    for key in keys:
        for value in ODD:
            copy = Path(shutil.copytree(source, tmp_path / "odd"))

            def harm(manifest, key=key, value=value):
                for step in key[:-1]:
                    manifest = manifest[step]
                manifest[key[-1]] = value

            edited(copy, harm)
            try:
                policy = load(copy)
                policy.predict(making.vector(1.0))
                str(policy.evaluation)
            except BundleError as error:
                refused += str(error) != ""
            shutil.rmtree(copy)
    assert refused > len(keys) * len(ODD) / 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"at": float("nan")}, "values that JSON can hold"),
        ({"margin": -0.1}, "margins of at least 0"),
        ({"margin": 1e999}, "values that JSON can hold"),
        ({"ships": "no"}, "true or false"),
        ({"weights": [1.0, 1.0]}, "one weight a head"),
        ({"evaluation": {"rows": []}}, "expected a policy's manifest"),
    ],
)
def test_a_point_that_cannot_be_is_refused(small, tmp_path, change, said):
    folder = small.save(tmp_path / "policy")
    path = folder / "policy.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["dial"]["points"][0] |= change
    manifest.pop("digest")
    text = json.dumps(manifest)
    manifest["digest"] = digest(manifest) if "JSON" not in said else ""
    path.write_text(json.dumps(manifest) if manifest["digest"] else text, "utf-8")
    with pytest.raises(BundleError, match=said):
        load(folder)


def test_points_that_fall_and_tasks_without_a_config_are_refused(small, tmp_path):
    folder = small.save(tmp_path / "policy")
    edited(folder, lambda manifest: manifest["dial"]["points"].append(manifest["dial"]["points"][0]))
    with pytest.raises(BundleError, match="rising order"):
        load(folder)
    edited(folder, lambda manifest: manifest["dial"]["points"].pop())
    edited(folder, lambda manifest: manifest.update(task_best=[{"": 6}]))
    with pytest.raises(BundleError, match="best configs of the tasks"):
        load(folder)


def test_a_manifest_nested_without_end_is_refused(copy):
    (copy / "policy.json").write_text("[" * 200_000)
    with pytest.raises(BundleError, match="readable JSON"):
        load(copy)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        load(copy)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_file_is_named(copy, name, harm):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes({"flip": bytes(data), "cut": bytes(data[:-7]), "empty": b""}[harm])
    with pytest.raises(BundleError, match=name):
        load(copy)


def test_a_changed_tokenizer_is_refused(copy):
    path = copy / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"lowercase":true', '"lowercase":false'), "utf-8")
    with pytest.raises(BundleError, match="digest differs"):
        load(copy)


def test_a_tokenizer_that_the_graph_does_not_know_is_refused_even_where_the_digests_were_made_anew(copy):
    path = copy / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["anunheardofword"] = max(vocabulary.values()) + 1
    path.write_text(json.dumps(tokenizer), "utf-8")

    def resign(manifest):
        manifest["files"]["tokenizer.json"] = digest_bytes(path.read_bytes())

    edited(copy, resign)
    with pytest.raises(BundleError, match=r"policy\.onnx: it does not take"):
        load(copy)


def test_an_additional_file_is_refused_and_a_hidden_one_is_not(copy):
    (copy / ".gitattributes").write_text("*.onnx binary")
    load(copy)
    (copy / "extra.py").write_text("")
    with pytest.raises(BundleError, match=r"extra\.py"):
        load(copy)


def test_a_newer_format_says_so(copy):
    edited(copy, lambda manifest: manifest.update(format_version=FORMAT_VERSION + 1))
    with pytest.raises(BundleError, match="newer hagpolicy"):
        load(copy)


def test_a_manifest_changed_by_hand_is_refused(copy):
    path = copy / "policy.json"
    path.write_text(path.read_text("utf-8").replace('"margin": 0.05', '"margin": 0.06'), "utf-8")
    with pytest.raises(BundleError, match="changed by hand"):
        load(copy)


@pytest.mark.parametrize(
    "content", ["[]", "{}", "nonsense", '{"format_version": true}', '{"format_version": "1"}', "\xff"]
)
def test_something_that_is_no_manifest_is_refused(copy, content):
    (copy / "policy.json").write_text(content, "latin-1")
    with pytest.raises(BundleError, match=r"policy\.json"):
        load(copy)


@pytest.mark.parametrize("name", ["../policy.onnx", "/etc/passwd", "a/b"])
def test_a_path_out_of_the_folder_is_refused(copy, name):
    edited(copy, lambda manifest: manifest["files"].update({name: "0" * 32}))
    with pytest.raises(BundleError, match="plain names"):
        load(copy)


@pytest.mark.parametrize("key", ["space", "dial", "encoder"])
def test_a_manifest_that_lacks_a_part_is_refused(copy, key):
    edited(copy, lambda manifest: manifest.pop(key))
    with pytest.raises(BundleError, match=key):
        load(copy)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BundleError, match="no such folder"):
        load(tmp_path / "nowhere")


# What a hostile ONNX file could hold.


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


def external(name="w"):
    tensor = numpy_helper.from_array(np.ones(1, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    return tensor


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


def test_external_data_in_a_bundle_is_refused_before_onnxruntime_sees_it(copy):
    model = onnx.load_from_string((copy / "policy.onnx").read_bytes())
    model.graph.initializer.append(external("w"))
    (copy / "policy.onnx").write_bytes(model.SerializeToString())
    fresh = digest_bytes((copy / "policy.onnx").read_bytes())
    edited(copy, lambda manifest: manifest["files"].update({"policy.onnx": fresh}))
    with pytest.raises(BundleError, match="external data"):
        load(copy)


# Writing.


@pytest.fixture(scope="module")
def small():
    """A policy without a token table: quick to write."""
    return making.sums_against_lists(PrecomputedEncoder())


def test_an_older_bundle_is_replaced_and_nothing_else_is_left(small, tmp_path):
    target = tmp_path / "policy"
    small.save(target)
    making.sums_against_lists(PrecomputedEncoder(), margin=0.15).save(target)
    assert load(target).margin == 0.15
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_a_folder_of_something_else_is_not_touched(small, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="something else"):
        small.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_bundle_with_a_foreign_file_beside_it_is_not_replaced(small, tmp_path):
    small.save(tmp_path / "policy")
    (tmp_path / "policy" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError):
        small.save(tmp_path / "policy")
    assert (tmp_path / "policy" / "notes.txt").read_text() == "mine"


def test_a_full_disk_leaves_the_old_bundle(small, tmp_path, monkeypatch):
    small.save(tmp_path / "policy")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match="nothing that was there is lost"):
        making.sums_against_lists(PrecomputedEncoder(), margin=0.15).save(tmp_path / "policy")
    assert load(tmp_path / "policy").margin == 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


@pytest.mark.parametrize("name", ["policy.json", "../up", ".hidden", "a/b"])
def test_odd_file_names_are_not_written(small, tmp_path, name):
    with pytest.raises(BundleError, match="plain file names"):
        write_bundle(tmp_path / "policy", Bundle(small.manifest, b"", {name: b""}), "")
    assert list(tmp_path.iterdir()) == []


def test_a_read_bundle_has_the_manifest_and_the_other_files(saved):
    bundle = read_bundle(saved)
    stored = json.loads((saved / "policy.json").read_text("utf-8"))
    assert stored.pop("format_version") == FORMAT_VERSION
    assert sorted(stored.pop("files")) == ["README.md", "policy.onnx", "tokenizer.json"]
    assert stored.pop("digest")
    assert bundle.manifest.to_json() == stored
    assert sorted(bundle.files) == ["tokenizer.json"]
