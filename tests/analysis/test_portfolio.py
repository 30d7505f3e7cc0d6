"""Portfolios: the set of configs for several parallel samples, on tables whose truth is known."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy import DecodingSpace, SweepTable, portfolio
from hagpolicy.analysis.estimates import assign_folds, crossfit_sbs, take_chosen
from hagpolicy.analysis.maxima import compute_maxima
from hagpolicy.analysis.portfolio import _choose_counts
from hagpolicy.errors import InvalidInput

SPACE = DecodingSpace.grid(temperature=[0.0, 0.5, 0.8, 1.1])
GREEDY, COOL, WARM, HOT = range(4)


def drawn_from(chances, samples, seed=0, space=SPACE):
    """A table of 0/1 rewards: chances (n_prompts, n_configs); a deterministic config has one sample."""
    rng = np.random.default_rng(seed)
    rewards = (rng.random((*chances.shape, samples)) < chances[:, :, None]).astype(float)
    rewards[:, space.deterministic, 1:] = np.nan
    return SweepTable.from_arrays([f"prompt {i}" for i in range(len(chances))], space, rewards)


def halves(count, low=0.1, high=0.6):
    """COOL and HOT each solve one half of the prompts well; greedy and WARM solve neither."""
    first = np.arange(count) % 2 == 0
    chances = np.full((count, 4), low)
    chances[:, COOL], chances[:, HOT] = np.where(first, high, low), np.where(first, low, high)
    return chances


def counts_of(found):
    return {SPACE.index(config): count for config, count in found.configs}


def test_two_configs_that_complement_each_other_are_found():
    found = portfolio(drawn_from(halves(400), samples=2), 2)
    assert counts_of(found) == {COOL: 1, HOT: 1}
    # One of them solves a prompt with .6, the other with .1; both samples of one config .84 or .19.
    assert found.value.low < 1 - 0.4 * 0.9 < found.value.high
    assert found.over_best_single.low < 0.64 - (0.84 + 0.19) / 2 < found.over_best_single.high
    assert found.over_best_single.low > 0.0
    assert found.over_one_sample.low < 0.64 - 0.35 < found.over_one_sample.high
    assert found.best_single in (SPACE[COOL], SPACE[HOT])
    assert (found.n_prompts, found.n_groups, found.n_left_out) == (400, 400, 0)
    assert "near_duplicates" in " ".join(found.warnings)  # as they are named here


def test_the_value_is_exact_in_expectation():
    chances = halves(20)
    drawn = np.array([1, 2, 0, 2])
    truth = 1 - np.prod((1 - chances) ** drawn, axis=1)
    estimates = [compute_maxima(drawn_from(chances, 3, seed).rewards).values(drawn).mean() for seed in range(600)]
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truth.mean()) < 4 * error < 0.02


def test_cross_fitted_values_are_right_where_the_best_of_many_would_be_too_high():
    """Six configs of equal chances on forty prompts: whichever looks best, three draws give 1 − .7³."""
    space = DecodingSpace.grid(temperature=[0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    found = [portfolio(drawn_from(np.full((40, 6), 0.3), 3, seed, space), 3) for seed in range(60)]
    values = [one.value.value for one in found]
    assert abs(np.mean(values) - (1 - 0.7**3)) < 3 * np.std(values, ddof=1) / np.sqrt(60)


def test_the_choice_is_nearly_always_the_best_set_of_all():
    """Against all multisets, on 40 small worlds of graded rewards in which no config is better than another."""
    rng = np.random.default_rng(0)
    limits, best_found = np.full(5, 3), 0
    for _ in range(40):
        rewards = rng.beta(0.4, 0.6, size=(12, 5, 3))
        maxima = compute_maxima(rewards)
        drawn = _choose_counts(maxima, rewards.mean(axis=(0, 2)), 4, limits)
        value = maxima.values(drawn).mean()
        sets = [np.bincount(some, minlength=5) for some in itertools.combinations_with_replacement(range(5), 4)]
        best = max(maxima.values(some).mean() for some in sets if some.max() <= 3)
        assert drawn.sum() == 4
        assert drawn.max() <= 3
        assert value >= 0.98 * best
        best_found += value >= best - 1e-9
    assert best_found >= 36


def test_an_exchange_mends_what_greedy_choice_took_first():
    """The config that is best alone belongs to no best pair: each of the other two solves what the other does not."""
    first = np.arange(40) % 2 == 0
    rewards = np.stack([np.full(40, 0.6), np.where(first, 1.0, 0.1), np.where(first, 0.1, 1.0)], axis=1)
    assert _choose_counts(
        compute_maxima(rewards[:, :, None]), rewards.mean(axis=0), 2, np.ones(3, dtype=int)
    ).tolist() == [
        0,
        1,
        1,
    ]


def test_configs_that_do_the_same_gain_nothing():
    samples = drawn_from(np.full((60, 1), 0.4), 4, space=DecodingSpace.grid(temperature=[0.5])).rewards
    space = DecodingSpace.grid(temperature=[0.5, 0.8, 1.1])
    found = portfolio(SweepTable.from_arrays([f"p{i}" for i in range(60)], space, np.zeros((60, 3, 4)) + samples), 4)
    # Copies of one cell pass for independent draws; what they are worth is bounded by the chance itself.
    assert found.over_best_single.value == pytest.approx(found.value.value - portfolio_of_one(samples, 4))
    ones = SweepTable.from_arrays([f"p{i}" for i in range(60)], space, np.ones((60, 3, 4)))
    assert (portfolio(ones, 3).over_best_single.low, portfolio(ones, 3).over_best_single.high) == (0.0, 0.0)


def portfolio_of_one(samples, n):
    return compute_maxima(samples).values(np.array([n])).mean()


def test_intervals_of_null_worlds_hold_zero():
    """Equal chances for all configs of a prompt, prompts of all difficulties: no set is better than any other."""
    space = DecodingSpace.grid(temperature=[0.5, 0.7, 0.9, 1.1])
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        chances = np.repeat(rng.beta(0.5, 0.8, size=(50, 1)), 4, axis=1)
        gain = portfolio(drawn_from(chances, 3, seed, space), 3).over_best_single
        held += gain.low <= 0.0 <= gain.high
    assert held >= 90


def test_intervals_of_worlds_with_a_gain_hold_it():
    """Whichever of COOL and HOT seems better alone, one of each gains 1 − .4 × .9 − (.84 + .19) / 2."""
    gains = [portfolio(drawn_from(halves(60), 2, seed), 2).over_best_single for seed in range(60)]
    assert sum(gain.low <= 0.125 <= gain.high for gain in gains) >= 54


def test_a_deterministic_config_is_never_drawn_twice():
    chances = np.full((80, 4), 0.2)
    chances[:, GREEDY] = 0.9
    table = drawn_from(chances, 4)
    found = portfolio(table, 4)
    assert counts_of(found)[GREEDY] == 1
    assert sum(counts_of(found).values()) == 4
    assert found.best_single == SPACE[GREEDY]
    only = portfolio(table.in_space(DecodingSpace([SPACE[GREEDY]])), 3)
    assert [count for _, count in only.configs] == [1]
    assert only.over_best_single.value == only.over_one_sample.value == 0.0
    assert any("only 1 of 3 draws" in warning for warning in only.warnings)


def test_one_sample_is_the_single_best_config():
    rewards = np.random.default_rng(0).random((60, 4, 2))
    rewards[:, GREEDY, 1] = np.nan
    table = SweepTable.from_arrays([f"p{i}" for i in range(60)], SPACE, rewards)
    found = portfolio(table, 1)
    best = int(table.means.mean(axis=0).argmax())
    assert found.configs == ((SPACE[best], 1),)
    assert (found.over_best_single.low, found.over_best_single.high) == (0.0, 0.0)
    assert (found.over_one_sample.low, found.over_one_sample.high) == (0.0, 0.0)
    assert "not proven" not in str(found)
    on_other_folds = crossfit_sbs(table.means, assign_folds(table.groups, 5, 0))
    assert found.value.value == pytest.approx(take_chosen(table.means, on_other_folds).mean())


def test_a_config_is_drawn_no_more_often_than_it_has_samples():
    chances = np.full((60, 4), 0.1)
    chances[:, WARM] = 0.8
    found = portfolio(drawn_from(chances, 2), 4)
    assert counts_of(found)[WARM] == 2
    assert found.over_best_single is None
    assert found.best_single is None
    assert "not known" in str(found)
    assert any("samples=4" in warning for warning in found.warnings)


def test_prompts_that_lack_samples_are_left_out_and_counted():
    table = drawn_from(halves(100), 3)
    rewards = table.rewards.copy()
    rewards[:10, COOL, 1:] = np.nan  # one sample of three
    rewards[10:12, HOT] = np.nan
    found = portfolio(SweepTable.from_arrays(table.prompts, SPACE, rewards), 3)
    assert (found.n_prompts, found.n_left_out) == (88, 12)
    assert "12 left out" in str(found)
    np.testing.assert_allclose(found.value.value, portfolio(table.take(np.arange(12, 100)), 3).value.value)


def test_most_prompts_lacking_samples_lower_the_limit_instead():
    rewards = drawn_from(halves(100), 3).rewards.copy()
    for j in (COOL, WARM, HOT):
        rewards[j::4, j, 2] = np.nan  # together in three of four prompts
    found = portfolio(SweepTable.from_arrays([f"p{i}" for i in range(100)], SPACE, rewards), 3)
    assert found.n_left_out == 0
    assert max(counts_of(found).values()) <= 2
    assert found.over_best_single is None


def test_a_raced_table_is_judged_by_its_common_samples():
    table = drawn_from(halves(80), 2)
    more = np.concatenate([table.rewards, np.full((80, 4, 2), np.nan)], axis=2)
    more[:5, 1:, 2:] = 1.0  # drawn where the choice was uncertain
    raced = SweepTable(table.prompts, SPACE, more, common=2)
    assert portfolio(raced, 2) == portfolio(table, 2)
    assert portfolio(raced, 4).over_best_single is None


def test_groups_widen_the_interval():
    chances = np.repeat(halves(40), 5, axis=0)
    rewards = drawn_from(chances, 2).rewards
    rewards = np.repeat(rewards[::5], 5, axis=0)  # five copies of each prompt's outcomes
    prompts = [f"p{i}" for i in range(200)]
    alone = portfolio(SweepTable.from_arrays(prompts, SPACE, rewards), 2)
    grouped = portfolio(SweepTable.from_arrays(prompts, SPACE, rewards, groups=np.arange(200) // 5), 2)
    assert grouped.n_groups == 40
    assert grouped.value.high - grouped.value.low > 1.5 * (alone.value.high - alone.value.low)
    one = portfolio(SweepTable.from_arrays(prompts, SPACE, rewards, groups=[0] * 200), 2)
    assert (one.value.low, one.value.high) == (-1.0, 1.0)
    assert any("too few to prove" in warning for warning in one.warnings)


def test_it_is_told_in_sentences_and_in_json():
    found = portfolio(drawn_from(halves(100), 2), 2)
    said = str(found)
    assert "1 × (temperature=0.5), 1 × (temperature=1.1)" in said
    assert f"{found.over_best_single:+} over 2 samples of the best one config" in said
    assert f"{found.over_one_sample:+} over one sample of the single best config" in said
    values = json.loads(json.dumps(found.to_json()))
    assert values["configs"][0] == {"config": SPACE[COOL].to_dict(), "count": 1}
    assert values["over_best_single"] == found.over_best_single.to_json()
    assert set(values) == {
        "n", "configs", "best_single", "one_sample", "value", "over_best_single", "over_one_sample", "n_prompts",
        "n_groups", "n_left_out", "warnings",
    }  # fmt: skip
    assert "not proven" not in said
    doubtful = dataclasses.replace(found, over_best_single=hag.Estimate(0.01, -0.01, 0.03))
    assert doubtful.sentence.endswith("Several configs are not proven better than one.")


def test_the_same_seed_gives_the_same_answer():
    table = drawn_from(halves(60), 2)
    assert portfolio(table, 2, seed=3) == portfolio(table, 2, seed=3)
    assert portfolio(table, 2, seed=3) != portfolio(table, 2, seed=4)


@pytest.mark.parametrize("n", [0, 17, 2.0, True, "4", None])
def test_a_bad_number_of_samples_is_refused(n):
    with pytest.raises(InvalidInput, match=r"n: .*\[1, 16\]"):
        portfolio(drawn_from(halves(8), 2), n)


def test_other_bad_arguments_are_refused():
    with pytest.raises(InvalidInput, match="load_table"):
        portfolio("a folder", 2)
    with pytest.raises(InvalidInput, match="seed"):
        portfolio(drawn_from(halves(8), 2), 2, seed=-1)
    with pytest.raises(InvalidInput, match="at least two prompts"):
        portfolio(drawn_from(halves(8), 2).take([0]), 2)
