"""Logged decisions are refused where they cannot be true, and kept as they were given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hagpolicy import DecodingSpace, InvalidInput
from hagpolicy.data.decisions import UNCHANGED, LoggedDecisions

SPACE = DecodingSpace.grid(temperature=[0.0, 0.7, 1.0])


def make(**changes: Any) -> LoggedDecisions:
    given: dict[str, Any] = {
        "chosen": [0, 2, UNCHANGED, UNCHANGED],
        "propensity": [0.95, 0.025, 1.0, 1.0],
        "reward": [1.0, 0.0, np.nan, 0.5],
        "by_policy": [True, True, True, False],
        "unit": [7, 7, 8, 9],
        "seconds": [0.0, 3.5, 2, 9.0],
        "share": 0.5,
    }
    return LoggedDecisions(SPACE, **{**given, **changes})


def test_arrays_are_kept_and_cannot_be_written() -> None:
    decisions = make()
    assert len(decisions) == 4
    assert decisions.chosen.tolist() == [0, 2, -1, -1]
    assert (decisions.chosen.dtype, decisions.seconds.dtype) == (np.int64, np.float64)
    assert np.isnan(decisions.reward[2])
    with pytest.raises(ValueError, match="read-only"):
        decisions.reward[2] = 0.0


def test_given_arrays_are_copied() -> None:
    reward = np.array([1.0, 0.0, np.nan, 0.5])
    decisions = make(reward=reward)
    reward[0] = 0.0
    assert decisions.reward[0] == 1.0


def test_some_calls_are_taken() -> None:
    decisions = make()
    assert decisions.take(decisions.unit == 7).chosen.tolist() == [0, 2]
    assert decisions.take(np.array([3])).share == 0.5
    with pytest.raises(InvalidInput, match="at least one logged call"):
        decisions.take(np.zeros(4, dtype=bool))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chosen": [0, 3, -1, -1]}, r"chosen\[1\].*0 to 2.*got 3"),
        ({"chosen": [0, 2, -2, -1]}, r"chosen\[2\].*got -2"),
        ({"chosen": [0.0, 2.0, -1.0, -1.0]}, "chosen: expected whole numbers.*float64"),
        ({"chosen": [0, 2, -1, 1]}, r"chosen\[3\].*default arm.*got 1"),
        ({"propensity": [0.95, 0.0, 1.0, 1.0]}, r"propensity\[1\].*\(0, 1\].*got 0.0"),
        ({"propensity": [0.95, np.nan, 1.0, 1.0]}, r"propensity\[1\].*got nan"),
        ({"propensity": [0.95, 1.0, 1.0, 1.5]}, r"propensity\[3\].*got 1.5"),
        ({"propensity": ["1", "1", "1", "1"]}, "propensity: expected numbers"),
        ({"reward": [1.0, 2.0, np.nan, 0.5]}, r"reward\[1\].*NaN where none came.*got 2.0"),
        ({"reward": [1.0, 0.5]}, "reward: expected the length of chosen, 4"),
        ({"by_policy": [1, 1, 1, 0]}, "by_policy: expected True or False"),
        ({"unit": [7, 7, -1, 9]}, r"unit\[2\].*at least 0"),
        ({"seconds": [0.0, np.inf, 1.0, 2.0]}, r"seconds\[1\].*finite"),
        ({"share": None}, "share: expected the probability with which units are assigned"),
        ({"share": 1.0}, r"share: expected a probability in \(0, 1\)"),
        ({"share": True}, "share: expected a probability"),
    ],
)
def test_what_cannot_be_true_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make(**changes)


def test_an_experiment_is_not_needed() -> None:
    decisions = make(by_policy=[True] * 4, share=None)
    assert decisions.share is None
    none = {name: [] for name in ("chosen", "propensity", "reward", "by_policy", "unit", "seconds")}
    with pytest.raises(InvalidInput, match="at least one logged call, got none"):
        make(**none)
