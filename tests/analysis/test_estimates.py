"""Statistics on arrays: known answers, and coverage on worlds of known truth."""

from __future__ import annotations

import numpy as np
import pytest

from hagpolicy.analysis.estimates import assign_folds, choose_configs, crossfit_sbs, split_vbs, take_chosen


def test_folds_keep_groups_together_and_are_balanced() -> None:
    groups = np.random.default_rng(1).integers(40, size=300)
    folds = assign_folds(groups, 5, seed=0)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    sizes = np.bincount(folds)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= np.bincount(groups).max()


def test_one_huge_group_leaves_the_rest_in_other_folds() -> None:
    groups = np.array([0] * 50 + list(range(1, 21)))
    folds = assign_folds(groups, 5, seed=0)
    assert (folds[:50] == folds[0]).all()
    assert set(folds[50:]) | {folds[0]} == set(range(5))


def test_choices_ties_go_to_the_first_and_margins_hold() -> None:
    values = np.array([[0.5, 0.7, 0.7], [0.5, 0.55, 0.5], [0.9, 0.1, 0.2]])
    assert choose_configs(values, 0, 0.1).tolist() == [1, 0, 0]
    assert choose_configs(values, 2, 0.0).tolist() == [2, 1, 0]


def test_crossfit_sbs_never_sees_its_own_fold() -> None:
    Y = np.zeros((10, 2))
    folds = np.arange(10) % 2
    Y[folds == 0, 0] = 1.0  # config 0 is best in fold 0 only
    Y[folds == 1, 1] = 1.0
    assert (take_chosen(Y, crossfit_sbs(Y, folds)) == 0.0).all()


def test_crossfit_by_label_falls_back_to_all() -> None:
    Y = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 2)
    labels = np.array(["a"] * 6 + ["b", "b"])
    choice = crossfit_sbs(Y, np.array([0, 0, 0, 1, 1, 1, 0, 0]), labels)
    assert choice.tolist() == [0] * 8  # label b never occurs outside fold 0


def test_split_oracle_has_no_luck_where_the_naive_one_has() -> None:
    rewards = (np.random.default_rng(3).random((400, 6, 8)) < 0.5).astype(float)
    deterministic = np.zeros(6, dtype=bool)
    split = split_vbs(rewards, deterministic)
    assert split is not None
    assert split.mean() == pytest.approx(0.5, abs=0.02)
    assert rewards.mean(axis=2).max(axis=1).mean() > 0.68


def test_the_luck_of_a_deterministic_config_stays_in_the_split_oracle_and_goes_without_it() -> None:
    rng = np.random.default_rng(4)
    rewards = (rng.random((400, 4, 8)) < 0.5).astype(float)
    rewards[:, 0, 1:] = np.nan
    deterministic = np.array([True, False, False, False])
    split, sampled = split_vbs(rewards, deterministic), split_vbs(rewards[:, 1:], deterministic[1:])
    assert split is not None
    assert sampled is not None
    assert split.mean() > 0.6
    assert sampled.mean() == pytest.approx(0.5, abs=0.02)


def test_split_oracle_needs_two_samples() -> None:
    assert split_vbs(np.zeros((3, 2, 1)), np.zeros(2, dtype=bool)) is None
    missing = np.full((3, 2, 2), np.nan)
    assert split_vbs(missing, np.array([True, False])) is None


def test_one_failed_sample_does_not_take_the_split_oracle_away() -> None:
    rewards = 0.5 * (np.random.default_rng(5).random((300, 4, 4)) < 0.5)
    rewards[:, 0] = 1.0
    deterministic = np.zeros(4, dtype=bool)
    rewards[3, 1, 1:] = np.nan
    split = split_vbs(rewards, deterministic)
    assert split is not None
    assert split.mean() == 1.0
    rewards[:, 0, 1:] = np.nan  # the best config has one sample everywhere: it cannot be split, nor chosen
    split = split_vbs(rewards, deterministic)
    assert split is not None
    assert split.mean() == pytest.approx(0.25, abs=0.03)


def test_deterministic_configs_alone_have_no_split_oracle() -> None:
    rewards = (np.random.default_rng(6).random((200, 4, 1)) < 0.5).astype(float)
    assert split_vbs(rewards, np.ones(4, dtype=bool)) is None


def test_ties_are_broken_at_random_not_by_order() -> None:
    rewards = np.zeros((2000, 2, 2))
    rewards[:, 1] = [1.0, 0.0]  # the same mean on neither half; config 0 is always 0
    split = split_vbs(rewards, np.zeros(2, dtype=bool))
    assert split is not None
    # Choosing on the 1 gives the 0 on the other half; a tie at 0 draws either: expectation 1/4.
    assert split.mean() == pytest.approx(0.25, abs=0.02)
