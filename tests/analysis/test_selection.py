"""Choosing among candidates pays for having looked at all of them."""

from __future__ import annotations

import numpy as np
import pytest

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.selection import select, select_family
from hagpolicy.results import Estimate


def test_selection_pays_for_looking() -> None:
    """Best of many null candidates: the naive mean is far above zero, the estimate is not."""
    rng = np.random.default_rng(2)
    naive, corrected, covered = [], [], 0
    for _ in range(60):
        gains = rng.normal(scale=0.3, size=(150, 30))
        selection = select(gains, GroupBootstrap(np.arange(150), n_boot=500))
        naive.append(gains.mean(axis=0).max())
        corrected.append(selection.gain.value)
        covered += selection.gain.low <= 0.0 <= selection.gain.high
    assert np.mean(naive) > 0.04
    assert abs(np.mean(corrected)) < 0.015
    assert covered >= 54


def test_a_dial_pays_for_its_choice_among_learners_at_every_point() -> None:
    """Ten families of four null candidates at three points that hang together, as prices do."""
    rng = np.random.default_rng(3)
    naive, corrected, covered, shipped = [], [], np.zeros(3), 0
    for _ in range(60):
        shared = rng.normal(scale=0.25, size=(10, 1, 150, 4))
        gains = shared + rng.normal(scale=0.15, size=(10, 3, 150, 4))
        boot = GroupBootstrap(np.arange(150), n_boot=400)
        _, selections = select_family(gains, boot)
        naive.append(gains.mean(axis=2).max(axis=(0, 2)).mean())
        corrected.append(np.mean([selection.gain.value for selection in selections]))
        covered += [selection.gain.low <= 0.0 <= selection.gain.high for selection in selections]
        shipped += any(selection.gain.low > 0.0 for selection in selections)
    assert np.mean(naive) > 0.03
    assert abs(np.mean(corrected)) < 0.015
    assert covered.min() >= 54
    assert shipped <= 3


def test_one_family_serves_all_points_and_each_point_its_own_candidate() -> None:
    noise = np.random.default_rng(4).normal(scale=0.01, size=(2, 2, 200, 2))
    gains = noise + np.array([[[0.3, 0.1], [-0.1, -0.2]], [[0.2, 0.0], [0.1, 0.2]]])[:, :, None, :]
    boot = GroupBootstrap(np.arange(200), n_boot=300)
    family, (first, second) = select_family(gains, boot)
    assert family == 1  # .2 + .2 over .3 and nothing
    assert (first.index, second.index) == (0, 1)
    for selection in (first, second):
        assert selection.gain.value == pytest.approx(0.2, abs=0.01)
    assert (first.chosen == 3).all()
    assert (second.chosen == 4).all()


def test_a_point_where_nothing_gains_keeps_its_reference() -> None:
    gains = np.stack([np.full((150, 2), 0.2), np.full((150, 2), -0.2)])[None]
    family, (first, second) = select_family(gains, GroupBootstrap(np.arange(150), n_boot=200))
    assert (family, first.index, second.index) == (0, 0, None)
    assert (second.gain.value, second.gain.low, second.gain.high) == (0.0, 0.0, 0.0)


def test_gains_that_are_not_known_ship_nothing() -> None:
    gains = np.full((2, 1, 60, 2), 0.3)
    gains[0, 0, 7, 1] = np.nan
    family, (only,) = select_family(gains, GroupBootstrap(np.arange(60), n_boot=200))
    assert (family, only.index) == (None, None)
    assert not only.gain.low > 0.0


def test_selection_keeps_the_reference_when_nothing_beats_it() -> None:
    selection = select(np.full((50, 3), -0.1), GroupBootstrap(np.arange(50)))
    assert selection.index is None
    assert selection.gain == Estimate(0.0, 0.0, 0.0)
    assert (selection.chosen == 0).all()


def test_one_group_proves_nothing() -> None:
    selection = select(np.full((50, 3), 0.5), GroupBootstrap(np.zeros(50, dtype=int)))
    assert selection.index is None
    assert selection.gain.low <= 0.0


def test_one_group_at_a_price_gives_no_interval_that_leaves_its_value_out() -> None:
    boot = GroupBootstrap(np.zeros(50, dtype=int))
    priced = np.repeat([-30.0, -10.0], 25)
    assert boot.mean(priced) == Estimate(-20.0, -30.0, 30.0)
    selection = select_family(priced[None, None, :, None], boot)[1][0]
    assert selection.gain == Estimate(0.0, -30.0, 30.0)
