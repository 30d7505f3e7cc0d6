"""A sweep that ends by a check: what it generates, what it leaves, and what a later proof pays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.rule import GATE_ERROR
from hagpolicy.analysis.spending import KEPT, compute_conditional_power, compute_error_left, plan_errors
from hagpolicy.data.looks import Look
from hagpolicy.errors import InvalidInput
from hagpolicy.sweeping.strategies.looks import describe_end, order_prompts
from tests.support.sweeping_world import Counting, cells_of, run

WIDE = hag.DecodingSpace.grid(temperature=[0.0, 0.4, 0.8, 1.2])


class EndingAt:
    """A check that says an outcome at one look."""

    def __init__(self, number, outcome="proven", shares=(0.25, 0.5, 1.0)):
        self.number, self.outcome, self.shares, self.seen = number, outcome, shares, []

    def __call__(self, table, number, planned):
        self.seen.append(table)
        outcome = self.outcome if number == self.number else "open"
        return Look(len(table.prompts), planned, 0.001 * (number + 1), 0.002 * (number + 1), outcome)


@pytest.mark.parametrize(("number", "outcome", "seen"), [(0, "proven", 10), (1, "futile", 20), (9, "open", 40)])
def test_a_sweep_ends_at_the_look_that_is_certain(tmp_path, number, outcome, seen):
    engine, check = Counting(seed=1, unit_cells=8), EndingAt(number, outcome)
    table = run(engine, tmp_path / "s", n=40, until=check)
    assert len(table.prompts) == seen
    assert table.complete.all()
    assert len(cells_of(tmp_path / "s")) == 7 * seen
    assert [len(one.prompts) for one in check.seen] == [10, 20, 40][: len(table.looks)]
    assert all(one.complete.all() for one in check.seen)
    assert table.looks[-1].outcome == outcome
    # Loaded later, whatever part of it, the looks are there; the same call again generates nothing.
    again = hag.load_table(tmp_path / "s")
    assert (again.looks, again.prompts) == (table.looks, table.prompts)
    assert hag.load_table(tmp_path / "s", prompts=table.prompts[:5]).looks == table.looks
    units = len(engine.units)
    assert run(engine, tmp_path / "s", n=40, until=EndingAt(number, outcome)).looks == table.looks
    assert len(engine.units) == units
    # A full sweep into the folder still knows that it was looked at.
    whole = run(engine, tmp_path / "s", n=40)
    assert len(whole.prompts) == 40
    assert whole.looks == table.looks


def test_prompts_come_in_an_order_that_is_random_by_group_and_does_not_hang_on_the_given_one():
    prompts = [hag.Prompt(f"question {i}", task=f"t{i // 50}", group=f"g{i // 2}") for i in range(100)]
    order = order_prompts(prompts, 0)
    assert sorted(order) == list(range(100))
    backward = list(reversed(prompts))
    assert [backward[i] for i in order_prompts(backward, 0)] == [prompts[i] for i in order]
    assert order_prompts(prompts, 1) != order
    assert all(order[i] // 2 == order[i + 1] // 2 for i in range(0, 100, 2))
    assert 10 <= sum(prompts[i].task == "t0" for i in order[:50]) <= 40


def test_a_look_never_parts_a_group(tmp_path):
    engine = Counting(seed=1)
    prompts = [replace(one, group=f"g{i // 7}") for i, one in enumerate(engine.prompts(40))]
    check = EndingAt(0)
    table = run(engine, tmp_path / "s", prompts=prompts, until=check)
    groups = [prompt.group for prompt in table.prompts]
    assert len(groups) == sum(prompt.group in groups for prompt in prompts)


def test_a_budget_that_ends_between_looks_is_no_look(tmp_path):
    engine, check = Counting(seed=1, unit_cells=7), EndingAt(9)
    table = run(engine, tmp_path / "s", n=40, until=check, budget=100)
    assert [look.prompts for look in table.looks] == [10]
    assert int(table.complete.sum()) == 14
    assert "budget ended" in describe_end(table.looks, 40)
    assert "cannot be proven" in describe_end([Look(10, 40, 0.01, 0.01, "futile")], 40)


def test_what_is_no_check_is_refused_before_a_token(tmp_path):
    engine = Counting(seed=1)
    for until, words in (("proven", "until_proven"), (len, "until_proven"), (EndingAt(0, shares=(0.5, 0.9)), "rising")):
        with pytest.raises(InvalidInput, match=words):
            run(engine, tmp_path / "s", until=until)
    with pytest.raises(InvalidInput, match="strategy"):
        run(engine, tmp_path / "s", until=EndingAt(0), strategy="racing", budget=30)
    assert engine.units == []


def test_looks_spend_the_error_and_no_more():
    """By simulation: sums of independent prompts without any gain cross a bound as often as is planned."""
    shares = (0.3, 0.475, 0.65, 0.825, 1.0)
    errors, spent = plan_errors(shares, 0.025)
    assert spent == pytest.approx([0.025 * share**2 for share in shares])
    assert errors[0] == pytest.approx(spent[0], rel=0.05)
    assert all(one < 0.025 for one in errors)
    assert sum(errors) > 0.025  # looks share prompts: each may spend more than its part
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(400_000, 5)) * np.sqrt(np.diff((0.0, *shares)))
    z = steps.cumsum(axis=1) / np.sqrt(shares)
    from scipy.stats import norm

    assert (z > norm.isf(errors)).any(axis=1).mean() == pytest.approx(0.025, abs=0.0012)


def test_a_later_fit_gets_what_the_looks_left():
    looks = (Look(30, 100, 0.002, 0.002), Look(48, 100, 0.004, 0.005, "futile"))
    assert compute_error_left((), 100) == GATE_ERROR
    assert compute_error_left(looks, 48) == 0.004
    assert compute_error_left(looks, 100) == pytest.approx(GATE_ERROR - 0.005)
    errors, spent = plan_errors((0.5, 1.0), GATE_ERROR * (1.0 - KEPT))
    assert compute_error_left([Look(100, 100, errors[-1], spent[-1])], 150) == pytest.approx(GATE_ERROR * KEPT)


def test_conditional_power_rises_with_what_was_seen():
    chances = [compute_conditional_power(gain, 0.02, 0.5, 0.02) for gain in (-0.04, 0.0, 0.02, 0.06)]
    assert chances == sorted(chances)
    assert chances[0] < 0.05
    assert chances[-1] > 0.8


def test_until_proven_proves_early_where_there_is_much_and_gives_up_where_there_is_nothing(tmp_path):
    outcomes = {}
    for gap in (0.15, 0.0):
        engine = Counting(seed=3, gap=gap, space=WIDE)
        check = replace(hag.until_proven(learner="ridge"), shares=(0.5, 1.0))
        outcomes[gap] = run(engine, tmp_path / str(gap), n=200, samples=6, until=check, space=WIDE)
    assert outcomes[0.15].looks[-1].outcome == "proven"
    assert len(outcomes[0.15].prompts) < 200
    # The later fit says the same of the same prompts, at the error of that look.
    assert hag.fit(outcomes[0.15], learner="ridge", baselines=()).ships == "per_prompt"
    assert outcomes[0.0].looks[-1].outcome != "proven"
    assert hag.fit(outcomes[0.0], learner="ridge", baselines=()).ships != "per_prompt"
