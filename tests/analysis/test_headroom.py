"""Headroom on worlds of known truth, on coins, and on public data."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import hagpolicy as hag
from tests.support.drawing import SPACE, drawn, table_of
from tests.support.paths import DATA


def test_headroom_orders_the_oracles_and_says_it_plainly(strong: tuple) -> None:
    world, table, _ = strong
    h = hag.headroom(table)
    truth = world.truth(table.prompts, SPACE)
    assert h.split_vbs is not None
    assert h.split_vbs_sampled is not None
    assert h.per_task_best is not None
    assert h.sbs.value < h.split_vbs_sampled.value < h.naive_vbs.value
    assert h.naive_vbs.value > truth.max(axis=1).mean() + 0.03  # biased upward, and by how much
    assert h.split_vbs_sampled.value < truth.max(axis=1).mean()
    assert h.per_task_best.low > 0
    assert h.sbs_over_default is not None
    for words in ("engine's default", "knowing each prompt's best", "can prove a gain of"):
        assert words in str(h)
    assert json.loads(json.dumps(h.to_json()))["n_prompts"] == 250


def test_sbs_over_default_covers_the_truth(null: tuple) -> None:
    table, _ = null
    truth = hag.SimulatedEngine(4, gap=0.0, config_effect=0.1).truth(table.prompts, SPACE).mean(axis=0)
    gain = hag.headroom(table).sbs_over_default
    assert gain is not None
    assert table.default is not None
    best = truth[int(table.means.mean(axis=0).argmax())] - truth[table.default]
    assert gain.low <= best <= gain.high


def test_deterministic_configs_alone_give_no_lower_end() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.0], repetition_penalty=[1.0, 1.1, 1.2])
    h = hag.headroom(table_of(drawn(60, 3, 1), space))
    assert h.split_vbs is None
    assert h.could_win_low is None
    assert "at least" not in h.sentence
    assert "two sampled configurations" in h.sentence


@pytest.mark.parametrize("configs", [1, 3])
def test_nothing_to_choose_is_said(configs: int) -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9][:configs])
    h = hag.headroom(table_of(np.repeat(drawn(40, 1, 3), configs, axis=1), space))
    assert "nothing can be won per prompt" in h.sentence
    assert "nan" not in str(h)
    json.dumps(h.to_json(), allow_nan=False)


def test_one_group_is_no_knowledge() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    rewards = drawn(40, 3, 4)
    rewards[:, 1] = np.maximum(rewards[:, 1], 0.5)
    table = table_of(rewards, space, groups=["a"] * 40)
    h = hag.headroom(table)
    assert (h.naive_vbs.low, h.naive_vbs.high) == (-1.0, 1.0)
    assert any("1 independent group: too few" in warning for warning in h.warnings)
    assert "can prove nothing" in h.sentence
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy = hag.fit(table)
    assert policy.evaluation.row("sbs").value == table.means.mean(axis=0).max()
    assert "beat" not in policy.reason.replace("beats", "")  # nothing was tried, so nothing failed


@pytest.mark.skipif(not (DATA / "jhu-gpt35").exists(), reason="the public data is not here (HAGPOLICY_DATA)")
def test_known_data_gives_the_known_headroom() -> None:
    from benchmarks.sweeps import jhu

    h = hag.headroom(jhu.load(DATA))
    assert h.naive_vbs.value == pytest.approx(0.755, abs=0.002)
    assert h.split_vbs is not None
    assert h.split_vbs_sampled is not None
    assert 0.65 <= h.split_vbs.value <= 0.69
    assert 0.595 <= h.split_vbs_sampled.value <= 0.63
    assert h.sbs.value == pytest.approx(0.585, abs=0.01)


def test_headroom_and_fit_say_the_same_of_the_same_line(null: tuple) -> None:
    table, policy = null
    found, row = hag.headroom(table), policy.evaluation.row
    task, naive = row("best_per_task"), row("naive_vbs")
    assert (found.per_task_best.low, found.per_task_best.high) == pytest.approx((task.gain_low, task.gain_high))
    assert (found.could_win_high.low, found.could_win_high.high) == pytest.approx((naive.gain_low, naive.gain_high))
    assert found.sbs_over_default == policy.evaluation.sbs_over_default
    assert row("policy").over_default == hag.Estimate(0.0, 0.0, 0.0)  # the default, which stands


def test_exact_ties_are_no_gain_of_a_rounding_error() -> None:
    """Every config is worth .3 at this price, and floating point says so to the 16th digit only."""
    space = hag.DecodingSpace.grid(temperature=[0.2, 0.5, 0.9])
    tokens = np.random.default_rng(0).integers(1, 60, (80, 3, 4)).astype(float)
    table = table_of(0.3 + 0.001 * tokens, space, tokens=tokens)
    found = hag.headroom(table, objective="price/token@0.001")
    assert found.could_win_high.value == found.could_win_low.value == 0.0
    evaluation = hag.fit(table, learner="constant", objective="price/token@0.001").evaluation
    assert all(row.gap_closed is None for row in evaluation.rows)
