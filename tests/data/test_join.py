"""Joined tables hold the cells of both, each where it belongs, or there is one error."""

from dataclasses import replace

import numpy as np
import pytest

from hagpolicy import DecodingSpace, InvalidInput, Prompt, SweepTable
from tests.support.tables import SPACE, assert_equal, make_full


@pytest.fixture
def whole():
    """A table without what a join cannot know of a part."""
    return replace(make_full(), answers=None, common=None, stored=None, failures={}, groups=None)


def parts_of_prompts(whole):
    return whole.take(np.array([0, 2, 4])), whole.take(np.array([3, 1]))


def test_parts_of_prompts_are_the_whole_again(whole):
    one, other = parts_of_prompts(whole)
    joined = one.join(other)
    assert_equal(joined.take(np.array([0, 4, 1, 3, 2])), whole, but=["groups"])
    same = lambda groups: groups[:, None] == groups  # noqa: E731
    np.testing.assert_array_equal(same(joined.groups), same(whole.groups[[0, 2, 4, 3, 1]]))


def test_parts_of_configs_in_any_order_are_the_whole_again(whole):
    one = whole.in_space(SPACE[:3])
    other = whole.in_space(DecodingSpace([SPACE[3], SPACE[1]])).take(np.array([4, 3, 2, 1, 0]))
    assert_equal(one.join(other), replace(whole, groups=None), but=["groups"])
    assert one.join(other).default == 1
    assert other.join(one).space[other.join(one).default] == SPACE[1]
    assert_equal(whole.join(whole), whole, but=["groups"])


def test_samples_and_gaps_are_filled_from_either():
    a = SweepTable.from_arrays(["p"], SPACE[:2], [[[1.0, np.nan], [np.nan, 0.5]]])
    b = SweepTable.from_arrays(["p"], SPACE[:2], [[[1.0, 0.0, 1.0], [0.25, np.nan, np.nan]]], tokens=np.ones((1, 2, 3)))
    joined = a.join(b)
    np.testing.assert_array_equal(joined.rewards, [[[1, 0, 1], [0.25, 0.5, np.nan]]])
    assert joined.tokens.tolist() == [[[1, 1, 1], [1, 1, 1]]]
    assert joined.common is None


def test_common_samples_are_those_of_all_prompts():
    a, b = (SweepTable.from_arrays([text], SPACE[:2], np.zeros((1, 2, n))) for text, n in (("a", 2), ("b", 4)))
    assert a.join(b).common == b.join(a).common == 2
    assert a.join(SweepTable.from_arrays(["c"], SPACE[:2], np.zeros((1, 2, 2)))).common is None
    assert a.join(replace(a, space=SPACE[2:], common=1)).common == 1


def test_groups_of_either_and_declared_ones_are_joined():
    texts = [
        Prompt("a", group="g"),
        Prompt("b"),
        Prompt("c"),
        Prompt("d", group="h"),
        Prompt("e"),
        Prompt("f", group="g"),
    ]
    zeros = np.zeros((3, 2, 1))
    one = replace(SweepTable.from_arrays(texts[:3], SPACE[:2], zeros), groups=np.array([7, 3, 7]))
    other = replace(SweepTable.from_arrays(texts[3:], SPACE[:2], zeros), groups=np.array([7, 9, 9]))
    assert one.join(other).groups.tolist() == [0, 1, 0, 2, 0, 0]  # a–c by one, e–f by the other, a–f declared
    columns = replace(one, space=SPACE[2:], groups=np.array([1, 1, 2]))
    assert one.join(columns).groups.tolist() == [0, 0, 0]


def test_answers_are_kept_of_other_prompts_only(whole, caplog):
    known = replace(whole, answers=make_full().answers)
    one, other = parts_of_prompts(known)
    np.testing.assert_array_equal(one.join(other).answers, known.answers[[0, 2, 4, 3, 1]])
    assert not caplog.text
    assert known.in_space(SPACE[:2]).join(known.in_space(SPACE[2:])).answers is None
    assert "no answers" in caplog.text


def test_failures_are_counted_once(whole):
    one, other = (replace(part, failures={"cut": 2}) for part in parts_of_prompts(whole))
    assert one.join(other).failures == {"cut": 4}
    assert one.join(one).failures == {"cut": 2}


def test_what_one_does_not_know_is_unknown_of_both(whole):
    one, other = parts_of_prompts(whole)
    joined = one.join(replace(other, fingerprint={}, max_tokens=None, scorers={}, default=None))
    assert (joined.fingerprint, joined.max_tokens, joined.scorers) == ({}, None, {})
    assert joined.default == one.default
    merged = replace(one, scorers={"a": "x@1"}).join(replace(other, scorers={"b": "y@1"}))
    assert merged.scorers == {"a": "x@1", "b": "y@1"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            lambda part: replace(part, rewards=1 - part.rewards),
            "rewards: expected cells that agree .* differ, the first",
        ),
        (lambda part: replace(part, tokens=part.tokens + 1), "tokens: expected cells that agree"),
        (lambda part: part.take(np.array([0, 1])).in_space(SPACE[:1]), "2 of 5 prompts, 1 of 4 configs"),
        (lambda part: replace(part, space=DecodingSpace.grid(top_k=[1, 2, 3, 4])).take(np.arange(3)), "configs"),
        (lambda part: replace(part, fingerprint={"kind": "other"}), "fingerprint"),
        (lambda part: replace(part, max_tokens=65), "max_tokens"),
        (lambda part: replace(part, scorers={"a": "chrf@2"}), r"scorers: .*exact_match@1, got chrf@2"),
        (lambda part: replace(part, default=0), "default"),
    ],
)
def test_tables_that_disagree_are_refused(whole, change, word):
    with pytest.raises(InvalidInput, match=word):
        whole.join(change(whole))


def test_a_prompt_that_stands_twice_is_refused():
    twice = SweepTable.from_arrays(["a", "a"], SPACE, np.zeros((2, 4)))
    with pytest.raises(InvalidInput, match="load_table"):
        twice.join("tables/a.parquet")
    with pytest.raises(InvalidInput, match="each once"):
        twice.join(SweepTable.from_arrays(["b"], SPACE, np.zeros((1, 4))))
