"""An experiment is judged by units whose time has passed, and says what its data lack."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hagpolicy import DecodingSpace, InvalidInput
from hagpolicy.analysis.logged.experiment import compute_mismatch, judge_experiment
from hagpolicy.data.decisions import LoggedDecisions

SPACE = DecodingSpace.grid(temperature=[0.0, 1.0])


def make(by_policy: Any, reward: Any, **changes: Any) -> LoggedDecisions:
    arms = np.array(by_policy, dtype=bool)
    n = len(arms)
    given: dict[str, Any] = {
        "chosen": np.where(arms, 1, -1),
        "propensity": np.ones(n),
        "reward": np.array(reward, dtype=float),
        "by_policy": arms,
        "unit": np.arange(n),
        "seconds": np.arange(n),
        "share": 0.5,
    }
    return LoggedDecisions(SPACE, **{**given, **changes})


def draw(n: int, gain: float, seed: int = 0, **changes: Any) -> LoggedDecisions:
    rng = np.random.default_rng(seed)
    arms = rng.random(n) < 0.5
    return make(arms, rng.random(n) < 0.4 + gain * arms, **changes)


@pytest.mark.parametrize(("gain", "verdict"), [(0.2, "policy"), (-0.2, "default"), (0.0, "open")])
def test_the_better_arm_is_found(gain: float, verdict: str) -> None:
    found = judge_experiment(draw(2000, gain), window=0.0)
    assert found.verdict == verdict
    assert found.gain is not None
    assert found.running is not None
    assert found.gain.low < gain < found.gain.high
    assert found.gain.low <= found.running.low <= found.running.high <= found.gain.high
    assert (found.proven_after is None) == (verdict == "open")
    assert sum(found.n_units) == found.n_calls == 2000
    assert found.warnings == ()


def test_a_proof_is_dated_by_its_first_look() -> None:
    decisions = draw(2000, 0.2)
    found = judge_experiment(decisions, window=0.0)
    assert found.proven_after is not None
    before = judge_experiment(decisions.take(np.arange(found.proven_after - 1)), window=0.0)
    after = judge_experiment(decisions.take(np.arange(found.proven_after)), window=0.0)
    assert (before.verdict, after.verdict) == ("open", "policy")


def test_a_unit_is_the_mean_of_its_rewards_in_its_window() -> None:
    found = judge_experiment(
        make(
            [True, True, True, False, True, False],
            [1.0, 0.0, np.nan, 0.5, 0.0, 1.0],
            unit=[5, 5, 5, 3, 5, 9],
            seconds=[0.0, 10.0, 20.0, 50.0, 101.0, 200.0],
        ),
        window=100.0,
    )
    assert found.n_units == (1, 1)  # the last one waits
    assert (found.policy, found.default) == (0.5, 0.5)
    assert found.n_waiting == 1
    assert found.seconds.tolist() == [100.0, 150.0]


def test_a_window_of_zero_is_the_first_call_alone() -> None:
    found = judge_experiment(
        make([True, True, False], [1.0, 0.0, 0.0], unit=[0, 0, 1], seconds=[0.0, 0.0, 0.0]), window=0.0
    )
    assert (found.policy, found.default) == (1.0, 0.0)
    assert found.n_waiting == 0


def test_units_count_in_the_order_of_their_first_calls() -> None:
    decisions = draw(300, 0.3)
    mixed = np.random.default_rng(3).permutation(300)
    straight, other = (judge_experiment(one, window=7.0) for one in (decisions, decisions.take(mixed)))
    assert np.array_equal(straight.path.low, other.path.low)
    assert straight.n_waiting == 7


def test_what_has_counted_does_not_change() -> None:
    """Later calls of a unit, and later units, leave the looks before as they were."""
    rng = np.random.default_rng(0)
    n = 600
    unit = rng.integers(80, size=n)
    arm = rng.random(80) < 0.5
    decisions = make(arm[unit], rng.random(n) < 0.5, unit=unit)
    whole = judge_experiment(decisions, window=40.0)
    for count in (100, 250, 400):
        part = judge_experiment(decisions.take(np.arange(count)), window=40.0)
        assert np.array_equal(part.path.low, whole.path.low[: len(part.path.low)])


def test_before_the_first_unit_counts_nothing_is_said() -> None:
    found = judge_experiment(make([True, False], [1.0, 0.0]))
    assert found.gain is found.running is found.policy is None
    assert found.verdict == "open"
    assert found.n_waiting == 2
    assert "2 units waiting for the end of 1 d" in str(found)
    later = judge_experiment(make([True, False], [1.0, 0.0]), now=100_000.0)
    assert later.n_units == (1, 1)


def test_an_arm_without_units_has_no_mean() -> None:
    found = judge_experiment(make([True, True], [1.0, 0.0]), window=0.0)
    assert found.default is None
    assert found.gain is not None


def test_wrong_assignment_is_told() -> None:
    rng = np.random.default_rng(0)
    arms = rng.random(2000) < 0.6
    found = judge_experiment(make(arms, rng.random(2000) < 0.5), window=0.0)
    assert any("of the units are the policy's, where 50.0% should be" in one for one in found.warnings)


def test_rewards_that_come_for_one_arm_are_told() -> None:
    decisions = draw(2000, 0.0)
    reward = decisions.reward.copy()
    reward[np.flatnonzero(decisions.by_policy)[::2]] = np.nan
    found = judge_experiment(make(decisions.by_policy, reward), window=0.0)
    assert any("of the units with a reward are the policy's" in one for one in found.warnings)
    assert any("ended without a reward" in one for one in found.warnings)


def test_units_of_both_arms_count_in_their_first() -> None:
    found = judge_experiment(make([True, False, False], [1.0, 0.0, 0.0], unit=[0, 0, 1]), window=1.0, now=9.0)
    assert found.n_units == (1, 1)
    assert found.warnings[-1].startswith("1 unit with calls in both arms")


def test_false_alarms_of_the_assignment_are_rare_at_any_look() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        sums = np.cumsum(rng.random(1000) < 0.3)
        alarms += any(compute_mismatch(int(sums[n]), n + 1, 0.3) >= 20.0 for n in range(0, 1000, 5))
    assert 0 < alarms <= 15
    assert compute_mismatch(0, 0, 0.3) == pytest.approx(1.0)


def test_an_experiment_is_told_as_text_and_json() -> None:
    found = judge_experiment(draw(2000, 0.2), window=0.0)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["verdict"] == "policy"
    assert told["gain"]["low"] > 0.0
    assert "path" not in told
    assert str(found).splitlines()[-1].startswith("the policy is better, first proven after")


def test_what_is_no_experiment_is_refused() -> None:
    with pytest.raises(InvalidInput, match="decisions: expected those of an experiment"):
        judge_experiment(make([True], [1.0], share=None))
    with pytest.raises(InvalidInput, match="window: expected seconds, at least 0"):
        judge_experiment(make([True], [1.0]), window=-1.0)
