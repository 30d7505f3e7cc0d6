"""Draws over groups: as wide as theory, and a single best config that each draw chooses for itself."""

from __future__ import annotations

import numpy as np
import pytest

from hagpolicy.analysis.bootstrap import DrawnConfig, GroupBootstrap
from hagpolicy.analysis.estimates import assign_folds, crossfit_sbs


def test_bootstrap_interval_of_a_mean_is_as_wide_as_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    estimate = GroupBootstrap(np.arange(400)).mean(values)
    assert estimate.value == pytest.approx(values.mean())
    width = estimate.high - estimate.low
    assert width == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_groups_widen_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=50).repeat(8)
    apart = GroupBootstrap(np.arange(400)).mean(values)
    together = GroupBootstrap(np.arange(50).repeat(8)).mean(values)
    assert (together.high - together.low) > 2 * (apart.high - apart.low)


def test_a_clear_winner_is_the_reference_of_every_prompt() -> None:
    Y = np.column_stack([np.full(50, 0.2), np.full(50, 0.9)])
    boot = GroupBootstrap(np.arange(50) // 2)
    assert (DrawnConfig.best(Y, boot).weights == [0.0, 1.0]).all()
    assert np.allclose(DrawnConfig.best(Y, boot).value, 0.9)
    alone = GroupBootstrap(np.zeros(50, dtype=int))  # nothing can be left out
    assert (DrawnConfig.best(Y, alone).weights == [0.0, 1.0]).all()
    assert len(DrawnConfig.best(Y, alone).value) == 0


def test_one_group_tells_nothing() -> None:
    boot = GroupBootstrap(np.zeros(30))
    estimate = boot.mean(np.linspace(0.0, 1.0, 30))
    assert (estimate.low, estimate.high) == (-1.0, 1.0)
    Y = np.tile([0.2, 0.6, 0.4], (30, 1))
    assert (crossfit_sbs(Y, assign_folds(np.zeros(30), 1, 0)) == 1).all()


def test_draws_that_agree_scatter_as_a_mean_over_all_prompts_does() -> None:
    rng = np.random.default_rng(6)
    values, boot = rng.normal(size=(300, 1)), GroupBootstrap(np.arange(300))
    draws = boot.out_of_bag_means(values)[:, 0]
    error = values.std() / np.sqrt(300)
    assert draws.std() == pytest.approx(1.31 * error, rel=0.05)
    assert boot.narrow(draws, np.zeros(len(draws), dtype=int)).std() == pytest.approx(error, rel=0.05)
    # Draws that have nothing to do with each other are left as they are.
    np.testing.assert_allclose(boot.narrow(draws, np.arange(len(draws))), draws)
    apart = boot.narrow(draws + 5.0 * (np.arange(len(draws)) % 2), np.arange(len(draws)) % 2)
    assert apart.std() == pytest.approx(np.hypot(2.5, error), rel=0.05)


@pytest.mark.parametrize("sizes", [[1, 99], [321, *[1] * 39], [101, *[1] * 24], [2] * 30])
def test_groups_of_any_size_give_intervals_like_a_plain_bootstrap(sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    values = (np.random.default_rng(8).random((len(groups), 1)) < 0.9).astype(float)
    boot = GroupBootstrap(groups)
    draws = boot.out_of_bag_means(values)[:, 0]
    narrow = boot.narrow(draws, np.zeros(len(draws), dtype=int))
    assert 0.0 <= narrow.min() <= narrow.max() <= 1.0
    plain = boot.means(values)[boot.leaving, 0]
    assert narrow.std() == pytest.approx(plain.std(), rel=0.35)  # by prompts left out, it was up to ten times
