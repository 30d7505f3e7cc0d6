"""Claim: a large file of outcomes is read in seconds.

    python -m benchmarks run reading_outcomes [--quick]

A file of made-up outcomes, prompts × configs × one sample with texts of some hundred characters, is read by
`SweepTable.from_jsonl`, and its lines by `json.loads` alone, in turn in the same process. Times are the processor's.
The figures are medians over rounds, with bootstrap intervals; the table must hold every reward of the file.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, bootstrap, figure, record
from hagpolicy import SweepTable

CLAIM = Claim(
    name="reading_outcomes",
    states="110,000 lines of outcomes are read in at most 5 s",
    groups=("bench",),
    headline="110,000 lines",
)
PROMPTS, CONFIGS = 10_000, 11


def write_lines(path: Path, prompts: int) -> float:
    """Write outcomes of so many prompts under `CONFIGS` configs; the sum of their rewards."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(5000)]
    total = 0.0
    with path.open("w") as file:
        for number in range(prompts):
            head = {"prompt": " ".join(draw.choices(words, k=60)), "id": f"q{number}", "reference": str(number)}
            for config in range(CONFIGS):
                total += (reward := float(draw.random() < 0.5))
                cell = {"config": {"temperature": config / 10}, "reward": reward, "tokens": draw.randrange(200)}
                cell |= {"answer": str(draw.randrange(300)), "text": " ".join(draw.choices(words, k=30))}
                file.write(json.dumps({**head, "task": "made up", **cell, "seconds": draw.random()}) + "\n")
    return total


def main() -> int:
    args = arguments((__doc__ or "").split("\n")[0])
    prompts, rounds = (PROMPTS // 10, 3) if args.quick else (PROMPTS, 11)
    taken = np.zeros((rounds, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outcomes.jsonl"
        total = write_lines(path, prompts)
        for row in taken:
            start = time.process_time()
            table = SweepTable.from_jsonl(path)
            row[0] = time.process_time() - start
            start = time.process_time()
            for line in path.read_text().splitlines():
                json.loads(line)
            row[1] = time.process_time() - start
            assert table.rewards.shape == (prompts, CONFIGS, 1)
            assert np.isclose(table.rewards.sum(), total)
    lines = prompts * CONFIGS
    seconds, low, high = bootstrap(taken[:, 0] * 110_000 / lines)
    ratio, ratio_low, ratio_high = bootstrap(taken, lambda rows, axis: np.divide(*np.median(rows, axis=axis)))
    figures = [
        figure("110,000 lines", seconds, low, high, unit="s", at_most=5.0),
        figure("lines read", 110_000 / seconds, 110_000 / high, 110_000 / low, unit="lines/s"),
        figure("time of from_jsonl / json.loads", ratio, ratio_low, ratio_high, unit="times"),
    ]
    return record(CLAIM, figures, args, f"{lines:,} lines, {prompts:,} prompts × {CONFIGS} configs")


if __name__ == "__main__":
    raise SystemExit(main())
