"""`Preview`: the counts of a sweep and an estimate of its tokens and time, from a sample of its cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from hagpolicy._text import format_duration
from hagpolicy.sweeping.budget import Budget

LEVEL = 0.95


@dataclass(frozen=True)
class Sample:
    """Cells that were generated already, to estimate others from.

    Attributes:
        prompts: which prompt each cell has, for cells of one prompt are alike, (n,).
        tokens: new tokens of each, (n,).
        prompt_tokens: of each, hint and template included, (n,).
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
        tokens: new tokens; None without an estimate.
        prompt_tokens: tokens of prompts, each counted as often as it is sent; None without an estimate.
        seconds: wall time; None without an estimate.
        upper: the time is an upper estimate: a sweep that generates more at once than the probe is faster.
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

    @property
    def counts(self) -> str:
        """The counts, which are known without generating, in one line."""
        most = "at most " if self.limits else ""
        units = f"{self.units:,} unit" + ("" if self.units == 1 else "s")
        words = (
            f"{self.prompts:,} prompts × {self.configs} configs × {self.samples} samples: {self.wanted:,} cells, "
            f"{self.stored:,} stored, {most}{self.to_generate:,} to generate in {units}"
        )
        calls = f"; {self.judge_calls:,} calls of a judge" if self.judge_calls else ""
        return words + calls + (f" ({self.limits})" if self.limits else "")

    @property
    def costs(self) -> str:
        """Tokens and time, in one line; "" where there is nothing to generate."""
        if not self.to_generate:
            return ""
        if self.tokens is None or self.seconds is None:
            return f"no estimate of tokens and time: {self.source}"
        low, high = format_duration(self.seconds.low), format_duration(self.seconds.high)
        time = f"at most {high}" if self.upper else f"about {high}" if low == high else f"{low} to {high}"
        fewest, most = _number(self.tokens.low), _number(self.tokens.high)
        words = f"about {most} new tokens" if fewest == most else f"{fewest} to {most} new tokens"
        if self.prompt_tokens is not None:
            words += f" after {_number(self.prompt_tokens)} of prompts"
        beside = " without the judge's" if self.judge_calls else ""
        return f"{words}, {time}{beside} (from {self.source})"

    def __str__(self) -> str:
        return "\n".join(line for line in (f"{self.out}: {self.counts}", self.costs) if line)

    def to_json(self) -> dict[str, Any]:
        """Names to values; intervals as {low, value, high}."""
        values = dict(vars(self))
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
    each = estimate_per_cell(sample.prompts, sample.tokens)
    limits = [most_tokens, math.inf if budget.tokens is None else float(budget.tokens)]
    tokens = _scale(each, cells, min(limits))
    pace = sample.seconds / max(sum(sample.tokens), 1.0)
    seconds = _scale(tokens, pace, math.inf if budget.minutes is None else 60.0 * budget.minutes)
    known = sum(sample.characters)
    prompt_tokens = sum(sample.prompt_tokens) / known * characters if known else None
    return replace(
        preview,
        tokens=tokens,
        prompt_tokens=prompt_tokens,
        seconds=seconds,
        source=sample.source,
        upper=sample.upper,
    )


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


def describe_limits(strategy: str, budget: Budget) -> str:
    """Strategy and budget of a sweep in words; "" for a full one without a budget."""
    limits = {name: value for name, value in vars(budget).items() if value is not None}
    words = [f"strategy {strategy}"] if strategy != "full" else []
    return ", ".join([*words, *(f"budget {value:,g} {name}" for name, value in limits.items())])
