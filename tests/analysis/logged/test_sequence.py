"""The interval of an experiment holds after every unit, and its parts are what the proof needs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hagpolicy import InvalidInput
from hagpolicy.analysis.logged import sequence
from hagpolicy.analysis.logged.sequence import compute_sequence


def draw(n: int, gain: float, share: float = 0.5, seed: int = 0, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    by_policy = rng.random((count, n)) < share
    return by_policy, (rng.random((count, n)) < 0.5 + gain * by_policy).astype(float)


@pytest.mark.parametrize(("gain", "share"), [(0.0, 0.5), (0.2, 0.5), (0.1, 0.1), (-0.3, 0.8)])
def test_at_most_five_of_a_hundred_ever_exclude_the_truth(gain: float, share: float) -> None:
    path = compute_sequence(*draw(2000, gain, share, count=200), share)
    assert ((path.low > gain) | (path.high < gain)).any(axis=1).mean() <= 0.05
    assert (path.highest_low <= path.lowest_high).all(axis=1).mean() >= 0.95


def test_a_gain_is_proven_and_an_unknown_one_is_not() -> None:
    proven = compute_sequence(*draw(4000, 0.1, count=20), 0.5)
    assert (proven.low[:, -1] > 0.0).mean() > 0.9
    assert (proven.value[:, -1] > 0.05).all()
    lost = compute_sequence(*draw(4000, -0.1, count=20), 0.5)
    assert (lost.high[:, -1] < 0.0).mean() > 0.9


def test_intervals_narrow_with_units_and_widen_with_certainty() -> None:
    arms, rewards = draw(3000, 0.0)
    path = compute_sequence(arms[0], rewards[0], 0.5)
    width = path.high - path.low
    assert width[0] == 2.0
    assert width[2999] < 0.5 * width[299]
    surer = compute_sequence(arms[0], rewards[0], 0.5, error=0.001)
    assert (surer.high - surer.low >= width).all()
    assert (surer.high - surer.low)[-1] > width[-1]


def test_the_running_interval_never_widens() -> None:
    arms, rewards = draw(500, 0.1)
    path = compute_sequence(arms[0], rewards[0], 0.5)
    assert (np.diff(path.highest_low) >= 0.0).all()
    assert (np.diff(path.lowest_high) <= 0.0).all()
    assert path.highest_low[-1] == path.low.max()


def test_what_comes_later_changes_nothing_before() -> None:
    arms, rewards = draw(400, 0.1)
    whole = compute_sequence(arms[0], rewards[0], 0.5)
    part = compute_sequence(arms[0][:150], rewards[0][:150], 0.5)
    assert np.array_equal(part.low, whole.low[:150])
    assert np.array_equal(part.value, whole.value[:150])


def test_arms_are_alike() -> None:
    arms, rewards = draw(400, 0.2, share=0.3)
    one = compute_sequence(arms[0], rewards[0], 0.3)
    other = compute_sequence(~arms[0], rewards[0], 0.7)
    assert np.allclose(one.low, -other.high)
    assert np.allclose(one.value, -other.value)


def test_equal_rewards_are_known_to_be_equal_soon() -> None:
    arms, _ = draw(2000, 0.0)
    path = compute_sequence(arms[0], np.full(2000, 0.7), 0.5)
    assert path.high[-1] - path.low[-1] < 0.05
    assert path.low[-1] < 0.0 < path.high[-1]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
def test_outcomes_have_the_mean_of_the_difference_and_stay_in_their_range(share: float) -> None:
    """Over both arms of the last unit, weighted by their probabilities; and no outcome errs by more than the scale."""
    rng = np.random.default_rng(0)
    scale = 1.0 / min(share, 1.0 - share)
    for _ in range(200):
        arms, rewards = rng.random(30) < share, rng.integers(2, size=30).astype(float)
        ones, zeros = arms.copy(), arms.copy()
        ones[-1], zeros[-1] = True, False
        high, ends = sequence._make_outcomes(ones, np.r_[rewards[:-1], 0.8], share)
        low, _ = sequence._make_outcomes(zeros, np.r_[rewards[:-1], 0.3], share)
        assert share * high[-1] + (1.0 - share) * low[-1] == pytest.approx(0.8 - 0.3)
        assert (np.abs(high) <= ends + 1e-12).all()
        assert (ends <= scale + 1e-12).all()


def test_the_boundary_is_the_root_and_errs_to_the_safe_side() -> None:
    level = math.log(40.0)
    for spent in (0.0, 0.3, 7.0, 400.0, 1e6):
        root = sequence._find_boundary(np.array([spent]), level)[0]

        def log_mixture(x: float, spent: float = spent) -> float:
            return math.log(np.mean(np.exp(sequence._BETS * x - sequence._PRICES * spent - level))) + level

        assert level - 1e-9 <= log_mixture(root) < level + 1e-6


def test_every_bet_is_paid_for() -> None:
    """exp(f x - ψ(f) x²) is at most 1 + f x for all x of at least -1 (Fan, Grama and Liu, 2015)."""
    x = np.linspace(-1.0, 30.0, 20_001)[:, None]
    assert (np.exp(sequence._BETS * x - sequence._PRICES * x**2) <= 1.0 + sequence._BETS * x + 1e-12).all()


def test_no_units_have_no_interval() -> None:
    path = compute_sequence(np.zeros(0, dtype=bool), np.zeros(0), 0.5)
    assert path.low.shape == (0,)


@pytest.mark.parametrize(
    ("by_policy", "reward", "share", "words"),
    [
        ([True, False], [1.0], 0.5, "by_policy: expected True or False"),
        ([1, 0], [1.0, 0.0], 0.5, "by_policy: expected True or False"),
        ([True, False], [1.0, np.nan], 0.5, "reward: expected rewards in"),
        ([True, False], [1.0, 1.5], 0.5, "reward: expected rewards in"),
        ([True, False], [1.0, 0.0], 1.0, "share: expected a probability"),
    ],
)
def test_what_is_no_experiment_is_refused(by_policy: list[bool], reward: list[float], share: float, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        compute_sequence(np.array(by_policy), np.array(reward), share)
