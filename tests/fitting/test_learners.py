"""Every learner through one contract: shapes, shrinkage, determinism, and a graph that equals it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.graphs.builder import DOUBLE, FLOAT, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner
from hagpolicy.fitting.learners.blend import Blend
from hagpolicy.fitting.learners.registry import LEARNERS, get_learner, get_learners
from hagpolicy.fitting.learners.trees import float32_below

N, D, M = 150, 24, 5


def world(seed: int, signal: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, noisy targets and their expectation; the best config depends on the first feature."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N, D)).astype(np.float32)
    truth = np.full((N, M), 0.5)
    truth[:, 1] += np.where(features[:, 0] > 0, signal, -signal)
    noisy = rng.binomial(8, np.clip(truth, 0, 1)) / 8
    return features, noisy, truth


def run(fitted: FittedLearner, features: np.ndarray, threads: int = 1) -> np.ndarray:
    graph = GraphBuilder()
    values = fitted.export(graph, graph.input("features", FLOAT, ["batch", features.shape[1]]))
    graph.output(values, "values", DOUBLE, ["batch", M])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph.model("learner").SerializeToString(), options)
    return session.run(["values"], {"features": features})[0]


@pytest.mark.parametrize("name", LEARNERS)
def test_graph_equals_learner(name: str) -> None:
    features, targets, _ = world(0)
    fitted = get_learner(name).fit(features, targets, np.arange(N), seed=0)
    fresh = np.concatenate([np.random.default_rng(1).normal(size=(1000, D)).astype(np.float32), features])
    expected = fitted.predict(fresh)
    assert expected.shape == (len(fresh), M)
    assert expected.dtype == np.float64
    got = run(fitted, fresh)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 if name in ("lightgbm", "blend") else 1e-12)
    singles = np.concatenate([run(fitted, fresh[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(singles.astype(np.float32), got[:20].astype(np.float32))
    assert run(fitted, fresh[:0]).shape == (0, M)


@pytest.mark.parametrize("name", ["ridge", "knn", "lightgbm", "mlp", "blend"])
def test_learns_what_there_is_and_only_that(name: str) -> None:
    features, targets, _ = world(2)
    test_features, _, test_truth = world(3)
    fitted = get_learner(name).fit(features, targets, np.arange(N), seed=0)
    constant = get_learner("constant").fit(features, targets, np.arange(N), seed=0)
    errors = [((f.predict(test_features) - test_truth) ** 2).mean() for f in (fitted, constant)]
    assert errors[0] < 0.9 * errors[1]
    nothing = np.random.default_rng(4).binomial(8, 0.5, size=(N, M)) / 8
    spread = get_learner(name).fit(features, nothing, np.arange(N), seed=0).predict(test_features).std(axis=0)
    assert spread.max() < 0.6 * nothing.std()


@pytest.mark.parametrize("name", LEARNERS)
def test_same_seed_same_learner(name: str) -> None:
    features, targets, _ = world(5)
    first, second = (get_learner(name).fit(features, targets, np.arange(N), seed=7).predict(features) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", LEARNERS)
def test_constant_features_and_ties_give_the_means(name: str) -> None:
    targets = np.tile([0.25, 0.5, 0.5, 0.75, 0.0], (40, 1))
    fitted = get_learner(name).fit(np.ones((40, D), dtype=np.float32), targets, np.arange(40), seed=0)
    np.testing.assert_allclose(fitted.predict(np.ones((3, D), dtype=np.float32)), targets[:3], atol=2e-2)


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
        below = float32_below(threshold)
        assert float(np.float32(below)) == below
        assert below <= threshold < float(np.nextafter(np.float32(below), np.float32(np.inf)))


def test_a_blend_is_the_mean_of_its_parts() -> None:
    features, targets, _ = world(8)
    parts = ("ridge", "mlp", "knn")
    fitted = Blend(parts).fit(features, targets, np.arange(N), seed=0)
    apart = [get_learner(name).fit(features, targets, np.arange(N), seed=0).predict(features) for name in parts]
    np.testing.assert_allclose(fitted.predict(features), np.mean(apart, axis=0), atol=1e-12)
    assert (Blend(parts).name, Blend().name) == ("blend of ridge, mlp, knn", "blend")
    assert (Blend(parts).carries_vectors, Blend().carries_vectors) == (True, False)
    with pytest.raises(InvalidInput, match="at least one learner"):
        Blend([])


def test_names() -> None:
    assert [learner.name for learner in get_learners("auto")] == ["blend"]
    with pytest.raises(InvalidInput, match="Did you mean 'ridge'"):
        get_learner("rigde")


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
