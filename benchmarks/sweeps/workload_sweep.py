"""The sweeps of the workload on SmolLM2-135M-Instruct: the pilot, the sweep itself, the table for budgets.

    python -m benchmarks.sweeps.workload_sweep --final --data DIR    sweeps what is missing, then shows the table
    python -m benchmarks.sweeps.workload_sweep --show --data DIR     shows the stored tables, generates nothing

What was chosen, and when, stands in `workload/choices.md`. With all cells stored a sweep ends at once.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.sweeps.workload import configs
from benchmarks.sweeps.workload.scoring import SCORERS
from benchmarks.sweeps.workload.tables import Run, runs, stored
from benchmarks.tools.claim import Claim
from hagpolicy import SweepTable, load_engine, sweep

CLAIM = Claim(
    name="workload_sweep",
    states="The sweeps of the mixed workload on SmolLM2-135M-Instruct.",
    groups=("generate",),
    needs=("data", "llm", "hours"),
    runs=(("--final",), ("--budgets",)),
    quick=False,
    measures=False,
)


def filled(run: Run) -> SweepTable:
    """The table of a run, with what is missing generated first."""
    import torch

    # One thread: another sweep uses the other core, and more threads gain a model of this size little.
    torch.set_num_threads(1)
    engine = load_engine("smollm2", dtype=configs.DTYPE)
    return sweep(
        engine,
        run.prompts,
        run.space,
        SCORERS,
        samples=run.samples,
        max_tokens=configs.MAX_TOKENS,
        out=run.folder,
        seed=configs.SEED,
    )


def shown(table: SweepTable) -> str:
    """Mean reward and mean tokens by config and task, the best config of every task, and what the table cost.

    Of prompts that all configs have answered: the others come with the rest of the sweep.
    """
    table = table.take(table.complete)
    assert table.tokens is not None
    assert table.seconds is not None
    lengths = np.nanmean(table.tokens, axis=2)
    parts = ["mean reward", _grid(table, table.means, 3), "", "mean new tokens", _grid(table, lengths, 1), "", "best"]
    for task in dict.fromkeys(table.tasks):
        means = np.nanmean(table.means[table.tasks == task], axis=0)
        best = int(np.argmax(means))
        default = "" if table.default is None else f" (default {means[table.default]:.3f})"
        parts.append(f"{task:10} {means[best]:.3f}{default}  {table.space[best]}")
    cost = f"{np.nansum(table.tokens):.0f} tokens, {np.nansum(table.seconds):.0f} s"
    parts += ["", f"{len(table.prompts)} prompts, {int(table.counts.sum())} answers, {cost}"]
    return "\n".join(parts)


def _grid(table: SweepTable, values: np.ndarray, digits: int) -> str:
    """Means of `values`, float (n_prompts, n_configs), one line a config, one column a task."""
    names = list(dict.fromkeys(table.tasks))
    lines = [" ".join(f"{name[:9]:>9}" for name in [*names, "all"])]
    for column, config in enumerate(table.space):
        cells = [np.nanmean(values[table.tasks == name, column]) for name in names]
        cells.append(np.nanmean(values[:, column]))
        mark = "  (default)" if column == table.default else ""
        lines.append(" ".join(f"{cell:9.{digits}f}" for cell in cells) + f"  {config}{mark}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for and show it. Exit code 0."""
    parser = argparse.ArgumentParser(description="Sweep the workload on SmolLM2-135M-Instruct.")
    for name in ("pilot", "final", "budgets"):
        parser.add_argument(f"--{name}", action="store_true", help=f"sweep: {name}")
    parser.add_argument("--show", action="store_true", help="show stored tables, of the sweeps named or of all")
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="folder of public data")
    args = parser.parse_args(argv)
    logging.getLogger("hagpolicy").setLevel(logging.ERROR)
    known = runs(args.data)
    named = [name for name in known if getattr(args, name)]
    for name in named or [name for name, run in known.items() if (run.folder / "cells").exists()]:
        run = known[name]
        table = stored(run) if args.show else filled(run)
        print(f"== {name}\n{shown(table)}\n", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
