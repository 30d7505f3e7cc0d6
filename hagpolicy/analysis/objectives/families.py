"""The objectives by family: which heads each one weighs, and where it stands on its dial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hagpolicy._checks import is_number
from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.objectives.heads import DrawnReward, ExpectedMaximum, Head, LowerQuantile, MeanCost, MeanReward
from hagpolicy.analysis.objectives.votes import MajorityVote
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.dial import as_count, as_price

MAX_ANSWERS = 64
PER = ("token", "second")


@dataclass(frozen=True)
class Reward(Objective):
    """Mean reward of one answer."""

    @property
    def name(self) -> str:
        """Name for people."""
        return "reward"

    @property
    def written(self) -> str:
        """Text that `get_objectives` reads."""
        return "reward"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights: the mean reward."""
        return ((MeanReward(), 1.0),)


@dataclass(frozen=True)
class Drawn(Objective):
    """Mean reward of one answer, for a table of live calls that drew their configs (`hagpolicy log table`).

    Args:
        choices: configs that were drawn among, a whole number in [2, 64].
        level: what the cells that were not drawn hold, [0, 1]; such a table says it.
    """

    choices: int
    level: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", as_count(self.choices, MAX_ANSWERS))
        if self.choices < 2:
            raise InvalidInput("choices", f"a whole number in [2, {MAX_ANSWERS}]", self.choices)
        if not is_number(self.level) or not 0.0 <= self.level <= 1.0:
            raise InvalidInput("level", "a number in [0, 1]", self.level)

    @property
    def name(self) -> str:
        """Name for people."""
        return "reward of live calls"

    @property
    def written(self) -> str:
        """Text that `get_objectives` reads."""
        return f"drawn:{self.level!r}@{self.choices}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights: the reward that was drawn."""
        return ((DrawnReward(self.choices, self.level), 1.0),)


@dataclass(frozen=True)
class Priced(Objective):
    """Mean reward minus a price for what the answer costs.

    Args:
        price: reward paid for one token or second, [0, 1e6].
        per: "token", a new token of the answer, or "second".
    """

    dial: ClassVar[str] = "price"
    price: float
    per: str = "token"

    def __post_init__(self) -> None:
        if self.per not in PER:
            raise InvalidInput("per", " or ".join(repr(name) for name in PER), self.per)
        object.__setattr__(self, "price", as_price(self.price, self.per))

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
        """Name for people."""
        return f"reward - {self.price:g} a {self.per}"

    @property
    def written(self) -> str:
        """Text that `get_objectives` reads."""
        return f"price/{self.per}@{self.price!r}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights: the mean reward, and the mean cost with a negative weight."""
        return (MeanReward(), 1.0), (MeanCost(self.per), -self.price)


@dataclass(frozen=True)
class _OfSeveral(Objective):
    """An objective of n answers."""

    dial: ClassVar[str] = "n"
    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", as_count(self.n, MAX_ANSWERS))

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
        """Name for people."""
        return f"pass@{self.n}"

    @property
    def written(self) -> str:
        """Text that `get_objectives` reads."""
        return f"pass@{self.n}" if self.passing == 1.0 else f"pass:{self.passing!r}@{self.n}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights: the expected maximum of n passes, 0 or 1."""
        return ((ExpectedMaximum(self.n, self.passing), 1.0),)


@dataclass(frozen=True)
class BestOf(_OfSeveral):
    """The best reward of n answers, which is what a perfect judge picks.

    Args:
        n: answers, [1, 64].
    """

    @property
    def name(self) -> str:
        """Name for people."""
        return f"best of {self.n}"

    @property
    def written(self) -> str:
        """Text that `get_objectives` reads."""
        return f"best@{self.n}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights: the expected maximum of n rewards."""
        return ((ExpectedMaximum(self.n), 1.0),)


@dataclass(frozen=True)
class Majority(_OfSeveral):
    """The reward of the answer that most of n give.

    Args:
        n: votes, [1, 64].
    """

    @property
    def name(self) -> str:
        """Name for people."""
        return f"majority of {self.n}"

    @property
    def written(self) -> str:
        """Text that `get_objectives` reads."""
        return f"majority@{self.n}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights: the reward of the vote of n answers."""
        return ((MajorityVote(self.n), 1.0),)


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
        """Name for people."""
        return f"{self.q:g} quantile of the reward"

    @property
    def written(self) -> str:
        """Text that `get_objectives` reads."""
        return f"quantile@{self.q!r}"

    @property
    def terms(self) -> tuple[tuple[Head, float], ...]:
        """Heads and their weights: the quantile."""
        return ((LowerQuantile(self.q), 1.0),)


def _share(name: str, value: Any, *, one: bool) -> float:
    """A number in (0, 1) as a float, 1 itself where `one` is true. Raises InvalidInput for anything else."""
    if not is_number(value) or not 0.0 < value <= 1.0 or (value == 1.0 and not one):
        raise InvalidInput(name, f"a number in (0, 1{']' if one else ')'}", value)
    return float(value)
