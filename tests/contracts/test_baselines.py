"""Every baseline by name through one contract, and what `fit` says of one that breaks it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.estimates import assign_folds
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Baseline, BaselineChoices, crossfit_baseline
from hagpolicy.fitting.baselines.registry import BASELINES, get_baseline, get_baselines
from tests.support.drawing import draw

N = 60


def draw_table() -> hag.SweepTable:
    """Rewards of a simulated world with several tasks, its default known."""
    return draw(hag.SimulatedEngine(1), N, 3)


@pytest.mark.parametrize("name", BASELINES)
def test_choices_are_configs_and_the_same_again(name: str) -> None:
    table = draw_table()
    folds = assign_folds(table.groups, 5, 0)
    baseline = get_baseline(name)
    assert (baseline.name, isinstance(baseline, Baseline)) == (name, True)
    first, second, fresh = (
        crossfit_baseline(one, table, table.means, folds, 0).indices for one in (baseline, baseline, get_baseline(name))
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, fresh)
    assert first.shape == (N,)
    assert set(first.tolist()) <= set(range(len(table.space)))


@pytest.mark.parametrize("name", BASELINES)
def test_rewards_of_the_test_prompts_are_not_looked_at(name: str) -> None:
    table = draw_table()
    test = assign_folds(table.groups, 5, 0) == 0
    other = np.where(test[:, None], 1.0 - table.means, table.means)
    chosen = [get_baseline(name).choose(table, values, ~test, test, 0).indices for values in (table.means, other)]
    np.testing.assert_array_equal(*chosen)
    assert chosen[0].shape == (int(test.sum()),)


class Broken(Baseline):
    """Chooses what it is given."""

    name = "broken"

    def __init__(self, given: Any) -> None:
        self.given = given

    def choose(
        self, table: hag.SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        return self.given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0] * 12, "choices of broken: expected a BaselineChoices"),
        (BaselineChoices(np.zeros(3, dtype=int)), r"choices of broken: expected whole numbers of shape \(12,\)"),
        (BaselineChoices(np.full(12, np.nan)), "choices of broken: expected whole numbers"),
        (BaselineChoices(np.full(12, 10)), r"numbers in \[-1, 9\], got 10"),
        (BaselineChoices(np.full(12, -2)), r"numbers in \[-1, 9\], got -2"),
    ],
)
def test_a_baseline_that_breaks_the_contract_is_refused_before_a_learner_is_fitted(given: Any, message: str) -> None:
    class Never(hag.Learner):
        name = "never"

        def fit(self, *_: Any) -> Any:
            pytest.fail("a learner was fitted")

    with pytest.raises(InvalidInput, match=message):
        hag.fit(draw_table(), learner=Never(), baselines=[Broken(given)])


def test_a_baseline_without_a_name_is_refused() -> None:
    nameless = Broken(None)
    nameless.name = ""
    with pytest.raises(InvalidInput, match=r"Broken\.name: expected the baseline's name, a text"):
        get_baselines([nameless])
