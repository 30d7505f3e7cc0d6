"""Headroom, fit and evaluate on worlds of known truth."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.encoders.precomputed import with_vectors
from hagpolicy.errors import InvalidInput
from hagpolicy.learners.linear import Ridge
from hagpolicy.near_duplicates import join_groups, similar_pairs
from hagpolicy.prompts import as_prompts
from hagpolicy.rivals import get_rival

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.4, 0.7, 1.0, 1.3], repetition_penalty=[1.0, 1.1])
ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("HAGPOLICY_DATA", ROOT.parent / "shared" / "data"))


def draw(world: hag.SimulatedEngine, n: int, samples: int, seed: int = 1) -> hag.SweepTable:
    """A table of a world, deterministic configs drawn once."""
    prompts = world.prompts(n, seed)
    truth = world.truth(prompts, SPACE)
    rng = np.random.default_rng(seed)
    rewards = (rng.random((*truth.shape, samples)) < truth[:, :, None]).astype(float)
    rewards[:, SPACE.deterministic, 1:] = np.nan
    return hag.SweepTable.from_arrays(prompts, SPACE, rewards, default=SPACE.index(hag.DecodingConfig()))


@pytest.fixture(scope="module")
def strong() -> tuple[hag.SimulatedEngine, hag.SweepTable, hag.Policy]:
    world = hag.SimulatedEngine(3, gap=0.15, space=SPACE)
    table = draw(world, 250, 8)
    return world, table, hag.fit(table)


@pytest.fixture(scope="module")
def null() -> tuple[hag.SweepTable, hag.Policy]:
    table = draw(hag.SimulatedEngine(4, gap=0.0, config_effect=0.1), 150, 4)
    return table, hag.fit(table)


def test_headroom_orders_the_oracles_and_says_it_plainly(strong: tuple) -> None:
    world, table, _ = strong
    h = hag.headroom(table)
    truth = world.truth(table.prompts, SPACE)
    assert h.split_oracle is not None
    assert h.split_oracle_sampled is not None
    assert h.per_task_best is not None
    assert h.sbs.value < h.split_oracle_sampled.value < h.naive_oracle.value
    assert h.naive_oracle.value > truth.max(axis=1).mean() + 0.03  # biased upward, and by how much
    assert h.split_oracle_sampled.value < truth.max(axis=1).mean()
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


def test_missing_cells_leave_the_prompt_out_and_are_never_zero(strong: tuple) -> None:
    _, table, _ = strong
    rewards = table.rewards.copy()
    rewards[:7, 3] = np.nan
    holed = hag.SweepTable.from_arrays(table.prompts, SPACE, rewards, default=table.default)
    assert hag.headroom(holed).n_left_out == 7
    rewards[:, 3] = np.nan
    with pytest.raises(InvalidInput, match="configs without any scored sample: 1"):
        hag.headroom(hag.SweepTable.from_arrays(table.prompts, SPACE, rewards))


def test_fit_ships_and_wins_where_there_is_something_to_win(strong: tuple) -> None:
    world, _, policy = strong
    found = policy.evaluation.candidate
    assert found.shipped
    assert not policy.ships_sbs
    assert policy.candidate is None
    new = world.prompts(500, seed=9)
    truth = world.truth(new, SPACE)
    chosen = truth[np.arange(500), [decision.index for decision in policy.decide_batch(new)]]
    gained = (chosen - truth[:, policy.sbs_index]).mean()
    assert found.gain.low <= gained <= found.gain.high
    assert gained >= 0.8 * (truth.max(axis=1) - truth[:, policy.sbs_index]).mean()


def test_the_ladder_is_complete_and_in_order(strong: tuple) -> None:
    names = [row.name for row in strong[2].evaluation.rows]
    assert names == [
        "engine_default", "random", "sbs", "best_per_task", "nearest", "blend", "policy", "split_vbs", "naive_vbs",
    ]  # fmt: skip
    sbs = strong[2].evaluation.row("sbs")
    assert sbs.gain == sbs.gain_low == sbs.gain_high == 0.0


def test_the_gate_holds_where_nothing_is_to_be_won(null: tuple) -> None:
    table, policy = null
    assert policy.ships_sbs
    assert not policy.evaluation.candidate.shipped
    assert policy.evaluation.row("policy").gain == 0.0
    assert set(policy.predict_batch(["anything at all", "List ten birds."])) == {policy.sbs}
    np.testing.assert_allclose(policy.values(["anything"])[0], table.means.mean(axis=0), rtol=1e-6)
    assert policy.decide("anything").reason == "sbs_shipped"
    if policy.candidate is not None:
        assert "not proven" in policy.candidate.reason


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
    cost = -evaluation.sbs_over_default.value
    assert cost > 0.0
    for said in (found.warnings, evaluation.warnings):
        assert any(f"choosing it among all costs {cost:.3f}" in warning for warning in said)
    assert evaluation.row("engine_default").gain == pytest.approx(cost, abs=0.3 * cost)
    one = hag.SweepTable.from_arrays([hag.Prompt(p.text, group="one") for p in prompts], SPACE, rewards, default=best)
    assert not any("choosing" in warning for warning in hag.headroom(one).warnings)


def test_every_ladder_has_neighbours_unless_a_learner_bears_their_name() -> None:
    table = table_of(drawn(60, 3, 2), hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0]))

    class Namesake(Ridge):
        name = "nearest"

    def names(**more: Any) -> list[str]:
        return [row.name for row in hag.fit(table, **more).evaluation.rows]

    assert "nearest" in names(learner="ridge")
    assert "nearest" not in names(learner="ridge", rivals=())
    assert names(learner=Namesake()).count("nearest") == 1
    with pytest.raises(InvalidInput, match="no other line of the ladder bears"):
        hag.fit(table, learner=Namesake(), rivals=["nearest"])


def test_a_rival_of_one_group_is_called_biased() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])
    prompts = [hag.Prompt(prompt.text, group="one") for prompt in hag.SimulatedEngine(0).prompts(40)]
    evaluation = hag.fit(hag.SweepTable.from_arrays(prompts, space, drawn(40, 3, 2)), learner="ridge").evaluation
    assert "biased upward" in evaluation.row("nearest").note


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


def test_few_groups_ship_sbs_without_a_search() -> None:
    table = draw(hag.SimulatedEngine(1), 15, 2)
    policy = hag.fit(table)
    assert policy.ships_sbs
    assert any("too few to prove" in warning for warning in policy.evaluation.warnings)


def test_bad_tables_and_seeds_are_refused(strong: tuple) -> None:
    _, table, policy = strong
    for call in (hag.headroom, hag.fit, lambda given: hag.evaluate(policy, given)):
        with pytest.raises(InvalidInput, match="load_table"):
            call("sweeps/smol")
    for seed in (-1, 1.5, "x", True):
        with pytest.raises(InvalidInput, match="seed"):
            hag.headroom(table, seed=seed)


def test_bad_arguments(strong: tuple) -> None:
    bad: list[dict] = [{"margins": []}, {"margins": [-0.1]}, {"margins": [float("nan")]}, {"learner": "rigde"}]
    bad += [{"margins": margins} for margins in (0.1, "0.1", [None], ["x"], [float("inf")], [[0.1]], np.array([]))]
    bad += [{"learner": []}, {"encoder": []}, {"near_duplicates": 0.0}, {"near_duplicates": 80}]
    for arguments in bad:
        with pytest.raises(InvalidInput, match=next(iter(arguments))):
            hag.fit(strong[1], **arguments)


def table_of(rewards: np.ndarray, space: hag.DecodingSpace, **more: Any) -> hag.SweepTable:
    prompts = [prompt.text for prompt in hag.SimulatedEngine(0).prompts(len(rewards))]
    return hag.SweepTable.from_arrays(prompts, space, rewards, **more)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < 0.5).astype(float)


def test_deterministic_configs_alone_give_no_lower_end() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.0], repetition_penalty=[1.0, 1.1, 1.2])
    h = hag.headroom(table_of(drawn(60, 3, 1), space))
    assert h.split_oracle is None
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
    assert (h.naive_oracle.low, h.naive_oracle.high) == (-1.0, 1.0)
    assert any("1 independent group: too few" in warning for warning in h.warnings)
    assert "can prove nothing" in h.sentence
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy = hag.fit(table)
    assert policy.evaluation.row("sbs").value == table.means.mean(axis=0).max()
    assert "beat" not in policy.reason.replace("beats", "")  # nothing was tried, so nothing failed


def test_evaluate_on_few_or_foreign_prompts_says_so(strong: tuple) -> None:
    _, _, policy = strong
    prompts = [f"SELECT a{i} FROM t{i} WHERE {{x: [{i}]}};" for i in range(8)]
    e = hag.evaluate(policy, hag.SweepTable.from_arrays(prompts, SPACE, drawn(8, 10, 2)))
    assert any("8 independent groups: too few" in warning for warning in e.warnings)
    assert e.fallbacks > 0.5
    assert f"{e.fallbacks:.0%} of the prompts are unlike the training prompts" in str(e)


def test_a_share_of_an_unproven_gap_is_not_printed() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    policy = hag.fit(table_of(drawn(100, 3, 4, seed=1), space), learner="constant")
    vbs = policy.evaluation.row("split_vbs")
    assert vbs.gain_low < 0.0 < vbs.gain
    assert all(row.gap_closed is None for row in policy.evaluation.rows)


def test_copies_are_named_although_a_sample_failed() -> None:
    rewards = drawn(100, 4, 5)
    rewards[:, 2] = rewards[:, 2, :1]
    rewards[7, 2, 1:] = rewards[9, :2, 1:] = np.nan
    found = hag.headroom(table_of(rewards, hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9, 1.1])))
    assert [warning for warning in found.warnings if "config 2" in warning]
    assert found.n_samples == 5
    assert found.could_win_low is not None


def test_common_instructions_do_not_hide_what_is_alike() -> None:
    """Columns that stand in the same rows are counted together: the shares stay exact."""
    head = "Answer politely and shortly. "
    prompts = [hag.Prompt(head + text) for text in ("tell me of the sea", "tell me of the sky", "17 * 4 = ?", "x")]
    prompts += [hag.Prompt("tell me of the sea")]
    shingles = [{prompt.text.casefold()[at : at + 5] for at in range(len(prompt.text) - 4)} for prompt in prompts]
    for threshold in (0.3, 0.6, 0.75):
        wanted = {
            (i, j)
            for i in range(5)
            for j in range(i + 1, 5)
            if len(shingles[i] & shingles[j]) >= threshold * len(shingles[i] | shingles[j])
        }
        assert {tuple(pair) for pair in similar_pairs(prompts, threshold).tolist()} == wanted


def test_joined_groups_are_numbered_by_first_appearance() -> None:
    joined = join_groups(np.array([5, 3, 5, 9, 7]), np.array([[1, 4]]))
    assert joined.tolist() == [0, 1, 0, 2, 1]
    assert join_groups(np.array([2, 1]), np.empty((0, 2), dtype=np.int64)).tolist() == [0, 1]


def test_tokens_that_one_cell_lacks_are_unknown_costs_and_no_broken_bundle(tmp_path: Path) -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    tokens = np.full((60, 3, 2), 12.0)
    costs = {}
    for name in ("whole", "holed"):
        policy = hag.fit(table_of(drawn(60, 3, 2), space, tokens=tokens), learner="constant")
        again = hag.load(policy.save(tmp_path / name))
        assert again.evaluation == policy.evaluation
        costs[name] = {row.cost for row in policy.evaluation.rows if row.name in ("sbs", "random", "policy")}
        tokens[3, 1, 1] = np.nan
    assert costs == {"whole": {12.0}, "holed": {None}}
    with pytest.raises(InvalidInput, match="scored cells that lack them"):
        hag.headroom(table_of(drawn(60, 3, 2), space, tokens=tokens), objective="price/token@0.1")


def test_margins_may_be_an_array() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    policy = hag.fit(table_of(drawn(60, 3, 2), space), learner="knn", margins=np.array([0.5]))  # type: ignore[arg-type]
    assert policy.evaluation.candidate.margin in (0.0, 0.5)


@pytest.mark.parametrize("name", ["sbs", "policy", "split_vbs", "ridge"])
def test_a_rival_cannot_take_the_place_of_another_line(name: str) -> None:
    rival = get_rival("argmax")
    rival.name = name
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    with pytest.raises(InvalidInput, match=f"rivals: expected names .* got {name}"):
        hag.fit(table_of(drawn(60, 3, 2), space), learner="ridge", rivals=[rival])


def test_the_share_that_fell_back_is_that_of_the_winning_encoder() -> None:
    """Texts tell nothing, vectors all; one document's vectors are unlike all others, its texts are not."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh "), 40)) for _ in range(126)]
    side = np.where(np.arange(126) % 2, 1.0, -1.0)
    vectors = side[:, None] + rng.normal(0, 0.1, (126, 4))
    vectors[120:] *= 100.0
    groups = [f"{min(number, 120)}" for number in range(126)]
    rewards = np.stack([0.5 + 0.3 * side, 0.55 - 0.3 * side], axis=1)[:, :, None].repeat(2, axis=2)
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7])
    table = hag.SweepTable.from_arrays(with_vectors(as_prompts(texts), vectors), space, rewards, groups=groups)
    policy = hag.fit(table, encoder=["static", "precomputed"], learner="ridge")
    assert policy.evaluation.candidate.name == "ridge on precomputed"
    assert policy.evaluation.fallbacks == pytest.approx(6 / 126)


def test_near_duplicates_are_found_joined_and_warned_about() -> None:
    base = [prompt.text for prompt in hag.SimulatedEngine(0).prompts(40)]
    prompts = [hag.Prompt(f"{text} {mark}") for text in base for mark in ("", "Please!")]
    pairs = similar_pairs(prompts)
    assert {(2 * i, 2 * i + 1) for i in range(40)} <= {tuple(pair) for pair in pairs.tolist()}
    groups = join_groups(np.arange(80), pairs)
    assert all(groups[2 * i] == groups[2 * i + 1] for i in range(40))
    rewards = (np.random.default_rng(0).random((80, 10, 2)) < 0.5).astype(float)
    table = hag.SweepTable.from_arrays(prompts, SPACE, rewards)
    loose = hag.fit(table, learner="knn")
    assert any("nearly equal" in warning for warning in loose.evaluation.warnings)
    joined = hag.fit(table, learner="knn", near_duplicates=0.8)
    assert joined.evaluation.n_groups == len(np.unique(groups))
    assert not any("nearly equal" in warning for warning in joined.evaluation.warnings)


@pytest.mark.skipif(not (DATA / "jhu-gpt35").exists(), reason="the public data is not here (HAGPOLICY_DATA)")
def test_known_data_gives_the_known_headroom() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import jhu

    h = hag.headroom(jhu.load(DATA))
    assert h.naive_oracle.value == pytest.approx(0.755, abs=0.002)
    assert h.split_oracle is not None
    assert h.split_oracle_sampled is not None
    assert 0.65 <= h.split_oracle.value <= 0.69
    assert 0.595 <= h.split_oracle_sampled.value <= 0.63
    assert h.sbs.value == pytest.approx(0.585, abs=0.01)


def test_headroom_and_fit_say_the_same_of_the_same_line(null: tuple) -> None:
    table, policy = null
    found, row = hag.headroom(table), policy.evaluation.row
    task, naive = row("best_per_task"), row("naive_vbs")
    assert (found.per_task_best.low, found.per_task_best.high) == pytest.approx((task.gain_low, task.gain_high))
    assert (found.could_win_high.low, found.could_win_high.high) == pytest.approx((naive.gain_low, naive.gain_high))
    sbs = row("policy")  # it ships; over the default it pays for having been chosen
    assert found.sbs_over_default.high - found.sbs_over_default.low < 1.3 * (
        sbs.over_default.high - sbs.over_default.low
    )
