"""Short forms of the claims about live evidence."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.claims.analysis import off_policy_coverage, sequence_coverage


def test_off_policy_intervals_hold_the_truth_as_often_as_they_say() -> None:
    runs = [off_policy_coverage.estimate(seed, off_policy_coverage.REQUESTS) for seed in range(60)]
    rows = off_policy_coverage.count_held(runs)
    for estimator in off_policy_coverage.ESTIMATORS:
        for quantity in ("value", "gain"):
            held = np.concatenate([rows[estimator, quantity, name][:, 0] for name in off_policy_coverage.POLICIES])
            assert len(held) == 180
            assert 0.88 <= held.mean() <= 0.99, (estimator, quantity)


@pytest.mark.parametrize("name", list(sequence_coverage.KINDS))
def test_sequences_hold_the_truth_at_every_look_where_fixed_intervals_do_not(name: str) -> None:
    found = sequence_coverage.run(sequence_coverage.KINDS[name], np.random.default_rng(0), 60, 3000)
    assert found.excluded.mean() <= 0.05
    assert found.peeked.mean() > 0.15


def test_sequences_of_users_hold_the_truth() -> None:
    found = [sequence_coverage.run_users(np.random.default_rng(seed), 6000) for seed in range(30)]
    assert sum(outside for outside, _ in found) <= 2
