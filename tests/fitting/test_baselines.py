"""Baselines on worlds whose best choice is known, how they are cross-fitted, and their names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.estimates import assign_folds, crossfit_sbs, take_chosen
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines import neighbours
from hagpolicy.fitting.baselines.base import Baseline, BaselineChoices, crossfit_baseline
from hagpolicy.fitting.baselines.fixed import Fixed, GenerationConfig
from hagpolicy.fitting.baselines.neighbours import Argmax, Nearest
from hagpolicy.fitting.baselines.registry import get_baseline, get_baselines
from hagpolicy.fitting.baselines.tasks import TaskLookup
from tests.support.making import LISTS, SPACE, SUMS

N = 240
SAMPLED = hag.DecodingSpace.grid(temperature=[0.3, 0.7, 1.0], repetition_penalty=[1.0, 1.1, 1.2])


def simulated(seed: int = 0, *, samples: int = 8, **options: float | bool) -> tuple[hag.SweepTable, np.ndarray]:
    """A table of drawn rewards of a simulated world with four tasks, and the truth behind it."""
    engine = hag.SimulatedEngine(seed, gap=0.2, space=SAMPLED, **options)
    prompts, (space, default) = engine.prompts(N), SAMPLED.with_config(engine.default_config())
    truth = engine.truth(prompts, space)
    rewards = np.random.default_rng(seed).random((*truth.shape, samples)) < truth[:, :, None]
    return hag.SweepTable.from_arrays(prompts, space, rewards.astype(float), default=default), truth


def halves(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    train = np.arange(n) % 2 == 0
    return train, ~train


def best_of_each_task(table: hag.SweepTable, truth: np.ndarray) -> np.ndarray:
    best = {task: int(truth[table.tasks == task].mean(axis=0).argmax()) for task in set(table.tasks)}
    return np.array([best[task] for task in table.tasks])


def test_task_lookup_finds_the_best_config_of_each_task() -> None:
    table, truth = simulated()
    train, test = halves()
    # The truth itself as values: what is left to get wrong is the task.
    chosen = TaskLookup().choose(table, truth, train, test, 0).indices
    assert (chosen == best_of_each_task(table, truth)[test]).mean() > 0.95
    folds = assign_folds(table.groups, 5, 0)
    told = take_chosen(truth, crossfit_sbs(table.means, folds, table.tasks)).mean()
    sbs = take_chosen(truth, crossfit_sbs(table.means, folds)).mean()
    guessed = take_chosen(truth, crossfit_baseline(TaskLookup(), table, table.means, folds, 0).indices).mean()
    assert told - sbs > 0.15
    assert guessed - sbs > 0.9 * (told - sbs)


def test_task_lookup_reads_no_task_of_a_test_prompt() -> None:
    table, truth = simulated()
    train, test = halves()
    hidden = replace(
        table, prompts=tuple(replace(p, task="?") if t else p for p, t in zip(table.prompts, test, strict=True))
    )
    found = [TaskLookup().choose(one, truth, train, test, 0).indices for one in (table, hidden)]
    np.testing.assert_array_equal(*found)


def test_task_lookup_with_one_task_is_the_single_best_config() -> None:
    table = hag.SweepTable.from_arrays(SUMS, SPACE, np.tile(np.linspace(0.2, 0.7, len(SPACE)), (len(SUMS), 1)))
    train, test = halves(len(SUMS))
    np.testing.assert_array_equal(TaskLookup().choose(table, table.means, train, test, 0).indices, len(SPACE) - 1)


@pytest.mark.parametrize("baseline", [Nearest(), Nearest(10), Argmax()], ids=["nearest", "nearest 10", "argmax"])
def test_plain_baselines_find_what_the_prompts_show(baseline: Baseline) -> None:
    prompts = [*SUMS, *LISTS]
    rewards = np.full((len(prompts), len(SPACE)), 0.3)
    rewards[: len(SUMS), 1] = rewards[len(SUMS) :, 4] = 0.8
    table = hag.SweepTable.from_arrays(prompts, SPACE, rewards)
    chosen = crossfit_baseline(baseline, table, table.means, assign_folds(table.groups, 5, 0), 0).indices
    np.testing.assert_array_equal(chosen, np.repeat([1, 4], [len(SUMS), len(LISTS)]))


@pytest.mark.parametrize("baseline", [Nearest(10), Argmax()], ids=["nearest", "argmax"])
def test_plain_baselines_lose_where_prompts_are_hard_or_easy_and_nothing_more(baseline: Baseline) -> None:
    """One config is the best for every prompt: without shrinkage noise is taken for skill."""
    lost = []
    for seed in range(4):
        table, _ = simulated(seed)
        level = {task: 0.2 + 0.15 * number for number, task in enumerate(sorted(set(table.tasks)))}
        truth = np.tile([[level[task]] for task in table.tasks], (1, len(table.space)))
        truth[:, 2] += 0.1
        values = np.random.default_rng(seed).binomial(2, truth) / 2
        folds = assign_folds(table.groups, 5, seed)
        chosen = crossfit_baseline(baseline, table, values, folds, 0).indices
        lost.append(take_chosen(truth, crossfit_sbs(values, folds)).mean() - take_chosen(truth, chosen).mean())
    assert np.mean(lost) > 0.02


def test_one_neighbour_takes_the_nearest_prompts_best() -> None:
    texts = ["Add 3 apples and 5 apples.", "Name six European rivers.", "Add 4 apples and 5 apples.", "Name rivers."]
    values = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    table = hag.SweepTable.from_arrays(texts, SPACE[:2], values)
    train = np.array([True, True, False, False])
    assert Nearest(1).choose(table, values, train, ~train, 0).indices.tolist() == [1, 0]
    # More neighbours than prompts are all of them, and a tie goes to the first config.
    assert Nearest(9).choose(table, values, train, ~train, 0).indices.tolist() == [0, 0]
    with pytest.raises(InvalidInput, match="k: expected a whole number, at least 1"):
        Nearest(0)


def test_neighbours_are_counted_with_whole_groups_left_out() -> None:
    """Every prompt stands twice with equal rewards: alone, its copy would make one neighbour look perfect."""
    texts = [prompt.text for prompt in hag.SimulatedEngine(0).prompts(N)]
    values = (np.random.default_rng(0).random((N, 2)) < [0.7, 0.3]).astype(float)
    table = hag.SweepTable.from_arrays(texts * 2, SPACE[:2], np.tile(values, (2, 1)))
    train = table.groups % 5 > 0
    chosen = Nearest().choose(table, table.means, train, ~train, 0).indices
    alone = Nearest(1).choose(table, table.means, train, ~train, 0).indices
    assert (chosen == 0).mean() > 0.95
    assert (alone == 0).mean() < 0.9


def test_neighbours_are_found_once_for_all_points_of_a_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [prompt.text for prompt in hag.SimulatedEngine(0).prompts(N)]
    tables = [hag.SweepTable.from_arrays(some, SPACE[:2], np.zeros((N, 2))) for some in (texts, texts[::-1])]
    found: list[int] = []
    plain, baseline = neighbours._nearest, Nearest()
    monkeypatch.setattr(neighbours, "_nearest", lambda *args: found.append(1) or plain(*args))
    for table in tables:  # another table is another matter
        train = np.arange(len(table.prompts)) % 5 > 0
        for seed in range(3):
            values = np.random.default_rng(seed).random((len(table.prompts), 2))
            again = Nearest().choose(table, values, train, ~train, 0).indices
            np.testing.assert_array_equal(baseline.choose(table, values, train, ~train, 0).indices, again)
    assert len(found) == 2 * (2 + 3 * 2)


def test_fixed_and_generation_config() -> None:
    table, truth = simulated()
    train, test = halves()
    config = hag.DecodingConfig(temperature=0.7, repetition_penalty=1.1)
    index = table.space.index(config)
    np.testing.assert_array_equal(Fixed(config).choose(table, truth, train, test, 0).indices, index)
    np.testing.assert_array_equal(GenerationConfig().choose(table, truth, train, test, 0).indices, table.default)
    np.testing.assert_array_equal(GenerationConfig(config).choose(table, truth, train, test, 0).indices, index)
    greedy = hag.SweepTable.from_arrays(SUMS, SPACE, np.zeros((len(SUMS), len(SPACE))))
    # At temperature 0 a top_p changes no text, so it is no other config.
    same = Fixed(hag.DecodingConfig(temperature=0.0, top_p=0.9)).choose(greedy, greedy.means, *halves(len(SUMS)), 0)
    np.testing.assert_array_equal(same.indices, SPACE.index(hag.DecodingConfig(temperature=0.0)))
    with pytest.raises(InvalidInput, match=r"temperature=0\.2.*Sweep that config too"):
        Fixed(hag.DecodingConfig(temperature=0.2)).choose(table, truth, train, test, 0)
    with pytest.raises(InvalidInput, match=r"table\.default.*GenerationConfig\(DecodingConfig"):
        GenerationConfig().choose(greedy, greedy.means, *halves(len(SUMS)), 0)


class Recorder(Baseline):
    """Chooses the number of training prompts modulo the space, and remembers what it was shown."""

    name = "recorder"

    def __init__(self, silent: bool = False) -> None:
        self.silent, self.shown = silent, []

    def choose(
        self, table: hag.SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        self.shown.append((table, values, train, test, seed))
        rows = np.flatnonzero(test)
        seconds = None if self.silent and len(self.shown) == 2 else rows / 1000
        return BaselineChoices(np.where(rows % 7 == 0, -1, rows % 3), rows * 2.0, seconds)


def test_cross_fitting_covers_every_prompt_and_hides_its_outcomes() -> None:
    table, _ = simulated(samples=3)
    ones = np.ones(table.rewards.shape)
    table = replace(table, tokens=ones, seconds=ones, answers=ones.astype(int))
    folds, baseline, rows = assign_folds(table.groups, 5, 0), Recorder(), np.arange(N)
    chosen = crossfit_baseline(baseline, table, table.means, folds, 11)
    np.testing.assert_array_equal(chosen.indices, np.where(rows % 7 == 0, -1, rows % 3))
    np.testing.assert_array_equal(chosen.tokens, rows * 2.0)
    np.testing.assert_array_equal(chosen.seconds, rows / 1000)
    assert len(baseline.shown) == 5
    for shown, values, train, test, seed in baseline.shown:
        assert seed == 11
        assert (train == ~test).all()
        for array in (values, shown.rewards, shown.tokens, shown.seconds, shown.means):
            assert np.isnan(array[test]).all()
            assert not np.isnan(array[train]).any()
        np.testing.assert_array_equal(shown.answers[:, 0, 0], np.where(test, -1, 1))
        np.testing.assert_array_equal(shown.groups, table.groups)
    assert np.sum([shown[3] for shown in baseline.shown], axis=0).tolist() == [1] * N
    assert not np.isnan(table.means).any()


def test_cross_fitting_with_a_cost_unknown_or_one_fold() -> None:
    table, _ = simulated(samples=1)
    chosen = crossfit_baseline(Recorder(silent=True), table, table.means, assign_folds(table.groups, 5, 0), 0)
    assert chosen.seconds is None
    assert chosen.tokens is not None
    baseline = Recorder()
    crossfit_baseline(baseline, table, table.means, np.zeros(N, dtype=int), 0)
    ((_, values, train, test, _),) = baseline.shown
    assert train.all()
    assert test.all()
    np.testing.assert_array_equal(values, table.means)


def test_baselines_by_name() -> None:
    fixed = Fixed(SPACE[0], "mine")
    assert get_baseline(fixed) is fixed
    assert [baseline.name for baseline in get_baselines(["task_lookup", fixed])] == ["task_lookup", "mine"]
    with pytest.raises(InvalidInput, match=r"argmax, got nearst\. Did you mean 'nearest'"):
        get_baseline("nearst")
    with pytest.raises(InvalidInput, match=r"a Baseline, or a name of generation_config, .*, got turn\.$"):
        get_baseline("turn")
    with pytest.raises(InvalidInput, match="names that differ, got 'nearest' 2 times"):
        get_baselines(["nearest", Nearest(5)])
    with pytest.raises(InvalidInput, match="a list of baselines"):
        get_baselines("nearest")
