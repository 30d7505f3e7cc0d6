"""Fit on worlds of known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.data.prompts import as_prompts
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.registry import get_baseline
from hagpolicy.fitting.encoders.precomputed import with_vectors
from hagpolicy.fitting.learners.linear import Ridge
from tests.support.drawing import SPACE, draw, drawn, table_of


def test_fit_ships_and_wins_where_there_is_something_to_win(strong: tuple) -> None:
    world, _, policy = strong
    found = policy.evaluation.candidate
    assert found.shipped
    assert policy.ships == "per_prompt"
    assert policy.candidate is None
    new = world.prompts(500, seed=9)
    truth = world.truth(new, SPACE)
    chosen = truth[np.arange(500), [decision.index for decision in policy.decide_batch(new)]]
    gained = (chosen - truth[:, policy.sbs_index]).mean()
    assert found.gain.low <= gained <= found.gain.high
    assert gained >= 0.8 * (truth.max(axis=1) - truth[:, policy.sbs_index]).mean()


def test_the_gate_holds_where_nothing_is_to_be_won(null: tuple) -> None:
    table, policy = null
    assert policy.ships == "default"
    assert not policy.ships_sbs
    assert not policy.evaluation.candidate.shipped
    assert policy.evaluation.row("policy").over_default == hag.Estimate(0.0, 0.0, 0.0)
    assert policy.reference == table.space[table.default] != policy.sbs
    assert set(policy.predict_batch(["anything at all", "List ten birds."])) == {policy.reference}
    np.testing.assert_allclose(policy.values(["anything"])[0], table.means.mean(axis=0), rtol=1e-6)
    assert policy.decide("anything").reason == "default_shipped"
    if policy.candidate is not None:
        assert "not proven" in policy.candidate.reason


def test_every_comparison_has_neighbours_unless_a_learner_bears_their_name() -> None:
    table = table_of(drawn(60, 3, 2), hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0]))

    class Namesake(Ridge):
        name = "nearest"

    def names(**more: Any) -> list[str]:
        return [row.name for row in hag.fit(table, **more).evaluation.rows]

    assert "nearest" in names(learner="ridge")
    assert "nearest" not in names(learner="ridge", baselines=())
    assert names(learner=Namesake()).count("nearest") == 1
    with pytest.raises(InvalidInput, match="no other row of the comparison bears"):
        hag.fit(table, learner=Namesake(), baselines=["nearest"])


def test_the_earlier_keyword_for_baselines_works_and_warns() -> None:
    table = draw(hag.SimulatedEngine(0), 40, 2)
    with pytest.warns(DeprecationWarning, match=r"fit\(baselines=\.\.\.\)"):
        earlier = hag.fit(table, learner="constant", rivals=["argmax"])
    assert earlier.evaluation == hag.fit(table, learner="constant", baselines=["argmax"]).evaluation
    assert "argmax" in [row.name for row in earlier.evaluation.rows]
    with (
        pytest.warns(DeprecationWarning, match="called baselines now"),
        pytest.raises(InvalidInput, match="rivals: expected nothing beside baselines"),
    ):
        hag.fit(table, learner="constant", rivals=["argmax"], baselines=["nearest"])


def test_a_baseline_of_one_group_is_called_biased() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])
    prompts = [hag.Prompt(prompt.text, group="one") for prompt in hag.SimulatedEngine(0).prompts(40)]
    evaluation = hag.fit(hag.SweepTable.from_arrays(prompts, space, drawn(40, 3, 2)), learner="ridge").evaluation
    assert "biased upward" in evaluation.row("nearest").note


def test_few_groups_ship_the_default_without_a_search() -> None:
    table = draw(hag.SimulatedEngine(1), 15, 2)
    policy = hag.fit(table)
    assert policy.ships == "default"
    assert any("too few to prove" in warning for warning in policy.evaluation.warnings)


def test_bad_arguments(strong: tuple) -> None:
    bad: list[dict] = [{"margins": []}, {"margins": [-0.1]}, {"margins": [float("nan")]}, {"learner": "rigde"}]
    bad += [{"margins": margins} for margins in (0.1, "0.1", [None], ["x"], [float("inf")], [[0.1]], np.array([]))]
    bad += [{"learner": []}, {"encoder": []}, {"near_duplicates": 0.0}, {"near_duplicates": 80}]
    for arguments in bad:
        with pytest.raises(InvalidInput, match=next(iter(arguments))):
            hag.fit(strong[1], **arguments)


def test_margins_may_be_an_array() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    policy = hag.fit(table_of(drawn(60, 3, 2), space), learner="knn", margins=np.array([0.5]))  # type: ignore[arg-type]
    assert policy.evaluation.candidate.margin in (0.0, 0.5)


@pytest.mark.parametrize("name", ["sbs", "policy", "split_vbs", "ridge"])
def test_a_baseline_cannot_take_the_place_of_another_row(name: str) -> None:
    baseline = get_baseline("argmax")
    baseline.name = name
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    with pytest.raises(InvalidInput, match=f"baselines: expected names .* got {name}"):
        hag.fit(table_of(drawn(60, 3, 2), space), learner="ridge", baselines=[baseline])


def test_the_share_that_fell_back_is_that_of_the_winning_encoder() -> None:
    """Texts tell nothing, vectors all; one document's vectors are unlike all others, its texts are not."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh "), 40)) for _ in range(126)]
    side = np.where(np.arange(126) % 2, 1.0, -1.0)
    vectors = side[:, None] + rng.normal(0, 0.1, (126, 4))
    vectors[120:] *= 100.0
    groups = [f"{min(number, 120)}" for number in range(126)]
    rewards = np.stack([0.5 + 0.3 * side, 0.55 - 0.3 * side], axis=1)[:, :, None].repeat(2, axis=2)
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7])
    table = hag.SweepTable.from_arrays(with_vectors(as_prompts(texts), vectors), space, rewards, groups=groups)
    policy = hag.fit(table, encoder=["static", "precomputed"], learner="ridge")
    assert policy.evaluation.candidate.name == "ridge on precomputed"
    assert policy.evaluation.fallbacks == pytest.approx(6 / 126)


def test_each_of_several_encoders_has_a_row_beside_the_best_of_them() -> None:
    rng = np.random.default_rng(1)
    side = np.where(np.arange(120) % 2, 1.0, -1.0)
    rewards = np.stack([0.5 + 0.2 * side, 0.5 - 0.2 * side], axis=1)[:, :, None].repeat(2, axis=2)
    texts = ["".join(rng.choice(list("abcdefgh "), 40)) for _ in range(120)]
    prompts = with_vectors(as_prompts(texts), side[:, None] + rng.normal(0, 0.1, (120, 2)))
    table = hag.SweepTable.from_arrays(prompts, hag.DecodingSpace.grid(temperature=[0.5, 0.7]), rewards)
    evaluation = hag.fit(table, encoder=["static", "precomputed"], learner=["ridge", "constant"]).evaluation
    assert evaluation.row("ridge on precomputed").gain > 0.15
    assert evaluation.row("ridge").gain == pytest.approx(evaluation.row("ridge on precomputed").gain, abs=0.01)
    assert evaluation.row("ridge on static").gain < 0.1
    assert evaluation.row("constant on static").gain == pytest.approx(0.0, abs=0.01)
    alone = hag.fit(table, encoder="precomputed", learner="ridge").evaluation
    assert not [row.name for row in alone.rows if " on " in row.name]


def test_a_baseline_that_learns_nothing_is_judged_as_the_config_it_names() -> None:
    world = hag.SimulatedEngine(4, gap=0.0, config_effect=0.02, space=SPACE)
    evaluation = hag.fit(draw(world, 120, 2), learner="constant", baselines=["generation_config", "nearest"]).evaluation
    default, same = evaluation.row("engine_default"), evaluation.row("generation_config")
    assert (same.gain, same.gain_low, same.gain_high) == (default.gain, default.gain_low, default.gain_high)
    assert (same.value, same.low, same.high) == (default.value, default.low, default.high)
