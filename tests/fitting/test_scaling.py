"""Features of any scale: brought to one inside the graph, from the training prompts alone."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import hagpolicy as hag
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.fitting.encoders.scaling import FeatureScaling, Imputation
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder

N, D = 160, 6


def draw_table(features):
    """Rewards that follow the first two columns, whatever their units."""
    best = (features[:, 0] > 0).astype(int) + 2 * (features[:, 1] > 0)
    rewards = 0.3 + 0.4 * (np.arange(4) == best[:, None])
    rewards += np.random.default_rng(1).normal(0.0, 0.05, rewards.shape)
    space = [hag.DecodingConfig(temperature=0.1 * index) for index in range(4)]
    return hag.SweepTable.from_arrays([f"prompt {row}" for row in range(N)], space, rewards.clip(0.0, 1.0), default=0)


def distort(features):
    """The same in other units: huge, tiny, with a heavy tail, and a constant column."""
    return np.column_stack(
        [
            features[:, 0] * 1e6 + 3e6,
            np.sign(features[:, 1]) * np.expm1(3.0 * np.abs(features[:, 1])) * 1e-4,
            features[:, 2:5] * np.array([1e-5, 1.0, 1e9]),
            np.full(len(features), 7.0),
        ]
    ).astype(np.float32)


@pytest.fixture(scope="module")
def plain():
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def test_features_of_one_scale_are_left_alone(plain):
    assert FeatureScaling.of(plain) is None
    assert FeatureScaling.of(plain * 1e-4 + 5.0) is None
    assert FeatureScaling.of(np.ones((20, 3), dtype=np.float32)) is None


def test_the_graph_scales_as_numpy_does_and_nothing_is_infinite(plain):
    raw = distort(plain)
    scaling = FeatureScaling.of(raw)
    assert scaling is not None
    scaled = scaling.apply(raw)
    assert np.abs(scaled.mean(axis=0)).max() < 1e-6
    np.testing.assert_allclose(scaled.std(axis=0)[:5], 1.0, atol=0.05)
    assert not scaled[:, 5].any()
    graph = GraphBuilder()
    found = scaling.export(graph, graph.input("features", FLOAT, ["batch", D]))
    graph.output(found, "scaled", FLOAT, ["batch", D])
    session = onnxruntime.InferenceSession(graph.model("scaling").SerializeToString())
    odd = np.vstack([raw, np.full((1, D), 3e38), np.full((1, D), -3e38), np.zeros((1, D))]).astype(np.float32)
    got = session.run(None, {"features": odd})[0]
    np.testing.assert_allclose(got, scaling.apply(odd), rtol=0, atol=1e-6)
    assert np.abs(got).max() <= 5.0


@pytest.mark.parametrize("learner", ["ridge", "forest", "knn"])
def test_a_policy_learns_from_raw_features_what_it_learns_from_scaled_ones(plain, learner):
    gains = {}
    for name, features in {"scaled": plain, "raw": distort(plain)}.items():
        policy = hag.fit(draw_table(plain), encoder=features, learner=learner, seed=3)
        assert policy.ships == "per_prompt", name
        gains[name] = policy.evaluation.candidate.gain.value
        # What is evaluated is what is deployed: the policy reads raw vectors and scales them itself.
        decided = [decision.index for decision in policy.decide_batch(list(features))]
        assert np.mean(np.array(decided) == draw_table(plain).means.argmax(axis=1)) > 0.6
    assert gains["raw"] > gains["scaled"] - 0.05


def test_scaling_is_fitted_on_the_training_folds_alone(plain):
    """One prompt with an absurd value: scaled by what it brings itself, it would move all the others' features."""
    from hagpolicy.analysis.objectives import get_objectives
    from hagpolicy.fitting.prepare import prepare_fit

    raw = distort(plain)
    raw[0, 0] = 1e30
    [training] = prepare_fit(
        draw_table(plain), [PrecomputedEncoder(vectors=raw)], get_objectives("reward"), 0, None
    ).trainings
    without = np.arange(N) > 0
    np.testing.assert_array_equal(
        training.scale_features(without)[1:],
        FeatureScaling.of(raw[1:]).apply(raw[1:]),  # type: ignore[union-attr]
    )
    assert training.scale_features(without)[0, 0] == 5.0


def test_on_vectors_auto_learns_what_takes_two_columns_together(plain):
    some = plain[:60]
    signs = some[:, 0] * some[:, 1] > 0
    space = [hag.DecodingConfig(temperature=value) for value in (0.0, 1.0)]
    rewards = np.column_stack([signs, ~signs]) * 0.6 + 0.2
    table = hag.SweepTable.from_arrays([f"prompt {row}" for row in range(len(some))], space, rewards, default=0)
    auto, ridge = (hag.fit(table, some[:, :2], name).evaluation for name in ("auto", "ridge"))
    assert auto.candidate.gain.value > ridge.candidate.gain.value + 0.1
    assert [row.name for row in auto.rows if row.note == "before the gate"] == ["ridge", "forest"]


def hide(features, share=0.2):
    """The same with missing values, none of them in the last column."""
    hidden = np.random.default_rng(5).random(features.shape) < share
    hidden[:, -1] = False
    return np.where(hidden, np.nan, features).astype(np.float32)


@pytest.mark.parametrize("units", [np.float32, distort])
def test_the_graph_fills_what_is_missing_as_numpy_does(plain, units):
    raw = hide(units(plain))
    filling = Imputation.of(raw)
    assert (filling.scaling is None) == (units is np.float32)
    assert filling.marked.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(filling.medians, np.nanmedian(raw, axis=0))
    graph = GraphBuilder()
    found = filling.export(graph, graph.input("features", FLOAT, ["batch", D]))
    graph.output(found, "filled", FLOAT, ["batch", D + 5])
    session = onnxruntime.InferenceSession(graph.model("filling").SerializeToString())
    odd = np.vstack([raw, np.full((1, D), np.nan), np.zeros((1, D))]).astype(np.float32)
    got = session.run(None, {"features": odd})[0]
    np.testing.assert_allclose(got, filling.apply(odd), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(got[:, D:] > 0, np.isnan(odd[:, :5]))
    assert np.isfinite(got).all()


def test_a_policy_reads_vectors_with_missing_values(plain, tmp_path):
    features = hide(distort(plain), 0.1)
    policy = hag.fit(draw_table(plain), encoder=features, learner="ridge", seed=3)
    assert (policy.ships, policy.encoder["missing"]) == ("per_prompt", True)
    policy.save(tmp_path / "bundle")
    loaded = hag.load(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.values(list(features)), policy.values(list(features)))
    assert np.isfinite(loaded.values([np.full(D, np.nan)])).all()
    for values, said in ((np.full(D, np.inf), "expected finite numbers, got infinity"), (np.zeros(2), "shape")):
        with pytest.raises(InvalidInput, match=said):
            loaded.predict(values)
    whole = hag.fit(draw_table(plain), encoder=plain, learner="ridge", seed=3)
    assert "missing" not in whole.encoder
    with pytest.raises(InvalidInput, match=r"got NaN or infinity.*fitted on vectors with some"):
        whole.predict(features[np.isnan(features).any(axis=1)][0])


def test_what_is_missing_may_be_what_tells(plain):
    """Whether a value is there says it all, and the values nothing."""
    best = np.arange(N) % 2 == 0
    features = plain.copy()
    features[best, 0] = np.nan
    space = [hag.DecodingConfig(temperature=value) for value in (0.0, 1.0)]
    rewards = np.column_stack([best, ~best]).astype(float)
    table = hag.SweepTable.from_arrays([f"prompt {row}" for row in range(N)], space, rewards, default=0)
    policy = hag.fit(table, encoder=features, learner="ridge")
    assert [decision.index for decision in policy.decide_batch(list(features))] == (~best).astype(int).tolist()


def test_medians_are_those_of_the_training_folds_alone(plain):
    from hagpolicy.analysis.objectives import get_objectives
    from hagpolicy.fitting.prepare import prepare_fit

    raw = hide(plain)
    raw[0] = 1e30
    encoder = PrecomputedEncoder(vectors=raw)
    [training] = prepare_fit(draw_table(plain), [encoder], get_objectives("reward"), 0, None).trainings
    without = np.arange(N) > 0
    np.testing.assert_array_equal(training.scale_features(without)[1:], Imputation.of(raw[1:]).apply(raw[1:]))
