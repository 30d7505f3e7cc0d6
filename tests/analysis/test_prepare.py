"""What every analysis begins with: prompts that lack a cell, bad tables and seeds."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
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
