"""The default learner before and now, on one small table."""

from __future__ import annotations

import numpy as np

import hagpolicy as hag
from benchmarks.claims.fitting.default_change import RATIOS, compare, list_figures, read_values


def make_table() -> hag.SweepTable:
    engine = hag.SimulatedEngine(1, gap=0.2)
    prompts, space = engine.prompts(48), hag.DecodingSpace.grid(temperature=[0.3, 0.7, 1.1])
    truth = engine.truth(prompts, space)
    rewards = (np.random.default_rng(0).random((*truth.shape, 4)) < truth[:, :, None]).astype(float)
    return hag.SweepTable.from_arrays(prompts, space, rewards)


def test_both_are_compared_on_one_table_and_the_difference_is_paired() -> None:
    table = make_table()
    row = compare(table, [prompt.content for prompt in table.prompts], "reward", "static")
    now, before, difference = (row["gains"][name][0] for name in ("now", "before", "now minus before"))
    np.testing.assert_allclose(difference, now - before, atol=1e-9)
    assert all(row[name] > 0.0 for name in RATIOS)
    names = [one.name for one in list_figures({**row, "study": "small"})]
    assert "small: now minus before" in names
    assert "small: a per-prompt policy ships, now" in names


def test_values_are_those_of_the_winner_before_the_gate() -> None:
    evaluation = hag.fit(make_table(), learner=["ridge", "constant"]).evaluation
    assert evaluation is not None
    assert evaluation.per_prompt is not None
    values, sbs = read_values(evaluation)
    assert evaluation.candidate is not None
    name = evaluation.candidate.name.partition(" on ")[0] if evaluation.candidate.found else "sbs"
    np.testing.assert_array_equal(values, evaluation.per_prompt.values[name])
    np.testing.assert_array_equal(sbs, evaluation.per_prompt.values["sbs"])
