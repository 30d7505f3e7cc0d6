"""What is tried beside the default learner of texts does what it is said to do."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
from benchmarks.baselines.learners import Binomial, FullRank, Shrunk
from benchmarks.claims.fitting.text_learners import (
    calibrate,
    compare_fields,
    find_slope,
    measure_gain,
    measure_noise,
    measure_slope,
)
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.fitting.encoders.registry import get_encoders
from hagpolicy.fitting.learners.base import FittedLearner, Learner
from hagpolicy.fitting.prepare import FitData, prepare_fit

N, CONFIGS = 300, 4


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray]:
    """float32 features (n, 6), and true expected rewards (n, n_configs) whose logits are linear in them."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N, 6)).astype(np.float32)
    return features, 1.0 / (1.0 + np.exp(-(features @ rng.normal(size=(6, CONFIGS)))))


@pytest.mark.parametrize("learner", [Binomial(), FullRank()], ids=lambda one: one.name)
def test_a_linear_learner_finds_a_linear_truth(learner: Learner, known: tuple[np.ndarray, np.ndarray]) -> None:
    features, truth = known
    drawn = np.random.default_rng(1).binomial(4, truth) / 4.0
    half = np.arange(N) < N // 2
    fitted = learner.fit(features[half], drawn[half], np.arange(N)[half], 0)
    error = ((fitted.predict(features[~half]) - truth[~half]) ** 2).mean()
    assert error < 0.25 * ((truth[~half] - drawn[half].mean(axis=0)) ** 2).mean()


class _Keep(Learner):
    """Keeps what it was given to learn from."""

    name = "keep"

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        self.given = targets
        return FullRank().fit(features, targets, groups, seed)


@pytest.mark.parametrize("alike", [None, np.eye(2).repeat(2, axis=0).repeat(2, axis=1)], ids=["estimated", "given"])
def test_shrinking_brings_targets_nearer_to_the_truth(alike: np.ndarray | None) -> None:
    rng = np.random.default_rng(0)
    # Configs 0 and 1 do the same to a prompt, as do 2 and 3: one says what the other is.
    truth = (rng.normal(size=(N, 1)) * [1.0, 1.0, -1.0, -1.0]) * 0.2
    noise = np.full(CONFIGS, 0.09)
    drawn = truth + rng.normal(size=truth.shape) * 0.3
    base = _Keep()
    Shrunk(base, noise, alike).fit(rng.normal(size=(N, 3)).astype(np.float32), drawn, np.arange(N), 0)
    level = drawn.mean(axis=1, keepdims=True)
    assert ((base.given - level - truth) ** 2).mean() < 0.6 * ((drawn - level - truth) ** 2).mean()


def test_a_slope_is_found_and_is_1_where_nothing_is_known() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(N, CONFIGS)) * 0.1
    achieved = 1.5 * predicted + rng.normal(size=predicted.shape) * 0.05
    assert find_slope(predicted, achieved, np.arange(N)) == pytest.approx(1.5, abs=0.1)
    assert find_slope(np.zeros((N, 2)), np.zeros((N, 2)), np.arange(N)) == 1.0
    noise = rng.normal(size=predicted.shape) * 100.0
    assert find_slope(predicted, noise, np.arange(N)) == pytest.approx(1.0, abs=0.3)


@pytest.fixture(scope="module")
def data() -> FitData:
    engine = hag.SimulatedEngine(1, gap=0.2)
    prompts = engine.prompts(80)
    truth = engine.truth(prompts, hag.DecodingSpace.grid(temperature=[0.3, 0.7, 1.1], top_p=[0.9, 1.0]))
    rewards = (np.random.default_rng(0).random((*truth.shape, 4)) < truth[:, :, None]).astype(float)
    table = hag.SweepTable.from_arrays(
        prompts, hag.DecodingSpace.grid(temperature=[0.3, 0.7, 1.1], top_p=[0.9, 1.0]), rewards
    )
    return prepare_fit(table, get_encoders("static"), get_objectives("reward"), 0, None)


def test_calibration_stretches_what_was_shrunk(data: FitData) -> None:
    truth = data.prepared.targets.common
    foldings = len(data.prepared.foldings)
    half = np.stack([truth.mean(axis=1, keepdims=True) + 0.5 * (truth - truth.mean(axis=1, keepdims=True))] * foldings)
    assert measure_slope(data, half) == pytest.approx(2.0)
    assert measure_slope(data, calibrate(data, half.astype(np.float32))) == pytest.approx(1.0, abs=0.05)


def test_gain_is_that_of_the_best_choices_for_perfect_predictions(data: FitData) -> None:
    (comparison,) = data.comparisons
    perfect = np.stack([data.prepared.targets.common.astype(np.float32)] * len(data.prepared.foldings))
    known = np.mean([~data.trainings[0].refold(one).out_of_distribution for one in data.prepared.foldings], axis=0)
    best = (comparison.Y.max(axis=1) - comparison.Y[:, comparison.reference]) * known
    np.testing.assert_allclose(measure_gain(data, perfect), best, atol=1e-6)


def test_noise_is_that_of_the_samples_and_configs_are_alike_by_their_fields(data: FitData) -> None:
    table = data.prepared.table
    expected = np.nanvar(table.rewards, axis=2, ddof=1).mean(axis=0) / 4.0
    np.testing.assert_allclose(measure_noise(table), expected)
    alike = compare_fields(table.space)
    np.testing.assert_allclose(np.diag(alike), 1.0)
    assert alike[0, 1] > alike[0, -1]  # top_p alone, and temperature with it
