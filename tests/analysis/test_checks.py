"""What is warned about: copied samples, unequal greedy outcomes, a best config that is not proven."""

from __future__ import annotations

import numpy as np

import hagpolicy as hag
from tests.support.drawing import SPACE, drawn, table_of


def test_copied_samples_are_named() -> None:
    rng = np.random.default_rng(0)
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9, 1.1])
    rewards = (rng.random((100, 4, 5)) < 0.5).astype(float)
    rewards[:, 2] = rewards[:, 2, :1]
    prompts = [f"prompt {i}" for i in range(100)]

    def copied() -> list[str]:
        found = hag.headroom(hag.SweepTable.from_arrays(prompts, space, rewards)).warnings
        return [warning for warning in found if "copied" in warning]

    assert len(copied()) == 1
    assert "config 2" in copied()[0]
    rewards[:] = rewards[:, :, :1]
    assert len(copied()) == 4


def test_unequal_greedy_outcomes_are_used_and_named() -> None:
    rewards = (np.random.default_rng(0).random((60, 10, 3)) < 0.5).astype(float)
    h = hag.headroom(hag.SweepTable.from_arrays([f"p {i}" for i in range(60)], SPACE, rewards))
    assert any("unequal outcomes" in warning for warning in h.warnings)


def test_copies_are_named_although_a_sample_failed() -> None:
    rewards = drawn(100, 4, 5)
    rewards[:, 2] = rewards[:, 2, :1]
    rewards[7, 2, 1:] = rewards[9, :2, 1:] = np.nan
    found = hag.headroom(table_of(rewards, hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9, 1.1])))
    assert [warning for warning in found.warnings if "config 2" in warning]
    assert found.n_samples == 5
    assert found.could_win_low is not None


def test_a_best_config_that_is_not_proven_better_than_the_default_is_named(strong: tuple) -> None:
    noise = (np.random.default_rng(3).random((80, 10, 2)) < 0.5).astype(float)
    prompts = hag.SimulatedEngine(0).prompts(80)
    table = hag.SweepTable.from_arrays(prompts, SPACE, noise, default=3)
    assert any("not proven better than the engine's default" in warning for warning in hag.headroom(table).warnings)
    assert any("not proven better" in warning for warning in hag.fit(table, learner="knn").evaluation.warnings)
    clear = noise * 0.2
    clear[:, 5] = 0.9
    table = hag.SweepTable.from_arrays(prompts, SPACE, clear, default=3)
    assert not any("not proven better" in warning for warning in hag.headroom(table).warnings)
    assert not hag.headroom(table).sbs_is_default


def test_a_default_that_is_the_best_config_is_called_that() -> None:
    prompts = hag.SimulatedEngine(0).prompts(120)
    rewards = (np.random.default_rng(5).random((120, 10, 2)) < 0.5).astype(float)
    best = int(rewards.mean(axis=(0, 2)).argmax())
    table = hag.SweepTable.from_arrays(prompts, SPACE, rewards, default=best)
    found, evaluation = hag.headroom(table), hag.fit(table, learner="ridge").evaluation
    assert found.sbs_is_default
    assert "is the engine's default;" in found.sentence
    # Ten configs that tie: choosing among them costs, and that much is what the default is ahead of the choice.
    cost = evaluation.row("engine_default").gain
    assert cost > 0.0
    assert evaluation.sbs_over_default == hag.Estimate(0.0, 0.0, 0.0)
    assert evaluation.candidate.over == "default"
    for said in (found.warnings, evaluation.warnings):
        assert any(f"come out larger by {cost:.3f}" in warning for warning in said)
    one = hag.SweepTable.from_arrays([hag.Prompt(p.text, group="one") for p in prompts], SPACE, rewards, default=best)
    assert not any("come out larger" in warning for warning in hag.headroom(one).warnings)
