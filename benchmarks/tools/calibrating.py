"""Expected against achieved: deciles, calibration error and slope, with intervals over groups of prompts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hagpolicy import Estimate
from hagpolicy.analysis.bootstrap import GroupBootstrap, estimate_from_draws

DECILES = 10
# Fewer cells than this make no bin of their own.
CELLS_OF_A_BIN = 10


@dataclass(frozen=True)
class Bin:
    """Cells of nearly equal prediction.

    Attributes:
        expected: mean prediction.
        achieved: mean of what came out, with its interval.
        count: cells.
    """

    expected: float
    achieved: Estimate
    count: int


@dataclass(frozen=True)
class Calibration:
    """How predictions agree with what came out.

    Attributes:
        bins: by rising prediction, as many cells in each: ten, fewer where there are few cells or few values.
        error: expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015): mean distance between
            expected and achieved over the bins, weighed by their cells. It is above 0 for any predictor,
            because what came out is noisy.
        chance: the error that a calibrated predictor would show, given as many cells as noisy as these.
        beyond: root of the mean squared distance with the noise taken out (Kumar, Liang and Ma, "Verified
            Uncertainty Calibration", NeurIPS 2019): 0 for a calibrated predictor, however few the cells.
        slope: of the regression of what came out on the prediction; 1 for a calibrated predictor, below 1 for
            one that promises too much difference.
        shift: achieved minus expected, on average.
    """

    bins: tuple[Bin, ...]
    error: Estimate
    chance: float
    beyond: Estimate
    slope: Estimate
    shift: Estimate

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes."""
        return asdict(self)


def calibration(
    predicted: np.ndarray, achieved: np.ndarray, boot: GroupBootstrap, used: np.ndarray | None = None
) -> Calibration:
    """Compare predictions with outcomes that they have not seen.

    Args:
        predicted: float (n_prompts, n), of n cells a prompt.
        achieved: float64 (n_prompts, n), what came out; its noise is no error of the prediction on average.
        boot: draws over the groups of the prompts.
        used: bool (n_prompts, n), the cells that count; None: all. At least two.
    """
    used = np.ones(predicted.shape, dtype=bool) if used is None else used
    predicted = predicted.astype(np.float64)
    places = np.where(used, _places(predicted, predicted[used]), -1)
    numbers = range(int(places.max()) + 1)
    # (n_prompts, n_bins) each: sums over a prompt's cells in each bin.
    expected, came, counts = (
        np.column_stack([np.where(places == number, array, 0.0).sum(axis=1) for number in numbers])
        for array in (predicted, achieved, np.ones_like(predicted))
    )
    sizes, drawn_sizes = counts.sum(axis=0), _drawn(boot, counts)
    gaps, drawn_gaps = (came - expected).sum(axis=0) / sizes, _drawn(boot, came - expected) / np.maximum(drawn_sizes, 1)
    weights = drawn_sizes / drawn_sizes.sum(axis=1, keepdims=True)
    means, drawn_means = came.sum(axis=0) / sizes, _drawn(boot, came) / np.maximum(drawn_sizes, 1)
    shares = sizes / sizes.sum()
    error, distances = float(shares @ np.abs(gaps)), (weights * np.abs(drawn_gaps)).sum(axis=1)
    # A draw adds the noise of drawing to that of the cells: its squares hold it twice.
    noise = float((weights * (drawn_gaps - gaps) ** 2).sum(axis=1).mean())
    squares = (weights * drawn_gaps**2).sum(axis=1) - 2.0 * noise
    return Calibration(
        bins=tuple(
            Bin(
                float(expected[:, number].sum() / sizes[number]),
                # A draw without any cell of the bin says nothing of it.
                estimate_from_draws(float(means[number]), drawn_means[drawn_sizes[:, number] > 0, number]),
                int(sizes[number]),
            )
            for number in numbers
        ),
        # Distances of draws lie above the distance itself, so they are moved back to it.
        error=estimate_from_draws(error, np.maximum(distances - distances.mean() + error, 0.0)),
        chance=float((weights * np.abs(drawn_gaps - gaps)).sum(axis=1).mean()),
        beyond=estimate_from_draws(_root(shares @ gaps**2 - noise), _root(squares)),
        slope=_slope(predicted, achieved, used, boot),
        shift=estimate_from_draws(float(shares @ gaps), (weights * drawn_gaps).sum(axis=1)),
    )


def _places(predicted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """int64, like `predicted`: number of the bin, of as many equal parts of the `known` as make sense."""
    parts = max(1, min(DECILES, len(known) // CELLS_OF_A_BIN))
    edges = np.unique(np.quantile(known, np.arange(1, parts) / parts))
    found = np.searchsorted(edges, predicted, side="right")
    # Many equal predictions may leave a part empty.
    return np.searchsorted(np.unique(np.searchsorted(edges, known, side="right")), found)


def _root(squares: Any) -> Any:
    """Square roots of numbers that noise may carry below 0."""
    return np.sqrt(np.maximum(squares, 0.0))


def _drawn(boot: GroupBootstrap, values: np.ndarray) -> np.ndarray:
    """float64 (n_boot, k): sums over the drawn prompts of values (n_prompts, k)."""
    return boot.counts @ boot.sums(values)


def _slope(predicted: np.ndarray, achieved: np.ndarray, used: np.ndarray, boot: GroupBootstrap) -> Estimate:
    """Least-squares slope of what came out on the prediction; 0 where all predictions are equal."""
    columns = [np.ones_like(predicted), predicted, achieved, predicted**2, predicted * achieved]
    sums = np.column_stack([np.where(used, column, 0.0).sum(axis=1) for column in columns])

    def slope(total: np.ndarray) -> np.ndarray:
        n, p, a, pp, pa = total.T
        spread = n * pp - p**2
        flat = spread <= 1e-12 * np.maximum(n, 1.0) ** 2
        return np.where(flat, 0.0, (n * pa - p * a) / np.where(flat, 1.0, spread))

    return estimate_from_draws(float(slope(sums.sum(axis=0)[None])[0]), slope(_drawn(boot, sums)))
