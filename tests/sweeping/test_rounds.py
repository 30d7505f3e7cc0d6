"""A sweep in rounds, within a budget, over engines that take units in any order."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.data.completion import Completion
from hagpolicy.errors import EngineError, InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.sweeping.budget import Budget, BudgetMeter
from hagpolicy.sweeping.strategies.base import StrategyResult
from tests.support.sweeping_world import Counting, cells_of, run, same

N_CELLS = 6 * (1 + 2 + 2 + 2)  # one deterministic config, two sampled ones and the default


def halving(view, budget, seed):
    """The first sample of all; then a second one of the better half of the configs, and a third of one prompt."""
    mask = np.zeros((len(view.prompts), len(view.space), view.samples), dtype=bool)
    mask[:, :, 0] = True
    seen = yield mask.copy()
    means = np.nanmean(seen.table.means, axis=0)
    kept = tuple(sorted(np.argsort(-means, kind="stable")[: len(means) // 2].tolist()))
    mask[:, kept, 1] = True
    mask[0, kept, 2] = True
    seen = yield mask.copy()
    return StrategyResult(kept, 2, [{"kept": list(kept), "budget": seen.budget, "final": seen.final}])


def test_rounds_leave_the_kept_configs_and_their_common_samples(tmp_path):
    engine = Counting(seed=3, gap=0.2)
    table = run(engine, tmp_path, samples=3, strategy=halving)
    assert len(table.space) == 2
    assert table.common == 2
    beyond = table.rewards[:, :, 2]
    sampled = ~table.space.deterministic
    assert np.isnan(beyond[1:]).all()
    assert not np.isnan(beyond[0, sampled]).any()
    np.testing.assert_allclose(table.common_means[:, sampled], table.rewards[:, sampled, :2].mean(axis=2))
    assert max(engine.seeds.values()) == 1
    assert same(table, hag.load_table(tmp_path))


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3])
def test_rounds_that_were_stopped_end_as_if_they_were_not(tmp_path, stop_at):
    whole = Counting(seed=3, gap=0.2, unit_cells=8)
    expected = run(whole, tmp_path / "whole", samples=3, strategy=halving)
    first = Counting(seed=3, gap=0.2, unit_cells=8, stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        run(first, tmp_path / "part", samples=3, strategy=halving)
    second = Counting(seed=3, gap=0.2, unit_cells=8)
    assert same(run(second, tmp_path / "part", samples=3, strategy=halving), expected)
    assert first.seeds + second.seeds == whole.seeds


def test_a_round_sees_only_the_cells_it_asked_for(tmp_path):
    run(Counting(seed=3), tmp_path, samples=3)  # the folder holds everything
    seen = []

    def looking(view, budget, seed):
        mask = np.zeros((len(view.prompts), len(view.space), view.samples), dtype=bool)
        mask[:3, :2, 0] = True
        seen.append((yield mask))
        return StrategyResult((0, 1), 1, [])

    again = Counting(seed=3)
    table = run(again, tmp_path, samples=3, strategy=looking)
    assert again.units == []
    assert np.isnan(seen[0].table.rewards[3:]).all()
    assert np.isnan(seen[0].table.rewards[:, 2:]).all()
    assert not np.isnan(seen[0].table.rewards[:3, :2, 0]).any()
    assert table.common == 1


def test_an_unknown_strategy_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="full, racing, hag"):
        run(Counting(), tmp_path, strategy="race")


def test_a_budget_of_generations_ends_a_sweep_and_counts_what_is_stored(tmp_path):
    engine = Counting(seed=1, unit_cells=7)
    table = run(engine, tmp_path, budget=20)
    assert len(cells_of(tmp_path)) == 20  # two units of one prompt each, and what a third may have
    assert np.isnan(table.rewards[3:]).all()
    run(Counting(seed=1, unit_cells=7), tmp_path, budget=20)
    assert len(cells_of(tmp_path)) == 20
    assert same(run(Counting(seed=1, unit_cells=7), tmp_path), run(engine, tmp_path / "whole"))
    assert len(cells_of(tmp_path)) == N_CELLS


def test_a_budget_below_one_unit_is_spent(tmp_path):
    run(Counting(seed=1, unit_cells=256), tmp_path, budget=5)
    assert len(cells_of(tmp_path)) == 5
    run(Counting(seed=1, unit_cells=256), tmp_path, budget=9)
    assert len(cells_of(tmp_path)) == 9


def test_a_budget_that_is_spent_has_room_for_the_cells_that_failed(tmp_path):
    engine = Counting(seed=1, unit_cells=7, fail_rate=0.4)
    table = run(engine, tmp_path, budget=20)
    failed = sum(table.failures.values())
    assert failed
    again = Counting(seed=1, unit_cells=7)
    table = run(again, tmp_path, budget=20)
    assert table.failures == {}
    assert sum(again.seeds.values()) == failed
    assert table.counts.sum() == 20


def test_a_budget_of_tokens_ends_a_sweep(tmp_path):
    run(Counting(seed=1, unit_cells=7), tmp_path, budget="1 tokens")
    assert len(cells_of(tmp_path)) == 7


def test_a_strategy_is_told_that_its_budget_ended(tmp_path):
    said = []

    def asking(view, budget, seed):
        mask = np.ones((len(view.prompts), len(view.space), view.samples), dtype=bool)
        said.append((budget, (yield mask)))
        return StrategyResult((0, 1), 1, [])

    run(Counting(seed=1, unit_cells=7), tmp_path, strategy=asking, budget=14)
    ((budget, seen),) = said
    assert budget == 14
    assert seen.final
    assert seen.budget == 14
    assert not np.isnan(seen.table.rewards[:2, :, 0]).any()
    assert np.isnan(seen.table.rewards[2:]).all()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, Budget()),
        (5000, Budget(generations=5000)),
        ("5000", Budget(generations=5000)),
        ("2e6 tokens", Budget(tokens=2_000_000)),
        ("30 min", Budget(minutes=30.0)),
        ("1.5 minutes", Budget(minutes=1.5)),
        (Budget(tokens=3), Budget(tokens=3)),
    ],
)
def test_budgets_are_read(spec, expected):
    assert Budget.of(spec) == expected


@pytest.mark.parametrize("spec", ["", "many", "5 hours", "-3", 0, True, "1.2.3", "0 tokens", "0.5", "1e400"])
def test_what_is_no_budget_is_refused(spec):
    with pytest.raises(InvalidInput, match="budget"):
        Budget.of(spec)


@pytest.mark.parametrize("limit", [{"generations": 2.5}, {"tokens": 0.5}, {"minutes": float("inf")}, {"tokens": True}])
def test_limits_that_are_none_are_refused(limit):
    with pytest.raises(InvalidInput, match=f"budget in {next(iter(limit))}"):
        Budget(**limit)
    assert Budget(generations=2e3).generations == 2000


def test_a_budget_is_projected_at_the_rates_so_far():
    budget_meter = BudgetMeter(Budget(tokens=1000))
    assert budget_meter.project(500) == 500
    budget_meter.set_stored(10, 40)
    assert budget_meter.project(500) == 250
    budget_meter = BudgetMeter(Budget(generations=30))
    budget_meter.set_stored(20, 0)
    assert budget_meter.project(500) == 30
    assert budget_meter.admit(7) == 7
    assert budget_meter.admit(7) == 3
    assert budget_meter.admit(1) == 0


class Backwards(Counting):
    """Takes three units at once and gives them back last first."""

    def stream(self, units):
        flying = []
        for number, unit in enumerate(units):
            flying.append((number, unit))
            if len(flying) == 3:
                yield from ((n, self.generate(u)) for n, u in reversed(flying))
                flying.clear()
        yield from ((n, self.generate(u)) for n, u in reversed(flying))


def test_units_may_come_back_in_any_order(tmp_path):
    table = run(Backwards(seed=2, unit_cells=7), tmp_path / "a")
    assert same(table, run(Counting(seed=2, unit_cells=7), tmp_path / "b"))


class Failing(Counting):
    """Checks itself, and finds that it does not do what it is told."""

    def check(self):
        raise EngineError("temperature is lost on the way to the model")


def test_an_engine_that_fails_its_check_generates_nothing(tmp_path):
    engine = Failing(seed=2)
    with pytest.raises(EngineError, match="temperature is lost"):
        run(engine, tmp_path)
    assert engine.units == []
    run(Counting(seed=2), tmp_path)
    run(engine, tmp_path)  # nothing is left to generate: nothing to check


class Longer(Scorer):
    """1 where the answer is longer than the default's; keeps a note of what it was opened on."""

    name, version, needs_default = "longer", "1", True

    def __init__(self):
        self.opened, self.closed = [], 0
        self.asked = 0

    def against(self, defaults):
        bound = Bound()
        bound.defaults, bound.owner = defaults, self
        return bound

    def open(self, folder):
        self.opened.append(folder)

    def close(self):
        self.closed += 1

    def score(self, items):
        raise AssertionError("asked without the default's answers")


class Bound(Longer):
    def __init__(self):
        pass

    def score(self, items):
        self.owner.asked += len(items)
        return [Score(float(len(one.text) > len(self.defaults[prompt.digest].text))) for prompt, one in items]


def test_a_scorer_that_needs_the_default_scores_after_all_is_generated(tmp_path):
    scorer = Longer()
    table = run(Counting(seed=5, unit_cells=2), tmp_path, scorer=scorer)
    assert not np.isnan(table.rewards[:, ~table.space.deterministic]).any()
    assert (table.rewards[:, table.default, 0] == 0.0).all()
    texts = {(row["prompt"], row["config"], row["sample"]): row["text"] for row in cells_of(tmp_path)}
    default = table.space[table.default].digest
    for i, prompt in enumerate(table.prompts):
        for j, config in enumerate(table.space):
            longer = len(texts[prompt.digest, config.digest, 0]) > len(texts[prompt.digest, default, 0])
            assert table.rewards[i, j, 0] == longer
    assert scorer.opened == [tmp_path]
    assert scorer.closed == 1
    asked = scorer.asked
    assert same(run(Counting(seed=5, unit_cells=2), tmp_path, scorer=scorer), table)
    assert scorer.asked == asked  # stored rewards are not computed again
    assert same(hag.rescore(tmp_path, Longer()), table)


def test_where_the_default_failed_the_prompt_stays_unscored(tmp_path):
    class Flawed(Counting):
        def generate(self, unit):
            done = super().generate(unit)
            lost = Completion("", finish="error", error="lost")
            mine = [r.config == self.default_config() and r.sample == 0 for r in unit]
            return [lost if bad else one for bad, one in zip(mine, done, strict=True)]

    table = run(Flawed(seed=5), tmp_path, scorer=Longer())
    assert np.isnan(table.rewards).all()
    assert sum(table.failures.values()) == N_CELLS
    healed = run(Counting(seed=5), tmp_path, scorer=Longer())
    assert not np.isnan(healed.rewards[:, :, 0]).any()


def test_the_default_is_there_for_scorers_that_need_it_whatever_a_strategy_asks_for(tmp_path):
    seen = []

    def one_config(view, budget, seed):
        mask = np.zeros((len(view.prompts), len(view.space), view.samples), dtype=bool)
        mask[:3, 1, 0] = True
        seen.append((yield mask))
        return StrategyResult((1, 2), 1, [])

    run(Counting(seed=5), tmp_path, scorer=Longer(), strategy=one_config)
    (observed,) = seen
    assert not np.isnan(observed.table.rewards[:3, 1, 0]).any()
    assert np.isfinite(observed.table.rewards).sum() == 3
    assert len(cells_of(tmp_path)) == 6


def test_of_what_is_stored_only_the_cells_that_a_strategy_asks_for_are_scored(tmp_path):
    run(Counting(seed=3), tmp_path, samples=3)
    asked = []

    def half(text):
        asked.append(text)
        return 0.5

    run(Counting(seed=3), tmp_path, samples=3, strategy=halving, scorer=half)
    assert len(asked) < 6 * 10
    assert len(asked) == np.isfinite(hag.load_table(tmp_path).rewards).sum() + 6 * 2  # and those of the dropped


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 2), (5, 4, 2), (6, 4, 1)])
def test_a_mask_of_another_shape_is_refused(tmp_path, shape):
    def wrong(view, budget, seed):
        yield np.ones(shape, dtype=bool)
        return StrategyResult((0,), 1, [])

    with pytest.raises(InvalidInput, match=r"masks of shape \(6, 4, 2\).*from wrong"):
        run(Counting(seed=3), tmp_path, strategy=wrong)


def test_a_strategy_that_asks_for_nothing_leaves_its_outcome(tmp_path):
    def nothing(view, budget, seed):
        return StrategyResult((0, 1), 1, [])
        yield

    assert len(run(Counting(seed=3), tmp_path, strategy=nothing).space) == 2
