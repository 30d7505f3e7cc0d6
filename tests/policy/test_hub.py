"""Policies on the Hub: its cache's layout on disk, and an upload that a stand-in takes; no network."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hagpolicy as hag
from hagpolicy.errors import BundleError, InvalidInput, MissingExtra
from hagpolicy.policy.card import format_card
from hagpolicy.policy.policy import Policy
from tests.support.making import LISTS, SUMS, sums_against_lists

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return sums_against_lists()


def cache(folder: Path, bundle: Path, name: str = "owner/policy") -> Path:
    """The Hub's cache with a repository of a bundle's files: links into blobs, as a download leaves them."""
    root = folder / f"models--{name.replace('/', '--')}"
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    contents = {path.name: path.read_bytes() for path in bundle.iterdir()} | {".gitattributes": b"*.onnx filter=lfs"}
    for number, (name, data) in enumerate(contents.items()):
        (root / "blobs" / f"{number:040x}").write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{number:040x}")
    return folder


class FakeApi:
    """What `HfApi` is asked, and the files that it is given."""

    fails: Exception | None = None
    calls: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 - shared, to be looked at by the test
    files: dict[str, bytes] = {}  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        self.calls.append(("api", kwargs))

    def create_repo(self, repo_id: str, **kwargs: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.calls.append(("create_repo", {"repo_id": repo_id, **kwargs}))

    def upload_folder(self, *, folder_path: Path, **kwargs: Any) -> str:
        self.calls.append(("upload_folder", kwargs))
        self.files.update({path.name: path.read_bytes() for path in folder_path.iterdir()})
        return "https://hub.invalid/owner/policy/commit/1"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    hub = pytest.importorskip("huggingface_hub")
    made = type("Api", (FakeApi,), {"calls": [], "files": {}})
    monkeypatch.setattr(hub, "HfApi", made)
    return made


def test_a_folder_is_loaded_without_the_hub(policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = policy.save(tmp_path / "policy")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    loaded = hag.Policy.from_pretrained(folder)
    assert loaded.digest == policy.digest
    monkeypatch.chdir(tmp_path)
    assert hag.Policy.from_pretrained("policy").digest == policy.digest
    with pytest.raises(InvalidInput, match="revision: expected None beside a folder"):
        hag.Policy.from_pretrained(folder, revision="main")
    with pytest.raises(InvalidInput, match="OWNER/NAME"):
        hag.Policy.from_pretrained("./nowhere/at/all")
    with pytest.raises(MissingExtra, match=r"hagpolicy\[hub\]"):
        hag.Policy.from_pretrained("owner/policy")
    with pytest.raises(MissingExtra, match=r"hagpolicy\[hub\]"):
        policy.push_to_hub("owner/policy")


def test_a_name_is_loaded_from_the_hubs_cache_at_its_revision(policy: Policy, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    folder = cache(tmp_path / "cache", policy.save(tmp_path / "policy"))
    for revision in (None, "main", COMMIT):
        loaded = hag.Policy.from_pretrained("owner/policy", revision=revision, cache_dir=folder, local_files_only=True)
        assert loaded.predict_batch([*SUMS, *LISTS]) == policy.predict_batch([*SUMS, *LISTS])
    for name, revision in (("owner/other", None), ("owner/policy", "v9")):
        with pytest.raises(BundleError, match=f"{name}: cannot be had"):
            hag.Policy.from_pretrained(name, revision=revision, cache_dir=folder, local_files_only=True)


def test_a_changed_repository_is_refused(policy: Policy, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    folder = cache(tmp_path / "cache", policy.save(tmp_path / "policy"))
    (folder / "models--owner--policy" / "snapshots" / COMMIT / "policy.onnx").unlink()
    with pytest.raises(BundleError, match=r"policy\.onnx"):
        hag.Policy.from_pretrained("owner/policy", cache_dir=folder, local_files_only=True)


def test_an_upload_is_a_bundle_that_takes_the_place_of_an_older_one(
    policy: Policy, tmp_path: Path, api: type[FakeApi]
) -> None:
    said = policy.push_to_hub("owner/policy", license="apache-2.0", private=True, token="hf_secret", branch="next")
    assert said == "https://hub.invalid/owner/policy/commit/1"
    (_, made), (_, created), (_, sent) = api.calls
    assert made == {"token": "hf_secret", "library_name": "hagpolicy"}
    assert created == {"repo_id": "owner/policy", "private": True, "exist_ok": True, "repo_type": "model"}
    assert (sent["revision"], sent["delete_patterns"]) == ("next", ["*"])
    for name, data in api.files.items():
        (tmp_path / name).write_bytes(data)
    assert hag.load(tmp_path).digest == policy.digest
    assert "license: apache-2.0" in api.files["README.md"].decode()


def test_the_real_api_takes_what_is_sent() -> None:
    hub = pytest.importorskip("huggingface_hub")
    create, upload = (
        set(inspect.signature(getattr(hub.HfApi, name)).parameters) for name in ("create_repo", "upload_folder")
    )
    assert {"repo_id", "private", "exist_ok", "repo_type"} <= create
    wanted = {"repo_id", "folder_path", "repo_type", "revision", "delete_patterns", "commit_message", "create_pr"}
    assert wanted <= upload


def test_an_upload_that_fails_says_so_without_the_hubs_words(policy: Policy, api: type[FakeApi]) -> None:
    api.fails = RuntimeError("hf_secret was refused")
    with pytest.raises(BundleError, match=r"owner/policy: cannot be uploaded \(RuntimeError\)") as caught:
        policy.push_to_hub("owner/policy", token="hf_secret")
    assert "hf_secret" not in str(caught.value)
    for name in ("policy", "a/b/c", "../x y/z"):
        with pytest.raises(InvalidInput, match="OWNER/NAME"):
            policy.push_to_hub(name)


def test_the_card_has_the_hubs_metadata_and_says_what_is_revealed(policy: Policy) -> None:
    yaml = pytest.importorskip("yaml")
    swept = {"kind": "transformers", "model": "owner/model-1.5B"}
    manifest = replace(policy.manifest, fingerprint=swept, scorers={"sums": "numeric_match 2"})
    card = format_card(manifest, "cc-by-4.0")
    found = yaml.safe_load(card.split("---\n")[1])
    assert found["base_model"] == "owner/model-1.5B"
    assert (found["license"], found["library_name"]) == ("cc-by-4.0", "hagpolicy")
    assert "hagpolicy" in found["tags"]
    for words in ("sums (numeric_match 2)", "salted digests of the training prompts", str(policy.evaluation), "limits"):
        assert words in card
    for text in (*SUMS, *LISTS):
        assert text not in card
    plain = yaml.safe_load(format_card(replace(manifest, fingerprint={"model": "model.gguf: x\ny"})).split("---\n")[1])
    assert set(plain) == {"library_name", "tags"}
    with pytest.raises(InvalidInput, match="license"):
        format_card(manifest, "mine\nbase_model: other")
    assert re.search(r"vectors of the training prompts, inside", format_card(replace(manifest, carries_vectors=True)))
