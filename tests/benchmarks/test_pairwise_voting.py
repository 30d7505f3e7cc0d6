"""What the comparison of pairs of configs with one forest is made of."""

from __future__ import annotations

import numpy as np

from benchmarks.claims.fitting.pairwise_voting import COMPETING, WAYS, find_competing, predict_pair


def test_those_compete_that_add_to_the_best_so_far() -> None:
    rewards = np.zeros((10, 5))
    rewards[:6, 3], rewards[5:8, 1], rewards[8, 0], rewards[:2, 4] = 1.0, 1.0, 0.5, 0.9
    np.testing.assert_array_equal(find_competing(rewards), [0, 1, 3])  # 4 is never better than 3, 2 never good
    assert len(find_competing(np.random.default_rng(0).random((200, 30)))) == COMPETING
    np.testing.assert_array_equal(find_competing(np.full((4, 2), 0.5)), [0])


def test_a_pair_tells_which_is_better_and_by_how_much() -> None:
    features = np.random.default_rng(1).normal(size=(300, 1)).astype(np.float32)
    difference = np.where(features[:, 0] > 0.0, 0.5, -0.1)
    given = np.array([[2.0], [-2.0]], dtype=np.float32)
    found = predict_pair(features, difference, given, trees=30, seed=0)
    assert list(found) == list(WAYS)
    np.testing.assert_array_equal(np.sign(found["votes"]), [1.0, -1.0])
    np.testing.assert_allclose(found["differences"], [0.5, -0.1], atol=0.02)
    assert found["calibrated votes"][0] == -found["calibrated votes"][1] > 0.2  # one slope for both sides
    np.testing.assert_allclose(found["regressions"], [0.5, -0.1], atol=0.02)
    again = predict_pair(features, difference, given, trees=30, seed=0)
    assert all(np.array_equal(found[way], again[way]) for way in WAYS)


def test_a_vote_weighs_how_much_is_at_stake() -> None:
    """Features say nothing: one prompt in four where the first wins by .9 outweighs those that it loses by .1."""
    features, difference = np.zeros((400, 2), dtype=np.float32), np.tile([0.9, -0.1, -0.1, -0.1], 100)
    found = predict_pair(features, difference, features[:1], trees=20, seed=0)
    assert found["votes"][0] > 0.0
    np.testing.assert_allclose(found["differences"], difference.mean(), atol=1e-9)


def test_a_pair_of_which_one_is_never_better() -> None:
    features = np.random.default_rng(2).normal(size=(20, 2)).astype(np.float32)
    for difference, vote, mean in ((np.zeros(20), 0.0, 0.0), (np.repeat([0.0, -0.4], 10), -1.0, -0.2)):
        found = predict_pair(features, difference, features[:3], trees=20, seed=0)
        np.testing.assert_array_equal(found["votes"], np.full(3, vote))
        np.testing.assert_allclose(found["differences"], np.full(3, mean))
