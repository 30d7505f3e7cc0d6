"""Claim: the whole loop on the real LLM takes at most 10 minutes on 2 cores, and what it finds.

    python -m benchmarks run demo_loop [--quick]

Runs the demo (`make demo`) in a folder of its own from nothing, then a second time in the same
folder, which must generate no cell again. `--quick` uses the folder of `make demo` as it is.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, figure, record
from hagpolicy.cli.demo import run_demo

CLAIM = Claim(
    name="demo_loop",
    states="The whole loop on SmolLM2-135M-Instruct fits into 10 minutes on 2 cores, and a second run into 2",
    groups=("bench",),
    headline="first run*",
    needs=("llm",),
)


def run(out: Path) -> tuple[dict[str, Any], float]:
    """The demo's outcome, and seconds from the loaded engine to the end."""
    engine = hag.load_engine("smollm2")
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        outcome = run_demo(out, engine)
    return outcome, time.perf_counter() - start


def main() -> int:
    args = arguments(__doc__ or "")
    if args.quick:
        outcome, again = run(Path("hagpolicy-demo"))
        first = None
    else:
        with tempfile.TemporaryDirectory() as folder:
            outcome, first = run(Path(folder) / "demo")
            _, again = run(Path(folder) / "demo")
    headroom, evaluation = outcome["headroom"], outcome["evaluation"]
    gain, found = headroom["sbs_over_default"], evaluation["candidate"]
    oracle, held = headroom["split_oracle"], found["gain"]
    figures = [
        figure(
            "single best config over the engine's default", gain["value"], gain["low"], gain["high"], unit="reward gain"
        ),
        figure(
            "single best config",
            headroom["sbs"]["value"],
            headroom["sbs"]["low"],
            headroom["sbs"]["high"],
            unit="reward",
        ),
        figure("split-sample oracle", oracle["value"], oracle["low"], oracle["high"], unit="reward"),
        figure("best per-prompt candidate over SBS", held["value"], held["low"], held["high"], unit="reward gain"),
        figure("per-prompt policy ships", float(not outcome["ships_sbs"]), unit="yes = 1"),
        figure("new tokens", outcome["new_tokens"] or 0, unit="tokens"),
    ]
    if first is not None:
        figures.append(figure("first run, from the loaded model", first, unit="s", at_most=600))
    figures.append(figure("second run, from the loaded model", again, unit="s", at_most=120))
    shape = f"{outcome['prompts']} prompts × {len(outcome['configs'])} configs, {outcome['cells']} scored answers"
    notes = f"{shape}. Single best config: {headroom['sbs_config']}. Candidate: {found['name']}. {outcome['reason']}."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
