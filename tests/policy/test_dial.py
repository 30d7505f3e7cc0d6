"""The dial: what stands between and beyond its points, in Python, in the graph and on the command line."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.policy.dial import Dial, OperatingPoint
from hagpolicy.results import Ships

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.7], repetition_penalty=[1.0, 1.2])
PRICES = "price/token@0,0.001,0.004"


def point(at: float, weights: tuple[float, ...], margin: float, ships: bool, reference: int = 0) -> OperatingPoint:
    word: Ships = "per_prompt" if ships else "single_best"
    return OperatingPoint(at, f"at {at}", "reward", weights, margin, word, reference)


def priced(*ships: bool) -> Dial:
    places = zip((0.0, 0.01, 0.02), (0.1, 0.3, 0.2), ships, (0, 1, 1), strict=True)
    points = [point(at, (1.0, -100 * at), margin, shipped, best) for at, margin, shipped, best in places]
    return Dial("price", "token", ("values", "costs"), [1.0, 100.0], [[0.6, 0.5], [1.0, 0.2]], tuple(points))


def test_between_two_points_both_must_ship_and_the_larger_margin_holds() -> None:
    dial = priced(True, True, False)
    assert dial.rule_at(0.004).ships == "per_prompt"
    assert dial.rule_at(0.004).margin == 0.3
    assert dial.rule_at(0.01).ships == "per_prompt"
    assert dial.rule_at(0.01).margin == 0.3
    for price in (0.0101, 0.019, 0.02, 0.05):
        assert dial.rule_at(price).ships == "single_best"
    assert dial.rule_at().margin == 0.1


def test_the_reference_is_the_best_config_at_the_price_itself() -> None:
    dial = priced(True, True, True)
    # 0.6 - 100 p × 1.0 against 0.5 - 100 p × 0.2: equal at p = 0.00125
    assert [dial.rule_at(price).reference for price in (0.0, 0.0012, 0.0013, 5.0)] == [0, 0, 1, 1]
    assert dial.rule_at(5.0).means.tolist() == pytest.approx([0.6 - 500, 0.5 - 100])


def test_between_points_of_different_references_what_runs_today_stands() -> None:
    places = zip(
        (0.0, 0.01, 0.02, 0.03), ("per_prompt", "per_prompt", "single_best", "default"), (1, 1, 0, 2), strict=True
    )
    points = tuple(OperatingPoint(at, "", "", (1.0, -at), 0.0, ships, reference) for at, ships, reference in places)
    means = [[0.6, 0.5, 0.4], [10.0, 1.0, 0.5]]
    dial = Dial("price", "token", ("values", "costs"), [1.0, 1.0], means, points, 2)
    expected = {0.0: ("per_prompt", 1), 0.005: ("per_prompt", 1), 0.01: ("per_prompt", 1), 0.015: ("default", 2)}
    expected |= {0.02: ("single_best", 0), 0.025: ("default", 2), 0.03: ("default", 2), 0.04: ("default", 2)}
    found = {price: dial.rule_at(price) for price in expected}
    assert {price: (rule.ships, rule.reference) for price, rule in found.items()} == expected
    # One reference, per prompt at one end only: the reference stands between.
    one = Dial("price", "token", dial.heads, dial.scales, means, (points[1], replace(points[2], reference=1)), 2)
    assert (one.rule_at(0.015).ships, one.rule_at(0.015).reference) == ("single_best", 1)
    unknown = Dial("price", "token", dial.heads, dial.scales, means, points[:3])
    assert (unknown.rule_at(0.015).ships, unknown.rule_at(0.015).reference) == ("single_best", 1)
    assert pickle.loads(pickle.dumps(dial)).rule_at(0.015).reference == 2


def test_numbers_of_answers_between_points_are_interpolated_and_clamped() -> None:
    points = (point(1.0, (1.0, 0.0), 0.0, True), point(4.0, (0.0, 1.0), 0.1, True))
    dial = Dial("n", "", ("values", "values_4"), [1.0, 1.0], [[0.2, 0.4], [0.8, 0.5]], points)
    assert dial.rule_at(n=2).means.tolist() == pytest.approx([0.4, 0.4 + 0.1 / 3])
    assert dial.rule_at(n=4).means.tolist() == [0.8, 0.5]
    assert dial.rule_at(n=9).means.tolist() == [0.8, 0.5]
    assert dial.rule_at(n=9).ships == "single_best"
    for wrong in (0, 1.5, True, "2"):
        with pytest.raises(InvalidInput, match=r"^n: expected"):
            dial.rule_at(n=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(0), 0])
def test_a_price_may_be_any_kind_of_number(number: float) -> None:
    assert priced(True, True, True).rule_at(number).weights[1] == -100 * float(number)


@pytest.mark.parametrize("price", [True, np.True_, "0.01", [0.01], np.array(0.01), {}, -0.001, float("nan"), 1e300])
def test_what_is_no_price_is_refused_and_named(price: object) -> None:
    dial = priced(True, True, True)
    dial.rule_at(1.0)  # equal to True: what is kept for one must not pass the other
    with pytest.raises(InvalidInput, match=r"^price: expected reward a token, in \[0, 1e\+06\]"):
        dial.rule_at(price)  # type: ignore[arg-type]


def test_numbers_of_answers_may_be_any_kind_of_whole_number() -> None:
    points = (point(1.0, (1.0, 0.0), 0.0, True), point(4.0, (0.0, 1.0), 0.1, True))
    dial = Dial("n", "", ("values", "values_4"), [1.0, 1.0], [[0.2, 0.4], [0.8, 0.5]], points)
    for four in (4, 4.0, np.int64(4), np.float32(4.0)):
        assert dial.rule_at(n=four).margin == 0.1  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"^n: expected a whole number"):
        dial.rule_at(n=10**400)


def test_configs_with_equal_means_tie_to_the_first_at_every_price() -> None:
    rng = np.random.default_rng(0)
    for count in range(2, 40):  # a matrix product rounds some columns otherwise than others
        means = np.tile(rng.random((2, 1)), (1, count))
        places = [point(at, (1.0, -100 * at), 0.0, True) for at in (0.0, 1.0)]
        dial = Dial("price", "token", ("values", "costs"), [1.0, 100.0], means, tuple(places))
        for price in rng.random(10):
            rule = dial.rule_at(price)
            assert (rule.reference, len(set(rule.means.tolist()))) == (0, 1)


def test_a_setting_is_shared_and_cannot_be_changed() -> None:
    rule = priced(True, True, True).rule_at(0.01)
    assert rule.ships == "per_prompt"
    for array in (rule.means, rule.weights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9.0


@pytest.fixture(scope="module")
def table() -> hag.SweepTable:
    """Sums want the short config at any price above 0; lists want the long one until it costs too much."""
    rng = np.random.default_rng(0)
    prompts = [f"What is {a} plus {b}?" for a in range(10) for b in range(8)]
    prompts += [f"List {a} different {things}, one in a line." for a in range(3, 13) for things in WORDS]
    lists = np.arange(len(prompts)) >= 80
    worth = np.where(lists[:, None], [0.3, 0.35, 0.8, 0.85], [0.7, 0.65, 0.7, 0.6])
    length = np.where(lists[:, None], [30.0, 30.0, 120.0, 130.0], [20.0, 20.0, 150.0, 160.0])
    rewards = np.clip(worth[:, :, None] + rng.normal(0, 0.1, (*worth.shape, 4)), 0, 1)
    rewards[:, SPACE.deterministic, 1:] = np.nan
    tokens = np.repeat(length[:, :, None], 4, axis=2)
    tasks = np.where(lists, "lists", "sums")
    return hag.SweepTable.from_arrays(prompts, SPACE, rewards, tasks=list(tasks), tokens=tokens, default=0)


WORDS = ("fruits", "rivers", "tools", "birds", "cities", "games", "trees", "fish")


@pytest.fixture(scope="module")
def policy(table: hag.SweepTable) -> hag.Policy:
    return hag.fit(table, learner="ridge", objective=PRICES)


def test_a_dial_of_prices_moves_the_choice_to_shorter_answers(policy: hag.Policy, table: hag.SweepTable) -> None:
    assert policy.ships == "per_prompt"
    lengths = []
    for price in (0.0, 0.001, 0.004):
        chosen = [table.space.index(config) for config in policy.predict_batch(table.prompts, price=price)]
        assert table.tokens is not None
        lengths.append(table.tokens[np.arange(len(chosen)), chosen, 0].mean())
    assert lengths[0] > lengths[2]
    evaluations = policy.evaluations
    assert [found and found.objective for found in evaluations] == [
        "reward - 0 a token",
        "reward - 0.001 a token",
        "reward - 0.004 a token",
    ]
    first = evaluations[1]
    assert first is not None
    assert first.cost_unit == "tokens"
    assert first.row("policy").gain_low > 0.0
    # The truth: sums keep a short config (about .68), lists a long one (.825 - .12).
    assert first.row("policy").value == pytest.approx((0.68 + 0.71) / 2, abs=0.05)


def test_decisions_are_the_same_one_by_one_in_batches_and_in_the_graph(policy: hag.Policy, tmp_path: Path) -> None:
    prompts = ["What is 3 plus 4?", "List 7 different birds, one in a line."]
    again = hag.load(policy.save(tmp_path / "policy"))
    for price in (None, 0.0, 0.0005, 0.001, 0.003, 0.5):
        single = [again.predict(prompt, price=price) for prompt in prompts]
        assert single == again.predict_batch(prompts, price=price) == policy.predict_batch(prompts, price=price)
        decided = again.decide_batch(prompts, price=price)
        assert [decision.config for decision in decided] == single
        values = again.values(prompts, price=price)
        for what, rows in (("value", values), ("cost", again.costs(prompts))):
            assert [getattr(decision, what) for decision in decided] == [
                float(row[decision.index]) for row, decision in zip(rows, decided, strict=True)
            ]
    assert again.predict(prompts[0]) == again.predict(prompts[0], price=0.0)
    costs = again.costs(prompts)
    assert costs[0, 0] == pytest.approx(20.0, abs=12)
    assert again.decide(prompts[0], price=0.004).cost == pytest.approx(float(costs[0].min()), abs=8)
    assert again.decide(prompts[0], {"temperature": 0.7}, price=0.004).config.temperature == 0.7


def test_a_policy_of_one_price_decides_by_it_in_the_graph_too(table: hag.SweepTable, tmp_path: Path) -> None:
    made = hag.fit(table, learner="ridge", objective=hag.Priced(0.001))
    again = hag.load(made.save(tmp_path / "policy"))
    prompts = list(table.prompts)
    plain = again.predict_batch(prompts)
    assert len(set(plain)) > 1
    assert plain == made.predict_batch(prompts, price=0.001) == [again.predict(prompt) for prompt in prompts]
    assert plain == [again.predict(prompt, price=0.001) for prompt in prompts]
    assert plain != made.predict_batch(prompts, price=0.1)  # beyond what was proven


def test_outside_the_grid_what_runs_today_stands(policy: hag.Policy, table: hag.SweepTable) -> None:
    decision = policy.decide("What is 3 plus 4?", price=0.5)
    assert decision.reason == "default_shipped"  # what is proven at one price may lose at another
    assert decision.index == table.default
    assert "expected value -" in str(decision)  # a reward is never below 0
    assert "reward" not in str(decision)


def test_one_grid_point_is_evaluated_on_another_table(policy: hag.Policy, table: hag.SweepTable) -> None:
    other = [hag.Prompt(prompt.text.replace("List", "Name"), task=prompt.task) for prompt in table.prompts[80:]]
    fresh = hag.SweepTable.from_arrays(other, table.space, table.rewards[80:], tokens=table.tokens[80:], default=0)
    found = hag.evaluate(policy, fresh, price=0.004)
    assert found.objective == "reward - 0.004 a token"
    with pytest.raises(InvalidInput, match=r"price: expected one of 0, 0\.001, 0\.004"):
        hag.evaluate(policy, fresh, price=0.002)


def test_a_dial_whose_first_point_is_held_back_still_ships_at_the_others(table: hag.SweepTable, tmp_path: Path) -> None:
    """All configs are worth the same, and sums and lists are short under different ones."""
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    lists = table.tasks == "lists"
    tokens = np.where(lists[:, None], [20.0, 100.0, 50.0], [100.0, 20.0, 50.0])
    rewards = np.full((len(lists), 3), 0.5)
    made = hag.SweepTable.from_arrays(table.prompts, space, rewards, tokens=tokens)
    policy = hag.fit(made, learner="ridge", objective="price/token@0,0.002,0.004")
    again = hag.load(policy.save(tmp_path / "policy"))
    prompts = ["What is 3 plus 4?", "List 7 different birds, one in a line."]
    for each in (policy, again):
        assert [point.ships for point in each.dial.points] == ["single_best", "per_prompt", "per_prompt"]
        assert each.ships == "per_prompt"
        assert [each.predict(prompt) for prompt in prompts] == [each.sbs] * 2 == each.predict_batch(prompts)
        for price, index in ((0.0, [0, 0]), (0.001, [2, 2]), (0.002, [1, 0]), (0.003, [1, 0]), (0.005, [2, 2])):
            decided = [each.decide(prompt, price=price) for prompt in prompts]
            assert [decision.index for decision in decided] == index
            assert {decision.reason for decision in decided} == {"best_by_margin" if index[0] == 1 else "sbs_shipped"}
            assert [space[number] for number in index] == each.predict_batch(prompts, price=price)
    assert policy.candidate is not None
    assert all(point.ships == "per_prompt" for point in policy.candidate.dial.points)
    assert "not proven, for comparison only" in policy.candidate.reason


def test_a_policy_without_a_dial_says_so(table: hag.SweepTable) -> None:
    plain = hag.fit(table, learner="constant")
    with pytest.raises(InvalidInput, match="without a dial"):
        plain.predict("What is 1 plus 1?", price=0.1)
    with pytest.raises(InvalidInput, match="fitted with prices"):
        plain.costs(["What is 1 plus 1?"])


def test_a_policy_for_several_answers_weighs_variety(table: hag.SweepTable) -> None:
    made = hag.fit(table, learner="ridge", objective="best@1,4")
    assert made.dial.argument == "n"
    assert made.dial.heads == ("values", "values_4")
    best = made.values(table.prompts, n=4).mean(axis=0)
    assert best[2] > made.values(table.prompts, n=1).mean(axis=0)[2] + 0.03  # sampled: the best of four is better
    assert best[0] == pytest.approx(made.values(table.prompts, n=1).mean(axis=0)[0], abs=1e-3)  # greedy: the same


def test_a_bundle_whose_graph_lacks_a_head_is_refused(policy: hag.Policy, table: hag.SweepTable) -> None:
    plain = hag.fit(table, learner="constant")
    with pytest.raises(BundleError, match="costs"):
        hag.Policy(policy.manifest, plain._model, plain._files)


def test_the_command_line_turns_the_dial(
    policy: hag.Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(policy.save(tmp_path / "policy"))
    assert main(["predict", folder, "What is 3 plus 4?", "--price", "0.004", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cost"] == pytest.approx(20, abs=12)
    assert main(["predict", folder, "What is 3 plus 4?", "--n", "4"]) == 2
    assert "turned by price" in capsys.readouterr().err


def test_card_and_report_show_every_point(policy: hag.Policy, table: hag.SweepTable, tmp_path: Path) -> None:
    card = (policy.save(tmp_path / "policy") / "README.md").read_text("utf-8")
    page = hag.write_report(tmp_path / "report.html", table=table, policy=policy).read_text("utf-8")
    for point in policy.dial.points:
        assert point.name in page
        assert point.reason in card
        assert f"{point.name}: {point.reason}" in card.partition("## Config")[0]  # not the first point's alone
    assert "policy.decide(prompt, price=0.004)" in card
    assert "The dial" in page
