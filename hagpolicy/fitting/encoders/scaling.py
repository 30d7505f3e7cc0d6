"""Features of any scale brought to one, inside the graph: heavy tails, constant columns, columns of other units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy.data.prompts import Prompt
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.graphs.builder import DOUBLE, FLOAT, GraphBuilder

__all__ = ["FeatureScaling", "Imputation", "ScaledEncoder", "find_medians"]

# Columns whose spreads are within this factor of the usual one, and whose values are within so many of their spreads,
# are left alone: an embedding's relative sizes say what matters, and standardising them would lose it.
ALIKE = 10.0
TAIL = 20.0
LIMIT = 5.0


@dataclass(frozen=True, eq=False)
class FeatureScaling:
    """Robust scaling of each column: centred by its median, in units of its middle half's width, sign · ln(1 + |·|),
    then standardised and clipped at ±5.

    Attributes:
        centre: float64 (n_features,), medians.
        spread: float64 (n_features,), the interquartile range, the standard deviation where that is 0, and 1 for a
            constant column.
        mean: float64 (n_features,), of what the logarithm makes of the training prompts.
        deviation: float64 (n_features,), its standard deviation, 1 for a constant column.
    """

    centre: np.ndarray
    spread: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> FeatureScaling | None:
        """The scaling of training features, float32 (n, n_features); None where they are of one scale already."""
        wide = features.astype(np.float64)
        centre = np.median(wide, axis=0)
        low, high = np.quantile(wide, [0.25, 0.75], axis=0)
        deviation = wide.std(axis=0)
        varies = deviation > 0.0
        spread = np.where(high > low, high - low, np.where(varies, deviation, 1.0))
        usual = float(np.median(deviation[varies])) if varies.any() else 1.0
        apart = varies & ((deviation > ALIKE * usual) | (deviation < usual / ALIKE))
        if not (apart.any() or (np.abs(wide - centre) > TAIL * spread).any()):
            return None
        squeezed = _squeeze((wide - centre) / spread)
        own = squeezed.std(axis=0)
        return cls(centre, spread, squeezed.mean(axis=0), np.where(own > 1e-9, own, 1.0))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, n_features)."""
        squeezed = _squeeze((features.astype(np.float64) - self.centre) / self.spread)
        return np.asarray(np.clip((squeezed - self.mean) / self.deviation, -LIMIT, LIMIT), dtype=np.float32)

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append the nodes of `apply`; returns the name of a float32 tensor (batch, n_features)."""
        centred = graph.node("Sub", [graph.cast(features, DOUBLE), graph.constant(self.centre, "centre")])
        scaled = graph.node("Div", [centred, graph.constant(self.spread, "spread")])
        one = graph.constant(1.0, "one", np.float64)
        sides = [graph.node("Relu", [side]) for side in (scaled, graph.node("Neg", [scaled]))]
        above, below = (graph.node("Log", [graph.node("Add", [side, one])]) for side in sides)
        squeezed = graph.node("Sub", [graph.node("Sub", [above, below]), graph.constant(self.mean, "mean")])
        standard = graph.node("Div", [squeezed, graph.constant(self.deviation, "deviation")])
        limits = [graph.constant(sign * LIMIT, "limit", np.float64) for sign in (-1, 1)]
        return graph.cast(graph.node("Clip", [standard, *limits]), FLOAT)


def find_medians(features: np.ndarray) -> np.ndarray:
    """float32 (n_features,): each column's median of what is there in float32 (n, n_features), NaN where a value is
    missing; 0 where nothing is there."""
    medians = np.zeros(features.shape[1], dtype=np.float32)
    some = ~np.isnan(features).all(axis=0)
    medians[some] = np.nanmedian(features[:, some], axis=0)
    return medians


@dataclass(frozen=True, eq=False)
class Imputation:
    """Missing values filled with their column's median, and a column that marks them for each where any are missing.

    Attributes:
        medians: float32 (n_features,), of what is there; 0 where nothing is.
        marked: int64 (n_marked,), columns with missing values among the training prompts.
        size: of a mark: the usual standard deviation of the columns beside it.
        scaling: of the filled columns; None: they are of one scale.
    """

    medians: np.ndarray
    marked: np.ndarray
    size: float
    scaling: FeatureScaling | None

    @classmethod
    def of(cls, features: np.ndarray) -> Imputation:
        """From training features, float32 (n, n_features), NaN where a value is missing."""
        missing = np.isnan(features)
        medians = find_medians(features)
        filled = np.where(missing, medians, features)
        scaling = FeatureScaling.of(filled)
        deviation = (filled if scaling is None else scaling.apply(filled)).astype(np.float64).std(axis=0)
        size = float(np.median(deviation[deviation > 0.0])) if (deviation > 0.0).any() else 1.0
        return cls(medians, np.flatnonzero(missing.any(axis=0)), size, scaling)

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, n_features + n_marked)."""
        missing = np.isnan(features)
        filled = np.where(missing, self.medians, features)
        scaled = filled if self.scaling is None else self.scaling.apply(filled)
        marks = np.where(missing[:, self.marked], np.float32(self.size), np.float32(0.0))
        return np.concatenate([scaled, marks], axis=1)

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append the nodes of `apply`; returns the name of a float32 tensor (batch, n_features + n_marked)."""
        there = graph.node("LessOrEqual", [features, features])  # NaN is no number that is as large as itself
        filled = graph.node("Where", [there, features, graph.constant(self.medians, "medians")])
        scaled = filled if self.scaling is None else self.scaling.export(graph, filled)
        if not len(self.marked):
            return scaled
        sizes = [graph.constant(np.array(size, np.float32), "mark") for size in (0.0, self.size)]
        marks = graph.node("Where", [there, *sizes])
        columns = graph.constant(self.marked.astype(np.int64), "marked")
        return graph.node("Concat", [scaled, graph.node("Gather", [marks, columns], axis=1)], axis=1)


class ScaledEncoder(Encoder):
    """An encoder whose features are scaled, by statistics of the prompts that a policy was fitted on.

    Args:
        base: the encoder.
        scaling: of its features.
    """

    def __init__(self, base: Encoder, scaling: FeatureScaling | Imputation) -> None:
        self.base, self.scaling = base, scaling
        self.name, self.length, self.embed = base.name, base.length, base.embed

    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """See `Encoder.export`."""
        features, unknown = self.base.export(graph)
        return self.scaling.export(graph, features), unknown

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """See `Encoder.inputs`."""
        return self.base.inputs(prompts)

    def spec(self) -> dict[str, Any]:
        """See `Encoder.spec`."""
        return self.base.spec()

    def files(self) -> dict[str, bytes]:
        """See `Encoder.files`."""
        return self.base.files()


def _squeeze(values: np.ndarray) -> np.ndarray:
    """sign · ln(1 + |·|), by operators that the graph has."""
    return np.asarray(np.log(np.maximum(values, 0.0) + 1.0) - np.log(np.maximum(-values, 0.0) + 1.0))
