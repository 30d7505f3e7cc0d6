"""Evaluation of a policy on another table."""

from __future__ import annotations

from pathlib import Path

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


def test_evaluate_takes_a_folder_and_refuses_what_is_no_policy(strong: tuple, tmp_path: Path) -> None:
    world, _, policy = strong
    other = draw(world, 60, 2, seed=5)
    assert hag.evaluate(policy.save(tmp_path / "policy"), other) == hag.evaluate(policy, other)
    with pytest.raises(InvalidInput, match=r"policy: expected a Policy, or the folder of one.*hag\.compare"):
        hag.evaluate([policy, policy], other)  # type: ignore[arg-type]


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


def check_values(evaluation: hag.Evaluation, prompts: list[hag.Prompt], corrected: set[str]) -> None:
    """Values of single prompts are those of the rows, but for what is corrected for choosing."""
    found = evaluation.per_prompt
    assert found is not None
    assert found.prompts == tuple(prompt.digest for prompt in prompts)
    assert [row.name for row in evaluation.rows] == list(found.values)
    for row in evaluation.rows:
        assert found.values[row.name].shape == (evaluation.n_prompts,)
        if row.name not in corrected:
            assert found.values[row.name].mean() == pytest.approx(row.value)
    assert (found.values["naive_vbs"] >= found.values["sbs"] - 1e-9).all()


def test_an_evaluation_keeps_what_each_row_was_worth_on_each_prompt(strong: tuple) -> None:
    world, table, policy = strong
    other = draw(world, 200, 4, seed=5)
    fresh = [prompt for prompt in other.prompts if prompt not in set(table.prompts)]
    e = hag.evaluate(policy, other)
    check_values(e, fresh, set())
    at = [other.space.index(config) for config in policy.predict_batch(fresh)]
    rows = [other.prompts.index(prompt) for prompt in fresh]
    np.testing.assert_allclose(e.per_prompt.values["policy"], other.means[rows, at])
    paired = hag.compare(policy, policy.reference, other)
    np.testing.assert_allclose([a for _, a, _ in paired.per_prompt], e.per_prompt.values["policy"])


def test_a_fit_keeps_them_too_and_no_file_does(strong: tuple, tmp_path) -> None:
    _, table, policy = strong
    e = policy.evaluation
    gated = {row.name for row in e.rows if "before the gate" in row.note or "ships where" in row.note}
    check_values(e, list(table.prompts), {"policy", *gated})
    gain = e.per_prompt.values["policy"] - e.per_prompt.values["sbs"]
    assert gain.mean() == pytest.approx(e.row("policy").gain, abs=0.03)
    assert "per_prompt" not in e.to_json()
    policy.save(tmp_path / "policy")
    assert hag.load(tmp_path / "policy").evaluation.per_prompt is None
    assert hag.load(tmp_path / "policy").evaluation == e


def test_an_evaluation_as_frames(strong: tuple) -> None:
    e = strong[2].evaluation
    frame = e.to_frame()
    assert frame["name"].tolist() == [row.name for row in e.rows]
    assert frame.set_index("name").loc["policy", "gain_low"] == e.row("policy").gain_low
    assert {"over_default", "over_default_low", "over_default_high", "cost", "note"} <= set(frame)
    assert frame["gap_closed"].dtype == frame["cost"].dtype == float
    values = e.per_prompt.to_frame()
    assert values.columns.tolist() == ["prompt", *frame["name"]]
    assert len(values) == len(e.per_prompt) == e.n_prompts
