"""The manifest: typed values that come back from JSON with the same keys, in every format version."""

import json
import pickle
from dataclasses import replace

import pytest

from hagpolicy import DecodingSpace, Prompt
from hagpolicy._digest import digest
from hagpolicy.errors import BundleError
from hagpolicy.policy.manifest import (
    FORMAT_VERSION,
    PolicyManifest,
    TrainedOn,
    digest_salted,
    encode_manifest,
    read_manifest,
)
from hagpolicy.results import Evaluation
from tests.support.paths import FIXTURES

KEYS = {
    "space", "default", "dial", "task_best", "encoder", "learner", "carries_vectors", "fingerprint", "max_tokens",
    "scorers", "trained_on", "reads", "forms", "tasks", "told_reads", "table",
}  # fmt: skip


@pytest.fixture
def manifest():
    return read_manifest(FIXTURES / f"bundle_v{FORMAT_VERSION}" / "policy.json")[0]


def test_a_manifest_is_written_as_it_was_read(manifest):
    path = FIXTURES / f"bundle_v{FORMAT_VERSION}" / "policy.json"
    stored = json.loads(path.read_bytes())
    assert set(stored) == KEYS | {"format_version", "files", "digest"}
    assert {name: stored[name] for name in KEYS} == manifest.to_json()
    written = json.loads(encode_manifest(manifest, stored["files"]))
    assert written.pop("digest") == digest(written)
    assert written == {name: value for name, value in stored.items() if name != "digest"}


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_every_format_version_becomes_the_same_typed_values(version, manifest):
    old, files = read_manifest(FIXTURES / f"bundle_v{version}" / "policy.json")
    assert sorted(files) == ["README.md", "policy.onnx"]
    assert old.space == manifest.space
    assert isinstance(old.dial.points[0].evaluation, Evaluation)
    assert [point.to_json() for point in old.dial.points] == [point.to_json() for point in manifest.dial.points]
    assert old.reads == ("last_user" if version == FORMAT_VERSION else "all")  # of a chat, before there was a choice
    assert bool(old.table) == (version == FORMAT_VERSION)  # what it was fitted on was not told before
    now = replace(old, trained_on=manifest.trained_on, reads=manifest.reads, table=manifest.table)
    assert now.to_json() == manifest.to_json()


def test_a_manifest_comes_back_from_its_json_and_from_another_process(manifest):
    for again in (PolicyManifest.from_json(manifest.to_json()), pickle.loads(pickle.dumps(manifest))):
        assert again.to_json() == manifest.to_json()
        assert again.dial.rule_at().reference == manifest.dial.rule_at().reference


def test_parts_that_do_not_fit_each_other_are_refused(manifest):
    with pytest.raises(BundleError, match="do not fit the space"):
        replace(manifest, space=manifest.space[:2])
    with pytest.raises(BundleError, match="best configs of the tasks"):
        replace(manifest, task_best=({"": len(manifest.space)},))
    with pytest.raises(BundleError, match="the default is not in the space"):
        PolicyManifest.from_json({**manifest.to_json(), "default": len(manifest.space)})
    assert replace(manifest, space=DecodingSpace(manifest.space)).to_json() == manifest.to_json()


@pytest.mark.parametrize("key", ["default", "max_tokens"])
@pytest.mark.parametrize("value", ["x", True, 1.5, [1]])
def test_what_is_no_whole_number_is_refused(manifest, key, value):
    with pytest.raises(BundleError, match=f"expected a policy's manifest: {key}: expected a whole number"):
        PolicyManifest.from_json({**manifest.to_json(), key: value})


def test_values_that_json_cannot_hold_are_refused(manifest):
    for bad in (float("nan"), object()):
        with pytest.raises(BundleError, match="values that JSON can hold"):
            encode_manifest(replace(manifest, encoder={**manifest.encoder, "dim": bad}), {})


def test_training_prompts_are_known_by_text_and_by_group():
    prompts = [Prompt("What  is 2?"), Prompt("Name a colour.", group="colours")]
    trained_on = TrainedOn.of(prompts)
    asked = [Prompt("What is\n2?"), Prompt("Name a shape.", group="colours"), Prompt("Name a shape."), prompts[1]]
    assert trained_on.has(asked).tolist() == [True, True, False, True]
    assert TrainedOn.from_json(trained_on.to_json()) == trained_on
    assert TrainedOn.of(prompts).digests != trained_on.digests
    assert "colour" not in str(trained_on.to_json())


def test_salted_digests_know_equal_texts_and_differ_between_salts():
    salt = "00" * 16
    first, same, other = digest_salted(["What  is 2?", "What is\n2?", "What is 3?"], salt)
    assert first == same != other
    assert digest_salted(["What is 2?"], "01" * 16) != [first]
