"""`Summary`: the costs of a sweep after it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._text import format_duration, format_size
from hagpolicy.data.store.cells import View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.scorers.base import Scorer
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
        tokens: new tokens of the stored ones.
        cell_seconds: their own seconds, added up.
        bytes: sizes of the folder's files by part.
        scorers: for each scorer that has something to report, its report.
    """

    out: str
    run: Progress
    cells: int
    wanted: int
    tokens: int
    cell_seconds: float
    bytes: Mapping[str, int]
    scorers: Mapping[str, Mapping[str, Any]]

    def __str__(self) -> str:
        run = self.run
        lines = [f"this run: {run.done:,} cells in {format_duration(run.seconds)}"]
        if run.done:
            words = f"{run.tokens:,} new tokens after {run.prompt_tokens:,} of prompts"
            lines[0] += f", {words}, {run.tokens_per_second:,.0f} new tokens/s"
        if run.failures:
            lines.append(format_failures(run.failures))
        sizes = ", ".join(f"{name} {format_size(self.bytes[name])}" for name in PARTS if self.bytes.get(name))
        lines.append(
            f"{self.out}: {self.cells:,} of {self.wanted:,} cells, {self.tokens:,} new tokens, "
            f"{format_duration(self.cell_seconds)} of generating; {format_size(sum(self.bytes.values()))} ({sizes})"
        )
        for name, report in self.scorers.items():
            known = {key: value for key, value in report.items() if value is not None}
            lines.append(f"{name}: " + ", ".join(f"{key} {_format_value(value)}" for key, value in known.items()))
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Names to values, JSON-able; those of `run` without what only a running sweep has."""
        run = {name: value for name, value in vars(self.run).items() if name not in ("pace", "total")}
        return {**vars(self), "run": {**run, "failures": dict(self.run.failures)}, "bytes": dict(self.bytes)}


def summarise(store: SweepStore, view: View, scorers: Sequence[Scorer], run: Progress) -> Summary:
    """The account of a sweep that has ended.

    Args:
        store: its folder.
        view: the cells that it was to fill.
        scorers: one a prompt, (n_prompts,).
        run: the run as it was counted.
    """
    rows = [row for keys in view.keys for key in keys if (row := store.cells.rows.get(key)) is not None]
    distinct = {id(scorer): scorer for scorer in scorers}.values()
    return Summary(
        out=store.path,
        run=run,
        cells=len(rows),
        wanted=view.n_cells,
        tokens=int(np.nansum(store.cells.column("tokens")[rows])) if rows else 0,
        cell_seconds=float(np.nansum(store.cells.column("seconds")[rows])) if rows else 0.0,
        bytes={part: sum(store.files.sizes(part).values()) for part in PARTS},
        scorers={scorer.stored_name: report for scorer in distinct if (report := scorer.report())},
    )


def _format_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
