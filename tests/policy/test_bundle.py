"""The bundle: what is read back, what is refused, and that writing never loses anything."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from hagpolicy import load
from hagpolicy._digest import digest, digest_bytes
from hagpolicy.errors import BundleError
from hagpolicy.policy.bundle import read_bundle
from hagpolicy.policy.manifest import FORMAT_VERSION
from tests.support import making
from tests.support.onnx_tensors import external
from tests.support.paths import FIXTURES

NAMES = ["README.md", "policy.json", "policy.onnx", "tokenizer.json"]


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
        ({"ships": "no"}, "expected one of 'default', 'single_best', 'per_prompt'"),
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


def test_external_data_in_a_bundle_is_refused_before_onnxruntime_sees_it(copy):
    model = onnx.load_from_string((copy / "policy.onnx").read_bytes())
    model.graph.initializer.append(external("w"))
    (copy / "policy.onnx").write_bytes(model.SerializeToString())
    fresh = digest_bytes((copy / "policy.onnx").read_bytes())
    edited(copy, lambda manifest: manifest["files"].update({"policy.onnx": fresh}))
    with pytest.raises(BundleError, match="external data"):
        load(copy)


def test_a_read_bundle_has_the_manifest_and_the_other_files(saved):
    bundle = read_bundle(saved)
    stored = json.loads((saved / "policy.json").read_text("utf-8"))
    assert stored.pop("format_version") == FORMAT_VERSION
    assert sorted(stored.pop("files")) == ["README.md", "policy.onnx", "tokenizer.json"]
    assert stored.pop("digest")
    assert bundle.manifest.to_json() == stored
    assert sorted(bundle.files) == ["tokenizer.json"]


def test_who_finds_the_graph_alone_is_told_where_the_rest_is(null, tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = null[1].save(tmp_path / "policy")
    about = onnx.load(folder / "policy.onnx").doc_string
    assert "README.md" in about
    assert "Without Python" in about
    assert "## Without Python" in (folder / "README.md").read_text("utf-8")
