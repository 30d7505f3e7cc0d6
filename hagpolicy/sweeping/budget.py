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
_UNITS |= {"total token": "total_tokens"}
_FORM = (
    "a number of generations, '5000', '2e6 tokens' (new ones), '3e6 total tokens' (those of prompts too), '30 min', "
    "'5 USD at 0.15/0.60' (prices of a million prompt and new tokens), or several with commas between"
)
_NUMBER = r"[0-9][0-9_.]*(?:e[+-]?[0-9]+)?"
_MONEY = re.compile(rf"({_NUMBER})\s*([A-Za-z]{{3}}|[€$£¥])\s*(?:at|@)\s*({_NUMBER})\s*/\s*({_NUMBER})", re.IGNORECASE)
_AMOUNT = re.compile(rf"({_NUMBER})\s*([a-z]*(?:\s+[a-z]+)?)", re.IGNORECASE)
PER = 1e6
"""Prices are those of so many tokens."""


@dataclass(frozen=True)
class Budget:
    """Limits of a sweep; the first one that is reached ends it. None: no limit.

    Generations, tokens and money count all that the folder holds of this sweep, so that a sweep that is
    resumed spends no more than one that was not interrupted; minutes count the present call. A cell
    that failed and is tried again counts once.

    Attributes:
        generations: most cells, at least 1.
        tokens: most new tokens, at least 1; the units in flight may exceed it. Where those of a cell were not
            counted, the sweep stops.
        minutes: most wall time, above 0; the units in flight are finished.
        total_tokens: most tokens of prompts and answers together, as for `tokens`. A prompt counts as often as the
            engine counts it: once a cell, though a server may charge a repeated one less.
        money: most money by `prices`, above 0, as for `tokens`.
        currency: of the money, for people.
        prices: of a million prompt tokens and of a million new ones, at least 0 and not both 0; with money.
    """

    generations: int | None = None
    tokens: int | None = None
    minutes: float | None = None
    total_tokens: int | None = None
    money: float | None = None
    currency: str = "USD"
    prices: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("generations", "tokens", "minutes", "total_tokens", "money"):
            value = getattr(self, name)
            if value is None:
                continue
            number, whole = is_number(value) and 0 < value < math.inf, name not in ("minutes", "money")
            if not number or (whole and value != int(value)):
                kind = "a whole number above 0" if whole else "a number above 0"
                raise InvalidInput(f"budget in {name}", kind, value)
            if whole:
                object.__setattr__(self, name, int(value))
        if (self.money is None) != (self.prices is None):
            do = "Such as '5 USD at 0.15/0.60', or Budget(money=5, prices=(0.15, 0.60))."
            raise InvalidInput("budget", "money with the prices of a million tokens", "one without the other", do)
        if self.prices is not None:
            given = tuple(self.prices)
            if len(given) != 2 or not all(is_number(one) and 0 <= one < math.inf for one in given) or not any(given):
                raise InvalidInput("prices", "two numbers of at least 0, not both 0", given)
            object.__setattr__(self, "prices", (float(given[0]), float(given[1])))

    @classmethod
    def of(cls, spec: Any) -> Budget:
        """The budget of a `Budget`, a number of generations, text such as "2e6 tokens", "3e6 total tokens",
        "30 min", "5 USD at 0.15/0.60" or several of these with commas between, or None.

        Raises:
            InvalidInput: anything else, or two limits of one kind.
        """
        if spec is None:
            return cls()
        if isinstance(spec, Budget):
            return spec
        limits: dict[str, Any] = {}
        for part in str(spec).split(","):
            found = None if isinstance(spec, bool) else _parse_limit(part.strip())
            if found is None or found.keys() & limits.keys():
                raise InvalidInput("budget", _FORM, spec)
            limits |= found
        return cls(**limits)

    @property
    def needs_tokens(self) -> bool:
        """Whether a limit counts tokens."""
        return self.tokens is not None or self.total_tokens is not None or self.money is not None

    def describe(self) -> list[str]:
        """Each limit in words."""
        words = [f"{self.generations:,} generations"] if self.generations is not None else []
        words += [f"{self.tokens:,} tokens"] if self.tokens is not None else []
        words += [f"{self.total_tokens:,} total tokens"] if self.total_tokens is not None else []
        words += [f"{self.minutes:,g} minutes"] if self.minutes is not None else []
        if self.money is not None and self.prices is not None:
            prompt, new = self.prices
            words.append(f"{self.money:,g} {self.currency} at {prompt:g}/{new:g} per million prompt/new tokens")
        return words

    def price(self, tokens: float, prompt_tokens: float) -> float:
        """Money for so many new tokens and tokens of prompts; 0 without prices, NaN where a priced number is NaN."""
        of_prompt, of_new = self.prices or (0.0, 0.0)
        # What costs nothing need not be counted.
        return sum(price * count / PER for price, count in ((of_prompt, prompt_tokens), (of_new, tokens)) if price)


def _parse_limit(text: str) -> dict[str, Any] | None:
    """One limit as arguments of `Budget`; None for what is none."""
    try:
        if money := _MONEY.fullmatch(text):
            prices = (float(money[3]), float(money[4]))
            return {"money": float(money[1]), "currency": money[2].upper(), "prices": prices}
        found = _AMOUNT.fullmatch(text)
        unit = _UNITS.get(" ".join(found[2].lower().split()).removesuffix("s") or "generation") if found else None
        if found is None or unit is None:
            return None
        number = float(found[1])
        return {unit: number if unit == "minutes" else int(number)}
    except (ValueError, OverflowError):
        return None


class BudgetMeter:
    """Counts what a sweep spends of its budget.

    Attributes:
        budget: the limits.
        generations: cells that are stored or have begun, of those that count.
        tokens: new tokens of those; NaN where they were not all counted.
        prompt_tokens: the same of their prompts.
        ended_by: the limit that left no room for a cell, with what was spent, in words; "" as long as none did.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget, self.generations = budget, 0
        self.tokens: float = 0
        self.prompt_tokens: float = 0
        self.ended_by = ""
        # Monotonic: a clock that is set while the sweep runs ends nothing.
        self._began, self._begun_here = time.monotonic(), 0

    def set_stored(self, generations: int, tokens: float, prompt_tokens: float = 0) -> None:
        """Set what is stored already, in place of what was counted; tokens as for `add_tokens`."""
        self.generations, self.tokens, self.prompt_tokens = generations, 0, 0
        self.add_tokens(tokens, prompt_tokens)

    def admit(self, cells: int, *, again: bool = False) -> int:
        """Number of cells of a unit that the budget allows to begin, [0, cells]; they count as generated.

        Args:
            cells: of the unit, at least 1.
            again: they failed before, and count already.
        """
        wanted = cells
        if spent := self._find_spent():
            self.ended_by = spent
            return 0
        if not again:
            if self.budget.generations is not None:
                cells = max(min(cells, self.budget.generations - self.generations), 0)
            self.generations += cells
        if cells < wanted:
            self.ended_by = f"{self.budget.generations:,} generations"
        self._begun_here += cells
        return cells

    def add_tokens(self, tokens: float, prompt_tokens: float = 0) -> None:
        """Count new tokens and those of prompts; NaN: those of a cell were not counted.

        Raises:
            InvalidInput: they were not, and the budget counts them.
        """
        self.tokens += tokens
        self.prompt_tokens += prompt_tokens
        if any(value != value for _, value, _ in self._measure()):
            self.refuse_unknown()

    def refuse_unknown(self) -> None:
        """Called where tokens are known to be unknown.

        Raises:
            InvalidInput: the budget is one of tokens or of money.
        """
        if self.budget.needs_tokens:
            do = (
                "Give a budget in generations or minutes, or the tokenizer that counts the answers, such as "
                "--engine-option tokenizer=FOLDER for a server; cells that are stored without a count stay so, so then "
                "sweep into another folder."
            )
            what = "budget in money" if self.budget.money is not None else "budget in tokens"
            raise InvalidInput(what, "an engine that counts its tokens", "answers without a count", do)

    @property
    def minutes(self) -> float:
        """Wall time of this call so far."""
        return (time.monotonic() - self._began) / 60.0

    def project(self, most: int) -> int:
        """Number of generations that the budget comes to in all, at the rates so far; at most `most`."""
        limit, total = self.budget, most
        if limit.generations is not None:
            total = min(total, limit.generations)
        for allowed, spent, _ in self._measure():
            if spent > 0:
                total = min(total, int(allowed * self.generations / spent))
        if limit.minutes is not None and self._begun_here > 0:
            left = max(limit.minutes - self.minutes, 0.0)
            total = min(total, self.generations + int(left * self._begun_here / self.minutes))
        return total

    def _measure(self) -> list[tuple[float, float, str]]:
        """(limit, spent so far, spent in words) of every limit that tokens count towards."""
        limit, every = self.budget, self.tokens + self.prompt_tokens
        money = limit.price(self.tokens, self.prompt_tokens)
        found = [
            (limit.tokens, self.tokens, f"{self.tokens:,.0f} new tokens"),
            (limit.total_tokens, every, f"{every:,.0f} tokens, {self.prompt_tokens:,.0f} of them of prompts"),
            (limit.money, money, f"{money:,.4g} {limit.currency}"),
        ]
        return [(float(allowed), spent, words) for allowed, spent, words in found if allowed is not None]

    def _find_spent(self) -> str:
        """The first limit of tokens, money or time that is reached, with what was spent, in words; "" for none."""
        named = [words for words in self.budget.describe() if "generations" not in words and "minutes" not in words]
        for words, (allowed, spent, shown) in zip(named, self._measure(), strict=True):
            if spent >= allowed:
                return f"{words} ({shown} spent)"
        limit = self.budget.minutes
        return f"{limit:,g} minutes" if limit is not None and self.minutes >= limit else ""
