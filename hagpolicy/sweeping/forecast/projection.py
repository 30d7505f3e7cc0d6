"""Projections of a sweep from its folder: its counts, a sample to estimate costs from, the units of a probe."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hagpolicy.data.completion import UNKNOWN
from hagpolicy.data.store.cells import Plan, View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.engines.base import Engine
from hagpolicy.scorers.base import Scorer
from hagpolicy.sweeping.budget import Budget
from hagpolicy.sweeping.forecast.estimate import Preview, Sample, add_estimate, describe_limits
from hagpolicy.sweeping.plan import Work
from hagpolicy.sweeping.strategies.base import DEFAULT_SHARE

# An estimate wants so many cells in so many units, and no more than this share of the units.
PROBE_CELLS, PROBE_UNITS, PROBE_SHARE = 16, 3, 4
# Of the stored cells so many segments and rows are looked at: a folder may hold millions.
SAMPLE_SEGMENTS, SAMPLE_ROWS = 4, 5000


def count_most_generations(view: View, strategy: str, budget: Budget) -> int:
    """Most cells of a view that a sweep may come to, those that are stored included."""
    if budget.generations is not None:
        return min(budget.generations, view.n_cells)
    without = not budget.needs_tokens and budget.minutes is None
    return max(int(DEFAULT_SHARE * view.n_cells), 1) if strategy != "full" and without else view.n_cells


def project_counts(
    store: SweepStore, view: View, scorers: Sequence[Scorer], engine: Engine, strategy: str, budget: Budget, out: str
) -> Preview:
    """The counts of a sweep.

    Args:
        store: the folder as it is.
        view: the cells that there are to want.
        scorers: one a prompt, (n_prompts,).
        engine: which is to fill it.
        strategy: its name.
        budget: of the sweep.
        out: the folder's name.
    """
    failed = store.cells.column("failed") > 0
    rows = store.cells.rows
    open_cells, unscored, calls = 0, 0.0, 0.0
    for scorer, name, keys in zip(scorers, view.scorers, view.keys, strict=True):
        missing = [key for key in keys if key not in rows or failed[rows[key]]]
        open_cells += len(missing)
        calls += scorer.calls * len(missing)
        if scorer.calls:
            known = store.scores[name].rows if name in store.scores else {}
            unscored += scorer.calls * (
                sum(key not in known for key in keys) - sum(key not in known for key in missing)
            )
    stored = view.n_cells - open_cells
    to_generate = max(min(open_cells, count_most_generations(view, strategy, budget) - stored), 0)
    share = to_generate / open_cells if open_cells else 0.0
    return Preview(
        out=out,
        prompts=len(view.prompts),
        configs=len(view.space),
        samples=view.samples,
        wanted=view.n_cells,
        stored=stored,
        to_generate=to_generate,
        units=math.ceil(to_generate / max(engine.unit_cells, 1)),
        judge_calls=round(unscored + share * calls),
        limits=describe_limits(strategy, budget),
    )


def project_costs(preview: Preview, view: View, sample: Sample | None, budget: Budget) -> Preview:
    """The preview with tokens and time estimated from a sample; as it is without one."""
    share = preview.to_generate / view.n_cells
    limits = sum(view.limit(j) for j, _ in view.slots) * len(view.prompts)
    hints = sum(len(view.space[j].hint) for j, _ in view.slots) * len(view.prompts)
    texts = sum(len(prompt.text) for prompt in view.prompts) * len(view.slots)
    return add_estimate(preview, sample, share * limits, share * (hints + texts), budget)


def sample_stored(store: SweepStore, view: View, engine: Engine) -> Sample | None:
    """Cells of a view that the folder holds, from all over it; None where it holds none that succeeded.

    Their seconds are added up. An engine that generates units side by side is faster than that.
    """
    segments = [name for name in store.reader.segment_names() if name.startswith("cells/")]
    some = sorted(
        {segments[i] for i in np.linspace(0, len(segments) - 1, SAMPLE_SEGMENTS).astype(int)} if segments else ()
    )
    wanted = {key for keys in view.keys for key in keys} if some else set()
    prompts = {prompt.digest: len(prompt.text) for prompt in view.prompts}
    hints = {config.digest: len(config.hint) for config in view.space}
    columns = ["cell", "prompt", "config", "prompt_tokens", "seconds", "error"]
    counts, cells = store.cells.column("tokens"), store.cells.rows
    found: list[tuple[str, str, float, float, float]] = []
    for name in some:
        try:
            table = store.reader.segment(name)
        except OSError:  # a sweep that is running merges segments away; the others are as good
            continue
        if table is None:
            continue
        step = max(table.num_rows * len(some) // SAMPLE_ROWS, 1)
        rows = table.select(columns).take(list(range(0, table.num_rows, step))).to_pylist()
        found += [
            (row["prompt"], row["config"], counts[cells[row["cell"]]], row["prompt_tokens"] or UNKNOWN, row["seconds"])
            for row in rows
            if row["cell"] in wanted and row["cell"] in cells and row["error"] is None
        ]
    if not found:
        return None
    owners, configs, tokens, prompt_tokens, seconds = zip(*found, strict=True)
    characters = [prompts[owner] + hints[config] for owner, config in zip(owners, configs, strict=True)]
    source = f"{len(found):,} stored cells"
    return Sample(owners, tokens, prompt_tokens, characters, sum(seconds), source, generates_concurrently(engine))


def generates_concurrently(engine: Engine) -> bool:
    """True for an engine that generates several units at once."""
    return type(engine).stream is not Engine.stream


def split_probe(work: Work, unit_cells: int, budget: Budget) -> tuple[list[tuple[Plan, int]], list[tuple[Plan, int]]]:
    """The units to run first, spread over all kinds of prompts, and the others in their order.

    Nothing is run first where the sweep is so short that an estimate would come with its end. A
    budget ends a sweep early, and which cells it then has follows from the order of the plan: the
    first units are in its order too.
    """
    units = list(work.units())
    count = min(max(PROBE_UNITS, math.ceil(PROBE_CELLS / max(unit_cells, 1))), len(units) // PROBE_SHARE)
    if not count or budget != Budget():
        return units[:count], units[count:]

    def task(index: int) -> str:
        plan, unit = units[index]
        return plan.view.prompts[plan.units[unit][0][0]].task

    order = sorted(range(len(units)), key=task)  # stable: within a task in the order of the plan
    chosen = {order[int((place + 0.5) * len(units) / count)] for place in range(count)}
    first = [unit for index, unit in enumerate(units) if index in chosen]
    return first, [unit for index, unit in enumerate(units) if index not in chosen]
