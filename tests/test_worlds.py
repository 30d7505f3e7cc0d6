"""A smaller run of the study on worlds of known truth (benchmarks/worlds.py), and the whole loop."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import worlds  # noqa: E402


@pytest.mark.parametrize("name", ["tied", "different", "unpredictable", "duplicates"])
def test_null_worlds_ship_the_single_best_config(name: str) -> None:
    outcomes = [worlds.run_world(name, seed) for seed in range(1000, 1003)]
    # At 1 false alarm in 100 worlds, two in three would be a sign of something broken.
    assert sum(outcome.shipped for outcome in outcomes) <= 1
    assert sum(outcome.low <= outcome.candidate_gain <= outcome.high for outcome in outcomes) >= 2


def test_predictable_worlds_close_the_gap() -> None:
    outcomes = [worlds.run_world("gap-200x8", seed) for seed in range(1000, 1004)]
    closed = np.mean([outcome.shipped_gain for outcome in outcomes]) / np.mean([outcome.gap for outcome in outcomes])
    assert closed >= 0.7
    assert sum(outcome.shipped for outcome in outcomes) >= 3


def test_the_whole_loop_closes_the_gap(tmp_path: Path) -> None:
    """Sweep, load elsewhere, fit, save, load, predict: on a world whose best configs are known."""
    world = hag.SimulatedEngine(2000, gap=0.15, space=worlds.SPACE)
    hag.sweep(
        world, world.prompts(250), worlds.SPACE, world.scorer, samples=8, max_tokens=16, out=tmp_path / "s",
        progress=False,
    )  # fmt: skip
    table = hag.load_table(tmp_path / "s")
    hag.fit(table).save(tmp_path / "p")
    policy = hag.load(tmp_path / "p")
    assert not policy.ships_sbs
    new = world.prompts(600, seed=5)
    truth = world.truth(new, policy.space)
    chosen = truth[np.arange(600), [policy.space.index(config) for config in policy.predict_batch(new)]]
    sbs = truth[:, policy.sbs_index]
    assert (chosen - sbs).mean() >= 0.75 * (truth.max(axis=1) - sbs).mean()


def test_the_stored_study_is_complete_and_keeps_its_targets() -> None:
    for name, kind in worlds.KINDS.items():
        lines = (BENCHMARKS / "results" / "worlds" / f"{name}.jsonl").read_text("utf-8").splitlines()
        outcomes = [worlds.Outcome(**json.loads(line)) for line in lines]
        assert {outcome.seed for outcome in outcomes} >= set(range(100)), name
        covered = sum(outcome.low <= outcome.candidate_gain <= outcome.high for outcome in outcomes)
        assert covered >= (0.85 if kind.closes else 0.9) * len(outcomes), name
        if kind.null:
            assert sum(not outcome.shipped for outcome in outcomes) >= 0.95 * len(outcomes), name
        if kind.closes:
            gaps = np.mean([outcome.gap for outcome in outcomes])
            assert np.mean([outcome.shipped_gain for outcome in outcomes]) >= 0.8 * gaps, name
