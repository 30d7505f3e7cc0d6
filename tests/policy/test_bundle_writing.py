"""Writing a bundle never loses anything, and writes nothing that is no bundle."""

import errno
import os

import pytest

from hagpolicy import load
from hagpolicy.errors import BundleError
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.policy.bundle import Bundle, write_bundle
from tests.support import making


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
