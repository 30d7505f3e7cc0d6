"""Learners: what they learn, what groups are for, and what each does by itself (the contract is in tests/contracts)."""

from __future__ import annotations

import numpy as np
import pytest

from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.learners.blend import Blend
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.learners.trees import round_down_to_float32
from tests.support.drawing import D, M, N, draw_features


@pytest.mark.parametrize("name", ["ridge", "knn", "lightgbm", "mlp", "blend", "forest"])
def test_learns_what_there_is_and_only_that(name: str) -> None:
    features, targets, _ = draw_features(2)
    test_features, _, test_truth = draw_features(3)
    fitted = get_learner(name).fit(features, targets, np.arange(N), seed=0)
    constant = get_learner("constant").fit(features, targets, np.arange(N), seed=0)
    errors = [((f.predict(test_features) - test_truth) ** 2).mean() for f in (fitted, constant)]
    assert errors[0] < 0.9 * errors[1]
    nothing = np.random.default_rng(4).binomial(8, 0.5, size=(N, M)) / 8
    spread = get_learner(name).fit(features, nothing, np.arange(N), seed=0).predict(test_features).std(axis=0)
    assert spread.max() < 0.6 * nothing.std()


def test_groups_keep_duplicates_from_choosing_their_own_penalty() -> None:
    """Noise repeated within groups looks predictable unless the groups stay together."""
    rng = np.random.default_rng(6)
    features = np.repeat(rng.normal(size=(30, D)), 5, axis=0).astype(np.float32)
    targets = np.repeat(rng.random(size=(30, M)), 5, axis=0)
    groups = np.repeat(np.arange(30), 5)
    for name in ("ridge", "knn"):
        apart = get_learner(name).fit(features, targets, np.arange(150), seed=0).predict(features).std(axis=0).mean()
        together = get_learner(name).fit(features, targets, groups, seed=0).predict(features).std(axis=0).mean()
        assert together < 0.5 * apart


def test_thresholds_round_down_to_float32() -> None:
    for threshold in (0.1, -0.1, 1e-35, -1e-35, 3.0, 16777217.0, 0.0):
        below = round_down_to_float32(threshold)
        assert float(np.float32(below)) == below
        assert below <= threshold < float(np.nextafter(np.float32(below), np.float32(np.inf)))


def test_a_blend_is_the_mean_of_its_parts() -> None:
    features, targets, _ = draw_features(8)
    parts = ("ridge", "mlp", "knn")
    fitted = Blend(parts).fit(features, targets, np.arange(N), seed=0)
    apart = [get_learner(name).fit(features, targets, np.arange(N), seed=0).predict(features) for name in parts]
    np.testing.assert_allclose(fitted.predict(features), np.mean(apart, axis=0), atol=1e-12)
    assert (Blend(parts).name, Blend().name) == ("blend of ridge, mlp, knn", "blend")
    assert (Blend(parts).carries_vectors, Blend().carries_vectors) == (True, False)
    with pytest.raises(InvalidInput, match="at least one learner"):
        Blend([])


def test_a_forest_stays_within_its_size_whatever_the_number_of_configs() -> None:
    from hagpolicy.fitting.learners.forest import MOST_VALUES, Forest

    rng = np.random.default_rng(11)
    features = rng.normal(size=(600, D)).astype(np.float32)
    for count in (2, 60):
        fitted = Forest().fit(features, rng.random((600, count)), np.arange(600), seed=0)
        leaves = sum(int((tree.tree_.children_left < 0).sum()) for tree in fitted.forest.estimators_)
        assert leaves * count <= MOST_VALUES


def test_neighbours_never_learn_from_a_prompts_own_group() -> None:
    """Copies of one group agree with each other; what is left out with them must not choose k or shrinkage."""
    rng = np.random.default_rng(7)
    features = np.concatenate([rng.normal(size=(20, 6)), np.repeat(rng.normal(size=(1, 6)), 100, axis=0)])
    targets = np.concatenate([rng.random((20, M)), np.repeat(rng.random((1, M)), 100, axis=0)])
    groups = np.concatenate([np.arange(20), np.full(100, 20)])
    fitted = get_learner("knn").fit(features.astype(np.float32), targets, groups, seed=0)
    assert fitted.k <= 20  # prompts outside the large group
    one = features[20:].astype(np.float32), rng.random((100, M)), groups[20:]
    alone = get_learner("knn").fit(*one, seed=0)
    assert alone.k == 1
