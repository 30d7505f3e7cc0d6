"""Loading a bundle, checked by tables, takes little longer than it did without them.

    python -m benchmarks run loading_speed [--quick]

Two processes, one with the code of the commit before bundles were read by tables (`git archive`) and one with
today's, load the same bundles in turn, in shuffled order, one round after the other. Times are the processor's, of
all threads. The figure is the ratio of medians, with a bootstrap interval over rounds. The default bundle holds the
learner that `fit` uses; the largest tree bundle of the benchmarks has 250 rounds of trees for each of 14 configs.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.claims.predicting.predict_speed import TARGETS, fitted_policy, prompts
from benchmarks.tools.claim import ROOT, Claim
from benchmarks.tools.record import arguments, bootstrap, figure, record
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.policy.tokenizer import build_tokenizer

CLAIM = Claim(
    name="loading_speed",
    states=(
        "Loading the default bundle takes at most 1.2 times what it took before its parts were checked by tables, the "
        "largest tree bundle at most 1.5 times."
    ),
    groups=("bench",),
    headline="load today / before, default bundle",
)

BEFORE = "e33a7ac"
BUNDLES = {"default bundle": ("blend", 1.2), "largest tree bundle": ("lightgbm with 250 rounds", 1.5)}
LOADER = """
import sys, time
import hagpolicy
assert hagpolicy.__file__.startswith(sys.argv[1]), hagpolicy.__file__
for line in sys.stdin:
    start = time.process_time()
    hagpolicy.load(line.rstrip("\\n"))
    print(time.process_time() - start, flush=True)
"""


class Loader:
    """A process that loads bundles with the code of one folder."""

    def __init__(self, code: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", LOADER, str(code)],
            env={**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"},
            cwd=code,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, bundle: Path) -> float:
        """Processor seconds that loading takes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(bundle, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def measure(loaders: list[Loader], bundle: Path, rounds: int) -> np.ndarray:
    """Processor seconds (rounds, loaders)."""
    taken = np.zeros((rounds, len(loaders)))
    for row in range(-3, rounds):  # the first three are thrown away
        for which in random.sample(range(len(loaders)), len(loaders)):
            taken[row, which] = loaders[which].load(bundle)
    return taken


def main() -> int:
    args = arguments((__doc__ or "").split("\n")[0])
    archive = subprocess.run(["git", "archive", BEFORE, "hagpolicy"], cwd=ROOT.parent, capture_output=True, check=True)
    tokenizer = build_tokenizer(get_encoder("static").files()["tokenizer.json"])
    training = prompts(args.data, tokenizer)[:300]
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder).resolve() / "before"
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
            packed.extractall(before, filter="data")
        loaders = [Loader(ROOT.parent), Loader(before)]
        try:
            for name, (learner, target) in BUNDLES.items():
                bundle = fitted_policy(TARGETS[learner][0], training).save(Path(folder) / learner.replace(" ", "_"))
                pairs = measure(loaders, bundle, 20 if args.quick else 200)
                ratio, low, high = bootstrap(
                    pairs, lambda rows, axis: np.divide(*np.median(rows, axis=axis)), draws=1000
                )
                figures.append(figure(f"load today / before, {name}", ratio, low, high, unit="times", at_most=target))
                for column, when in enumerate(("today", f"at {BEFORE}")):
                    median = float(np.median(pairs[:, column])) * 1000
                    figures.append(figure(f"load {when}, {name}, median", median, unit="ms"))
        finally:
            for loader in loaders:
                loader.close()
    return record(CLAIM, figures, args, "14 configs, 300 training prompts; processes that have loaded before")


if __name__ == "__main__":
    raise SystemExit(main())
