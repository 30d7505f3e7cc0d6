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
    learners = [
        cross_fit_learner(training, get_learner(name), (0.0, 0.05), [comparison.sbs]) for name in ("ridge", "knn")
    ]
    for fitted in learners:
        mixed = sum(comparison.sbs[:, [sbs]] * gain for sbs, gain in fitted.over[0].items())
        np.testing.assert_allclose(fitted.gains[0], mixed)
        assert set(comparison.resampled.config) <= set(fitted.over[0])
    out_of_bag = _out_of_bag(learners, [comparison])
    for number, draw in enumerate(boot.leaving[:50]):
        out = boot.counts[draw, boot.index] == 0.0
        for which, fitted in enumerate(learners):
            wanted = fitted.over[0][comparison.resampled.config[number]][out].mean(axis=0)
            np.testing.assert_allclose(out_of_bag.gains[number, which, 0], wanted)


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
    parts = (part[None, :, None] for part in (choices, gains, departs))
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
