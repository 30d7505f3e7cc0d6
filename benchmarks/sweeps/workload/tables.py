"""The three sweeps, and their finished tables: stored cells joined with prompts read from the folder of public data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.sweeps.stored_table import stored_table
from benchmarks.sweeps.workload import configs, tasks
from benchmarks.sweeps.workload.scoring import SCORERS
from benchmarks.tools.record import RESULTS
from hagpolicy import DecodingSpace, Prompt, SweepTable

SWEEPS = RESULTS / "sweeps"


@dataclass(frozen=True)
class Run:
    """One of the sweeps: where its cells lie, and what it is made of."""

    folder: Path
    prompts: list[Prompt]
    space: DecodingSpace
    samples: int


def runs(data: Path) -> dict[str, Run]:
    """The sweeps by name: "pilot", "final", "budgets"."""
    return {
        "pilot": Run(SWEEPS / "workload_pilot", tasks.pilot_prompts(data), configs.PILOT, configs.PILOT_SAMPLES),
        "final": Run(SWEEPS / "workload", tasks.workload_prompts(data), configs.WORKLOAD, configs.SAMPLES),
        "budgets": Run(SWEEPS / "budgets", tasks.budgets_prompts(data), configs.BUDGETS, configs.BUDGET_SAMPLES),
    }


def stored(run: Run) -> SweepTable:
    """The table of a run's stored cells; what is not generated yet is NaN.

    Raises:
        StoreError: nothing is stored for its prompts: not generated, or another version of the data.
    """
    return stored_table(
        run.folder,
        run.prompts,
        run.space,
        SCORERS,
        default=configs.DEFAULT,
        samples=run.samples,
        max_tokens=configs.MAX_TOKENS,
        seed=configs.SEED,
    )


def workload_table(data: Path) -> SweepTable:
    """The workload's sweep: its prompts × configs × 4 samples (deterministic configs: 1), the engine's default marked.

    Args:
        data: folder of public data; see benchmarks/README.md.

    Raises:
        StoreError: nothing is stored for the prompts of this data.
    """
    return stored(runs(data)["final"])


def budgets_table(data: Path) -> SweepTable:
    """The table for budgets: other prompts of the same tasks × 6 configs × 16 samples; see `workload_table`."""
    return stored(runs(data)["budgets"])
