"""A short form of the claim about fitting from live calls."""

from __future__ import annotations

import numpy as np

from benchmarks.claims.fitting import live_worlds
from benchmarks.claims.fitting.gate_worlds import Kind, draw
from hagpolicy.analysis.objectives import get_objectives

TIED = "tied, 4 configs, default unknown, 400 calls"


def test_the_calls_of_a_world_tell_what_its_configs_are_worth() -> None:
    world = draw(Kind(4000, 4, 1, effect=0.15, frozen=0, default=2), seed=3)
    trial = live_worlds.log_calls(world, 3, 4000)
    (objective,) = get_objectives(trial.objective)
    found = objective.values(trial.table).mean(axis=0)
    np.testing.assert_allclose(found, world.table.rewards[:, :, 0].mean(axis=0), atol=0.07)  # four standard errors
    assert trial.table.default == 2


def test_nothing_ships_where_nothing_is_to_be_won() -> None:
    rows = [live_worlds.run_world(TIED, seed) for seed in range(2)]
    assert [row["ships"] for row in rows] == ["single_best"] * 2
    assert all(row["low"] <= row["true_gain"] <= row["high"] for row in rows if row["found"])
