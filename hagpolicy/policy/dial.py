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
from typing import Any, get_args

import numpy as np

from hagpolicy._checks import is_number
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Evaluation, Ships

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
        margin: depart from the reference only for a larger advantage.
        ships: what is proven here: "per_prompt"; else "single_best", the best config on average; else "default".
        reference: index of the config that stands for every prompt, or from which the policy departs.
        reason: why, in the gate's words.
        evaluation: of this objective, on prompts that were not trained on; None where nothing was evaluated.
        told_ships: a policy that is told each prompt's task is proven here; for a prompt whose task is told, it stands
            in the place of `ships` and `margin`.
        told_margin: depart from the reference only for a larger advantage, where the task is told.
    """

    at: float
    name: str
    objective: str
    weights: tuple[float, ...]
    margin: float
    ships: Ships
    reference: int
    reason: str = ""
    evaluation: Evaluation | None = None
    told_ships: bool = False
    told_margin: float = 0.0

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
        ships: other than "per_prompt": the reference stands for every prompt.
        reference: index of the config that stands where nothing per prompt is proven or a prompt falls back.
        margin: depart from the reference only for a larger advantage.
        told: it is the rule of a policy that is told the task.
    """

    weights: np.ndarray
    means: np.ndarray
    ships: Ships
    reference: int
    margin: float
    told: bool = False

    @property
    def sbs(self) -> int:
        """Index of the single best config: the one with the best mean, the first of several."""
        return int(choose_best(self.means))

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
        default: index of the config that runs today; None where unknown.

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
        default: int | None = None,
    ) -> None:
        self.argument, self.unit, self.heads, self.points, self.default = argument, unit, heads, points, default
        self.scales = np.array(scales, dtype=np.float64)
        self.means = np.array(means, dtype=np.float64)
        if self.means.ndim != 2 or len(heads) != len(self.means) or len(heads) != len(self.scales) or not points:
            raise ValueError("heads, scales, means and points do not fit each other")
        if any(len(point.weights) != len(heads) for point in points):
            raise ValueError("a point needs one weight a head")
        if any(point.ships not in get_args(Ships) for point in points):
            raise ValueError(f"a point ships one of {', '.join(get_args(Ships))}")
        if any(not 0 <= point.reference < self.means.shape[1] for point in points):
            raise ValueError("a point's reference is a config of the space")
        if any(point.ships == "default" and point.reference != default for point in points):
            raise ValueError("a point that ships the default has it as reference")
        if len(set(heads)) != len(heads):
            raise ValueError("a dial needs heads of different names")
        numbers = [number for point in points for number in (point.at, point.margin, point.told_margin, *point.weights)]
        if not all(np.isfinite(part).all() for part in (self.scales, self.means, np.array(numbers, dtype=np.float64))):
            raise ValueError("a dial needs finite numbers")
        rising = all(low.at < high.at for low, high in pairwise(points))
        if not rising or any(min(point.margin, point.told_margin) < 0.0 for point in points):
            raise ValueError("a dial needs points in rising order and margins of at least 0")
        if any(point.told_ships for point in points) and not points[0].told_ships:
            raise ValueError("a policy that is told the task ships at the first point, or nowhere")
        if not argument and len(points) > 1:
            raise ValueError("a dial that nothing turns has one point")
        least, most = {"price": (0.0, MAX_PRICE), "n": (1.0, float(MAX_COUNT))}.get(argument, (-np.inf, np.inf))
        if not all(least <= point.at <= most for point in points):
            raise ValueError(f"a dial turned by {argument} needs points in [{least:g}, {most:g}]")
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
        if number is None:
            return None
        with np.errstate(over="ignore"):  # a cost that is infinite is refused where one is chosen
            return np.asarray(heads[number] * np.float32(self.scales[number]))

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

    def rule_at(self, price: float | None = None, n: int | None = None, told: bool = False) -> DecisionRule:
        """The decision rule for what a caller asked for; None and None: the first point. `told`: with the prompt's
        task told, where that is proven; else the rule without it.

        Raises:
            InvalidInput: a dial that this policy does not have, or a value out of range.
        """
        return self._rules(self._position(price, n), told)

    def get_rule(self, point: OperatingPoint) -> DecisionRule:
        """The decision rule at one of its points."""
        return self._rules(point.at, False)

    def _between(self, at: float, told: bool) -> DecisionRule:
        """The decision rule at any position.

        Between two points stands what is proven at both: their reference, if it is the same one, from which it
        departs only if both ship a per-prompt policy, and then past the larger of their margins. Where references
        differ, and outside the points, what runs today stands for every prompt: what is proven at one price may
        lose at another. Where that is unknown, the best config on average at the position does. Weights are
        interpolated between points, which for a price is exact at any price.
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
        # Not by a matrix product, which may round equal configs differently.
        means, rounded = compute_weighted_sum(weights, self.means), weights.astype(np.float32)
        means.flags.writeable = rounded.flags.writeable = False  # rules are shared by all calls
        standing = self._standing(near, inside, int(choose_best(means)))
        if told and inside and all(point.told_ships for point in near) and len({one.reference for one in near}) == 1:
            margin = max(point.told_margin for point in near)
            return DecisionRule(rounded, means, "per_prompt", near[0].reference, margin, told=True)
        return DecisionRule(rounded, means, *standing, max(point.margin for point in near))

    def _standing(self, near: Sequence[OperatingPoint], inside: bool, best: int) -> tuple[Ships, int]:
        """What ships at a position and its reference, by the points beside it and the best config on average there."""
        found = {point.ships for point in near}
        alike = len({point.reference for point in near}) == 1
        if not inside or (self.default is not None and not alike):
            reference = best if self.default is None else self.default
        else:
            reference = near[0].reference if alike else best
            if len(found) == 1:
                return near[0].ships, reference
        return ("default" if reference == self.default else "single_best"), reference

    def _position(self, price: float | None, n: int | None) -> float:
        for name, value in (("price", price), ("n", n)):
            if value is not None and name != self.argument:
                has = f"turned by {self.argument}" if self.argument else "without a dial"
                fit = "[Priced(0), Priced(0.001), …]" if name == "price" else "[BestOf(1), BestOf(4), …]"
                line = f"price/{self.unit or 'token'}@0,0.001" if name == "price" else "best@1,4"
                do = f"Fit one with objective={fit}, or with `hagpolicy fit --objective {line}`."
                raise InvalidInput(name, f"nothing: this policy is {has}", value, do)
        if price is not None:
            return as_price(price, self.unit)
        return self.points[0].at if n is None else float(as_count(n))

    def __reduce__(self) -> tuple[Any, ...]:
        # The rules that were looked up cannot be copied to another process; what they were made of can.
        return Dial, (self.argument, self.unit, self.heads, self.scales, self.means, self.points, self.default)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back; what runs today is the manifest's own entry."""
        return {
            "argument": self.argument,
            "unit": self.unit,
            "heads": list(self.heads),
            "scales": self.scales.tolist(),
            "means": self.means.tolist(),
            "points": [point.to_json() for point in self.points],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], default: int | None) -> Dial:
        """What `to_json` wrote, beside what runs today. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            str(values["argument"]),
            str(values["unit"]),
            tuple(str(name) for name in values["heads"]),
            np.array(values["scales"], dtype=np.float64),
            np.array(values["means"], dtype=np.float64),
            tuple(OperatingPoint.from_json(point) for point in values["points"]),
            default,
        )
