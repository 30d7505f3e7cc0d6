"""Statistics on arrays: known answers, and coverage on worlds of known truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hagpolicy.analysis.bootstrap import GroupBootstrap, ResampledBest
from hagpolicy.analysis.comparison import Comparison
from hagpolicy.analysis.estimates import assign_folds, choose_configs, crossfit_sbs, split_oracle, take_chosen
from hagpolicy.analysis.selection import select, select_family
from hagpolicy.results import Candidate, Estimate, Evaluation, EvaluationRow, describe_candidate


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


def test_selection_pays_for_looking() -> None:
    """Best of many null candidates: the naive mean is far above zero, the estimate is not."""
    rng = np.random.default_rng(2)
    naive, corrected, covered = [], [], 0
    for _ in range(60):
        gains = rng.normal(scale=0.3, size=(150, 30))
        selection = select(gains, np.zeros(150), GroupBootstrap(np.arange(150), n_boot=500))
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
        _, selections = select_family(gains, np.zeros((3, 150)), boot)
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
    references = np.stack([np.full(200, 0.5), np.full(200, -3.0)])
    baselines = np.stack([np.full(200, 0.4), np.full(200, -5.0)])
    boot = GroupBootstrap(np.arange(200), n_boot=300)
    family, (first, second) = select_family(gains, references, boot, baselines)
    assert family == 1  # .2 + .2 over .3 and nothing
    assert (first.index, second.index) == (0, 1)
    for selection, reference, over in ((first, 0.5, 0.1), (second, -3.0, 2.0)):
        assert selection.gain.value == pytest.approx(0.2, abs=0.01)
        assert selection.value.value == pytest.approx(reference + 0.2, abs=0.01)
        assert selection.over_baseline is not None
        assert selection.over_baseline.value == pytest.approx(over + 0.2, abs=0.01)
        assert selection.over_baseline.low > over


def test_a_point_where_nothing_gains_keeps_its_reference() -> None:
    gains = np.stack([np.full((150, 2), 0.2), np.full((150, 2), -0.2)])[None]
    family, (first, second) = select_family(gains, np.zeros((2, 150)), GroupBootstrap(np.arange(150), n_boot=200))
    assert (family, first.index, second.index) == (0, 0, None)
    assert (second.gain.value, second.gain.low, second.gain.high) == (0.0, 0.0, 0.0)


def test_gains_that_are_not_known_ship_nothing() -> None:
    gains = np.full((2, 1, 60, 2), 0.3)
    gains[0, 0, 7, 1] = np.nan
    family, (only,) = select_family(gains, np.zeros((1, 60)), GroupBootstrap(np.arange(60), n_boot=200))
    assert (family, only.index) == (None, None)
    assert not only.gain.low > 0.0


def test_selection_keeps_the_reference_when_nothing_beats_it() -> None:
    selection = select(np.full((50, 3), -0.1), np.full(50, 0.5), GroupBootstrap(np.arange(50)))
    assert selection.index is None
    assert selection.gain == Estimate(0.0, 0.0, 0.0)
    assert selection.value.value == pytest.approx(0.5)


def test_one_group_proves_nothing() -> None:
    selection = select(np.full((50, 3), 0.5), np.zeros(50), GroupBootstrap(np.zeros(50, dtype=int)))
    assert selection.index is None
    assert selection.gain.low <= 0.0


def test_one_group_at_a_price_gives_no_interval_that_leaves_its_value_out() -> None:
    boot = GroupBootstrap(np.zeros(50, dtype=int))
    priced = np.repeat([-30.0, -10.0], 25)
    assert boot.mean(priced) == Estimate(-20.0, -30.0, 30.0)
    selection = select_family(priced[None, None, :, None], priced[None], boot, priced[None] + 5.0)[1][0]
    assert selection.gain == Estimate(0.0, -30.0, 30.0)
    assert selection.value == Estimate(-20.0, -30.0, 30.0)
    assert selection.over_baseline == Estimate(-5.0, -5.0, 5.0)


def test_choices_ties_go_to_the_first_and_margins_hold() -> None:
    values = np.array([[0.5, 0.7, 0.7], [0.5, 0.55, 0.5], [0.9, 0.1, 0.2]])
    assert choose_configs(values, 0, 0.1).tolist() == [1, 0, 0]
    assert choose_configs(values, 2, 0.0).tolist() == [2, 1, 0]


def test_a_near_tie_leaves_the_reference_between_the_tied_and_proves_nothing() -> None:
    """Folds would each take the config that they themselves speak against, and every fixed one would seem better."""
    rng = np.random.default_rng(3)
    bagged, folded, proven = [], [], 0
    for seed in range(60):
        Y = (rng.random((200, 2)) < 0.3).astype(np.float64)
        gap = int(Y[:, 0].sum() - Y[:, 1].sum())
        Y[np.flatnonzero(Y[:, int(gap < 0)] == 1)[: abs(gap)], int(gap < 0)] = 0.0  # an exact tie
        boot = GroupBootstrap(np.arange(200), n_boot=400, seed=seed)
        drawn = ResampledBest.of(Y, boot)
        np.testing.assert_allclose(drawn.weights.sum(axis=1), 1.0)
        reference = (drawn.weights * Y).sum(axis=1)
        bagged.append(Y[:, 0].mean() - reference.mean())
        folded.append((Y[:, 0] - take_chosen(Y, crossfit_sbs(Y, assign_folds(np.arange(200), 5, seed)))).mean())
        comparison = Comparison(Y, Y[:, :, None], np.ones(2, dtype=bool), drawn.weights, boot, resampled=drawn)
        gain = comparison.score_choices(np.zeros(200, dtype=np.int64)).gain
        assert gain.value == pytest.approx(bagged[-1])
        proven += gain.low > 0.0
    assert 0.0 < np.mean(bagged) < 0.7 * np.mean(folded)
    assert proven == 0


def test_a_clear_winner_is_the_reference_of_every_prompt() -> None:
    Y = np.column_stack([np.full(50, 0.2), np.full(50, 0.9)])
    boot = GroupBootstrap(np.arange(50) // 2)
    assert (ResampledBest.of(Y, boot).weights == [0.0, 1.0]).all()
    assert np.allclose(ResampledBest.of(Y, boot).value, 0.9)
    alone = GroupBootstrap(np.zeros(50, dtype=int))  # nothing can be left out
    assert (ResampledBest.of(Y, alone).weights == [0.0, 1.0]).all()
    assert len(ResampledBest.of(Y, alone).value) == 0


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
    split = split_oracle(rewards, deterministic)
    assert split is not None
    assert split.mean() == pytest.approx(0.5, abs=0.02)
    assert rewards.mean(axis=2).max(axis=1).mean() > 0.68


def test_frozen_luck_stays_in_the_split_oracle_and_goes_without_the_config() -> None:
    rng = np.random.default_rng(4)
    rewards = (rng.random((400, 4, 8)) < 0.5).astype(float)
    rewards[:, 0, 1:] = np.nan
    deterministic = np.array([True, False, False, False])
    split, sampled = split_oracle(rewards, deterministic), split_oracle(rewards[:, 1:], deterministic[1:])
    assert split is not None
    assert sampled is not None
    assert split.mean() > 0.6
    assert sampled.mean() == pytest.approx(0.5, abs=0.02)


def test_split_oracle_needs_two_samples() -> None:
    assert split_oracle(np.zeros((3, 2, 1)), np.zeros(2, dtype=bool)) is None
    missing = np.full((3, 2, 2), np.nan)
    assert split_oracle(missing, np.array([True, False])) is None


def test_one_failed_sample_does_not_take_the_split_oracle_away() -> None:
    rewards = 0.5 * (np.random.default_rng(5).random((300, 4, 4)) < 0.5)
    rewards[:, 0] = 1.0
    deterministic = np.zeros(4, dtype=bool)
    rewards[3, 1, 1:] = np.nan
    split = split_oracle(rewards, deterministic)
    assert split is not None
    assert split.mean() == 1.0
    rewards[:, 0, 1:] = np.nan  # the best config has one sample everywhere: it cannot be split, nor chosen
    split = split_oracle(rewards, deterministic)
    assert split is not None
    assert split.mean() == pytest.approx(0.25, abs=0.03)


def test_deterministic_configs_alone_have_no_split_oracle() -> None:
    rewards = (np.random.default_rng(6).random((200, 4, 1)) < 0.5).astype(float)
    assert split_oracle(rewards, np.ones(4, dtype=bool)) is None


def test_one_group_tells_nothing() -> None:
    boot = GroupBootstrap(np.zeros(30))
    estimate = boot.mean(np.linspace(0.0, 1.0, 30))
    assert (estimate.low, estimate.high) == (-1.0, 1.0)
    Y = np.tile([0.2, 0.6, 0.4], (30, 1))
    assert (crossfit_sbs(Y, assign_folds(np.zeros(30), 1, 0)) == 1).all()


def test_ties_are_broken_at_random_not_by_order() -> None:
    rewards = np.zeros((2000, 2, 2))
    rewards[:, 1] = [1.0, 0.0]  # the same mean on neither half; config 0 is always 0
    split = split_oracle(rewards, np.zeros(2, dtype=bool))
    assert split is not None
    # Choosing on the 1 gives the 0 on the other half; a tie at 0 draws either: expectation 1/4.
    assert split.mean() == pytest.approx(0.25, abs=0.02)


def test_evaluation_survives_json() -> None:
    evaluation = Evaluation(
        (
            EvaluationRow("sbs", 0.5, 0.4, 0.6, 0.0, 0.0, 0.0, 0.0),
            EvaluationRow("policy", 0.6, 0.5, 0.7, 0.1, 0.05, 0.15, None),
        ),
        Candidate("ridge on static", Estimate(0.1, 0.05, 0.15), 0.03, 40, True),
        Estimate(0.2, 0.1, 0.3),
        n_prompts=100,
        n_groups=90,
        warnings=("careful",),
    )
    again = Evaluation.from_json(json.loads(json.dumps(evaluation.to_json())))
    assert again == evaluation
    assert "ridge on static" in str(again)
    assert again.row("policy").gain == 0.1
    with pytest.raises(KeyError):
        again.row("nothing")


def test_the_sentence_says_why_a_gain_above_zero_is_held_back() -> None:
    held = Candidate("ridge on static", Estimate(0.05, 0.01, 0.09), 0.03, departing_groups=6, shipped=False)
    assert describe_candidate(held).endswith("departing in 6 groups (too few to rely on the interval)")
    open_ = Candidate("ridge on static", Estimate(0.05, -0.01, 0.09), 0.03, departing_groups=60, shipped=False)
    assert describe_candidate(open_).endswith("departing in 60 groups")
