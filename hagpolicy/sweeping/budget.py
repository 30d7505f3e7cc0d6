"""`Budget`, the limits of a sweep, and `BudgetMeter`, which counts what it spends."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import Any

from hagpolicy._checks import is_number
from hagpolicy.errors import InvalidInput

_UNITS = {"generation": "generations", "cell": "generations", "token": "tokens", "minute": "minutes", "min": "minutes"}
_FORM = "a number of generations, '5000', '2e6 tokens' or '30 min'"


@dataclass(frozen=True)
class Budget:
    """Limits of a sweep; the first one that is reached ends it. None: no limit.

    Generations and tokens count all that the folder holds of this sweep, so that a sweep that is
    resumed spends no more than one that was not interrupted; minutes count the present call. A cell
    that failed and is tried again counts once.

    Attributes:
        generations: most cells, at least 1.
        tokens: most new tokens, at least 1; the units in flight may exceed it.
        minutes: most wall time, above 0; the units in flight are finished.
    """

    generations: int | None = None
    tokens: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("generations", "tokens", "minutes"):
            value = getattr(self, name)
            if value is None:
                continue
            number = is_number(value) and 0 < value < math.inf
            if not number or (name != "minutes" and value != int(value)):
                kind = "a number above 0" if name == "minutes" else "a whole number above 0"
                raise InvalidInput(f"budget in {name}", kind, value)
            if name != "minutes":
                object.__setattr__(self, name, int(value))

    @classmethod
    def of(cls, spec: Any) -> Budget:
        """The budget of a `Budget`, a number of generations, text such as "2e6 tokens" or "30 min", or None.

        Raises:
            InvalidInput: anything else.
        """
        if spec is None:
            return cls()
        if isinstance(spec, Budget):
            return spec
        found = re.fullmatch(r"\s*([0-9][0-9_.]*(?:e[0-9]+)?)\s*([a-z]*)\s*", str(spec).lower())
        if isinstance(spec, bool) or not found:
            raise InvalidInput("budget", _FORM, spec)
        unit = found[2].removesuffix("s") or "generation"
        try:
            number = float(found[1])
            whole = int(number)
        except (ValueError, OverflowError):
            raise InvalidInput("budget", _FORM, spec) from None
        if unit not in _UNITS:
            raise InvalidInput("budget", _FORM, spec, "Units: generations, tokens, minutes.")
        if _UNITS[unit] == "minutes":
            return cls(minutes=number)
        return cls(generations=whole) if _UNITS[unit] == "generations" else cls(tokens=whole)


class BudgetMeter:
    """Counts what a sweep spends of its budget.

    Attributes:
        budget: the limits.
        generations: cells that are stored or have begun, of those that count.
        tokens: new tokens of those.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget, self.generations, self.tokens = budget, 0, 0
        # Monotonic: a clock that is set while the sweep runs ends nothing.
        self._began, self._begun_here = time.monotonic(), 0

    def set_stored(self, generations: int, tokens: int) -> None:
        """Set what is stored already, in place of what was counted."""
        self.generations, self.tokens = generations, tokens

    def admit(self, cells: int, *, again: bool = False) -> int:
        """Number of cells of a unit that the budget allows to begin, [0, cells]; they count as generated.

        Args:
            cells: of the unit, at least 1.
            again: they failed before, and count already.
        """
        limit = self.budget
        if (limit.tokens is not None and self.tokens >= limit.tokens) or (
            limit.minutes is not None and self.minutes >= limit.minutes
        ):
            return 0
        if not again:
            if limit.generations is not None:
                cells = max(min(cells, limit.generations - self.generations), 0)
            self.generations += cells
        self._begun_here += cells
        return cells

    def add_tokens(self, tokens: int) -> None:
        """Count the new tokens of a unit that ended."""
        self.tokens += tokens

    @property
    def minutes(self) -> float:
        """Wall time of this call so far."""
        return (time.monotonic() - self._began) / 60.0

    def project(self, most: int) -> int:
        """Number of generations that the budget comes to in all, at the rates so far; at most `most`."""
        limit, total = self.budget, most
        if limit.generations is not None:
            total = min(total, limit.generations)
        if limit.tokens is not None and self.tokens > 0:
            total = min(total, int(limit.tokens * self.generations / self.tokens))
        if limit.minutes is not None and self._begun_here > 0:
            left = max(limit.minutes - self.minutes, 0.0)
            total = min(total, self.generations + int(left * self._begun_here / self.minutes))
        return total
