"""Live calls that drew their configs, as a table: unbiased, and nothing taken that is none of the trial."""

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.data.decisions import LoggedDecisions
from hagpolicy.data.traffic import Traffic
from hagpolicy.data.trial import build_trial
from hagpolicy.errors import InvalidInput

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])


def make_traffic(chosen, rewards, prompts=None, units=None, **fields):
    n = len(chosen)
    given = {
        "intended": np.zeros(n, dtype=np.int64),
        "explored": np.ones(n, dtype=bool),
        "choices": np.full(n, 3),
        "today": np.full(n, 2),
        "prompts": tuple(f"prompt {at}" for at in range(n)) if prompts is None else prompts,
        "tasks": (None,) * n,
        "fixed": ({},) * n,
        "by_request": np.ones(n, dtype=bool),
    }
    units = np.arange(n) if units is None else units
    numbers = np.full(n, 1 / 3), rewards, np.ones(n, dtype=bool), units, np.zeros(n)
    return Traffic(LoggedDecisions(SPACE, chosen, *numbers), tuple(map(str, range(n))), **{**given, **fields})


def test_the_drawn_cell_holds_the_reward_and_the_others_the_level():
    trial = build_trial(make_traffic([0, 1, 2, 2], [1.0, 0.0, 0.5, 0.5]))
    assert trial.objective == "drawn:0.5@3"
    assert trial.table.default == 2
    np.testing.assert_array_equal(
        trial.table.rewards[:, :, 0], [[1.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5] * 3, [0.5] * 3]
    )
    (objective,) = get_objectives(trial.objective)
    np.testing.assert_allclose(objective.values(trial.table)[:2], [[2.0, 0.5, 0.5], [0.5, -1.0, 0.5]])


def test_what_is_estimated_is_what_each_config_is_worth():
    draw = np.random.default_rng(0)
    worth, n = np.array([0.2, 0.5, 0.9]), 20_000
    chosen = draw.integers(3, size=n)
    trial = build_trial(make_traffic(chosen, (draw.random(n) < worth[chosen]).astype(float)))
    (objective,) = get_objectives(trial.objective)
    np.testing.assert_allclose(objective.values(trial.table).mean(axis=0), worth, atol=0.04)


def test_calls_of_a_prompt_are_its_samples_and_those_of_a_unit_one_group():
    prompts = ("same", "same", "other", "same")
    trial = build_trial(make_traffic([0, 1, 2, 0], [1.0, 1.0, 0.0, 0.0], prompts, np.array([7, 7, 7, 8])))
    table = trial.table
    assert (len(table.prompts), table.rewards.shape) == (3, (3, 3, 2))
    assert table.counts.tolist() == [[2] * 3, [1] * 3, [1] * 3]
    assert len(set(table.groups.tolist())) == 1  # the prompt that two units sent joins them


def test_an_objective_that_takes_shares_for_rewards_is_warned_of():
    table = build_trial(make_traffic([0, 1, 2, 2] * 10, [1.0, 0.0, 0.5, 0.5] * 10)).table
    words = "the objective drawn:0.5@3 tells it whole"
    warned = {objective: hag.headroom(table, objective=objective).warnings for objective in ("reward", "drawn:0.5@3")}
    assert [any(words in warning for warning in warned[name]) for name in warned] == [True, False]


def test_calls_that_are_none_of_the_trial_are_left_out():
    chosen, rewards = [0, 1, 2, 1, 1, 1, 1], [1.0, 0.5, 0.0, 0.9, 0.9, 0.9, np.nan]
    trial = build_trial(
        make_traffic(
            chosen,
            rewards,
            ("a", "b", "c", None, "e", "f", "g"),
            explored=np.array([True, True, True, True, False, True, True]),
            fixed=({},) * 5 + ({"top_p": 0.5}, {}),
        )
    )
    assert (trial.calls, trial.level) == (3, 0.5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"explored": np.zeros(3, dtype=bool)}, r"calls that explored.* --explore 0.05"),
        ({"fixed": ({"top_p": 1.0},) * 3}, r"calls that explored and fixed no setting, got none of 3"),
        ({"prompts": (None,) * 3}, r"texts of the calls that explored, got none of 3\. Keep texts.* --log-text"),
        ({"rewards": [np.nan] * 3}, r"rewards of the calls that explored, got none of 3\. Send rewards"),
        ({"chosen": [0, 1, 1]}, r"calls that drew each of 3 configs, got 2 configs drawn\. Wait"),
        ({"choices": np.full(3, 2)}, r"calls that drew each of 2 configs, got 3 configs drawn\. Name one policy"),
    ],
)
def test_what_is_missing_is_told_with_how_to_switch_it_on(fields, words):
    given = {"chosen": [0, 1, 2], "rewards": [1.0, 0.5, 0.0], **fields}
    with pytest.raises(InvalidInput, match=words):
        build_trial(make_traffic(given.pop("chosen"), given.pop("rewards"), **given))


@pytest.mark.parametrize(
    "text", ["drawn@4", "drawn:0.5@1", "drawn:2@4", "drawn:x@4", "drawn:0.5@3,4", "quantile:0.5@0.2"]
)
def test_an_objective_that_is_none(text):
    with pytest.raises(InvalidInput):
        get_objectives(text)


def test_an_objective_is_read_as_it_is_written():
    (objective,) = get_objectives("drawn:0.525@4")
    assert get_objectives(objective.written) == (objective,)
    assert get_objectives("pass:0.5@2")[0].written == "pass:0.5@2"
