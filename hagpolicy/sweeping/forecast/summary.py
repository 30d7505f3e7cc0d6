"""`Summary`: the costs of a sweep after it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._text import format_duration, format_number, format_size
from hagpolicy.data.store.cells import View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.scorers.base import Scorer
from hagpolicy.sweeping.budget import BudgetMeter
from hagpolicy.sweeping.forecast.progress import Progress, format_failures

PARTS = ("cells", "rewards", "plans", "prompts")


@dataclass(frozen=True)
class Summary:
    """The account of one call of `sweep`, and what its folder then holds.

    Attributes:
        out: the folder.
        run: what this call generated.
        cells: cells of the sweep that are stored.
        wanted: cells of the sweep.
        tokens: new tokens of the stored ones; NaN where they were not all counted.
        cell_seconds: their own seconds, added up, of those where they were measured.
        bytes: sizes of the folder's files by part.
        scorers: for each scorer that has something to report, its report.
        ended_by: the limit of the budget that ended the sweep, with what was spent, in words; "" where none did.
        money: price of the stored cells' tokens, where the budget has prices; NaN where they were not all counted.
        currency: of the money.
    """

    out: str
    run: Progress
    cells: int
    wanted: int
    tokens: float
    cell_seconds: float
    bytes: Mapping[str, int]
    scorers: Mapping[str, Mapping[str, Any]]
    ended_by: str = ""
    money: float | None = None
    currency: str = ""

    def __str__(self) -> str:
        run = self.run
        lines = [f"this run: {run.done:,} cells in {format_duration(run.seconds)}"]
        if run.done:
            words = f"{format_number(run.tokens)} new tokens after {format_number(run.prompt_tokens)} of prompts"
            lines[0] += f", {words}, {format_number(run.tokens_per_second)} new tokens/s"
        if run.failures:
            lines.append(format_failures(run.failures))
        sizes = ", ".join(f"{name} {format_size(self.bytes[name])}" for name in PARTS if self.bytes.get(name))
        lines.append(
            f"{self.out}: {self.cells:,} of {self.wanted:,} cells, {format_number(self.tokens)} new tokens, "
            f"{format_duration(self.cell_seconds)} of generating; {format_size(sum(self.bytes.values()))} ({sizes})"
        )
        if self.money is not None:
            lines.append(f"{format_money(self.money)} {self.currency} for the stored cells, at the budget's prices")
        if self.ended_by:
            lines.append(f"ended by the budget of {self.ended_by}; the same call with a larger one goes on")
        for name, report in self.scorers.items():
            known = {key: value for key, value in report.items() if value is not None}
            lines.append(f"{name}: " + ", ".join(f"{key} {_format_value(value)}" for key, value in known.items()))
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Names to values, JSON-able; those of `run` without what only a running sweep has. What is unknown is None."""
        run = {name: value for name, value in vars(self.run).items() if name not in ("pace", "total")}
        values = {**vars(self), "run": {**run, "failures": dict(self.run.failures)}, "bytes": dict(self.bytes)}
        return {name: _drop_unknown(value) for name, value in values.items()}


def summarise(store: SweepStore, view: View, scorers: Sequence[Scorer], run: Progress, meter: BudgetMeter) -> Summary:
    """The account of a sweep that has ended.

    Args:
        store: its folder.
        view: the cells that it was to fill.
        scorers: one a prompt, (n_prompts,).
        run: the run as it was counted.
        meter: of its budget.
    """
    budget = meter.budget
    rows = [row for keys in view.keys for key in keys if (row := store.cells.rows.get(key)) is not None]
    distinct = {id(scorer): scorer for scorer in scorers}.values()
    tokens, prompt_tokens = store.index.sum_tokens(rows), store.index.sum_tokens(rows, of_prompts=True)
    return Summary(
        out=store.path,
        run=run,
        cells=len(rows),
        wanted=view.n_cells,
        tokens=tokens,
        cell_seconds=float(np.nansum(store.cells.column("seconds")[rows])) if rows else 0.0,
        bytes={part: sum(store.files.sizes(part).values()) for part in PARTS},
        scorers={scorer.stored_name: report for scorer in distinct if (report := scorer.report())},
        ended_by=meter.ended_by,
        money=None if budget.prices is None else budget.price(tokens, prompt_tokens),
        currency="" if budget.prices is None else budget.currency,
    )


def format_money(amount: float) -> str:
    """An amount of money; "unknown" for NaN."""
    return "unknown" if amount != amount else f"{amount:,.2f}" if amount >= 1 else f"{amount:.2g}"


def _drop_unknown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _drop_unknown(part) for name, part in value.items()}
    return None if isinstance(value, float) and value != value else value


def _format_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
