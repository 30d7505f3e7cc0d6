"""The table of a stronger LLM, Qwen2.5-Coder-1.5B-Instruct: prompts whose answers pay for their length, or do not.

`choices.md` says what was chosen, before the sweep; `stronger_table` reads what it gave.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.sweeps.stored_table import stored_table
from benchmarks.sweeps.stronger import configs, prompts
from benchmarks.tools.record import RESULTS
from hagpolicy import DecodingSpace, Prompt, SweepTable

FOLDER = RESULTS / "sweeps" / "stronger"


def stronger_table(data: Path) -> SweepTable:
    """The final sweep's table; a prompt that it has not come to yet is missing in it, not NaN.

    Args:
        data: see `prompts.final_prompts`.

    Raises:
        OSError: a data file is not there.
        hagpolicy.errors.StoreError: the stored cells belong to other prompts.
    """
    table = _table(prompts.final_prompts(data), configs.FINAL)
    return table.take(table.complete)


def pilot_table(data: Path) -> SweepTable:
    """The pilot's table; see `stronger_table`."""
    return _table(prompts.pilot_prompts(data), configs.PILOT)


def _table(chosen: list[Prompt], space: DecodingSpace) -> SweepTable:
    return stored_table(
        FOLDER,
        chosen,
        space,
        prompts.SCORERS,
        default=configs.DEFAULT,
        samples=1,
        max_tokens=configs.MAX_TOKENS,
        seed=configs.SEED,
    )
