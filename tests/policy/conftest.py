"""Policies to be saved, and saved ones."""

import pytest

from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from tests.support import making


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A saved policy on the static encoder; tests copy it before they harm it."""
    return making.sums_against_lists().save(tmp_path_factory.mktemp("bundle") / "policy")


@pytest.fixture(scope="session")
def small():
    """A policy without a token table: quick to write."""
    return making.sums_against_lists(PrecomputedEncoder())
