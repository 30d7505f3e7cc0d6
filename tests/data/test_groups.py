"""Prompts that are nearly equal: found, joined, warned about."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

import hagpolicy as hag
from hagpolicy.data.groups import find_similar_pairs, join_groups, number_groups
from tests.support.drawing import SPACE


@given(st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 6)), max_size=25))
def test_groups_are_the_connected_components_in_order_of_appearance(drawn: list[tuple[int, int | None]]) -> None:
    prompts = [hag.Prompt(f"{'  '} {text} ", group=None if group is None else str(group)) for text, group in drawn]
    found = number_groups(prompts)
    assert found.dtype == np.int64
    assert list(dict.fromkeys(found.tolist())) == list(range(len(set(found.tolist()))))
    pairs = [
        (i, j)
        for i, (text, group) in enumerate(drawn)
        for j, (other, theirs) in enumerate(drawn)
        if text == other or (group is not None and group == theirs)
    ]
    links = coo_matrix(
        (np.ones(len(pairs)), tuple(np.array(pairs, dtype=int).reshape(-1, 2).T)), shape=(len(drawn),) * 2
    )
    wanted = connected_components(links, directed=False)[1] if drawn else np.empty(0)
    assert np.array_equal(found[:, None] == found, wanted[:, None] == wanted)


def test_a_group_named_like_a_text_is_not_that_text() -> None:
    assert number_groups([hag.Prompt("a"), hag.Prompt("b", group="a"), hag.Prompt("b")]).tolist() == [0, 1, 1]


def test_common_instructions_do_not_hide_what_is_alike() -> None:
    """Columns that stand in the same rows are counted together: the shares stay exact."""
    head = "Answer politely and shortly. "
    prompts = [hag.Prompt(head + text) for text in ("tell me of the sea", "tell me of the sky", "17 * 4 = ?", "x")]
    prompts += [hag.Prompt("tell me of the sea")]
    shingles = [{prompt.text.casefold()[at : at + 5] for at in range(len(prompt.text) - 4)} for prompt in prompts]
    for threshold in (0.3, 0.6, 0.75):
        wanted = {
            (i, j)
            for i in range(5)
            for j in range(i + 1, 5)
            if len(shingles[i] & shingles[j]) >= threshold * len(shingles[i] | shingles[j])
        }
        assert {tuple(pair) for pair in find_similar_pairs(prompts, threshold).tolist()} == wanted


def test_joined_groups_are_numbered_by_first_appearance() -> None:
    joined = join_groups(np.array([5, 3, 5, 9, 7]), np.array([[1, 4]]))
    assert joined.tolist() == [0, 1, 0, 2, 1]
    assert join_groups(np.array([2, 1]), np.empty((0, 2), dtype=np.int64)).tolist() == [0, 1]


def test_near_duplicates_are_found_joined_and_warned_about() -> None:
    base = [prompt.text for prompt in hag.SimulatedEngine(0).prompts(40)]
    prompts = [hag.Prompt(f"{text} {mark}") for text in base for mark in ("", "Please!")]
    pairs = find_similar_pairs(prompts)
    assert {(2 * i, 2 * i + 1) for i in range(40)} <= {tuple(pair) for pair in pairs.tolist()}
    groups = join_groups(np.arange(80), pairs)
    assert all(groups[2 * i] == groups[2 * i + 1] for i in range(40))
    rewards = (np.random.default_rng(0).random((80, 10, 2)) < 0.5).astype(float)
    table = hag.SweepTable.from_arrays(prompts, SPACE, rewards)
    loose = hag.fit(table, learner="knn")
    assert any("nearly equal" in warning for warning in loose.evaluation.warnings)
    joined = hag.fit(table, learner="knn", near_duplicates=0.8)
    assert joined.evaluation.n_groups == len(np.unique(groups))
    assert not any("nearly equal" in warning for warning in joined.evaluation.warnings)
