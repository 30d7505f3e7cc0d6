"""Off-policy values: right in worlds of known truth, and silent where the log knows nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hagpolicy import DecodingSpace, InvalidInput
from hagpolicy.analysis.logged.predictions import complete_predictions
from hagpolicy.analysis.logged.units import compute_error, estimate_mean
from hagpolicy.analysis.logged.value import MIN_MATCHED, LoggedValue, estimate_value
from hagpolicy.data.decisions import LoggedDecisions

SPACE = DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])


def make_log(
    n: int = 3000, explored: float = 0.3, sent: int = 3, seed: int = 0, **changes: Any
) -> tuple[LoggedDecisions, np.ndarray]:
    """Calls of even and odd prompts, and which are odd: config 0 runs, 1 is best for even ones, 2 for odd ones."""
    rng = np.random.default_rng(seed)
    odd = rng.integers(2, size=n)
    drawn = rng.random(n) < explored
    chosen = np.where(drawn, rng.integers(3, size=n), 0)
    chance = np.array([[0.5, 0.8, 0.3], [0.5, 0.3, 0.8]])
    given: dict[str, Any] = {
        "chosen": chosen,
        "propensity": np.where(chosen == 0, 1.0 - explored + explored / 3, explored / 3 if explored else 1.0),
        "reward": (rng.random(n) < chance[odd, chosen]).astype(float),
        "by_policy": np.ones(n, dtype=bool),
        "unit": np.arange(n) // sent,
        "seconds": np.arange(n),
    }
    return LoggedDecisions(SPACE, **{**given, **changes}), odd


def test_all_estimators_find_a_policy_that_is_better() -> None:
    decisions, odd = make_log(20_000)
    found = estimate_value(decisions, odd + 1)
    ran = 0.5 * (0.7 + 0.1) + 0.3 * (0.8 + 0.3) / 3
    for one in (found.doubly_robust, found.snips, found.ips):
        assert one is not None
        assert one.value.low < 0.8 < one.value.high
        assert one.gain.low < 0.8 - ran < one.gain.high
        assert one.gain.low > 0.0
        assert one.gain.reliable
    assert found.ran is not None
    assert found.ran.low < ran < found.ran.high
    assert found.reason == ""
    assert found.warnings == ()
    assert found.departing == 1.0
    assert found.matched == (decisions.chosen == odd + 1).sum()
    assert found.matched * 0.99 < found.effective < found.matched * 1.01
    assert found.weight is not None
    assert found.weight.low < 1.0 < found.weight.high


def test_doubly_robust_is_narrower_than_ips() -> None:
    decisions, odd = make_log(20_000)
    found = estimate_value(decisions, odd + 1)
    assert found.doubly_robust is not None
    assert found.ips is not None
    widths = [one.value.high - one.value.low for one in (found.doubly_robust, found.ips)]
    assert widths[0] < 0.8 * widths[1]


def test_good_predictions_narrow_and_bad_ones_do_no_harm() -> None:
    rng = np.random.default_rng(1)
    decisions, odd = make_log(20_000)
    certain = rng.random((len(odd), 3)) < np.array([[0.5, 0.8, 0.3], [0.5, 0.3, 0.8]])[odd]
    decisions, odd = make_log(20_000, reward=certain[np.arange(len(odd)), decisions.chosen].astype(float))
    near, far = np.where(certain, 0.95, 0.05), np.where(certain, 0.0, 1.0)
    widths = []
    for predictions in (near, None, far):
        found = estimate_value(decisions, odd + 1, predictions).doubly_robust
        assert found is not None
        assert found.value.low < 0.8 < found.value.high
        widths.append(found.value.high - found.value.low)
    assert widths == sorted(widths)
    assert widths[0] < 0.4 * widths[1]


def test_probabilities_are_a_target_too() -> None:
    decisions, odd = make_log(seed=1)
    certain = np.eye(3)[odd + 1]
    assert str(estimate_value(decisions, certain)) == str(estimate_value(decisions, odd + 1))
    half = 0.5 * certain
    half[:, 0] += 0.5
    found = estimate_value(decisions, half).doubly_robust
    assert found is not None
    assert found.value.low < 0.65 < found.value.high


def test_what_sums_to_less_than_one_is_unchanged() -> None:
    """Config 0 is renamed: the call goes out unchanged."""
    decisions, odd = make_log()
    renamed, _ = make_log(chosen=np.where(decisions.chosen == 0, -1, decisions.chosen))
    half = 0.5 * np.eye(3)[odd + 1]
    unchanged = estimate_value(renamed, half)
    half[:, 0] += 0.5
    assert unchanged.to_json() == estimate_value(decisions, half).to_json()
    assert estimate_value(renamed, np.full(len(odd), -1)).departing == 0.0


def test_of_what_ran_nothing_need_match() -> None:
    decisions, odd = make_log(n=200)
    found = estimate_value(decisions, np.zeros(len(odd), dtype=int))
    assert found.departing == 0.0
    assert found.doubly_robust is not None
    assert found.doubly_robust.value.low < 0.5 < found.doubly_robust.value.high
    assert found.doubly_robust.gain.low < 0.5 - 0.51 < found.doubly_robust.gain.high


def test_too_few_matches_say_nothing() -> None:
    decisions, odd = make_log(n=450)
    matching = np.flatnonzero(decisions.chosen == odd + 1)
    reward = decisions.reward.copy()
    reward[matching[MIN_MATCHED - 1 :]] = np.nan
    few, _ = make_log(n=450, reward=reward)
    found = estimate_value(few, odd + 1)
    assert found.doubly_robust is found.snips is found.ips is None
    assert found.reason.startswith("49 logged decisions match")
    assert "nothing can be said: 49 logged decisions" in str(found)
    reward[matching[MIN_MATCHED - 1]] = 1.0
    enough, _ = make_log(n=450, reward=reward)
    assert estimate_value(enough, odd + 1).doubly_robust is not None


def test_without_exploration_nothing_can_be_said() -> None:
    decisions, odd = make_log(explored=0.0)
    found = estimate_value(decisions, odd + 1)
    assert found.doubly_robust is None
    assert found.reason.startswith("exploration was off")
    assert found.ran is not None


def test_what_could_not_be_drawn_is_told_and_marked() -> None:
    decisions, odd = make_log()
    mine = (decisions.chosen != 2) | (odd == 0)  # for odd prompts, config 2 is never drawn
    found = estimate_value(decisions.take(mine), odd[mine] + 1)
    assert any("could not be drawn for the call at hand" in one for one in found.warnings)
    assert found.doubly_robust is not None
    assert not found.doubly_robust.gain.reliable
    never = decisions.take(decisions.chosen != 2)
    found = estimate_value(never, odd[decisions.chosen != 2] + 1)
    assert any("never drawn: config temperature=1" in one for one in found.warnings)


def test_the_default_arm_is_left_out() -> None:
    decisions, odd = make_log()
    arm = np.arange(len(odd)) % 2 == 0
    both, _ = make_log(
        chosen=np.where(arm, decisions.chosen, -1),
        propensity=np.where(arm, decisions.propensity, 1.0),
        by_policy=arm,
        share=0.5,
    )
    found = estimate_value(both, odd + 1)
    assert found.to_json() == estimate_value(decisions.take(arm), odd[arm] + 1).to_json()


def test_missing_rewards_are_left_out_and_told() -> None:
    decisions, odd = make_log()
    reward = decisions.reward.copy()
    reward[::4] = np.nan
    found = estimate_value(make_log(reward=reward)[0], odd + 1)
    assert found.n_calls == 2250
    assert any(one.startswith("rewards came for 75%") for one in found.warnings)
    none = estimate_value(make_log(reward=np.full(len(odd), np.nan))[0], odd + 1)
    assert none.ran is None
    assert none.reason == "no call that the policy decided has a reward"


def test_repeated_calls_of_a_unit_add_no_certainty() -> None:
    decisions, odd = make_log(1000, sent=1)
    twice = np.repeat(np.arange(1000), 4)
    once = estimate_value(decisions, odd + 1).snips
    again = estimate_value(decisions.take(twice), odd[twice] + 1).snips
    assert once is not None
    assert again is not None
    assert again.gain.low == pytest.approx(once.gain.low, abs=1e-12)
    assert again.gain.high == pytest.approx(once.gain.high, abs=1e-12)


def test_matches_of_few_units_are_unreliable() -> None:
    few, odd = make_log(unit=np.arange(3000) % 10)
    found = estimate_value(few, odd + 1)
    assert found.doubly_robust is not None
    assert not found.doubly_robust.value.reliable
    assert any("of 10 units" in one for one in found.warnings)
    assert "(unreliable)" in str(found)


def test_errors_are_those_of_independent_calls_where_units_are_calls() -> None:
    values = np.random.default_rng(0).random(500)
    error = compute_error(values - values.mean(), np.arange(500))
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(500))
    assert estimate_mean(values, np.zeros(500, dtype=int), 0.0, 1.0).low == 0.0
    assert estimate_mean(values, np.zeros(500, dtype=int), 0.0, 1.0).high == 1.0


def test_predictions_are_of_other_units() -> None:
    """A unit whose rewards are changed does not change its own predictions."""
    decisions, _ = make_log(n=300, sent=10)
    known = np.ones(300, dtype=bool)
    before = complete_predictions(decisions, known, None, seed=0)
    reward = decisions.reward.copy()
    reward[decisions.unit == 4] = 1.0 - reward[decisions.unit == 4]
    after = complete_predictions(make_log(n=300, sent=10, reward=reward)[0], known, None, seed=0)
    assert np.array_equal(before[decisions.unit == 4], after[decisions.unit == 4])
    assert not np.array_equal(before, after)


def test_predictions_without_a_column_for_unchanged_get_one() -> None:
    decisions, _ = make_log(n=300)
    filled = complete_predictions(decisions, np.ones(300, dtype=bool), np.full((300, 3), 0.25), seed=0)
    assert filled.shape == (300, 4)
    assert (filled[:, :3] == 0.25).all()
    assert np.allclose(filled[:, 3], decisions.reward.mean(), atol=0.1)  # never drawn: the mean of all


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.zeros(7, dtype=int), "target: expected choices"),
        (np.full(300, 3), "target: expected indices of the space, 0 to 2, or -1"),
        (np.zeros(300), "target: expected choices, whole numbers"),
        (np.full((300, 3), 0.4), "target: expected probabilities of at least 0, at most 1 in each row"),
        (np.zeros((300, 4)), "target: expected choices"),
    ],
)
def test_a_target_that_is_none_is_refused(target: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        estimate_value(make_log(n=300)[0], target)


def test_predictions_that_are_none_are_refused() -> None:
    decisions, odd = make_log(n=300)
    with pytest.raises(InvalidInput, match="predictions: expected rewards to expect, of shape"):
        estimate_value(decisions, odd + 1, np.zeros((300, 2)))
    with pytest.raises(InvalidInput, match=r"predictions: expected.*\[0, 1\]"):
        estimate_value(decisions, odd + 1, np.full((300, 3), 1.5))


def test_values_are_told_as_text_and_json() -> None:
    decisions, odd = make_log()
    found = estimate_value(decisions, odd + 1)
    assert isinstance(found, LoggedValue)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["doubly_robust"]["gain"]["low"] > 0.0
    assert str(found).splitlines()[2].startswith("doubly robust")
