"""What every analysis begins with: prompts that lack a cell, bad tables and seeds."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.analysis.prepare import prepare
from hagpolicy.analysis.rule import MIN_GROUPS, N_FOLDS
from hagpolicy.errors import InvalidInput
from tests.support.drawing import SPACE


def test_missing_cells_leave_the_prompt_out_and_are_never_zero(strong: tuple) -> None:
    _, table, _ = strong
    rewards = table.rewards.copy()
    rewards[:7, 3] = np.nan
    holed = hag.SweepTable.from_arrays(table.prompts, SPACE, rewards, default=table.default)
    assert hag.headroom(holed).n_left_out == 7
    rewards[:, 3] = np.nan
    with pytest.raises(InvalidInput, match="configs without any scored sample: 1"):
        hag.headroom(hag.SweepTable.from_arrays(table.prompts, SPACE, rewards))


def test_bad_tables_and_seeds_are_refused(strong: tuple) -> None:
    _, table, policy = strong
    for call in (hag.headroom, hag.fit, lambda given: hag.evaluate(policy, given)):
        with pytest.raises(InvalidInput, match="load_table"):
            call("sweeps/smol")
    for seed in (-1, 1.5, "x", True):
        with pytest.raises(InvalidInput, match="seed"):
            hag.headroom(table, seed=seed)


def twins(count: int, *, alike: int) -> hag.SweepTable:
    """Prompts that are nearly equal in pairs, the first `alike` of them; the first prompt lacks a cell."""
    words = ["".join(np.random.default_rng(number // 2).choice(list("abcdefgh "), 60)) for number in range(count)]
    apart = ["".join(np.random.default_rng(100 + number).choice(list("ijklmnop "), 60)) for number in range(count)]
    texts = [f"{words[n]}{n % 2}" if n < alike else apart[n] for n in range(count)]
    rewards = np.random.default_rng(0).random((count, 2, 2))
    rewards[0, 1] = np.nan
    return hag.SweepTable.from_arrays(texts, hag.DecodingSpace.grid(temperature=[0.5, 0.9]), rewards)


def test_all_parts_are_of_the_comparable_prompts() -> None:
    table = twins(41, alike=0)
    prepared = prepare(table, get_objectives("best@1,2"), 7)
    assert prepared.table.prompts == table.prompts[1:]
    assert prepared.n_left_out == 1
    assert prepared.targets.common.shape == (2, 40, 2)
    assert len(prepared.groups) == len(prepared.folds) == len(prepared.boot.index) == 40
    assert np.bincount(prepared.folds).tolist() == [8] * N_FOLDS
    again, other = prepare(table, get_objectives("best@1,2"), 7), prepare(table, get_objectives("best@1,2"), 8)
    assert np.array_equal(prepared.boot.counts, again.boot.counts)
    assert np.array_equal(prepared.folds, again.folds)
    assert not np.array_equal(prepared.boot.counts, other.boot.counts)
    assert prepared.warnings == ()


def test_near_duplicates_are_joined_on_request_and_warned_about_otherwise() -> None:
    table = twins(41, alike=41)
    apart, joined = (prepare(table, get_objectives("reward"), 0, near_duplicates=share) for share in (None, 0.8))
    assert (apart.boot.n_groups, joined.boot.n_groups) == (40, 21)  # the first prompt's twin is left alone
    assert any("nearly equal" in warning for warning in apart.warnings)
    assert joined.warnings == ()
    assert all(len(set(joined.folds[joined.groups == group])) == 1 for group in set(joined.groups))


def test_few_groups_are_one_fold_each_and_warned_about() -> None:
    prepared = prepare(twins(4, alike=0), get_objectives("reward"), 0)
    assert len(set(prepared.folds)) == 3
    assert any(f"at least {MIN_GROUPS}" in warning for warning in prepared.warnings)
