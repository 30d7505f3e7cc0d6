"""Features of any scale brought to one, inside the graph: heavy tails, constant columns, columns of other units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy.data.prompts import Prompt
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.graphs.builder import DOUBLE, FLOAT, GraphBuilder

__all__ = ["FeatureScaling", "ScaledEncoder"]

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


class ScaledEncoder(Encoder):
    """An encoder whose features are scaled, by statistics of the prompts that a policy was fitted on.

    Args:
        base: the encoder.
        scaling: of its features.
    """

    def __init__(self, base: Encoder, scaling: FeatureScaling) -> None:
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
