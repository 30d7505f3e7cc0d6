"""The rule for how many prompts a proof takes, against the gate itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.rule import MIN_GROUPS
from hagpolicy.analysis.selection import select
from hagpolicy.analysis.sizing import (
    CLOSED,
    DETECTABLE_ERRORS,
    compute_chance_to_prove,
    compute_detectable_gain,
    compute_sizing,
    count_prompts_needed,
)
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate


def test_needed_prompts_grow_with_the_square() -> None:
    assert count_prompts_needed(0.05, 240, 0.05) == 240
    assert count_prompts_needed(0.05, 240, 0.025) == 960
    assert count_prompts_needed(0.05, 240, 0.02) == 1500
    assert count_prompts_needed(0.05, 240, 0.2) == MIN_GROUPS  # fewer prove nothing
    assert count_prompts_needed(0.001, 240, 0.9) == MIN_GROUPS


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gain", (0.05, 240, 0.0)),
        ("gain", (0.05, 240, -0.01)),
        ("detectable", (float("nan"), 240, 0.02)),
        ("detectable", (float("inf"), 240, 0.02)),
        ("n_prompts", (0.05, 0, 0.02)),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name: str, arguments: tuple[float, int, float]) -> None:
    with pytest.raises(InvalidInput, match=name):
        count_prompts_needed(*arguments)


def test_chance_is_what_detectable_means() -> None:
    assert compute_chance_to_prove(0.05, 0.05) == pytest.approx(0.8, abs=0.001)
    assert compute_chance_to_prove(0.05, 0.0) == pytest.approx(0.012, abs=0.001)
    gains = np.linspace(-0.05, 0.2, 30)
    chances = [compute_chance_to_prove(0.05, gain) for gain in gains]
    assert chances == sorted(chances)
    assert chances[-1] > 0.999


def test_detectable_falls_with_the_root_of_independent_prompts() -> None:
    Y = np.random.default_rng(0).random((200, 3))
    four = np.tile(Y, (4, 1))
    one, many = GroupBootstrap(np.arange(200)), GroupBootstrap(np.arange(800))
    assert compute_detectable_gain(four, 0, many) == pytest.approx(compute_detectable_gain(Y, 0, one) / 2, rel=0.01)
    # Copies in one group are no prompts of their own.
    copies = GroupBootstrap(np.tile(np.arange(200), 4))
    assert compute_detectable_gain(four, 0, copies) == pytest.approx(compute_detectable_gain(Y, 0, one))
    by_hand = np.std(Y[:, 1] - Y[:, 0], ddof=1), np.std(Y[:, 2] - Y[:, 0], ddof=1)
    assert compute_detectable_gain(Y, 0, one) == pytest.approx(DETECTABLE_ERRORS * np.median(by_hand) / np.sqrt(200))


def test_nothing_is_detectable_by_one_config_or_one_group() -> None:
    Y = np.random.default_rng(0).random((30, 2))
    assert np.isnan(compute_detectable_gain(Y[:, :1], 0, GroupBootstrap(np.arange(30))))
    assert np.isnan(compute_detectable_gain(Y, 0, GroupBootstrap(np.zeros(30, dtype=int))))


@pytest.mark.parametrize("gain", [0.05, 0.1])
def test_the_gate_proves_four_gains_in_five_with_the_prompts_the_rule_asks_for(gain: float) -> None:
    """A policy that departs for every prompt, of a known gain; a pilot of 100 prompts names the number needed."""
    rng = np.random.default_rng(1)
    asked, proven = [], []
    for pilot in range(5):
        Y = np.column_stack([np.zeros(100), rng.normal(gain, 0.4, 100)])
        n = count_prompts_needed(compute_detectable_gain(Y, 0, GroupBootstrap(np.arange(100))), 100, gain)
        boot = GroupBootstrap(np.arange(n), n_boot=500, seed=pilot)
        for _ in range(40):
            gains = rng.normal(gain, 0.4, (n, 1))
            proven.append(select(gains, boot).gain.low > 0.0)
        asked.append(n)
    assert np.median(asked) == pytest.approx((DETECTABLE_ERRORS * 0.4 / gain) ** 2, rel=0.3)
    # Of 200, with pilots that guess the scatter: five standard errors either way and more.
    assert 0.65 <= np.mean(proven) <= 0.93


def test_sizes_what_tasks_differ_by() -> None:
    sizing = compute_sizing(0.05, 240, Estimate(0.03, 0.01, 0.05), Estimate(0.2, 0.1, 0.3))
    assert sizing is not None
    assert sizing.by_task
    assert sizing.for_example == 1500
    own = DETECTABLE_ERRORS * 0.04 / (3.92 * 1.31)  # what is chosen on other folds has wider intervals
    assert sizing.for_seen == count_prompts_needed(own, 240, CLOSED * 0.03)
    assert "A gain of 0.02, should a policy have it, takes about 1,500 independent prompts" in sizing.sentence
    assert "nor is that gain proven itself" not in sizing.sentence
    assert json.loads(json.dumps(sizing.to_json()))["seen"] == Estimate(0.03, 0.01, 0.05).to_json()


@pytest.mark.parametrize("told", [True, False])
def test_headroom_asks_for_as_many_prompts_as_a_plain_standard_error(told: bool) -> None:
    """Intervals pay for choices and for folds; the number of prompts must not pay for that twice."""
    n, rng = 400, np.random.default_rng(3)
    even = np.arange(n) % 2 == 0
    # Two kinds of prompts, each with its own best config, and a clear best on the whole.
    means = np.where(even[:, None], [0.8, 0.2, 0.2], [0.3, 0.2, 0.6])
    rewards = (rng.random((n, 3, 8)) < means[:, :, None]).astype(float)
    prompts = [hag.Prompt(f"prompt {i}", task=("even" if even[i] else "odd") if told else "") for i in range(n)]
    table = hag.SweepTable.from_arrays(prompts, list(hag.DecodingSpace.grid(temperature=[0.4, 0.7, 1.0])), rewards)
    found = hag.headroom(table)
    assert found.sizing is not None
    assert found.sizing.by_task is told
    if told:
        gains = np.where(even, 0.0, table.means[:, 2] - table.means[:, 0])
    else:
        half, other = rewards[:, :, :4].mean(axis=2), rewards[:, :, 4:].mean(axis=2)
        gains = np.take_along_axis(other, half.argmax(axis=1)[:, None], axis=1)[:, 0] - other[:, 0]
    needed = (DETECTABLE_ERRORS * gains.std() / (CLOSED * gains.mean())) ** 2
    assert found.sizing.for_seen == pytest.approx(needed, rel=0.25)


def test_sizes_doubtful_gains_with_the_doubt() -> None:
    sizing = compute_sizing(0.05, 240, Estimate(0.01, -0.01, 0.03), None)
    assert sizing is not None
    assert "nor is that gain proven itself" in sizing.sentence


@pytest.mark.parametrize("seen", [Estimate(-0.01, -0.03, 0.01), Estimate(0.0, 0.0, 0.0), Estimate(1e-5, -0.02, 0.02)])
def test_promises_nothing_where_tasks_do_not_differ(seen: Estimate) -> None:
    sizing = compute_sizing(0.05, 240, seen, None)
    assert sizing is not None
    assert sizing.for_seen is None
    assert "no number promises a proof" in sizing.sentence


def test_a_table_that_is_large_enough_is_told_so() -> None:
    sizing = compute_sizing(0.05, 600, Estimate(0.15, 0.12, 0.18), None)
    assert sizing is not None
    assert sizing.for_seen is not None
    assert sizing.for_seen <= 600
    assert "these prompts would prove it" in sizing.sentence


def test_without_tasks_the_split_oracle_speaks_and_without_it_nobody() -> None:
    split = compute_sizing(0.05, 240, None, Estimate(0.08, 0.06, 0.1))
    assert split is not None
    assert not split.by_task
    assert "that read the prompt win any of it, `fit` alone tells" in split.sentence
    none = compute_sizing(0.05, 240, None, None)
    assert none is not None
    assert none.for_seen is None
    assert "name the prompts' tasks" in none.sentence


@pytest.mark.parametrize(("detectable", "n"), [(float("nan"), 240), (0.0, 240), (0.05, 19)])
def test_sizes_nothing_without_something_to_reckon_with(detectable: float, n: int) -> None:
    assert compute_sizing(detectable, n, None, None) is None


def test_headroom_prints_the_rule_for_its_table() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.3, 0.7, 1.1])
    truth = np.where(np.arange(60)[:, None] % 2, [0.7, 0.4, 0.5], [0.3, 0.5, 0.5])
    rewards = (np.random.default_rng(0).random((60, 3, 4)) < truth[:, :, None]).astype(float)
    prompts = [f"prompt {number}" for number in range(60)]
    tasks = ["even" if number % 2 == 0 else "odd" for number in range(60)]
    found = hag.headroom(hag.SweepTable.from_arrays(prompts, space, rewards, tasks=tasks))
    assert found.sizing == compute_sizing(found.detectable, 60, found.per_task_best, found.could_win_low)
    assert found.sizing is not None
    assert str(found).endswith(found.sizing.sentence)
    assert json.loads(json.dumps(found.to_json()))["sizing"]["for_example"] == found.sizing.for_example
    few = hag.headroom(hag.SweepTable.from_arrays(prompts[:10], space, rewards[:10]))
    assert few.sizing is None
    assert few.to_json()["sizing"] is None


def test_nothing_is_promised_that_fit_then_puts_at_nothing() -> None:
    """Each prompt has its own best of two configs, and no word of it tells which: the oracle gains, no policy does."""
    rng = np.random.default_rng(0)
    n = 1500
    truth = np.where(rng.random(n)[:, None] < 0.5, [0.9, 0.3], [0.3, 0.9])
    rewards = (rng.random((n, 2, 4)) < truth[:, :, None]).astype(float)
    space = hag.DecodingSpace.grid(temperature=[0.5, 1.0])
    table = hag.SweepTable.from_arrays([f"question {rng.integers(10**9)}" for _ in range(n)], space, rewards)
    found = hag.headroom(table)
    assert found.sizing is not None
    assert found.sizing.seen is not None
    assert found.sizing.seen.low > 0.1
    assert "these prompts would prove it" in found.sizing.sentence
    assert "Whether policies that read the prompt win any of it, `fit` alone tells: if they" in found.sizing.sentence
    assert "a policy wins" not in found.sizing.sentence
    assert hag.fit(table, learner="ridge").ships_sbs
