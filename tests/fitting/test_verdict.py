"""The gate's verdict on a table: that of `fit`, at any error, of a part of a sweep too."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.verdict import gate_table
from tests.support.drawing import SPACE, draw


@pytest.fixture(scope="module")
def table() -> hag.SweepTable:
    return draw(hag.SimulatedEngine(3, gap=0.15, space=SPACE), 150, 4)


def test_it_is_the_verdict_of_fit(table: hag.SweepTable) -> None:
    verdict, policy = gate_table(table, learner="ridge"), hag.fit(table, learner="ridge", baselines=())
    assert verdict.ships == (policy.ships,) == ("per_prompt",)
    assert verdict.candidates == (policy.evaluation.candidate,)
    assert verdict.over_default == (policy.evaluation.sbs_over_default,)


def test_an_error_that_is_spent_over_looks_asks_for_more_and_leaves_the_interval(table: hag.SweepTable) -> None:
    part = table.take(np.arange(len(table.prompts)) < 80)
    usual, strict = (gate_table(part, learner="ridge", error=error) for error in (0.4, 1e-3))
    assert usual.ships != ("default",)
    assert usual.data.comparisons[0].error == 0.4
    assert strict.ships == ("default",)
    assert usual.over_default == strict.over_default
    for wrong in (0.0, 0.6, -1.0, float("nan")):
        with pytest.raises(InvalidInput, match="error: expected a probability"):
            gate_table(part, learner="ridge", error=wrong)


def test_a_sweep_that_has_hardly_begun_proves_nothing_and_one_without_prompts_is_refused(table: hag.SweepTable) -> None:
    few = table.take(np.arange(len(table.prompts)) < 12)
    assert gate_table(few).ships == ("default",)
    with pytest.raises(InvalidInput, match="at least two prompts"):
        gate_table(table.take(np.arange(len(table.prompts)) < 1))


def test_each_point_of_a_dial_has_a_verdict(table: hag.SweepTable) -> None:
    verdict = gate_table(table, learner="ridge", objective="best@1,4")
    assert len(verdict.ships) == len(verdict.candidates) == len(verdict.over_default) == 2
