"""`Preview`: the counts of a sweep and an estimate of its tokens and time, from a sample of its cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from hagpolicy._text import format_duration
from hagpolicy.analysis.provable import Provable
from hagpolicy.sweeping.budget import Budget

LEVEL = 0.95


@dataclass(frozen=True)
class Sample:
    """Cells that were generated already, to estimate others from.

    Attributes:
        prompts: which prompt each cell has, for cells of one prompt are alike, (n,).
        tokens: new tokens of each, (n,); NaN where they were not counted.
        prompt_tokens: of each, hint and template included, (n,); NaN where they were not counted.
        characters: of each cell's prompt and hint, (n,).
        seconds: that they took together.
        source: where they come from, in words.
        upper: the sweep itself may be faster than these were, for it generates more at once.
    """

    prompts: Sequence[Any]
    tokens: Sequence[float]
    prompt_tokens: Sequence[float]
    characters: Sequence[int]
    seconds: float
    source: str
    upper: bool = False

    @property
    def work(self) -> float:
        """New tokens of all; NaN where they were not all counted."""
        return math.fsum(self.tokens)


@dataclass(frozen=True)
class Span:
    """An estimate with its interval."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Preview:
    """The counts and costs of a sweep that is not run yet.

    Attributes:
        out: the folder.
        prompts: how many.
        configs: how many, the engine's default included.
        samples: drawn of each that is not deterministic.
        wanted: cells of the sweep in all.
        stored: of these, stored already.
        to_generate: cells to be generated; for a strategy or within a budget the most there can be.
        units: calls of the engine they are packed into.
        judge_calls: calls of an LLM for scoring, on top of the generations; their tokens and time are not estimated.
        limits: strategy and budget in words; "" for a full sweep without one.
        source: what tokens and time are estimated from, or why they are not.
        tokens: new tokens; None without an estimate, and where they are not counted.
        prompt_tokens: tokens of prompts, each counted as often as it is sent; None without an estimate.
        seconds: wall time; None without an estimate.
        upper: the time is an upper estimate: a sweep that generates more at once than the probe is faster.
        proof: what so many prompts can prove; None for a strategy, which chooses what it generates.
        money: price of these tokens, where the budget has prices; None without, or without an estimate.
        currency: of the money.
    """

    out: str
    prompts: int
    configs: int
    samples: int
    wanted: int
    stored: int
    to_generate: int
    units: int
    judge_calls: int = 0
    limits: str = ""
    source: str = ""
    tokens: Span | None = None
    prompt_tokens: float | None = None
    seconds: Span | None = None
    upper: bool = False
    proof: Provable | None = None
    money: Span | None = None
    currency: str = ""

    @property
    def counts(self) -> str:
        """The counts, which are known without generating, in one line."""
        most = "at most " if self.limits else ""
        units = f"{self.units:,} unit" + ("" if self.units == 1 else "s")
        # Deterministic configs are drawn once, whatever was asked.
        samples = 1 if self.wanted == self.prompts * self.configs else self.samples
        words = (
            f"{self.prompts:,} prompts × {self.configs} configs × {samples} samples: {self.wanted:,} cells, "
            f"{self.stored:,} stored, {most}{self.to_generate:,} to generate in {units}"
        )
        calls = f"; {self.judge_calls:,} calls of a judge" if self.judge_calls else ""
        return words + calls + (f" ({self.limits})" if self.limits else "")

    @property
    def costs(self) -> str:
        """Tokens and time, in one line; "" where there is nothing to generate."""
        if not self.to_generate:
            return ""
        if self.seconds is None:
            return f"no estimate of tokens and time: {self.source}"
        low, high = format_duration(self.seconds.low), format_duration(self.seconds.high)
        time = f"at most {high}" if self.upper else f"about {high}" if low == high else f"{low} to {high}"
        if self.tokens is None:
            words = "an unknown number of new tokens, which are not counted"
        else:
            fewest, most = _number(self.tokens.low), _number(self.tokens.high)
            words = f"about {most} new tokens" if fewest == most else f"{fewest} to {most} new tokens"
        if self.prompt_tokens is not None:
            words += f" after {_number(self.prompt_tokens)} of prompts"
        if self.money is not None:
            words += f", {_format_span(self.money)} {self.currency}"
        beside = " without the judge's" if self.judge_calls else ""
        return f"{words}, {time}{beside} (from {self.source})"

    def __str__(self) -> str:
        return "\n".join(line for line in (f"{self.out}: {self.counts}", self.costs, str(self.proof or "")) if line)

    def to_json(self) -> dict[str, Any]:
        """Names to values; intervals as {low, value, high}."""
        values = dict(vars(self)) | {"proof": self.proof and self.proof.to_json()}
        return {name: vars(value) if isinstance(value, Span) else value for name, value in values.items()}


def add_estimate(
    preview: Preview, sample: Sample | None, most_tokens: float, characters: float, budget: Budget
) -> Preview:
    """The preview with tokens and time estimated from a sample.

    Args:
        preview: with the counts.
        sample: None, or one without cells: the preview as it is.
        most_tokens: limit on the new tokens of the cells to be generated: the sum of their own limits.
        characters: of the prompts and hints of the cells to be generated.
        budget: of the sweep: no estimate goes beyond it.
    """
    cells = preview.to_generate
    if sample is None or not len(sample.tokens) or not cells:
        return preview
    counted = not math.isnan(sample.work)
    # Where tokens are not counted, cells are: each is one unit of work.
    work = sample.tokens if counted else [1.0] * len(sample.tokens)
    limits = [most_tokens if counted else cells, math.inf if budget.tokens is None else float(budget.tokens)]
    total = _scale(estimate_per_cell(sample.prompts, work), cells, min(limits) if counted else float(cells))
    pace = sample.seconds / max(sum(work), 1.0)
    longest = math.inf if budget.minutes is None else 60.0 * budget.minutes
    seconds = None if math.isnan(pace) else _scale(total, pace, longest)
    known = sum(sample.characters)
    prompt_tokens = sum(sample.prompt_tokens) / known * characters if known else math.nan
    return replace(
        preview,
        tokens=total if counted else None,
        prompt_tokens=None if math.isnan(prompt_tokens) else prompt_tokens,
        seconds=seconds,
        source=sample.source if seconds is not None else "the seconds of an answer were not measured",
        upper=sample.upper,
        money=None if budget.prices is None or not counted else _price(budget, total, prompt_tokens),
        currency=budget.currency if budget.prices is not None else "",
    )


def _price(budget: Budget, tokens: Span, prompt_tokens: float) -> Span | None:
    """Money for new tokens and those of prompts; None where a priced number is unknown."""
    low, value, high = (budget.price(count, prompt_tokens) for count in (tokens.low, tokens.value, tokens.high))
    most = budget.money if budget.money is not None else math.inf
    return None if math.isnan(value) else Span(*(min(one, most) for one in (low, value, high)))


def estimate_per_cell(prompts: Sequence[Any], tokens: Sequence[float]) -> Span:
    """Mean tokens of a cell, with the interval of a ratio estimate over prompts.

    The residuals of each prompt's total against its number of cells give the standard error
    (Cochran, Sampling Techniques, 1977, section 6.4); Student's t with a degree of freedom less
    than there are prompts. One prompt says nothing of others: the interval is then [0, inf].
    """
    names = {name: index for index, name in enumerate(dict.fromkeys(prompts))}
    owner = np.array([names[name] for name in prompts])
    totals = np.bincount(owner, weights=np.asarray(tokens, dtype=np.float64))
    counts = np.bincount(owner)
    mean, degrees = float(totals.sum() / counts.sum()), len(names) - 1
    if degrees < 1:
        return Span(0.0, mean, math.inf)
    spread = float(np.sum((totals - mean * counts) ** 2)) / degrees
    half = compute_student_quantile(degrees) * math.sqrt(spread * len(names)) / float(counts.sum())
    return Span(max(mean - half, 0.0), mean, mean + half)


def compute_student_quantile(degrees: int) -> float:
    """The quantile of Student's t that holds `LEVEL` between ±t, within 1 %.

    By the expansion around the normal quantile (Abramowitz and Stegun, 1964, 26.7.5); exact for 1 and 2 degrees of
    freedom, where that is poor. SciPy has it exactly, at 140 MB that sweeping would need for nothing else.
    """
    tail = 0.5 + LEVEL / 2.0
    if degrees == 1:
        return math.tan(math.pi * (tail - 0.5))
    if degrees == 2:
        return (2.0 * tail - 1.0) / math.sqrt(2.0 * tail * (1.0 - tail))
    z = NormalDist().inv_cdf(tail)
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96.0,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
    )
    return z + math.fsum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))


def _scale(span: Span, factor: float, most: float) -> Span:
    """The span times a factor, cut at `most`."""
    return Span(min(span.low * factor, most), min(span.value * factor, most), min(span.high * factor, most))


def _number(value: float) -> str:
    """Three figures that count, with commas."""
    if value < 1000.0:
        return f"{value:.0f}"
    unit = 10 ** (len(str(int(value))) - 3)
    return f"{round(value / unit) * unit:,}"


def _format_span(money: Span) -> str:
    low, high = (f"{one:,.2f}" if one >= 1 else f"{one:.2g}" for one in (money.low, money.high))
    return f"about {high}" if low == high else f"{low} to {high}"


def describe_limits(strategy: str, budget: Budget) -> str:
    """Strategy and budget of a sweep in words; "" for a full one without a budget."""
    words = [f"strategy {strategy}"] if strategy != "full" else []
    return ", ".join([*words, *(f"budget {limit}" for limit in budget.describe())])
