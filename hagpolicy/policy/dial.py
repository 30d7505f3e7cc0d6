"""`Dial`: what a caller may turn when it asks for a config, and what the gate decided at its operating points.

A policy's graph puts out heads, such as expected reward and expected cost; an objective is a
weighted sum of them, and the dial moves the weights. Where nothing can be turned there is one point.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from hagpolicy._checks import is_number
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Evaluation

# Far beyond any use; above it values would leave float32, which the graph decides in.
MAX_PRICE = 1e6
MAX_COUNT = 1_000_000


def as_price(value: Any, unit: str) -> float:
    """A price as a float; any kind of number will do, such as numpy's.

    Args:
        value: reward a token or second, [0, 1e6].
        unit: "token" or "second".

    Raises:
        InvalidInput: no number, or out of range.
    """
    if not is_number(value) or not 0.0 <= value <= MAX_PRICE:
        raise InvalidInput("price", f"reward a {unit}, in [0, {MAX_PRICE:g}]", value)
    return float(value)


def as_count(value: Any, largest: int = MAX_COUNT) -> int:
    """A number of answers as an int; any kind of whole number will do, such as numpy's.

    Raises:
        InvalidInput: no whole number in [1, largest].
    """
    if not is_number(value) or not 1 <= value <= largest or int(value) != value:
        raise InvalidInput("n", f"a whole number of answers in [1, {largest}]", value)
    return int(value)


@dataclass(frozen=True)
class OperatingPoint:
    """A position of the dial at which the gate decided.

    Attributes:
        at: the price, or the number of answers; 0 where there is nothing to turn.
        name: of the objective in words, such as "best of 4".
        objective: the same as it is written, such as "best@4".
        weights: over the heads, one each.
        margin: depart from the best config on average only for a larger advantage.
        ships: a per-prompt policy is proven here.
        reason: why, in the gate's words.
        evaluation: of this objective, on prompts that were not trained on; None where nothing was evaluated.
    """

    at: float
    name: str
    objective: str
    weights: tuple[float, ...]
    margin: float
    ships: bool
    reason: str = ""
    evaluation: Evaluation | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back."""
        evaluation = None if self.evaluation is None else self.evaluation.to_json()
        return {**self.__dict__, "weights": list(self.weights), "evaluation": evaluation}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> OperatingPoint:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        stored = values.get("evaluation")
        evaluation = None if stored is None else Evaluation.from_json(stored)
        weights = tuple(float(weight) for weight in values["weights"])
        return cls(**{**values, "weights": weights, "evaluation": evaluation})


@dataclass(frozen=True, eq=False)
class DecisionRule:
    """The decision rule at one position of the dial.

    Attributes:
        weights: float32 (n_heads,), read-only.
        means: float64 (n_configs,), mean value in training, read-only.
        reference: index of the config with the best mean.
        margin: depart from the reference only for a larger advantage.
        ships: False: the reference stands for every prompt.
    """

    weights: np.ndarray
    means: np.ndarray
    reference: int
    margin: float
    ships: bool

    def values(self, heads: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """float32 (…): the weighted sum of heads, n_heads of float32 (…), rounded as the graph rounds it."""
        return compute_weighted_sum(self.weights, heads)


def compute_weighted_sum(weights: Sequence[float] | np.ndarray, heads: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Weighted sum of heads, n_heads of one shape, one after the other and in their own precision; a head of
    weight 0 is not looked at, so that it may be missing (NaN) there."""
    total: np.ndarray | None = None
    for weight, head in zip(weights, heads, strict=True):
        if weight:
            part = head if weight == 1.0 else head.dtype.type(weight) * head
            total = part if total is None else total + part
    return np.zeros_like(heads[0]) if total is None else total


class Dial:
    """The points at which the gate decided, and the rule at every position between them.

    Args:
        argument: "price" or "n", the argument of `Policy.predict` that turns it; "" for none.
        unit: what a price is paid for, "token" or "second"; "" otherwise.
        heads: names of the graph's outputs, n_heads of them.
        scales: a head times its scale is in its own unit, (n_heads,).
        means: float64 (n_heads, n_configs), mean of each head in training.
        points: in rising order of `at`, at least one.

    Raises:
        ValueError: they do not fit each other, or a number is not finite.
    """

    def __init__(
        self,
        argument: str,
        unit: str,
        heads: tuple[str, ...],
        scales: np.ndarray,
        means: np.ndarray,
        points: tuple[OperatingPoint, ...],
    ) -> None:
        self.argument, self.unit, self.heads, self.points = argument, unit, heads, points
        self.scales = np.array(scales, dtype=np.float64)
        self.means = np.array(means, dtype=np.float64)
        if self.means.ndim != 2 or len(heads) != len(self.means) or len(heads) != len(self.scales) or not points:
            raise ValueError("heads, scales, means and points do not fit each other")
        if any(len(point.weights) != len(heads) for point in points):
            raise ValueError("a point needs one weight a head")
        if any(not isinstance(point.ships, bool) for point in points):
            raise ValueError("a point ships: true or false")
        numbers = [number for point in points for number in (point.at, point.margin, *point.weights)]
        if not all(np.isfinite(part).all() for part in (self.scales, self.means, np.array(numbers, dtype=np.float64))):
            raise ValueError("a dial needs finite numbers")
        if any(low.at >= high.at for low, high in pairwise(points)) or any(point.margin < 0.0 for point in points):
            raise ValueError("a dial needs points in rising order and margins of at least 0")
        self._rules = lru_cache(maxsize=256)(self._between)

    @property
    def reason(self) -> str:
        """The gate's reason; where there are several points, that of each."""
        if len(self.points) == 1:
            return self.points[0].reason
        return "; ".join(f"{point.name}: {point.reason}" for point in self.points)

    @property
    def cost_head(self) -> int | None:
        """Number of the head that is an expected cost; None without one."""
        return self.heads.index("costs") if "costs" in self.heads else None

    def costs(self, heads: Sequence[np.ndarray] | np.ndarray) -> np.ndarray | None:
        """float32 (…): expected cost in its own unit, from n_heads of float32 (…); None without such a head."""
        number = self.cost_head
        return None if number is None else np.asarray(heads[number] * np.float32(self.scales[number]))

    def point(self, price: float | None = None, n: int | None = None) -> int:
        """Number of the point at a position.

        Raises:
            InvalidInput: none does.
        """
        at = self._position(price, n)
        places = [point.at for point in self.points]
        if at not in places:
            raise InvalidInput(self.argument, f"one of {', '.join(f'{place:g}' for place in places)}", at)
        return places.index(at)

    def rule_at(self, price: float | None = None, n: int | None = None) -> DecisionRule:
        """The decision rule for what a caller asked for; None and None: the first point.

        Raises:
            InvalidInput: a dial that this policy does not have, or a value out of range.
        """
        return self._rules(self._position(price, n))

    def get_rule(self, point: OperatingPoint) -> DecisionRule:
        """The decision rule at one of its points."""
        return self._rules(point.at)

    def _between(self, at: float) -> DecisionRule:
        """The decision rule at any position.

        Between two points it departs from the reference only if both ship, and then past the larger
        of their margins; outside them never. Weights are interpolated between points, which for a
        price is exact at any price.
        """
        places = [point.at for point in self.points]
        above = bisect_left(places, at)
        inside = places[0] <= at <= places[-1]
        on_point = inside and places[above] == at
        near = self.points[above if on_point else max(above - 1, 0) : above + 1]
        columns = zip(*(point.weights for point in self.points), strict=True)
        weights = np.array([np.interp(at, places, column) for column in columns])
        if self.argument == "price" and self.cost_head is not None:  # beyond the last point too
            weights[self.cost_head] = -at * self.scales[self.cost_head]
        # Not by a matrix product, which may round equal configs differently: ties go by the space's order.
        means, rounded = compute_weighted_sum(weights, self.means), weights.astype(np.float32)
        means.flags.writeable = rounded.flags.writeable = False  # rules are shared by all calls
        margin = max(point.margin for point in near)
        return DecisionRule(rounded, means, int(means.argmax()), margin, inside and all(point.ships for point in near))

    def _position(self, price: float | None, n: int | None) -> float:
        for name, value in (("price", price), ("n", n)):
            if value is not None and name != self.argument:
                has = f"turned by {self.argument}" if self.argument else "without a dial"
                fit = "[Priced(0), Priced(0.001), …]" if name == "price" else "[BestOf(1), BestOf(4), …]"
                raise InvalidInput(name, f"nothing: this policy is {has}", value, f"Fit one with objective={fit}.")
        if price is not None:
            return as_price(price, self.unit)
        return self.points[0].at if n is None else float(as_count(n))

    def __reduce__(self) -> tuple[Any, ...]:
        # The rules that were looked up cannot be copied to another process; what they were made of can.
        return Dial, (self.argument, self.unit, self.heads, self.scales, self.means, self.points)

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
            tuple(OperatingPoint.from_json(point) for point in values["points"]),
        )
