"""The contract over all strategies: every name of the registry, driven on tables and through sweeps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from benchmarks.claims.fitting import worlds
from hagpolicy.data.store.cells import View
from hagpolicy.errors import InvalidInput
from hagpolicy.sweeping.strategies.base import STRATEGIES, Observation, StrategyResult, get_strategy
from tests.support.sweeping_world import Counting, same

SPACE = worlds.SPACE
SAMPLES = 4
N_PROMPTS = 60
BUDGET = int(0.35 * N_PROMPTS * SAMPLES * len(SPACE))
# More rounds than any strategy has: one that goes on for ever would spend a sweep's time.
MOST_ROUNDS = 60


def view_of(samples: int = SAMPLES, default: int | None = 0) -> View:
    prompts = tuple(hag.Prompt(f"prompt {i} of kind {i % 2}", task="ab"[i % 2]) for i in range(N_PROMPTS))
    return View(prompts, SPACE, samples, 64, 0, default, ("",) * N_PROMPTS)


def table_of(view: View, seed: int | None = 0) -> hag.SweepTable:
    """Rewards of a world with a best config for each task; None: a null table, in which nothing was scored."""
    rewards = np.full((N_PROMPTS, len(SPACE), view.samples), np.nan)
    if seed is not None:
        truth = np.full((N_PROMPTS, len(SPACE)), 0.45)
        truth[0::2, 5], truth[1::2, 8] = 0.85, 0.85
        rewards = (np.random.default_rng(seed).random(rewards.shape) < truth[:, :, None]).astype(float)
        rewards[:, SPACE.deterministic, 1:] = np.nan
    return hag.SweepTable(view.prompts, SPACE, rewards, default=view.default)


@dataclass
class Run:
    """The masks that a strategy asked for, and what it left."""

    masks: list[np.ndarray] = field(default_factory=list)
    result: StrategyResult | None = None


def drive(
    name: str, view: View, table: hag.SweepTable, budgets: list[int], seed: int = 0, last: int | None = None
) -> Run:
    """Drive a strategy; budgets: given before each round, the last one from then on; last: the round that is final."""
    _, strategy = get_strategy(name)
    assert strategy is not None
    run, rounds = Run(), strategy(view, budgets[0], seed)
    observed = None
    for number in range(1, MOST_ROUNDS):
        try:
            mask = rounds.send(observed)
        except StopIteration as stop:
            run.result = stop.value
            return run
        assert mask.dtype == bool
        run.masks.append(mask.copy())
        seen = replace(table, rewards=np.where(mask, table.rewards, np.nan))
        observed = Observation(seen, budgets[min(number, len(budgets) - 1)], number == last)
    raise AssertionError(f"{name} asked for more than {MOST_ROUNDS} rounds")


def check_masks(run: Run, view: View, budget: int) -> None:
    """Masks of the view's cells, each with all before it, within the budget."""
    before = np.zeros((N_PROMPTS, len(SPACE), view.samples), dtype=bool)
    for mask in run.masks:
        assert mask.shape == before.shape
        assert mask[before].all()
        assert mask.sum() <= budget
        assert not mask[:, SPACE.deterministic, 1:].any()  # which has one outcome alone
        before = mask


def check_result(run: Run, view: View) -> None:
    """A portfolio with the default in it, whose common samples were asked for, and a log that can be stored."""
    result = run.result
    assert result is not None
    assert list(result.kept) == sorted(set(result.kept))
    assert all(0 <= config < len(SPACE) for config in result.kept)
    assert result.kept
    assert view.default is None or view.default in result.kept
    assert 1 <= result.common <= view.samples
    json.dumps(result.log)
    limit = np.where(SPACE.deterministic, 1, result.common)
    for config in result.kept:
        assert run.masks[-1][:, config, : limit[config]].all()


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("samples", [1, SAMPLES])
@pytest.mark.parametrize("default", [None, 0])
@pytest.mark.parametrize("scored", [True, False], ids=["scored", "null"])
def test_a_strategy_asks_within_its_budget_and_leaves_common_samples(name, samples, default, scored):
    view = view_of(samples, default)
    run = drive(name, view, table_of(view, 0 if scored else None), [BUDGET])
    check_masks(run, view, BUDGET)
    check_result(run, view)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_equals_itself_for_a_seed(name):
    view = view_of()
    first, second, other = (drive(name, view, table_of(view), [BUDGET], seed) for seed in (3, 3, 4))
    assert first.result == second.result
    assert len(first.masks) == len(second.masks)
    assert all((a == b).all() for a, b in zip(first.masks, second.masks, strict=True))
    assert (first.masks[0] != other.masks[0]).any()  # which prompts are looked at first is drawn


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("last", [1, 2, 4])
def test_where_the_budget_has_ended_the_result_follows(name, last):
    view = view_of()
    run = drive(name, view, table_of(view), [BUDGET], last=last)
    check_masks(run, view, BUDGET)
    assert run.result is not None
    assert run.result.kept
    assert view.default in run.result.kept
    assert run.result.common >= 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_more_is_asked_for_only_where_the_budget_comes_to_more(name):
    view = view_of()
    all_cells = [
        int(drive(name, view, table_of(view), budgets).masks[-1].sum())
        for budgets in ([BUDGET], [BUDGET, 2 * BUDGET], [BUDGET, BUDGET, BUDGET // 2])
    ]
    assert all_cells[2] <= all_cells[0] <= BUDGET
    assert all_cells[0] <= all_cells[1] <= 2 * BUDGET


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_sweep_in_rounds_keeps_its_budget_and_resumes(name: str, tmp_path: Path) -> None:
    def swept(engine: Counting, out: Path) -> hag.SweepTable:
        return hag.sweep(
            engine, engine.prompts(60, seed=1), SPACE, engine.scorer, samples=4, max_tokens=16, out=out,
            strategy=name, budget=900, progress=False,
        )  # fmt: skip

    whole = Counting(3, gap=0.15, space=SPACE)
    table = swept(whole, tmp_path / "whole")
    assert sum(whole.seeds.values()) <= 900
    assert set(whole.seeds.values()) == {1}
    assert table.common is not None
    assert table.default is not None
    assert table.complete.all()
    killed = Counting(3, gap=0.15, space=SPACE, stop_at=6)
    with pytest.raises(KeyboardInterrupt):
        swept(killed, tmp_path / "killed")
    resumed = Counting(3, gap=0.15, space=SPACE)
    assert same(swept(resumed, tmp_path / "killed"), table)
    assert killed.seeds + resumed.seeds == whole.seeds
    loaded = hag.load_table(tmp_path / "whole")
    assert loaded.common == table.common
    hag.headroom(loaded)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_budget_below_the_least_is_refused_before_a_token(name: str, tmp_path: Path) -> None:
    engine = Counting(0, space=SPACE)
    with pytest.raises(InvalidInput, match="budget"):
        hag.sweep(
            engine, engine.prompts(50), SPACE, engine.scorer, out=tmp_path / "s", strategy=name, budget=60,
            progress=False,
        )  # fmt: skip
    assert not engine.units
