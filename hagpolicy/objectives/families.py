"""The objectives by family: which heads each one weighs, and where it stands on its dial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from hagpolicy.dial import as_count, as_price
from hagpolicy.errors import InvalidInput
from hagpolicy.objectives.heads import Best, Cells, Head, Low, MeanCost, MeanReward, Vote
from hagpolicy.table import SweepTable

MAX_ANSWERS = 64
PER = ("token", "second")


@dataclass(frozen=True)
class Objective(ABC):
    """What is to be maximised, as a weighted sum of heads.

    Attributes:
        dial: "price" or "n" where the caller may turn it at call time, "" where there is nothing to turn.
        unit: of the dial: "token" or "second" for a price, "" otherwise.
        at: where on the dial this one stands.
    """

    @property
    def dial(self) -> str:
        """The argument of `Policy.predict` that moves it; "" for none."""
        return ""

    @property
    def unit(self) -> str:
        """What a price is paid for; "" where nothing is."""
        return ""

    @property
    def at(self) -> float:
        """Where on the dial it stands."""
        return 0.0

    @property
    @abstractmethod
    def name(self) -> str:
        """In words, such as "pass@4"."""

    @property
    @abstractmethod
    def written(self) -> str:
        """As `get_objectives` reads it, such as "pass@4"."""

    @property
    @abstractmethod
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights."""

    @property
    def needs(self) -> int:
        """Scored samples that a sampled config's cell must have."""
        return max(head.needs for head, _ in self.terms)

    @property
    def splits(self) -> bool:
        """Half of the samples estimate the same as all of them, so that a split-sample VBS is a lower bound."""
        return all(head.splits for head, _ in self.terms)

    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs), NaN where there are too few samples."""
        return np.asarray(sum(weight * head.estimate(cells) for head, weight in self.terms if weight))

    def values(self, table: SweepTable) -> np.ndarray:
        """float64 (n_prompts, n_configs) of a table's common samples, NaN where there are too few.

        Raises:
            InvalidInput: the table lacks what the objective is made of.
        """
        return self.estimate(Cells.of(table, common=True))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Reward(Objective):
    """Mean reward of one answer."""

    @property
    def name(self) -> str:
        """In words."""
        return "reward"

    @property
    def written(self) -> str:
        """As it is written."""
        return "reward"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """The mean."""
        return ((MeanReward(), 1.0),)


@dataclass(frozen=True)
class Priced(Objective):
    """Mean reward minus a price for what the answer costs.

    Args:
        price: reward paid for one token or second, [0, 1e6].
        per: "token", a new token of the answer, or "second".
    """

    price: float
    per: str = "token"

    def __post_init__(self) -> None:
        if self.per not in PER:
            raise InvalidInput("per", " or ".join(repr(name) for name in PER), self.per)
        object.__setattr__(self, "price", as_price(self.price, self.per))

    @property
    def dial(self) -> str:
        """The price."""
        return "price"

    @property
    def unit(self) -> str:
        """What is paid for."""
        return self.per

    @property
    def at(self) -> float:
        """The price."""
        return self.price

    @property
    def name(self) -> str:
        """In words."""
        return f"reward - {self.price:g} a {self.per}"

    @property
    def written(self) -> str:
        """As it is written."""
        return f"price/{self.per}@{self.price!r}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Reward, and the cost with a negative weight."""
        return (MeanReward(), 1.0), (MeanCost(self.per), -self.price)


@dataclass(frozen=True)
class _OfSeveral(Objective):
    """An objective of n answers."""

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", as_count(self.n, MAX_ANSWERS))

    @property
    def dial(self) -> str:
        """The number of answers."""
        return "n"

    @property
    def at(self) -> float:
        """The number of answers."""
        return float(self.n)


@dataclass(frozen=True)
class PassAtK(_OfSeveral):
    """At least one of n answers passes (pass@k).

    Args:
        n: answers, [1, 64].
        passing: a reward of at least this passes, (0, 1].
    """

    passing: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "passing", _share("passing", self.passing, one=True))

    @property
    def name(self) -> str:
        """In words."""
        return f"pass@{self.n}"

    @property
    def written(self) -> str:
        """As it is written."""
        return f"pass@{self.n}" if self.passing == 1.0 else f"pass:{self.passing!r}@{self.n}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """The best of n after the threshold."""
        return ((Best(self.n, self.passing), 1.0),)


@dataclass(frozen=True)
class BestOf(_OfSeveral):
    """The best reward of n answers, which is what a perfect judge picks.

    Args:
        n: answers, [1, 64].
    """

    @property
    def name(self) -> str:
        """In words."""
        return f"best of {self.n}"

    @property
    def written(self) -> str:
        """As it is written."""
        return f"best@{self.n}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """The expected maximum."""
        return ((Best(self.n), 1.0),)


@dataclass(frozen=True)
class Majority(_OfSeveral):
    """The reward of the answer that most of n give.

    Args:
        n: votes, [1, 64].
    """

    @property
    def name(self) -> str:
        """In words."""
        return f"majority of {self.n}"

    @property
    def written(self) -> str:
        """As it is written."""
        return f"majority@{self.n}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """The vote."""
        return ((Vote(self.n), 1.0),)


@dataclass(frozen=True)
class Quantile(Objective):
    """The reward that a share q of the answers stays at or below.

    Args:
        q: (0, 1); a sampled config's cell must have 1/q samples.
    """

    q: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", _share("q", self.q, one=False))

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.q:g} quantile of the reward"

    @property
    def written(self) -> str:
        """As it is written."""
        return f"quantile@{self.q!r}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """The quantile."""
        return ((Low(self.q), 1.0),)


ObjectiveSpec = str | Objective | Sequence[Objective]
_FAMILIES: Mapping[str, Callable[[Any], Objective]] = {
    "price/token": partial(Priced, per="token"),
    "price/second": partial(Priced, per="second"),
    "pass": PassAtK,
    "best": BestOf,
    "majority": Majority,
    "quantile": Quantile,
}
_WRITTEN = "'reward', or FAMILY@VALUE[,VALUE…] with FAMILY one of " + ", ".join(_FAMILIES) + ", pass:THRESHOLD"


def get_objectives(spec: ObjectiveSpec) -> tuple[Objective, ...]:
    """The points of a dial in rising order, or the one objective there is.

    Args:
        spec: an `Objective`, several of one family, or text such as "pass@1,2,4" (see the package).

    Raises:
        InvalidInput: an unknown family, a bad value, no objective, or objectives of several families.
    """
    if isinstance(spec, Objective):
        return (spec,)
    if isinstance(spec, str):
        return _parsed(spec)
    found: tuple[Any, ...] = tuple(spec) if isinstance(spec, Sequence) else ()
    if not found or not all(isinstance(item, Objective) for item in found):
        raise InvalidInput("objective", _WRITTEN + ", an Objective, or several of one family", spec)
    if len(found) > 1 and (len({_family(item) for item in found}) > 1 or not found[0].dial):
        names = ", ".join(item.name for item in found)
        raise InvalidInput("objective", "objectives of one family that has a dial (price, pass, best, majority)", names)
    return tuple(sorted(dict.fromkeys(found), key=lambda item: item.at))


def _family(item: Objective) -> tuple[Any, ...]:
    return type(item), item.unit, getattr(item, "passing", None)


def _parsed(text: str) -> tuple[Objective, ...]:
    if text == "reward":
        return (Reward(),)
    family, at, values = text.partition("@")
    family, threshold, passing = family.partition(":")
    if family not in _FAMILIES or not at or (threshold and family != "pass"):
        raise InvalidInput("objective", _WRITTEN, text)
    try:
        places = [float(place) for place in values.split(",")]
        made = partial(PassAtK, passing=float(passing)) if threshold else _FAMILIES[family]
    except ValueError:
        raise InvalidInput("objective", _WRITTEN, text) from None
    return get_objectives([made(place) for place in places])


def _share(name: str, value: Any, *, one: bool) -> float:
    """A number in (0, 1) as a float, 1 itself where `one` is true. Raises InvalidInput for anything else."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0.0 < value <= 1.0 or (value == 1.0 and not one):
        raise InvalidInput(name, f"a number in (0, 1{']' if one else ')'}", value)
    return float(value)
