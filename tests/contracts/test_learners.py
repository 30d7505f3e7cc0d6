"""Every learner by name through one contract, and what `fit` says of one that breaks it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import hagpolicy as hag
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.graphs.builder import DOUBLE, FLOAT, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.fitting.learners.linear import Affine
from hagpolicy.fitting.learners.registry import LEARNERS, get_learner, get_learners
from tests.support.drawing import D, M, N, draw, draw_features


def run(fitted: FittedLearner, features: np.ndarray) -> np.ndarray:
    """float64 (n, M): values of the exported graph."""
    graph = GraphBuilder()
    values = fitted.export(graph, graph.input("features", FLOAT, ["batch", features.shape[1]]))
    graph.output(values, "values", DOUBLE, ["batch", M])
    session = onnxruntime.InferenceSession(graph.model("learner").SerializeToString())
    return session.run(["values"], {"features": features})[0]


@pytest.mark.parametrize("name", LEARNERS)
def test_the_graph_equals_the_learner_at_every_batch_size(name: str) -> None:
    features, targets, _ = draw_features(0)
    fitted = get_learner(name).fit(features, targets, np.arange(N), seed=0)
    fresh = np.concatenate([np.random.default_rng(1).normal(size=(1000, D)).astype(np.float32), features])
    expected = fitted.predict(fresh)
    assert expected.shape == (len(fresh), M)
    assert expected.dtype == np.float64
    got = run(fitted, fresh)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 if name in ("lightgbm", "blend", "auto") else 1e-12)
    singles = np.concatenate([run(fitted, fresh[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(singles.astype(np.float32), got[:20].astype(np.float32))
    assert run(fitted, fresh[:0]).shape == (0, M)
    assert fitted.predict(fresh[:0]).shape == (0, M)


@pytest.mark.parametrize("name", LEARNERS)
def test_same_seed_same_learner_and_nothing_given_is_changed(name: str) -> None:
    features, targets, _ = draw_features(5)
    kept = features.copy(), targets.copy()
    first, second = (get_learner(name).fit(features, targets, np.arange(N), seed=7).predict(features) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(features, kept[0])
    np.testing.assert_array_equal(targets, kept[1])


@pytest.mark.parametrize("name", LEARNERS)
def test_constant_features_and_ties_give_the_means(name: str) -> None:
    targets = np.tile([0.25, 0.5, 0.5, 0.75, 0.0], (40, 1))
    fitted = get_learner(name).fit(np.ones((40, D), dtype=np.float32), targets, np.arange(40), seed=0)
    same = np.ones((3, D), dtype=np.float32)
    np.testing.assert_allclose(fitted.predict(same), targets[:3], atol=2e-2)
    # Configs that are equal in training stay equal in the graph, so that the first of them is chosen.
    tied = np.tile([0.5, 0.75, 0.75, 0.25, 0.75], (40, 1))
    fitted = get_learner(name).fit(np.ones((40, D), dtype=np.float32), tied, np.arange(40), seed=0)
    graph, own = (values.astype(np.float32).argmax(axis=1) for values in (run(fitted, same), fitted.predict(same)))
    np.testing.assert_array_equal(graph, own)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_name_makes_a_learner_of_that_name(name: str) -> None:
    learner = get_learner(name)
    assert (learner.name, isinstance(learner, Learner)) == (name, True)
    assert get_learner(learner) is learner


def test_auto_and_names_that_are_none() -> None:
    (auto,) = get_learners("auto")
    assert [one.name for given in (False, True) for one in auto.for_features(any_scale=given)] == [
        "blend",
        "ridge",
        "forest",
    ]
    with pytest.raises(InvalidInput, match=r"one of auto, .*Did you mean 'ridge'"):
        get_learner("rigde")
    with pytest.raises(InvalidInput, match="learner: expected one of auto,"):
        get_learner(Affine)  # type: ignore[arg-type]


class Broken(Learner):
    """Predicts constants that are spoiled in some way, and counts how often it was fitted."""

    def __init__(self, fault: str) -> None:
        self.fault, self.fits = fault, 0
        self.name = "" if fault == "no name" else "broken"

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> Affine:
        self.fits += 1
        means = targets.mean(axis=0)
        if self.fault == "NaN":
            means[1] = np.nan
        if self.fault == "shape":
            means = means[:-1]
        return Affine(np.zeros((features.shape[1], len(means))), means)


@pytest.mark.parametrize(
    ("fault", "message", "fits"),
    [
        ("no name", r"Broken\.name: expected the learner's name, a text", 0),
        ("shape", r"predictions of learner broken: expected shape \(12, 10\)", 1),
        ("NaN", "predictions of learner broken: expected finite numbers, got NaN", 1),
    ],
)
def test_a_learner_that_breaks_the_contract_is_refused_at_its_first_fold(fault: str, message: str, fits: int) -> None:
    table, broken = draw(hag.SimulatedEngine(0), 60, 2), Broken(fault)
    with pytest.raises(InvalidInput, match=message):
        hag.fit(table, learner=broken)
    assert broken.fits == fits
