"""Claim: `pip install ".[cpu]"` brings none of the training packages and is enough to predict.

    python -m benchmarks run light_install [--quick]

Makes a virtual environment in a temporary folder (needs a package index), installs this checkout
with the extra [cpu], loads a saved policy there and decides for a prompt.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.fresh import FreshEnvironment
from benchmarks.tools.record import arguments, figure, record

CLAIM = Claim(
    name="light_install",
    states='pip install ".[cpu]" is light, and enough to load a bundle and predict',
    groups=("bench",),
    headline="training packages installed",
    needs=("index",),
)
HEAVY = ("torch", "transformers", "lightgbm", "scikit-learn", "pyarrow", "onnx", "scipy")
CODE = """
import sys, time
start = time.perf_counter()
import hagpolicy
decision = hagpolicy.load(sys.argv[1]).decide("Tell me about the harbour and the reef.")
print(time.perf_counter() - start, decision.config, decision.reason)
"""


def main() -> int:
    args = arguments(__doc__ or "")
    world = hag.SimulatedEngine(0, gap=0.2)
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0], repetition_penalty=[1.0, 1.1])
    prompts = world.prompts(80)
    table = hag.SweepTable.from_arrays(prompts, space, world.truth(prompts, space))
    with tempfile.TemporaryDirectory() as folder:
        policy = hag.fit(table, learner="ridge").save(Path(folder) / "policy")
        fresh = FreshEnvironment(Path(folder) / "light", "cpu")
        packages = set(fresh.packages)
        done = fresh.run("-c", CODE, policy)
        size = sum(path.stat().st_size for path in policy.iterdir())
    print(sorted(packages))
    print(done.stdout)
    figures = [
        figure("training packages installed", len(packages & set(HEAVY)), unit="packages", at_most=0),
        figure("packages installed, pip and setuptools included", len(packages), unit="packages"),
        figure("import, load and first decision", float(done.stdout.split()[0]), unit="s"),
        figure("size of the bundle", size / 2**20, unit="MiB"),
    ]
    return record(CLAIM, figures, args)


if __name__ == "__main__":
    sys.exit(main())
