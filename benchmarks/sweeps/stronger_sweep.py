"""Sweep the stronger LLM: `stronger/choices.md` says what was chosen, and why.

    python -m benchmarks.sweeps.stronger_sweep --show --data DIR   the tables of what is stored; needs no model
    python -m benchmarks.sweeps.stronger_sweep --final --data DIR  go on with the sweep, or end at once
    python -m benchmarks.sweeps.stronger_sweep --pilot --data DIR  the same for the pilot

Downloads the model (1.1 GB) into `--model-dir` where a cell is missing, and keeps it there in bfloat16 (3.1 GB).
OMP_NUM_THREADS sets the threads.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from benchmarks.sweeps import stronger
from benchmarks.sweeps.stronger import configs
from benchmarks.sweeps.stronger.download import model_file
from benchmarks.sweeps.stronger.prompts import SCORERS, final_prompts, pilot_prompts
from benchmarks.tools.claim import Claim
from hagpolicy import DecodingSpace, Prompt, SweepTable, load_engine, sweep
from hagpolicy.engines.base import Engine
from hagpolicy.errors import StoreError

CLAIM = Claim(
    name="stronger_sweep",
    states="The sweep of the stronger LLM, Qwen2.5-Coder-1.5B-Instruct.",
    groups=("generate",),
    needs=("data", "download", "hours"),
    runs=(("--final",),),
    quick=False,
    measures=False,
)

MODEL = Path(stronger.__file__).resolve().parent / "work"
# More cells than the engine's own units have: a unit ends with few rows, and a read of the weights costs as much then.
UNIT_CELLS = 288


def show(table: SweepTable) -> str:
    """Mean reward, tokens and value at each price, of every kind and of all, under every config."""
    assert table.tokens is not None
    tokens = np.nanmean(table.tokens, axis=2)
    heads = "  ".join(f"at {price:<6g}" for price in configs.PRICES[1:])
    lines = [f"{'kind':11} prompts reward tokens  {heads}  hint"]
    for task in [*sorted(set(table.tasks)), "all"]:
        mine = (table.tasks == task) | (task == "all")
        for column, config in enumerate(table.space):
            reward, length = table.means[mine, column].mean(), tokens[mine, column].mean()
            values = "  ".join(f"{reward - price * length:9.3f}" for price in configs.PRICES[1:])
            lines.append(f"{task:11} {mine.sum():7} {reward:6.3f} {length:6.1f}  {values}  {config.hint or '(none)'}")
    return "\n".join(lines)


def conflict(table: SweepTable) -> str:
    """What each kind's own best wording is worth over the best one for all, in the mean over all prompts.

    The best are chosen and valued on the same prompts: it is the known task's upper end, not a result.
    """
    assert table.tokens is not None
    lines = ["at each price the best hint for all, and of each kind its own best with its gain there"]
    for price in configs.PRICES:
        value = table.means - price * np.nanmean(table.tokens, axis=2)
        best = int(value.mean(axis=0).argmax())
        found = []
        total = 0.0
        for task in sorted(set(table.tasks)):
            mine = value[table.tasks == task].mean(axis=0)
            own = int(mine.argmax())
            total += (mine[own] - mine[best]) * (table.tasks == task).mean()
            found.append(f"{task} {named(table.space, own)} {mine[own] - mine[best]:+.3f}")
        lines.append(f"{price:<7g} {named(table.space, best)}; {'; '.join(found)}; over all {total:+.3f}")
    return "\n".join(lines)


def named(space: DecodingSpace, index: int) -> str:
    """The first words of a config's hint."""
    return f"“{' '.join(space[index].hint.split()[:3])}”" if space[index].hint else "(none)"


def spent(table: SweepTable) -> str:
    """What a table cost."""
    assert table.tokens is not None
    assert table.seconds is not None
    tokens, seconds = np.nansum(table.tokens), np.nansum(table.seconds)
    return f"{table}\n{tokens:.0f} new tokens in {seconds / 60:.0f} minutes, {tokens / seconds:.0f} tokens/s"


def engine(folder: Path) -> Engine:
    """The model, downloaded and converted where it is not there."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    file = str(model_file(folder))
    return load_engine(file, dtype="bfloat16", cache=folder / "cache", unit_cells=UNIT_CELLS)


def complete(prompts: list[Prompt], read: SweepTable) -> bool:
    """Whether no cell of the prompts is missing."""
    return len(read.prompts) == len(prompts) and bool(read.complete.all())


def run(prompts: list[Prompt], space: DecodingSpace, folder: Path) -> None:
    """Generate what is missing."""
    sweep(
        engine(folder), prompts, space, SCORERS, samples=1, max_tokens=configs.MAX_TOKENS, out=stronger.FOLDER,
        seed=configs.SEED,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    for name in ("pilot", "final", "show"):
        what.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="public data; see benchmarks/README.md")
    parser.add_argument("--model-dir", type=Path, default=MODEL, metavar="DIR", help="default: %(default)s")
    options = parser.parse_args()
    for name, prompts_of, space, read in (
        ("pilot", pilot_prompts, configs.PILOT, stronger.pilot_table),
        ("final", final_prompts, configs.FINAL, stronger.stronger_table),
    ):
        if not (options.show or getattr(options, name)):
            continue
        prompts = prompts_of(options.data)
        try:
            done = complete(prompts, read(options.data))
        except StoreError:
            done = False
        if not done and not options.show:
            run(prompts, space, options.model_dir)
        table = read(options.data)
        print(f"{name}: {spent(table)}\n{show(table)}\n{conflict(table)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
