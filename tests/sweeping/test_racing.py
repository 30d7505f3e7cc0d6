"""Racing: what is dropped and kept, what the mask leaves, and that it does no harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from benchmarks.claims.fitting import worlds
from benchmarks.tools import raced
from hagpolicy.data.additive import fit_additive
from hagpolicy.data.store.cells import View
from hagpolicy.sweeping.strategies.base import Observation
from hagpolicy.sweeping.strategies.posterior import Posterior, assign_kinds
from hagpolicy.sweeping.strategies.racing import rounds

SPACE = worlds.SPACE


def drawn(truth: np.ndarray, samples: int, prompts: list, seed: int = 0, **more: object) -> hag.SweepTable:
    rng = np.random.default_rng(seed)
    rewards = (rng.random((*truth.shape, samples)) < truth[:, :, None]).astype(float)
    rewards[:, SPACE.deterministic[: truth.shape[1]], 1:] = np.nan
    return hag.SweepTable.from_arrays(prompts, SPACE[: truth.shape[1]], rewards, **more)


def two_kinds(n: int, seed: int = 0) -> hag.SweepTable:
    """Config 5 is best for one task, 8 for the other, 3 and 10 are hopeless, 0 is the default; the rest is alike."""
    prompts = [hag.Prompt(f"prompt {i} of kind {i % 2}", task="ab"[i % 2]) for i in range(n)]
    truth = np.full((n, len(SPACE)), 0.45)
    truth[0::2, 5], truth[1::2, 5] = 0.85, 0.25
    truth[1::2, 8], truth[0::2, 8] = 0.85, 0.25
    truth[:, [3, 10]] = 0.05
    return drawn(truth, 4, prompts, seed, default=0)


def test_additive_fit_is_row_and_column_means_where_nothing_is_missing() -> None:
    Y = np.random.default_rng(0).random((30, 5))
    level, effect = fit_additive(Y)
    np.testing.assert_allclose(effect, Y.mean(axis=0))
    np.testing.assert_allclose(level, Y.mean(axis=1) - Y.mean())


def test_additive_fit_does_not_take_a_config_tried_on_hard_prompts_for_a_bad_one() -> None:
    hard = np.where(np.arange(40) < 20, -0.3, 0.3)
    Y = 0.5 + hard[:, None] + np.array([0.0, 0.1, -0.1])
    Y[20:, 1] = np.nan
    _, effect = fit_additive(Y)
    np.testing.assert_allclose(effect - effect[0], [0.0, 0.1, -0.1], atol=1e-6)
    assert np.nanmean(Y[:, 1]) < np.nanmean(Y[:, 2])  # the plain mean gets it wrong
    Y[:, 2] = np.nan
    Y[3] = np.nan
    level, effect = fit_additive(Y)
    assert np.isnan(effect[2])
    assert np.isnan(level[3])
    assert not np.isnan(effect[:2]).any()


def test_rare_labels_are_one_kind() -> None:
    labels = ["x"] * 20 + ["y"] * 15 + [f"rare {i}" for i in range(6)]
    kinds = assign_kinds([hag.Prompt(f"prompt {i}", task=label) for i, label in enumerate(labels)])
    assert len(set(kinds)) == 3
    assert len(set(kinds[-6:])) == 1
    assert assign_kinds([hag.Prompt(f"prompt {i}") for i in range(5)]).tolist() == [0] * 5


def test_prompts_without_labels_are_clustered_by_their_words() -> None:
    world = hag.SimulatedEngine(2, n_tasks=2)
    prompts = world.prompts(400)
    kinds = assign_kinds([hag.Prompt(prompt.text) for prompt in prompts])
    tasks = np.array([prompt.task for prompt in prompts])
    pure = sum(max(np.unique(tasks[kinds == kind], return_counts=True)[1]) for kind in set(kinds))
    assert pure > 0.65 * len(prompts)  # by luck some 0.56
    assert assign_kinds([hag.Prompt("the same words") for _ in range(60)]).max() < 60


def test_worth_drops_the_hopeless_and_not_the_complementary() -> None:
    table = two_kinds(200)
    posterior = Posterior.of(table.means, assign_kinds(table.prompts), table.groups, seed=0)
    out = np.flatnonzero(posterior.find_dominated(range(len(SPACE)), 0.001))
    assert {3, 10} <= set(out.tolist())
    assert not {5, 8} & set(out.tolist())
    losses = posterior.expect_losses(range(len(SPACE)))
    assert set(np.argsort(-losses)[:2].tolist()) == {5, 8}
    assert posterior.expect_best([5, 8]) > max(posterior.expect_best([5]), posterior.expect_best([8])) + 0.1


def test_a_promise_pays_for_what_is_not_known_and_not_proven() -> None:
    table = two_kinds(60)
    seen = table.rewards[:, :, 0].copy()
    seen[24:] = np.nan  # little is known yet
    posterior = Posterior.of(seen, assign_kinds(table.prompts), table.groups, seed=0)

    def promise(configs: list[int], samples: float, common: int) -> float:
        return posterior.expect_after_sampling(configs, np.full((2, len(configs)), samples), common)

    everything = list(range(len(SPACE)))
    assert promise(everything, 200.0, 2) > promise(everything, 2.0, 2) + 0.01  # a choice by few samples is often wrong
    assert promise([5, 8], 50.0, 8) > promise([5, 8], 50.0, 1)  # what is judged on little is not shipped
    assert promise([5, 8], 50.0, 2) > promise([5], 50.0, 2) + 0.05
    assert promise([5], 50.0, 2) == pytest.approx(posterior.expect_best([5]), abs=0.01)  # nothing to choose or prove


def test_nothing_is_dominated_where_all_are_equal() -> None:
    """The paired test keeps its level: over many looks at equal configs next to none is dropped."""
    dropped = 0
    for seed in range(40):
        Y = (np.random.default_rng(seed).random((100, 8)) < 0.5).astype(float)
        posterior = Posterior.of(Y, np.zeros(100, dtype=np.int64), np.arange(100), seed)
        dropped += bool(posterior.find_dominated(range(8), 0.05 / 21).any())
    assert dropped <= 4


def test_racing_keeps_the_portfolio_and_its_promises() -> None:
    table = two_kinds(160)
    budget = raced.budget_of(table)
    left = raced.strategy("racing")(table, budget, 3)  # the driver holds it to the budget
    kept = [SPACE.index(config) for config in left.space]
    assert {0, 5, 8} <= set(kept)
    assert not {3, 10} & set(kept)
    assert left.default == kept.index(0)
    assert left.common is not None
    assert left.common >= 2
    # The same first samples of every kept config for every prompt; a greedy config has one.
    counts = (~np.isnan(left.common_rewards)).sum(axis=2)
    assert (counts == np.where(left.space.deterministic, 1, left.common)).all()
    assert np.isnan(left.rewards[:, :, left.common :]).any()
    assert (left.rewards[~np.isnan(left.rewards)] == table.in_space(left.space).rewards[~np.isnan(left.rewards)]).all()
    again = raced.strategy("racing")(table, budget, 3)
    np.testing.assert_array_equal(left.rewards, again.rewards)


def test_what_the_race_looked_at_is_not_judged() -> None:
    """Samples of the race that lie about a config change which are kept, and no judged sample."""
    table = two_kinds(160)
    lucky = table.rewards.copy()
    lucky[:, 2, 3] = 1.0
    left = raced.strategy("racing")(replace(table, rewards=lucky), raced.budget_of(table), 3)
    assert SPACE[2] in left.space
    assert left.common is not None
    assert left.common < 4
    judged = left.common_means[:, left.space.index(SPACE[2])]
    assert judged.mean() == pytest.approx(table.rewards[:, 2, : left.common].mean())


def test_added_samples_go_where_the_choice_is_open() -> None:
    """Of two equal configs both get added samples; the hopeless one of the three gets hardly any."""
    n = 120
    truth = np.full((n, 3), 0.6)
    truth[:, 2] = 0.15
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.8, 1.0])
    prompts = [f"prompt {i}" for i in range(n)]
    rewards = (np.random.default_rng(0).random((n, 3, 8)) < truth[:, :, None]).astype(float)
    table = hag.SweepTable.from_arrays(prompts, space, rewards, default=2)
    left = raced.strategy("racing")(table, 8 * n, 0)
    extra = left.counts.sum(axis=0) - n * left.common
    assert extra[:2].min() > 5 * max(extra[2], 1)


def test_fit_compares_by_common_samples_and_learns_from_all() -> None:
    table = two_kinds(120)
    common = replace(table, rewards=table.rewards[:, :, :2], common=None)
    added = replace(table, common=2)
    assert hag.headroom(common).to_json() == hag.headroom(added).to_json()
    one, two = (hag.fit(each, learner="ridge") for each in (common, added))
    for name in ("engine_default", "random", "sbs", "split_vbs", "naive_vbs"):
        assert replace(one.evaluation.row(name), note="") == replace(two.evaluation.row(name), note="")
    assert two.evaluation.row("random").note == "a kept config drawn at random"
    assert one.evaluation.sbs_over_default == two.evaluation.sbs_over_default
    assert one.sbs_index == two.sbs_index
    new = [hag.Prompt(f"prompt {i} of kind {i % 2}", task="ab"[i % 2]) for i in range(500, 520)]
    assert not np.array_equal(one.values(new), two.values(new))  # the added samples taught the learner


def test_added_samples_move_no_config_mean() -> None:
    """Added samples that all are lucky for one config do not make it the single best."""
    rewards = np.full((60, 3, 4), np.nan)
    rewards[:, :, :2] = (np.random.default_rng(1).random((60, 3, 2)) < [[[0.6], [0.5], [0.4]]]).astype(float)
    rewards[:, 2, 2:] = 1.0
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.8, 1.0])
    prompts = [f"prompt number {i}" for i in range(60)]
    table = replace(hag.SweepTable.from_arrays(prompts, space, rewards, default=1), common=2)
    assert table.means.mean(axis=0).argmax() == 2
    policy = hag.fit(table, learner="constant")
    assert policy.sbs_index == table.common_means.mean(axis=0).argmax() == 0
    assert {decision.index for decision in policy.decide_batch(["anything"])} == {1}  # not proven over it
    np.testing.assert_allclose(policy.values(["anything"])[0], table.common_means.mean(axis=0), rtol=1e-6)


def test_a_prompt_that_lacks_a_kept_cell_is_left_out_and_counted() -> None:
    table = replace(two_kinds(100), common=2)
    rewards = table.rewards.copy()
    rewards[:6, 4, :2] = np.nan  # only samples beyond the common ones are left
    holed = replace(table, rewards=rewards)
    assert hag.headroom(holed).n_left_out == 6
    assert hag.fit(holed, learner="ridge").evaluation.n_left_out == 6


def test_failed_cells_and_one_sample_stop_no_race(tmp_path: Path) -> None:
    engine = hag.SimulatedEngine(4, space=SPACE, fail_rate=0.1)
    table = hag.sweep(
        engine, engine.prompts(60), SPACE, engine.scorer, samples=1, max_tokens=16, out=tmp_path / "s",
        strategy="racing", budget=400, progress=False,
    )  # fmt: skip
    assert table.common == 1
    assert 0 < (~table.complete).sum() < 40
    assert np.isnan(table.rewards).any()  # a failed cell stays missing
    assert hag.headroom(table).n_left_out == (~table.complete).sum()


def test_a_budget_for_everything_drops_only_what_is_dominated() -> None:
    table = two_kinds(120)
    left = raced.strategy("racing")(table, int(table.counts.sum()), 0)
    assert left.common == 3  # the fourth is the race's own
    assert {3, 10}.isdisjoint(SPACE.index(config) for config in left.space)
    assert len(left.space) >= len(SPACE) - 6


def test_racing_finds_the_best_config_more_often_than_uniform_does() -> None:
    ladder = np.linspace(0.35, 0.6, len(SPACE))
    prompts = [f"prompt {i}" for i in range(100)]
    ours, theirs = [], []
    for seed in range(14):
        order = np.random.default_rng(seed).permutation(len(SPACE))
        table = drawn(np.tile(ladder[order], (100, 1)), 4, prompts, seed, default=0)
        budget = raced.budget_of(table)
        left = raced.strategy("racing")(table, budget, seed)
        best = left.space[int(left.common_means.mean(axis=0).argmax())]
        ours.append(ladder[order][SPACE.index(best)])
        even = raced.uniform(table, budget, seed)
        theirs.append(ladder[order][int(np.nanmean(even.means, axis=0).argmax())])
    assert np.mean(ours) > np.mean(theirs)
    assert np.mean(ours) > 0.57


def test_null_worlds_ship_the_single_best_config_under_racings_mask() -> None:
    def mask(table: hag.SweepTable) -> hag.SweepTable:
        return raced.strategy("racing")(table, raced.budget_of(table), 0)

    outcome = worlds.run_world("different", 1000, mask)
    assert not outcome.shipped
    assert outcome.low <= outcome.candidate_gain <= outcome.high


def test_where_the_budget_shrank_below_all_sets_the_smallest_is_asked_for() -> None:
    """A budget of tokens comes to fewer generations once the answers turn out to be long."""
    table = two_kinds(80)
    view = View(table.prompts, SPACE, 4, 64, 0, 0, ("",) * 80)
    race = rounds(view, 3000, 0)
    mask = next(race)
    asked = int(mask.sum())
    for _ in range(3):  # the looks
        seen = replace(table, rewards=np.where(mask, table.rewards, np.nan))
        mask = race.send(Observation(seen, asked, False))
    everyone = mask.all(axis=0).any(axis=1)
    assert 1 <= everyone.sum() <= 2  # the best and the default
    assert everyone[0]
