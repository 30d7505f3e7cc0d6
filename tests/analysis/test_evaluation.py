"""Evaluation of a policy on another table."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.errors import InvalidInput
from tests.support.drawing import SPACE, draw, drawn


def test_evaluate_on_another_table_leaves_out_what_was_trained_on(strong: tuple) -> None:
    world, table, policy = strong
    other = draw(world, 200, 4, seed=5)
    e = hag.evaluate(policy, other)
    assert e.row("policy").gain_low > 0
    assert e.row("best_per_task").gain > 0
    overlap = sum(prompt in set(table.prompts) for prompt in other.prompts)
    assert e.n_left_out == overlap
    with pytest.raises(InvalidInput, match="not trained on"):
        hag.evaluate(policy, table)


def test_evaluate_needs_every_config_of_the_policy(strong: tuple) -> None:
    world, _, policy = strong
    other = draw(world, 50, 2, seed=6)
    smaller = hag.SweepTable.from_arrays(other.prompts, SPACE[:5], other.rewards[:, :5])
    with pytest.raises(InvalidInput, match="every config"):
        hag.evaluate(policy, smaller)


def test_space_order_and_extra_configs_do_not_matter_to_evaluate(strong: tuple) -> None:
    world, _, policy = strong
    other = draw(world, 100, 4, seed=7)
    space, _ = hag.DecodingSpace(reversed(SPACE)).with_config(hag.DecodingConfig(temperature=2.0))
    rewards = np.concatenate([other.rewards[:, ::-1], other.rewards[:, :1]], axis=1)
    turned = hag.SweepTable.from_arrays(other.prompts, space, rewards)
    assert hag.evaluate(policy, turned).row("policy").value == hag.evaluate(policy, other).row("policy").value


def test_evaluate_leaves_out_the_groups_that_were_trained_on() -> None:
    world = hag.SimulatedEngine(8)
    texts = [prompt.text for prompt in world.prompts(120)]
    rewards = (np.random.default_rng(0).random((120, 10, 2)) < 0.5).astype(float)
    groups = [f"document {n // 2}" for n in range(120)]
    policy = hag.fit(hag.SweepTable.from_arrays(texts[:80:2], SPACE, rewards[:80:2], groups=groups[:80:2]))
    other = hag.SweepTable.from_arrays(texts[1::2], SPACE, rewards[1::2], groups=groups[1::2])
    e = hag.evaluate(policy, other)
    assert e.n_left_out == 40
    assert e.n_prompts == 20


def test_evaluate_on_few_or_foreign_prompts_says_so(strong: tuple) -> None:
    _, _, policy = strong
    prompts = [f"SELECT a{i} FROM t{i} WHERE {{x: [{i}]}};" for i in range(8)]
    e = hag.evaluate(policy, hag.SweepTable.from_arrays(prompts, SPACE, drawn(8, 10, 2)))
    assert any("8 independent groups: too few" in warning for warning in e.warnings)
    assert e.fallbacks > 0.5
    assert f"{e.fallbacks:.0%} of the prompts are unlike the training prompts" in str(e)
