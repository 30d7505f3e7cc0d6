"""With many configs the fit is the same, and its time follows their number."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hagpolicy.fitting.learners import linear


def draw_world(n_targets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centred features (120, 90) and targets (120, n_targets) of few shared directions; groups."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(120, 90))
    T = X[:, :4] @ draw.normal(size=(4, n_targets)) + draw.normal(size=(120, n_targets))
    return X - X.mean(axis=0), T - T.mean(axis=0), np.arange(120)


def test_directions_of_many_configs_are_those_of_their_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    X, T, groups = draw_world(100)
    found = linear._reduced_rank_ridge(X, T, groups, 0)
    projection, back = linear.find_shared_directions(X, T, 4)
    monkeypatch.setattr(linear, "MANY_TARGETS", 10**9)
    np.testing.assert_allclose(found, linear._reduced_rank_ridge(X, T, groups, 0), atol=1e-9)
    other, back_too = linear.find_shared_directions(X, T, 4)
    np.testing.assert_allclose(projection @ back, other @ back_too, atol=1e-9)
    assert np.abs(found).max() > 0.1


def test_the_time_of_ridge_follows_the_number_of_configs() -> None:
    seconds = []
    for n_targets in (200, 800):
        X, T, groups = draw_world(n_targets)
        begin = time.process_time()
        linear._reduced_rank_ridge(X, T, groups, 0)
        seconds.append(time.process_time() - begin)
    assert seconds[1] < 12.0 * seconds[0]  # the cube of their number is 64 times as much
