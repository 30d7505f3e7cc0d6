"""The gate and the reference it judges by: against plain loops, and what it lets through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.comparison import compare
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.analysis.prepare import prepare
from hagpolicy.fitting.crossfit import CrossFittedLearner, cross_fit_learner
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.gate import _out_of_bag, gate
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.training import Training

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.4, 0.7, 1.0])


def test_the_gates_draws_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(5)
    n = 80
    table = hag.SweepTable.from_arrays([f"prompt {i}" for i in range(n)], list(SPACE)[:4], rng.random((n, 4)))
    prepared, boot = prepare(table, get_objectives("reward"), 0), GroupBootstrap(np.arange(n) // 2, n_boot=200)
    comparison = compare(replace(prepared, boot=boot))
    encoder = get_encoder("static")
    features = compute_features(encoder, table.prompts)
    training = Training(encoder, *features, prepared.targets, boot.index, boot.index % 5, 0)
    foldings = [training, replace(training, folds=(boot.index // 3) % 5)]
    learners = [cross_fit_learner(foldings, get_learner(name), (0.0, 0.05), [comparison]) for name in ("ridge", "knn")]
    for fitted in learners:
        mixed = sum(comparison.sbs[:, [sbs]] * gain for sbs, gain in fitted.over[0].items())
        np.testing.assert_allclose(fitted.gains[0], mixed)
        assert set(comparison.resampled.config) <= set(fitted.over[0])
    out_of_bag = _out_of_bag(learners, [comparison])
    for number, draw in enumerate(boot.leaving[:50]):
        out = boot.counts[draw, boot.index] == 0.0
        for which, fitted in enumerate(learners):
            wanted = fitted.over[0][comparison.resampled.config[number]][out].mean(axis=0)
            np.testing.assert_allclose(out_of_bag[number, which, 0], wanted)


@pytest.mark.parametrize(
    ("gain", "noise", "departing", "ships"),
    [
        (0.10, 0.2, 200, True),  # clear
        (0.02, 0.4, 200, False),  # above zero on average, and the interval reaches zero
        (0.90, 0.0, 8, False),  # certain, and only eight groups depart
        (-0.05, 0.2, 200, False),  # nothing beats the single best config
    ],
)
def test_the_gate_asks_for_a_lower_end_above_zero_and_ten_departing_groups(
    gain: float, noise: float, departing: int, ships: bool
) -> None:
    n = 200
    departs = np.arange(n) < departing
    # Noise that averages to nothing, so that the mean gain is the one asked for.
    gains = np.where(departs, gain + noise * np.tile([1.0, -1.0], n // 2), 0.0)
    table = hag.SweepTable.from_arrays([f"prompt {i}" for i in range(n)], list(SPACE)[1:3], np.full((n, 2), 0.4))
    prepared = prepare(table, get_objectives("reward"), 0)
    comparison, groups = compare(prepared), prepared.groups
    training = Training(get_encoder("static"), np.zeros((n, 1)), np.zeros(n), prepared.targets, groups, groups % 5, 0)
    choices = departs.astype(np.int64)
    parts = choices[None, None, :, None], gains[None, :, None], departs[None, :, None]
    over = ({0: gains[:, None]},)  # both configs are worth the same: the first is the reference
    fitted = CrossFittedLearner(training, get_learner("ridge"), np.zeros((1, 1)), *parts, over)
    gated = gate([fitted], [comparison])
    [candidate], [rows] = gated.candidates, gated.rows
    assert candidate.shipped is ships
    assert (gated.winner is None) == (gain < 0.0)
    assert candidate.departing_groups == (departing if gain > 0.0 else 0)
    assert (rows["policy"].gain == candidate.gain) is ships or gain < 0.0
    if not ships:
        assert rows["policy"].gain.value == 0.0


def test_gains_are_means_over_foldings_and_departures_those_of_most() -> None:
    rng = np.random.default_rng(0)
    n = 60
    features = rng.normal(size=(n, 3)).astype(np.float32)
    Y = np.clip(0.5 + 0.2 * features + 0.1 * rng.normal(size=(n, 3)), 0.0, 1.0)
    table = hag.SweepTable.from_arrays([f"prompt {i}" for i in range(n)], list(SPACE)[1:4], Y, default=1)
    prepared = prepare(table, get_objectives("reward"), 0)
    comparison = compare(prepared)
    training = Training(
        PrecomputedEncoder(3), features, np.zeros(n), prepared.targets, prepared.groups, prepared.folds, 0
    )
    foldings = [training.refold(folds) for folds in prepared.foldings]
    together = cross_fit_learner(foldings, get_learner("ridge"), (0.0,), [comparison])
    apart = [cross_fit_learner([one], get_learner("ridge"), (0.0,), [comparison]) for one in foldings]
    np.testing.assert_allclose(together.gains, np.mean([one.gains for one in apart], axis=0))
    np.testing.assert_array_equal(together.choices[:, 0], [one.choices[0, 0] for one in apart])
    assert len({one.choices.tobytes() for one in apart}) > 1  # foldings differ, or there is nothing to average
    votes = np.mean([one.departs for one in apart], axis=0)
    np.testing.assert_array_equal(together.departs, votes > 0.5)


def test_a_reference_that_is_today_s_default_is_departed_from_and_compared_with() -> None:
    """The first step proves nothing: a per-prompt policy is judged by what it gains over the default, not over SBS."""
    rng = np.random.default_rng(1)
    n = 200
    features = rng.normal(size=(n, 2)).astype(np.float32)
    side = np.sign(features[:, 0])
    Y = np.column_stack([np.full(n, 0.5), 0.52 + 0.3 * side, 0.51 - 0.3 * side])
    told = with_vectors([f"prompt {i}" for i in range(n)], features)
    table = hag.SweepTable.from_arrays(told, list(SPACE)[1:4], Y, default=0)
    policy = hag.fit(table, "precomputed", "ridge")
    candidate = policy.evaluation.candidate
    assert (policy.ships, candidate.over, policy.reference_index) == ("per_prompt", "default", 0)
    assert policy.sbs_index != 0
    assert candidate.gain == policy.evaluation.row("policy").over_default
    assert candidate.gain.value == pytest.approx(0.3, abs=0.03)
    positive, negative = (policy.decide(np.array([sign, 0.0], np.float32)) for sign in (1.0, -1.0))
    assert (positive.index, negative.index) == (1, 2)
    assert positive.advantage == pytest.approx(0.3, abs=0.1)


class Silent(hag.Learner):
    """Predicts well, and has no export."""

    name, exports = "silent", False

    def fit(self, features, targets, groups, seed):
        return SilentlyFitted(get_learner("ridge").fit(features, targets, groups, seed))


class SilentlyFitted(hag.FittedLearner):
    def __init__(self, inner):
        self.inner = inner

    def predict(self, features):
        return self.inner.predict(features)


def test_a_learner_without_an_export_is_compared_and_never_ships() -> None:
    world = hag.SimulatedEngine(seed=3, gap=0.25)
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.7, 1.0], repetition_penalty=[1.0, 1.1])
    prompts = world.prompts(160)
    truth = world.truth(prompts, space)
    drawn = np.random.default_rng(0).random((*truth.shape, 4)) < truth[..., None]
    table = hag.SweepTable.from_arrays(prompts, space, drawn)
    alone = hag.fit(table, learner=Silent())
    assert alone.ships != "per_prompt"
    assert "never ships" in alone.evaluation.row("silent").note
    beside = hag.fit(table, learner=[Silent(), "ridge"])
    assert beside.learner in ("ridge", "constant")
    assert beside.evaluation.row("silent").gain == pytest.approx(beside.evaluation.row("ridge").gain)
    said = Silent()
    said.exports = True
    with pytest.raises(hag.InvalidInput, match=r"learner silent: expected a fitted learner with an `export`"):
        hag.fit(table, learner=said)
