"""The gate's first step: whether the single best config replaces what runs today."""

from __future__ import annotations

import numpy as np
import pytest

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.rule import GATE_ERROR, MIN_DEPARTING, MIN_GROUPS
from hagpolicy.analysis.selection import select
from hagpolicy.analysis.single_best import judge_single_best
from hagpolicy.results import Estimate


def draw(gain: float, seed: int, n: int = 200, configs: int = 8) -> np.ndarray:
    """Mean rewards of configs that are worth the same but for the second, which gains over the first."""
    rng = np.random.default_rng(seed)
    return np.asarray(0.5 + 0.25 * rng.normal(size=(n, configs)) + gain * (np.arange(configs) == 1))


def test_few_worlds_prove_a_config_that_is_no_better_and_the_interval_covers() -> None:
    boot, proven, covered, worlds = GroupBootstrap(np.arange(200), n_boot=400), 0, 0, 250
    for seed in range(worlds):
        found = judge_single_best(draw(0.0, seed), 0, boot)
        assert found.over_default is not None
        proven += found.proven
        covered += found.over_default.low <= 0.0 <= found.over_default.high
    assert proven <= 12  # at most 2.5 % is promised: 6, and two standard errors
    assert covered >= 0.93 * worlds


def test_it_proves_more_than_judging_the_choice_of_each_draw_on_other_groups() -> None:
    boot = GroupBootstrap(np.arange(200), n_boot=400)
    worlds = [draw(0.06, seed) for seed in range(100)]
    proven = sum(judge_single_best(Y, 0, boot).proven for Y in worlds)
    drawn = sum(float(np.quantile(select(Y - Y[:, [0]], boot).draws, 0.025)) > 0.0 for Y in worlds)
    assert proven >= drawn + 15


def test_the_end_holds_for_all_configs_at_once_whatever_their_number() -> None:
    lows, Y = [], draw(0.3, 1, configs=40)
    for configs in (2, 8, 40):
        found = judge_single_best(Y[:, :configs], 0, GroupBootstrap(np.arange(200)))
        assert found.index == 1
        assert found.proven
        lows.append(found.over_default.low)  # type: ignore[union-attr]
    assert lows == sorted(lows, reverse=True)


def test_a_smaller_error_asks_for_more_and_leaves_the_interval() -> None:
    Y, boot = draw(0.075, 3), GroupBootstrap(np.arange(200))
    usual, strict = (judge_single_best(Y, 0, boot, error) for error in (GATE_ERROR, 1e-4))
    assert (usual.proven, strict.proven) == (True, False)
    assert usual.over_default == strict.over_default


def test_the_default_itself_gains_nothing_and_an_unknown_one_is_not_guessed() -> None:
    boot = GroupBootstrap(np.arange(200))
    assert judge_single_best(draw(0.3, 0), 1, boot).over_default == Estimate(0.0, 0.0, 0.0)
    assert not judge_single_best(draw(0.3, 0), 1, boot).proven
    unknown = judge_single_best(draw(0.3, 0), None, boot)
    assert (unknown.index, unknown.over_default, unknown.proven) == (1, None, False)


@pytest.mark.parametrize("differing", [MIN_DEPARTING - 1, MIN_DEPARTING])
def test_fewer_groups_that_differ_than_the_rule_asks_for_are_marked_and_prove_nothing(differing: int) -> None:
    Y = np.full((60, 3), 0.5)
    Y[:differing, 2] = 1.0
    found = judge_single_best(Y, 0, GroupBootstrap(np.arange(60)))
    assert found.over_default is not None
    assert found.over_default.reliable is found.proven is (differing >= MIN_DEPARTING)
    assert ("(unreliable)" in str(found.over_default)) is not found.proven


@pytest.mark.parametrize("groups", [1, MIN_GROUPS - 1, MIN_GROUPS])
def test_few_groups_prove_nothing(groups: int) -> None:
    Y = np.tile([0.2, 0.9], (60, 1)) + 0.01 * np.arange(60)[:, None] * [0, 1]
    found = judge_single_best(Y, 0, GroupBootstrap(np.arange(60) % groups))
    assert found.proven is (groups >= MIN_GROUPS)


def test_one_config_that_hardly_ever_differs_stops_no_other() -> None:
    """Of most draws it has no scatter at all, and one error in its units would be without end."""
    Y = draw(0.3, 0, configs=3)
    Y[:, 2] = Y[:, 0]
    Y[0, 2] -= 0.4
    assert judge_single_best(Y, 0, GroupBootstrap(np.arange(200))).proven
