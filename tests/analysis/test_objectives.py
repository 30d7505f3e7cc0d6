"""What objectives say of cells, against enumeration by hand; their text form; what a table must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.objectives import get_objectives, targets_of
from hagpolicy.errors import InvalidInput

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.7, 1.0])


def table(rewards: np.ndarray, **more: object) -> hag.SweepTable:
    rewards = np.array(rewards, dtype=float)
    rewards[:, 0, 1:] = np.nan  # greedy: drawn once
    prompts = [f"prompt {number}" for number in range(len(rewards))]
    return hag.SweepTable.from_arrays(prompts, SPACE, rewards, **more)


@pytest.fixture
def graded() -> np.ndarray:
    return np.random.default_rng(0).random((5, 3, 6)).round(2)


def test_best_of_is_the_mean_maximum_over_all_sets(graded: np.ndarray) -> None:
    graded[1, 2, 4:] = np.nan
    found = hag.BestOf(3).values(table(graded))
    for prompt, config in [(0, 1), (1, 2), (4, 2)]:
        cell = graded[prompt, config][~np.isnan(graded[prompt, config])]
        assert found[prompt, config] == pytest.approx(np.mean([max(some) for some in combinations(cell, 3)]))
    assert np.allclose(found[:, 0], graded[:, 0, 0])  # a deterministic config has one answer however many are drawn


def test_pass_at_k_is_the_published_estimator(graded: np.ndarray) -> None:
    passed = (graded >= 0.6).astype(float)
    for k in (1, 2, 4):
        found = hag.PassAtK(k, passing=0.6).values(table(graded))
        c = passed[2, 1].sum()
        assert found[2, 1] == pytest.approx(1 - comb(6 - int(c), k) / comb(6, k))
    assert np.array_equal(hag.PassAtK(2).values(table(passed)), hag.BestOf(2).values(table(passed)))


def test_fewer_samples_than_answers_are_missing_and_not_zero(graded: np.ndarray) -> None:
    graded[0, 1, 2:] = np.nan
    found = hag.BestOf(3).values(table(graded))
    assert np.isnan(found[0, 1])
    assert not np.isnan(np.delete(found.ravel(), 1)).any()


def test_majority_is_the_mean_over_all_sets_with_ties_at_random() -> None:
    rewards = np.zeros((1, 3, 4))
    answers = np.full((1, 3, 4), -1)
    rewards[0, 1], answers[0, 1] = [1, 0, 1, 0], [7, 8, 7, -1]  # 7 is right
    rewards[0, 2] = [1, 0, 0, 0]  # nothing was extracted
    found = hag.Majority(3).values(table(rewards, answers=answers))
    # {7,8,7} → 1, {7,8,-} → 1/2, {7,7,-} → 1, {8,7,-} → 1/2
    assert found[0, 1] == pytest.approx((1 + 0.5 + 1 + 0.5) / 4)
    assert found[0, 2] == pytest.approx(0.25)
    with pytest.raises(InvalidInput, match="answers"):
        hag.Majority(3).values(table(rewards))


def test_a_majority_of_many_looks_at_some_of_the_sets() -> None:
    rng = np.random.default_rng(0)
    answers = (rng.random((40, 3, 64)) < 0.6).astype(int)  # 1 is right
    made = hag.SweepTable.from_arrays([f"{i}" for i in range(40)], SPACE, answers.astype(float), answers=answers)
    found = hag.Majority(9).values(made)  # of 27,540,584,512 sets
    right = answers[:, 1:].sum(axis=2)
    exact = sum(comb9(right, k) for k in range(5, 10))
    assert found[:, 1:] == pytest.approx(exact, abs=0.03)
    assert found[:, 1:].mean() == pytest.approx(exact.mean(), abs=0.005)


def comb9(right: np.ndarray, k: int) -> np.ndarray:
    """Probability that k of 9 of 64 samples are among those that are right."""
    return np.vectorize(lambda r: comb(r, k) * comb(64 - r, 9 - k) / comb(64, 9))(right)


def test_a_lower_quantile_looks_at_the_worst_answers() -> None:
    rewards = np.zeros((1, 3, 4))
    rewards[0, 1], rewards[0, 2] = [0.9, 0.1, 0.8, 0.7], [0.5, 0.6, 0.5, 0.4]
    assert hag.Quantile(0.25).values(table(rewards))[0, 1:].tolist() == [0.1, 0.4]
    assert hag.Quantile(0.5).values(table(rewards))[0, 1:].tolist() == [0.7, 0.5]


def test_a_quantile_takes_samples_enough_to_have_one() -> None:
    rewards = np.full((1, 3, 4), 0.5)
    rewards[0, 1, 3:] = np.nan
    assert np.isnan(hag.Quantile(0.25).values(table(rewards))[0]).tolist() == [False, True, False]
    assert hag.Quantile(0.3).needs == 4
    assert hag.Quantile(0.2).needs == 5


def test_unequal_outcomes_at_temperature_0_are_used_as_they_are() -> None:
    outcomes = [1.0, 0.0, 1.0, 1.0]
    made = hag.SweepTable.from_arrays(["a"], SPACE, [[outcomes, outcomes, outcomes]])
    assert hag.Quantile(0.25).values(made).tolist() == [[0.0, 0.0, 0.0]]
    for objective in (hag.PassAtK(2), hag.BestOf(4), hag.Reward()):
        assert objective.values(made)[0, 0] == 0.75  # however many are drawn: it is one answer


def test_half_of_the_samples_say_no_lower_end_of_a_quantile() -> None:
    # All configs are alike, so nothing can be won; four samples, split, would promise .13 or more.
    rewards = np.random.default_rng(0).random((200, 3, 8))
    made = hag.SweepTable.from_arrays([f"prompt {number}" for number in range(200)], SPACE, rewards)
    found = hag.headroom(made, objective="quantile@0.25")
    assert (found.split_vbs, found.split_vbs_sampled, found.could_win_low) == (None, None, None)
    assert "two sampled configurations with samples to split" in found.sentence
    assert hag.headroom(made, objective="best@4").split_vbs_sampled is not None


@pytest.mark.parametrize("objective", ["price/token@0.002", "best@2", "majority@2"])
def test_what_is_chosen_on_half_of_the_samples_is_scored_on_the_other(objective: str) -> None:
    """All configs are alike: choosing and scoring on the same samples would seem to win."""
    rng = np.random.default_rng(1)
    shape = (400, 3, 4)
    rewards, more = rng.random(shape), {"tokens": rng.integers(10, 200, shape), "answers": rng.integers(0, 3, shape)}
    made = hag.SweepTable.from_arrays([f"prompt {number}" for number in range(400)], SPACE, rewards, **more)
    found = hag.headroom(made, objective=objective)
    assert found.could_win_high.value > 0.08
    assert found.could_win_low is not None
    assert found.could_win_low.low <= 0.0 <= found.could_win_low.high
    if objective != "price/token@0.002":  # halves of three samples do not hold two answers each
        fewer = {name: values[:, :, :3] for name, values in more.items()}
        made = hag.SweepTable.from_arrays(made.prompts, SPACE, rewards[:, :, :3], **fewer)
        assert hag.headroom(made, objective=objective).could_win_low is None


def test_a_price_is_paid_for_scored_answers_only(graded: np.ndarray) -> None:
    graded[0, 1, 3:] = np.nan
    tokens = np.arange(90).reshape(5, 3, 6).astype(float)
    priced = hag.Priced(0.01).values(table(graded, tokens=tokens))
    assert priced[0, 1] == pytest.approx(graded[0, 1, :3].mean() - 0.01 * tokens[0, 1, :3].mean())
    with pytest.raises(InvalidInput, match=r"seconds.*Sweep"):
        hag.Priced(0.01, "second").values(table(graded, tokens=tokens))


def test_heads_of_a_price_dial_are_within_one_and_weigh_up_to_the_objective(graded: np.ndarray) -> None:
    tokens = np.random.default_rng(1).integers(1, 300, graded.shape).astype(float)
    made = table(graded, tokens=tokens)
    targets = targets_of(made, get_objectives("price/token@0,0.002"))
    assert targets.names == ("values", "costs")
    assert targets.common[1].max() == 1.0
    for point, price in enumerate((0.0, 0.002)):
        assert np.allclose(targets.Y(point), hag.Priced(price).values(made))


@pytest.mark.parametrize(
    "objective", ["reward", "price/token@0.01", "pass:0.5@2", "best@2", "majority@2", "quantile@0.5"]
)
def test_a_raced_table_is_judged_by_its_common_samples_alone(graded: np.ndarray, objective: str) -> None:
    """The added samples went where the choice was uncertain: they teach, and enter no value."""
    more = {"tokens": graded * 100.0, "answers": (graded * 3).astype(int)}
    whole = replace(table(graded, **more), common=2)
    alone = table(graded[:, :, :2], **{name: values[:, :, :2] for name, values in more.items()})
    (one,) = get_objectives(objective)
    assert np.array_equal(one.values(whole), one.values(alone))
    raced, plain = targets_of(whole, (one,)), targets_of(alone, (one,))
    assert np.array_equal(raced.common, plain.common)
    assert np.array_equal(raced.Y(0), plain.Y(0))
    assert not np.array_equal(raced.full, plain.full)
    every = np.ones((5, 3, 2), dtype=bool)
    assert np.array_equal(raced.estimator_at(0)(every), plain.estimator_at(0)(every))
    assert np.isnan(hag.BestOf(3).values(whole)[:, 1:]).all()  # six samples, but two in common


@pytest.mark.parametrize(
    "text", ["reward", "price/token@0.0,0.001", "price/second@0.05", "pass@1,2,4", "pass:0.5@2", "best@4", "majority@3"]
)
def test_what_is_written_is_read_back(text: str) -> None:
    found = get_objectives(text)
    assert get_objectives([get_objectives(item.written)[0] for item in found]) == found
    assert len(found) == text.count(",") + 1


@pytest.mark.parametrize(
    "spec",
    ["", "reward@1", "pass", "pass@", "pass@0", "pass@1.5", "pass@x", "pass@inf", "best@1e400",
     "best:0.5@2", "price@1", "price/token@-1",
     "price/token@nan", "quantile@0.2,0.4", "quantile@1", [], [hag.BestOf(2), hag.PassAtK(2)], [1], 3],
)  # fmt: skip
def test_what_is_no_objective_is_refused(spec: object) -> None:
    with pytest.raises(InvalidInput):
        get_objectives(spec)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: get_objectives("pass@0"), r"^n: expected a whole number of answers in \[1, 64\], got 0"),
        (lambda: get_objectives("price/token@-1"), r"^price: expected reward a token, in \[0, 1e\+06\], got -1"),
        (lambda: get_objectives("pass:2@4"), r"^passing: expected a number in \(0, 1\], got 2"),
        (lambda: hag.Quantile("low"), r"^q: expected a number in \(0, 1\), got low"),
        (lambda: hag.PassAtK(2, passing=None), r"^passing"),
        (lambda: hag.PassAtK(True), r"^n:"),
        (lambda: hag.Priced(0.1, per=["token"]), r"^per: expected 'token' or 'second'"),
        (lambda: hag.Priced(1e300), r"^price"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_value_is_said(made: Callable[[], object], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        made()


def test_any_kind_of_number_is_one() -> None:
    assert hag.PassAtK(np.int64(4)) == hag.PassAtK(4.0) == hag.PassAtK(4)  # type: ignore[arg-type]
    assert hag.Priced(np.float32(0.5)) == hag.Priced(0.5)  # type: ignore[arg-type]
    assert hag.BestOf(np.int64(4)).written == "best@4"  # type: ignore[arg-type]


def test_points_of_a_dial_are_in_rising_order_and_once() -> None:
    assert [item.at for item in get_objectives([hag.BestOf(4), hag.BestOf(1), hag.BestOf(4)])] == [1, 4]
