"""`Dial`: what a caller may turn when it asks for a config, and what the gate decided at its settings.

A policy's graph puts out heads, such as expected reward and expected cost; an objective is a
weighted sum of them, and the dial moves the weights. Where nothing can be turned there is one point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from hagpolicy.errors import InvalidInput


@dataclass(frozen=True)
class Point:
    """A setting of the dial at which the gate decided.

    Attributes:
        at: the price, or the number of answers; 0 where there is nothing to turn.
        name: of the objective in words, such as "best of 4".
        objective: the same as it is written, such as "best@4".
        weights: over the heads, one each.
        margin: depart from the best config on average only for a larger advantage.
        ships: a per-prompt policy is proven here.
        reason: what the gate said.
        evaluation: of this objective, as `Evaluation.to_json` writes it; None where nothing was evaluated.
    """

    at: float
    name: str
    objective: str
    weights: tuple[float, ...]
    margin: float
    ships: bool
    reason: str = ""
    evaluation: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return {**self.__dict__, "weights": list(self.weights)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Point:
        """What `to_json` wrote."""
        return cls(**{**values, "weights": tuple(float(weight) for weight in values["weights"])})


@dataclass(frozen=True, eq=False)
class Setting:
    """The decision rule at one position of the dial.

    Attributes:
        weights: float32 (n_heads,).
        means: float64 (n_configs,), mean value in training.
        reference: index of the config with the best mean.
        margin: depart from the reference only for a larger advantage.
        ships: False: the reference stands for every prompt.
    """

    weights: np.ndarray
    means: np.ndarray
    reference: int
    margin: float
    ships: bool

    def values(self, heads: np.ndarray) -> np.ndarray:
        """float32 (…): the weighted sum of heads, float32 (n_heads, …), rounded as the graph rounds it."""
        return weighted(self.weights, heads)


def weighted(weights: Sequence[float] | np.ndarray, heads: np.ndarray) -> np.ndarray:
    """Weighted sum of heads (n_heads, …), one after the other and in their own precision; a head of weight 0 is
    not looked at, so that it may be missing (NaN) there."""
    total = np.zeros(heads.shape[1:], heads.dtype)
    for weight, head in zip(weights, heads, strict=True):
        if weight:
            total = total + heads.dtype.type(weight) * head
    return total


class Dial:
    """The points at which the gate decided, and every setting between them.

    Args:
        argument: "price" or "n", the argument of `Policy.predict` that turns it; "" for none.
        unit: what a price is paid for, "token" or "second"; "" otherwise.
        heads: names of the graph's outputs, n_heads of them.
        scales: a head times its scale is in its own unit, (n_heads,).
        means: float64 (n_heads, n_configs), mean of each head in training.
        points: in rising order of `at`, at least one.
    """

    def __init__(
        self,
        argument: str,
        unit: str,
        heads: tuple[str, ...],
        scales: np.ndarray,
        means: np.ndarray,
        points: tuple[Point, ...],
    ) -> None:
        self.argument, self.unit, self.heads, self.points = argument, unit, heads, points
        self.scales = np.array(scales, dtype=np.float64)
        self.means = np.array(means, dtype=np.float64)
        if self.means.ndim != 2 or len(heads) != len(self.means) or len(heads) != len(self.scales) or not points:
            raise ValueError("heads, scales, means and points do not fit each other")
        if any(len(point.weights) != len(heads) for point in points):
            raise ValueError("a point needs one weight a head")
        self.setting = lru_cache(maxsize=256)(self._setting)

    @property
    def cost_head(self) -> int | None:
        """Number of the head that is an expected cost; None without one."""
        return self.heads.index("costs") if "costs" in self.heads else None

    def point(self, price: float | None = None, n: int | None = None) -> int:
        """Number of the point that stands there.

        Raises:
            InvalidInput: none does.
        """
        at = self._position(price, n)
        places = [point.at for point in self.points]
        if at not in places:
            raise InvalidInput(self.argument, f"one of {', '.join(f'{place:g}' for place in places)}", at)
        return places.index(at)

    def _setting(self, price: float | None = None, n: int | None = None) -> Setting:
        """The decision rule for what a caller asked for; None and None: the first point.

        Between two points it departs from the reference only if both ship, and then past the larger
        of their margins; outside them never. Weights are interpolated between points, which for a
        price is exact at any price.

        Raises:
            InvalidInput: a dial that this policy does not have, or a value out of range.
        """
        at = self._position(price, n)
        places = np.array([point.at for point in self.points])
        above = int(np.searchsorted(places, at))
        near = [self.points[i] for i in {max(above - 1, 0), min(above, len(places) - 1)}]
        if above < len(places) and places[above] == at:
            near = [self.points[above]]
        inside = places[0] <= at <= places[-1]
        columns = np.array([point.weights for point in self.points]).T
        weights = np.array([np.interp(at, places, column) for column in columns])
        if self.argument == "price" and self.cost_head is not None:  # beyond the last point too
            weights[self.cost_head] = -at * self.scales[self.cost_head]
        means = weights @ self.means
        return Setting(
            weights.astype(np.float32),
            means,
            int(means.argmax()),
            max(point.margin for point in near),
            inside and all(point.ships for point in near),
        )

    def _position(self, price: float | None, n: int | None) -> float:
        for name, value in (("price", price), ("n", n)):
            if value is not None and name != self.argument:
                has = f"turned by {self.argument}" if self.argument else "without a dial"
                fit = "[Priced(0), Priced(0.001), …]" if name == "price" else "[BestOf(1), BestOf(4), …]"
                raise InvalidInput(name, f"nothing: this policy is {has}", value, f"Fit one with objective={fit}.")
        value = price if price is not None else n
        if value is None:
            return self.points[0].at
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        low = 0.0 if price is not None else 1.0
        if not number or not low <= value < math.inf or (n is not None and int(value) != value):
            wanted = f"reward a {self.unit}, in [0, inf)" if price is not None else "a number of answers, at least 1"
            raise InvalidInput(self.argument, wanted, value)
        return float(value)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back."""
        return {
            "argument": self.argument,
            "unit": self.unit,
            "heads": list(self.heads),
            "scales": self.scales.tolist(),
            "means": self.means.tolist(),
            "points": [point.to_json() for point in self.points],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Dial:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            str(values["argument"]),
            str(values["unit"]),
            tuple(str(name) for name in values["heads"]),
            np.array(values["scales"], dtype=np.float64),
            np.array(values["means"], dtype=np.float64),
            tuple(Point.from_json(point) for point in values["points"]),
        )
