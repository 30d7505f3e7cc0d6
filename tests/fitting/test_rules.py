"""Rules in words: the encoder whose features have names, decision lists, and what a policy decides as rules."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.words import WordsEncoder
from hagpolicy.fitting.learners.rules import Rules

N = 120
SPACE = hag.DecodingSpace([hag.DecodingConfig(temperature=value) for value in (0.0, 0.5, 1.0)])
TEXTS = [
    f"{('Cook a soup', 'Plant the rose', 'Judge this crime')[row % 3]} in {row} steps{chr(10) * (row % 2)}."
    for row in range(N)
]


def make_table(best, seed=0):
    """Rewards of three configs, of which one is best for each prompt."""
    rewards = 0.3 + 0.4 * (np.arange(3) == np.asarray(best)[:, None])
    rewards += np.random.default_rng(seed).normal(0.0, 0.05, rewards.shape)
    return hag.SweepTable.from_arrays(TEXTS, SPACE, rewards.clip(0.0, 1.0), default=0)


def read_columns(encoder, texts):
    """Features by the names of their columns."""
    features, unknown = compute_features(encoder, [hag.Prompt(text) for text in texts])
    return {name: features[:, place].tolist() for place, name in enumerate(encoder.columns)}, unknown.tolist()


def test_words_are_counted_as_whole_words_with_numbers_and_line_breaks():
    found, unknown = read_columns(WordsEncoder(["soup", "?"]), ["Soup, soup? pot 12\n\tx", "12 x 7", "?", "\u4e2d"])
    assert found["soup"] == [2.0, 0.0, 0.0, 0.0]
    assert found["?"] == [1.0, 0.0, 1.0, 0.0]
    assert found["a number"] == [1.0, 2.0, 0.0, 0.0]
    assert found["a line break"] == [1.0, 0.0, 0.0, 0.0]
    assert found["an indentation"] == [1.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(found["its length"][1:], [np.log(3), 0.0, 0.0], rtol=1e-6)
    assert unknown[1] == 0.0


def test_the_encoder_learns_words_that_part_the_prompts_without_rewards():
    words = WordsEncoder().learn([hag.Prompt(text) for text in TEXTS]).words
    assert {"cook", "soup", "plant", "rose", "judge", "crime"} <= set(words)
    assert not {"steps", "in", "."} & set(words)  # they stand in every prompt
    assert WordsEncoder().learn([hag.Prompt("a b c")]).words == ()


def test_rules_find_the_planted_words_and_ship_what_they_say():
    best = [(0, 1, 2)[row % 3] for row in range(N)]
    policy = hag.fit(make_table(best), encoder="words", learner="rules")
    assert policy.ships == "per_prompt"
    new = ["Cook a hot soup in 7 steps.", "Plant the red rose in 9 steps.", "Judge this old crime in 2 steps."]
    assert [SPACE.index(config) for config in policy.predict_batch(new)] == [0, 1, 2]


def test_rules_of_nothing_are_none():
    rng = np.random.default_rng(1)
    features = rng.integers(0, 2, (80, 30)).astype(np.float32)
    fitted = Rules().fit(features, np.tile([0.5, 0.5, 0.2], (80, 1)), np.arange(80), 0)
    assert fitted.conditions == ()
    np.testing.assert_allclose(fitted.predict(features[:2]), [[0.5, 0.5, 0.2]] * 2)


def test_a_threshold_on_a_real_column_is_found_on_either_side():
    column = np.random.default_rng(2).normal(size=100).astype(np.float32)
    targets = np.column_stack([np.full(100, 0.5), np.where(column < -0.8, 1.0, 0.2)])
    fitted = Rules(1).fit(column[:, None], targets, np.arange(100), 0)
    (condition,) = fitted.conditions
    assert condition.holds_below
    assert -1.3 < condition.above < -0.5
    assert fitted.predict(np.array([[-3.0], [1.0]], dtype=np.float32)).argmax(axis=1).tolist() == [1, 0]


def test_prompts_of_one_group_are_one_witness():
    features = np.eye(2, dtype=np.float32)[np.repeat([0, 1], 30)]
    targets = np.column_stack([np.full(60, 0.5), np.repeat([0.9, 0.0], 30)])
    apart = Rules().fit(features, targets, np.arange(60), 0)
    together = Rules().fit(features, targets, np.repeat([0, 1], 30), 0)
    assert len(apart.conditions) == 1
    assert together.conditions == ()


def test_a_policy_is_told_in_lines_with_the_share_that_they_reproduce():
    table = make_table([(0, 1, 2)[row % 3] for row in range(N)])
    policy = hag.fit(table, learner="ridge")
    rules = hag.distill_rules(policy, TEXTS)
    assert rules.reproduced.value > 0.9
    assert rules.reproduced.low > rules.constant
    assert sum(line.prompts for line in rules.lines) == N
    assert rules.lines[-1].condition == "otherwise"
    text = str(rules)
    assert text.startswith("1. with")
    assert f"{rules.reproduced.value:.0%}" in text
    one = hag.distill_rules(policy, TEXTS, lines=1)
    assert len(one.lines) == 2
    assert one.reproduced.value < rules.reproduced.value


def test_what_cannot_be_told_in_words_is_refused():
    table = make_table([0] * N)
    policy = hag.fit(table, learner="constant")
    with pytest.raises(InvalidInput, match="at least 20 groups"):
        hag.distill_rules(policy, TEXTS[:5])
    with pytest.raises(InvalidInput, match="lines: expected a whole number"):
        hag.distill_rules(policy, TEXTS, lines=0)
    vectors = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
    with pytest.raises(InvalidInput, match="one that reads texts"):
        hag.distill_rules(hag.fit(table, vectors, "constant"), TEXTS)
