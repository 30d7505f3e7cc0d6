"""Ties go to the space's order, whatever the order of the prompts."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.estimates import choose_configs, crossfit_sbs
from hagpolicy.analysis.single_best import judge_single_best
from hagpolicy.data.ties import choose_best
from tests.support.drawing import table_of


def tied(seed: int, n: int = 90, configs: int = 8) -> np.ndarray:
    """float64 (n, configs, 1): every config has the same rewards in another order, so all means tie exactly."""
    rng = np.random.default_rng(seed)
    values = np.repeat([0.1, 0.3, 0.7], n // 3)
    return np.stack([rng.permutation(values) for _ in range(configs)], axis=1)[:, :, None]


def test_the_first_of_what_ties_is_chosen() -> None:
    assert choose_best(np.array([0.3, 0.1 + 0.2, 0.2])) == 0
    assert choose_best(np.array([0.3 - 1e-6, 0.3])) == 1
    assert choose_best(np.array([-np.inf, -np.inf])) == 0
    values = np.random.default_rng(0).random((4, 5, 6))
    for axis in (0, 1, 2):
        assert np.array_equal(choose_best(values, axis=axis), values.argmax(axis=axis))


@pytest.mark.parametrize("order", range(12))
def test_any_order_of_the_prompts_has_the_same_single_best_config(order: int) -> None:
    rewards = tied(0)[np.random.default_rng(order).permutation(90)]
    Y = rewards[:, :, 0]
    found = hag.headroom(table_of(rewards, hag.DecodingSpace.grid(temperature=np.linspace(0.1, 0.8, 8).tolist())))
    assert found.sbs_index == 0
    assert not crossfit_sbs(Y, np.zeros(90, dtype=int)).any()
    labels = np.zeros(90, dtype=int)
    assert not crossfit_sbs(Y, np.zeros(90, dtype=int), labels).any()
    assert not choose_configs(np.tile(Y.mean(axis=0), (3, 1)), 0, 0.0).any()
    assert judge_single_best(Y, 3, GroupBootstrap(np.arange(90))).index == 0


def test_policies_of_any_order_decide_the_same() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.0], repetition_penalty=[1.0, 1.1, 1.2, 1.3])
    for order in range(4):
        mixed = np.random.default_rng(order).permutation(90)
        policy = hag.fit(table_of(tied(1, configs=4)[mixed], space), learner="constant")
        assert policy.decide("anything at all").index == 0
