"""Fit within a time limit: what is left out, that it is told, and that nothing else depends on the clock."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting import timing
from hagpolicy.fitting.crossfit import cross_fit
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.learners.base import FittedLearner
from hagpolicy.fitting.learners.linear import Ridge
from hagpolicy.fitting.prepare import prepare_fit
from hagpolicy.fitting.timing import TimeLimit
from hagpolicy.fitting.told import count_told_fits
from tests.support.drawing import SPACE, draw

FITS = 25  # five folds in five foldings
LEFT_OUT = "slow on static, for which too little was left of the time limit of 10 min"


class Clock:
    """A clock that moves only when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Paced(Ridge):
    """Ridge regression whose fits take so many seconds of a clock, the first of them more."""

    def __init__(self, clock: Clock, name: str, seconds: float, loading: float = 0.0) -> None:
        super().__init__()
        self.clock, self.name, self.seconds, self.loading = clock, name, seconds, loading
        self.fits = 0

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        self.clock.now += self.seconds + self.loading * (not self.fits)
        self.fits += 1
        return super().fit(features, targets, groups, seed)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "monotonic", made)
    return made


@pytest.fixture(scope="module")
def table() -> hag.SweepTable:
    """A table whose prompts have no tasks, so that nothing but a refit follows the cross-fits."""
    found = draw(hag.SimulatedEngine(3, gap=0.2, space=SPACE), 100, 4)
    return replace(found, prompts=tuple(replace(prompt, task="") for prompt in found.prompts))


def save(policy: hag.Policy, folder: Path) -> dict[str, bytes]:
    policy.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_does_not_fit_in_is_left_out_and_told(
    table: hag.SweepTable, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow, quick = Paced(clock, "slow", 100.0), Paced(clock, "quick", 1.0)
    with caplog.at_level(logging.INFO, "hagpolicy.fitting"):
        policy = hag.fit(table, learner=["ridge", slow, quick], baselines=(), time_limit=600)
    assert slow.fits == 1
    assert quick.fits >= FITS
    names = [row.name for row in policy.evaluation.rows]
    assert {"ridge", "quick"} <= set(names)
    assert "slow" not in names
    assert policy.evaluation.not_fitted == (LEFT_OUT,)
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    # 24 fits and the last one, which counts twice, each of 90 s at least: 10 s of the first may be loading.
    end = "to the end it takes 39 min or more, and 8 min 20 s are left of 10 min"
    assert warning == f"fit: slow on static is left out: {end}"
    assert f"not fitted, so nothing is known of it: {LEFT_OUT}" in str(policy.evaluation)
    policy.save(tmp_path / "policy")
    again = hag.load(tmp_path / "policy")
    assert again.evaluation.not_fitted == (LEFT_OUT,)
    assert LEFT_OUT in (tmp_path / "policy" / "README.md").read_text("utf-8")
    assert LEFT_OUT in hag.write_report(tmp_path / "r.html", table=table, policy=again).read_text("utf-8")


def test_an_evaluation_of_before_there_were_limits_left_nothing_out(strong: tuple) -> None:
    stored = strong[2].evaluation.to_json()
    assert "not_fitted" not in stored
    assert hag.Evaluation.from_json(stored).not_fitted == ()


def test_the_first_is_fitted_whatever_the_limit(
    table: hag.SweepTable, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    slow, quick = Paced(clock, "slow", 100.0), Paced(clock, "quick", 1.0)
    policy = hag.fit(table, learner=[slow, quick], baselines=(), time_limit=2.0)
    assert "fit: quick on static is left out: nothing is left of 2.0 s" in caplog.messages
    assert slow.fits >= FITS
    assert quick.fits == 0  # nothing is left, which needs no measuring
    assert len(policy.evaluation.not_fitted) == 1
    assert policy.evaluation.not_fitted[0].startswith("quick on static, ")


def test_the_same_are_fitted_to_the_same_bytes_with_and_without_a_limit(
    table: hag.SweepTable, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)  # the salt of the digests of prompts
    slow = Paced(clock, "slow", 100.0)
    named = save(hag.fit(table, learner=["ridge", "knn"]), tmp_path / "named")
    ample = save(hag.fit(table, learner=["ridge", "knn"], time_limit=600), tmp_path / "ample")
    assert ample == named
    first = save(hag.fit(table, learner=["ridge", slow, "knn"], time_limit=600), tmp_path / "first")
    # On a machine of another speed, from which the same ones are missing.
    slow.seconds = 77.0
    second = save(hag.fit(table, learner=["ridge", slow, "knn"], time_limit=600), tmp_path / "second")
    assert first == second
    assert first["policy.onnx"] == named["policy.onnx"]
    assert strip_not_fitted(first, LEFT_OUT) == strip_not_fitted(named)


def strip_not_fitted(files: dict[str, bytes], *expected: str) -> Any:
    """policy.json without what was left out, after a look that this is what was expected."""
    found = json.loads(files["policy.json"])
    for point in found["dial"]["points"]:
        assert tuple(point["evaluation"].pop("not_fitted", ())) == expected
    # Of all of it, and of the card, which tells of the same.
    for name in ("digest", "files"):
        found.pop(name, None)
    return found


def test_a_first_fit_that_loads_a_library_is_not_taken_for_the_usual_one(table: hag.SweepTable, clock: Clock) -> None:
    loading = Paced(clock, "loading", 1.0, loading=9.0)
    policy = hag.fit(table, learner=["ridge", loading], baselines=(), time_limit=100)
    assert loading.fits >= FITS
    assert not policy.evaluation.not_fitted


def test_the_second_fit_decides_where_the_first_may_have_loaded_a_library(table: hag.SweepTable, clock: Clock) -> None:
    even = Paced(clock, "even", 10.0)
    policy = hag.fit(table, learner=["ridge", even], baselines=(), time_limit=100)
    assert even.fits == 2
    assert len(policy.evaluation.not_fitted) == 1


def test_what_follows_for_prompts_with_tasks_is_reserved(clock: Clock) -> None:
    """With tasks the winner is fitted again beside them, with inner folds."""
    table = draw(hag.SimulatedEngine(3, gap=0.2, space=SPACE), 100, 4)
    data = prepare_fit(table, [get_encoder("static")], get_objectives("reward"), 0, None)
    assert count_told_fits(data) == 2 * (FITS + 1)
    learner = Paced(clock, "paced", 1.0)
    policy = hag.fit(table, learner=["constant", learner], baselines=(), time_limit=24 + 2 + 52 + 1.5)
    assert not policy.evaluation.not_fitted
    assert policy.evaluation.candidate.name == "paced on static"
    assert learner.fits > 3 * FITS
    policy = hag.fit(table, learner=["constant", learner], baselines=(), time_limit=24 + 2 + 52 - 1.5)
    assert len(policy.evaluation.not_fitted) == 1


class TunedVectors(PrecomputedEncoder):
    """Vectors that take so many seconds of a clock to be learned, in each fold."""

    tuned = True
    any_scale = False

    def __init__(self, clock: Clock, vectors: np.ndarray, seconds: float) -> None:
        super().__init__(vectors=vectors)
        self.clock, self.seconds, self.times = clock, seconds, 0

    def tune(self, prompts: Any, targets: np.ndarray, groups: np.ndarray, seed: int) -> TunedVectors:
        self.clock.now += self.seconds
        self.times += 1
        return self


def test_features_that_one_fold_left_behind_do_not_make_the_next_learner_look_quick(
    table: hag.SweepTable, clock: Clock
) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(table.prompts), 4))
    tuned = TunedVectors(clock, vectors, 50.0)
    data = prepare_fit(table, [PrecomputedEncoder(vectors=vectors), tuned], get_objectives("reward"), 0, None)
    learners = [Paced(clock, "first", 0.0), Paced(clock, "second", 0.0)]
    limit = TimeLimit(600.0)
    fits = cross_fit(data, learners, (), None, limit)
    assert [one.name for one in fits.learners] == ["first on precomputed", "second on precomputed"]
    assert len(fits.not_fitted) == 2
    assert tuned.times <= 3
    # With time for the first learner, the second finds what it needs.
    tuned.times, limit = 0, TimeLimit(50.0 * 30)
    fits = cross_fit(data, learners, (), None, limit)
    assert len(fits.learners) == 4
    assert not fits.not_fitted


class Sleeping(Ridge):
    """Ridge regression that sleeps before each fit."""

    name = "sleeping"
    fits = 0

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        self.fits += 1
        time.sleep(1.0)
        return super().fit(features, targets, groups, seed)


def test_a_limit_holds_by_the_real_clock(table: hag.SweepTable) -> None:
    sleeping = Sleeping()
    policy = hag.fit(table, learner=["knn", sleeping], time_limit=12.0)
    # Without a limit its cross-fits alone take 25 s.
    assert sleeping.fits <= 2
    (left_out,) = policy.evaluation.not_fitted
    assert left_out == "sleeping on static, for which too little was left of the time limit of 12 s"
    assert "knn" in [row.name for row in policy.evaluation.rows]


@pytest.mark.parametrize("limit", [0, -1.0, math.nan, math.inf, "10m", True, [60]])
def test_a_limit_that_is_no_time_is_refused(table: hag.SweepTable, limit: Any) -> None:
    with pytest.raises(InvalidInput, match="time_limit: expected a number of seconds above 0, or None for no limit"):
        hag.fit(table, learner="constant", time_limit=limit)


def test_progress_tells_what_the_rest_takes_where_it_is_known(
    table: hag.SweepTable, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "hagpolicy.fitting"):
        hag.fit(table, learner=Paced(clock, "paced", 2.0, loading=5.0), baselines=())
    lines = [one.getMessage() for one in caplog.records if one.getMessage().startswith("fit: paced")]
    assert lines[:3] == [
        "fit: paced on static, 1 of 25 fits",
        "fit: paced on static, 2 of 25 fits",
        "fit: paced on static, 3 of 25 fits, the rest in about 46 s",
    ]
    assert lines[24] == "fit: paced on static, 25 of 25 fits, the rest in about 2.0 s"
