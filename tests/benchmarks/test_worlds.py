"""A smaller run of the study on worlds of known truth (benchmarks/claims/fitting/worlds.py), and the whole loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.claims.fitting import false_alarms, learning_curve, worlds
from benchmarks.tools import resumable
from tests.support.paths import BENCHMARKS


def test_null_worlds_ship_the_single_best_config() -> None:
    # At 1 false alarm in 100 worlds, one in these four would be a sign of something broken; of intervals that cover 19
    # in 20 times, one of four may miss.
    outcomes = [worlds.run_world(name, 1000) for name in ("tied", "different", "unpredictable", "duplicates")]
    assert not any(outcome.shipped for outcome in outcomes)
    assert sum(outcome.low <= outcome.candidate_gain <= outcome.high for outcome in outcomes) >= 3


def test_predictable_worlds_close_the_gap() -> None:
    outcomes = [worlds.run_world("gap-200x8", seed) for seed in range(1000, 1003)]
    closed = np.mean([outcome.shipped_gain for outcome in outcomes]) / np.mean([outcome.gap for outcome in outcomes])
    assert closed >= 0.7
    assert sum(outcome.shipped for outcome in outcomes) >= 2


def test_the_whole_loop_closes_the_gap(tmp_path: Path) -> None:
    """Sweep, load elsewhere, fit, save, load, predict: on a world whose best configs are known."""
    world = hag.SimulatedEngine(2000, gap=0.15, space=worlds.SPACE)
    hag.sweep(
        world, world.prompts(250), worlds.SPACE, world.scorer, samples=8, max_tokens=16, out=tmp_path / "s",
        progress=False,
    )  # fmt: skip
    table = hag.load_table(tmp_path / "s")
    hag.fit(table, learner="ridge").save(tmp_path / "p")
    policy = hag.load(tmp_path / "p")
    assert policy.ships == "per_prompt"
    new = world.prompts(600, seed=5)
    truth = world.truth(new, policy.space)
    chosen = truth[np.arange(600), [policy.space.index(config) for config in policy.predict_batch(new)]]
    sbs = truth[:, policy.sbs_index]
    assert (chosen - sbs).mean() >= 0.75 * (truth.max(axis=1) - sbs).mean()


LEAST_WORLDS = 40  # of each kind, by the default learner as it is


def test_the_stored_study_is_complete_and_keeps_its_targets() -> None:
    real, n_real, alarms, n_null, covered, n = 0, 0, 0, 0, 0, 0
    for name, kind in worlds.KINDS.items():
        outcomes = [worlds.Outcome(**row) for row in _stored("worlds", name)]
        assert {outcome.seed for outcome in outcomes} >= set(range(LEAST_WORLDS)), name
        inside = [outcome.low <= outcome.candidate_gain <= outcome.high for outcome in outcomes]
        covered, n = covered + sum(inside), n + len(inside)
        # Of 40 worlds of one kind no more than chance allows: the 95 % interval reaches the target.
        assert resumable.share(name, sum(inside), len(inside)).high >= 0.9, name
        if kind.null:
            false = sum(outcome.shipped for outcome in outcomes)
            alarms, n_null = alarms + false, n_null + len(outcomes)
            assert resumable.share(name, false, len(outcomes)).low <= 0.05, name
        else:
            shipped = [outcome.shipped for outcome in outcomes]
            real, n_real = real + int(np.sum(np.array(inside)[shipped])), n_real + sum(shipped)
        if kind.closes:
            gaps = np.mean([outcome.gap for outcome in outcomes])
            assert np.mean([outcome.shipped_gain for outcome in outcomes]) >= 0.8 * gaps, name
    assert real >= 0.9 * n_real
    assert covered >= 0.9 * n
    assert alarms <= 0.05 * n_null


def test_the_stored_permuted_worlds_raise_few_alarms() -> None:
    rows = _stored("false_alarms", "workload")
    newest = [row for row in rows if row["table"] == rows[-1]["table"]]
    assert {row["seed"] for row in newest} >= set(range(200))
    assert sum(row["shipped"] for row in newest) <= 0.05 * len(newest)


def _stored(study: str, name: str) -> list[dict[str, Any]]:
    lines = (BENCHMARKS / "results" / study / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_permuted_rows_stay_whole_and_leave_texts_behind() -> None:
    _, table = worlds.draw(worlds.Kind(40, 2, gap=0.15), 1)
    rewards = table.rewards.copy()
    rewards[:3, 5] = np.nan  # prompts that fit leaves out keep their rows
    table = hag.SweepTable.from_arrays(table.prompts, table.space, rewards, default=0)
    permuted = false_alarms.permuted(table, 4)
    assert permuted.prompts == table.prompts
    assert np.array_equal(permuted.groups, table.groups)
    assert np.array_equal(permuted.rewards[:3], table.rewards[:3], equal_nan=True)
    before, after = ({row.tobytes() for row in one.rewards} for one in (table, permuted))
    assert before == after
    moved = [not np.array_equal(*pair, equal_nan=True) for pair in zip(table.rewards, permuted.rewards, strict=True)]
    assert sum(moved) > 20
    assert np.allclose(permuted.means.mean(axis=0), table.means.mean(axis=0), equal_nan=True)


def test_a_subset_takes_whole_groups_and_some_samples() -> None:
    _, table = worlds.draw(worlds.Kind(60, 4, gap=0.15, copies=3), 1)
    part, rest = learning_curve.subset(table, 20, 2, 0)
    assert len(part.prompts) == 21  # seven groups of three
    assert len(rest.prompts) == 39
    assert not {prompt.group for prompt in part.prompts} & {prompt.group for prompt in rest.prompts}
    deterministic = part.space.deterministic
    assert (part.counts[:, ~deterministic] == 2).all()
    assert (part.counts[:, deterministic] == 1).all()
    assert (rest.counts[:, ~deterministic] == 4).all()
    everything, nothing = learning_curve.subset(table, 0, 4, 0)
    assert (len(everything.prompts), len(nothing.prompts)) == (60, 0)


def test_a_study_runs_what_is_not_stored_and_nothing_else(tmp_path: Path) -> None:
    asked: list[int] = []

    def run(seed: int, table: str) -> dict[str, Any]:
        asked.append(seed)
        return {"value": seed / 3}

    path = tmp_path / "study.jsonl"
    first = resumable.resumed(path, [{"seed": seed, "table": "a"} for seed in range(3)], run)
    again = resumable.resumed(path, [{"seed": seed, "table": "a"} for seed in range(5)], run)
    assert asked == [0, 1, 2, 3, 4]
    assert again[:3] == first
    assert again[4] == {"seed": 4, "table": "a", "value": 1.33333}
    resumable.resumed(path, [{"seed": 0, "table": "b"}], run)  # of another table: the old line says nothing
    assert asked[-1] == 0
    assert len(path.read_text("utf-8").splitlines()) == 6
