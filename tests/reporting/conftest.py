"""A policy that is proven, and one that was held back."""

from __future__ import annotations

import pytest

from hagpolicy.fitting.fit import fit
from hagpolicy.policy.policy import Policy
from tests.reporting.tables import made_table


@pytest.fixture(scope="session")
def proven() -> Policy:
    """Fitted where each kind of prompt has its own best config."""
    policy = fit(made_table(), learner="ridge")
    assert policy.ships == "per_prompt"
    return policy


@pytest.fixture(scope="session")
def held() -> Policy:
    """Fitted on noise alone; a candidate was found and held back."""
    policy = fit(made_table(flat=True, spread=0.2), learner="knn")
    assert policy.ships != "per_prompt"
    assert policy.candidate is not None
    return policy
