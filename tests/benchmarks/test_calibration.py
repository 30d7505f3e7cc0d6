"""Calibration (benchmarks/tools/calibrating.py) on predictors whose error is known."""

from __future__ import annotations

import numpy as np
import pytest

import hagpolicy as hag
from benchmarks.tools.calibrating import calibration
from hagpolicy.analysis.bootstrap import GroupBootstrap

N, CELLS, SAMPLES = 400, 6, 4


def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Chances of cells, and the rewards drawn from them."""
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0.1, 0.8, (N, CELLS))
    return chances, rng.binomial(SAMPLES, chances) / SAMPLES


def test_a_calibrated_predictor_has_no_error_beyond_chance() -> None:
    found = [calibration(*world(seed), GroupBootstrap(np.arange(N), 500, seed)) for seed in range(20)]
    assert np.mean([one.beyond.value for one in found]) < 0.006
    assert np.mean([one.beyond.low == 0.0 for one in found]) >= 0.9
    assert np.mean([one.slope.low <= 1.0 <= one.slope.high for one in found]) >= 0.85
    assert np.mean([one.shift.low <= 0.0 <= one.shift.high for one in found]) >= 0.85
    # The plain error is what chance gives, no more.
    assert np.mean([one.error.value for one in found]) == pytest.approx(np.mean([one.chance for one in found]), rel=0.2)
    within = [part.achieved.low <= part.expected <= part.achieved.high for one in found for part in one.bins]
    assert 0.9 <= np.mean(within) <= 0.99


@pytest.mark.parametrize("moved", [0.1, -0.07])
def test_a_shifted_predictor_has_the_shift_for_its_error(moved: float) -> None:
    covered = []
    for seed in range(20):
        chances, came = world(seed)
        found = calibration(chances + moved, came, GroupBootstrap(np.arange(N), 500, seed))
        for value in (found.error, found.beyond):
            assert value.value == pytest.approx(abs(moved), abs=0.02)
            covered.append(value.low <= abs(moved) <= value.high)
        assert found.shift.value == pytest.approx(-moved, abs=0.02)
        assert found.slope.value == pytest.approx(1.0, abs=0.1)
    assert np.mean(covered) >= 0.85


def test_a_predictor_that_promises_twice_the_differences_has_half_the_slope() -> None:
    chances, came = world(0)
    found = calibration(0.45 + 2.0 * (chances - 0.45), came, GroupBootstrap(np.arange(N)))
    assert found.slope.low < 0.5 < found.slope.high
    assert found.slope.high < 0.6
    assert found.bins[0].expected < found.bins[0].achieved.low
    assert found.bins[-1].expected > found.bins[-1].achieved.high


def test_bins_are_deciles_of_the_cells_that_count() -> None:
    chances, came = world(0)
    used = chances > 0.3
    found = calibration(chances, np.where(used, came, np.nan), GroupBootstrap(np.arange(N)), used)
    assert sum(part.count for part in found.bins) == used.sum()
    assert len(found.bins) == 10
    assert max(part.count for part in found.bins) - min(part.count for part in found.bins) <= 2
    assert [part.expected for part in found.bins] == sorted(part.expected for part in found.bins)
    np.testing.assert_allclose(found.bins[0].expected, np.sort(chances[used])[: found.bins[0].count].mean())


def test_few_cells_or_equal_predictions_make_fewer_bins() -> None:
    chances, came = world(0)
    few = calibration(chances[:35, :1], came[:35, :1], GroupBootstrap(np.arange(35)))
    assert [part.count for part in few.bins] == [12, 11, 12]
    flat = calibration(np.full((N, 1), 0.4), came[:, :1], GroupBootstrap(np.arange(N)))
    (only,) = flat.bins
    assert only.count == N
    assert only.achieved.value == pytest.approx(came[:, 0].mean())
    assert flat.slope == hag.Estimate(0.0, 0.0, 0.0)
    two = calibration(np.repeat([[0.2], [0.7]], N // 2, axis=0), came[:, :1], GroupBootstrap(np.arange(N)))
    assert [(part.expected, part.count) for part in two.bins] == [
        (pytest.approx(0.2), N // 2),
        (pytest.approx(0.7), 200),
    ]


def test_copies_of_a_prompt_add_no_certainty() -> None:
    chances, came = world(0)
    alone = calibration(chances, came, GroupBootstrap(np.arange(N)))
    copied = calibration(np.tile(chances, (4, 1)), np.tile(came, (4, 1)), GroupBootstrap(np.tile(np.arange(N), 4)))
    assert copied.error.value == pytest.approx(alone.error.value, abs=1e-12)
    assert copied.shift.high - copied.shift.low == pytest.approx(alone.shift.high - alone.shift.low, rel=1e-6)


def test_the_study_of_a_simulated_world() -> None:
    """The whole benchmark on a world that can be learned; and a plot that is the same for the same numbers."""
    pytest.importorskip("matplotlib")
    from benchmarks.claims.fitting import calibration as benchmark
    from benchmarks.tools.plots import calibration_plot

    engine = hag.SimulatedEngine(0, gap=0.2)
    prompts, space = engine.prompts(160), hag.DecodingSpace.grid(temperature=[0.4, 0.7, 1.0], top_p=[0.8, 0.9, 1.0])
    truth = engine.truth(prompts, space)
    rewards = np.random.default_rng(0).random((*truth.shape, 6)) < truth[:, :, None]
    table = hag.SweepTable.from_arrays(prompts, space, rewards.astype(float))
    found = benchmark.study(table, ("ridge", "constant"))
    assert [one.name for one in found] == ["ridge", "constant"]
    assert found[0].gain.low > 0.0
    assert set(found[0].views) == {benchmark.EVERY, benchmark.CHOSEN, benchmark.OVER_SBS, benchmark.DEPARTING}
    assert found[0].views[benchmark.EVERY].slope.value == pytest.approx(1.0, abs=0.25)
    # Means for every prompt: nothing departs, so that view is not there.
    assert benchmark.DEPARTING not in found[1].views
    names = [item.name for item in benchmark.figures_of(found)]
    assert len(names) == len(set(names)) == 4 * 3 + 2 * 2
    drawn = calibration_plot(found[0].views)
    assert drawn == calibration_plot(found[0].views)
    assert drawn.startswith("<?xml")
    assert drawn.count("achieved, 95 %") == 4
