"""Arguments, intervals and result files: what every benchmark script shares.

A script measures, makes a `Figure` of every number it claims, and ends with
`raise SystemExit(record(CLAIM, figures, args))`.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.tools.claim import ROOT, Claim
from hagpolicy._text import TextTable
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import HagError
from hagpolicy.results import Evaluation

T = TypeVar("T")

RESULTS = ROOT / "results"
FORMAT = 1
PACKAGES = ("numpy", "torch", "transformers", "onnxruntime", "tokenizers", "scikit-learn", "lightgbm", "pyarrow")


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured.
        value: the estimate.
        low, high: its 95 % interval; None where the number is a plain count.
        unit: such as "times", "tokens/s", "%".
        target: such as ">= 5"; None for a number that is reported without being promised.
        met: whether the value keeps the target; None without one.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    unit: str
    target: str | None = None
    met: bool | None = None


def figure(
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    *,
    unit: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """A `Figure` whose target is `at_least`, `at_most`, both or neither, kept or missed by the value itself."""
    wanted = [f">= {at_least:g}"] if at_least is not None else []
    wanted += [f"<= {at_most:g}"] if at_most is not None else []
    kept = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    low, high = (None if bound is None else float(bound) for bound in (low, high))
    return Figure(name, float(value), low, high, unit, " and ".join(wanted) or None, bool(kept) if wanted else None)


def arguments(
    description: str,
    argv: Sequence[str] | None = None,
    *,
    more: Callable[[argparse.ArgumentParser], object] | None = None,
) -> argparse.Namespace:
    """The arguments every script takes, `--quick` and `--data DIR`, and what `more` adds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="about a minute, writes nothing")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of public data; see benchmarks/README.md")
    if more is not None:
        more(parser)
    return parser.parse_args(argv)


def bootstrap(
    values: Any, statistic: Callable[..., Any] = np.median, *, draws: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """(statistic, low, high): percentile bootstrap over the rows of `values`, 95 %.

    `statistic` takes `axis=0`; give paired measurements as one row each, or as their ratio.
    """
    values = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile([statistic(values[pick], axis=0) for pick in picks], [0.025, 0.975])
    return float(statistic(values, axis=0)), float(low), float(high)


def wilson(found: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, *Journal of the American Statistical Association* 22, 1927)."""
    z, share = 1.96, found / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def record(
    claim: Claim,
    figures: Sequence[Figure],
    args: argparse.Namespace,
    notes: str = "",
    *,
    comparisons: Sequence[Evaluation] = (),
    plots: Sequence[str] = (),
) -> int:
    """Print the table and, unless `--quick`, write `results/<name of the claim>.json`.

    Args:
        claim: the script's own, or a part of it.
        figures: at least one.
        args: what `arguments` returned.
        notes: how it was measured, where that needs saying.
        comparisons: rendered below the figures.
        plots: SVG files under `results/`, shown below.

    Returns:
        The exit code: 0, or 1 where a target is missed.
    """
    print(f"\n{claim.states}\n{table(figures)}")
    if not args.quick:
        measured = [asdict(item) for item in figures]
        shown = {"ladders": [comparison.to_json() for comparison in comparisons], "plots": list(plots)}
        more = {name: values for name, values in shown.items() if values}
        _write(claim, {"status": "run", "statement": claim.states, "figures": measured, "notes": notes, **more})
    return int(any(figure.met is False for figure in figures))


def not_run(claim: Claim, reason: str, args: argparse.Namespace) -> int:
    """Say, and record unless `--quick`, that this machine cannot measure the claim. Returns exit code 0.

    A result that was measured elsewhere is kept: it says more than the lack of this machine.
    """
    print(f"{claim.states}\nnot run: {reason}")
    if not args.quick and not (RESULTS / f"{claim.name}.json").exists():
        _write(claim, {"status": "not run", "statement": claim.states, "reason": reason, "figures": []})
    return 0


def stored(read: Callable[[Path], T], claim: Claim, args: argparse.Namespace) -> T | None:
    """What `read` makes of the folder of public data; None, with `not_run` said, without one or where the sweep is
    not stored."""
    if args.data is None:
        not_run(claim, "it needs the prompts: --data DIR", args)
        return None
    try:
        return read(args.data)
    except (HagError, FileNotFoundError) as error:
        not_run(claim, f"what it reads is not stored: {error}", args)
        return None


def take_complete(found: SweepTable, quick: bool, every: int) -> SweepTable:
    """The prompts of a table that lack no config; with `--quick` one of every so many of them."""
    whole = found.take(found.complete)
    return whole.take(np.arange(len(whole.prompts)) % every == 0) if quick else whole


def table(figures: Sequence[Figure]) -> str:
    """The figures as an aligned text table."""
    rows = []
    for item in figures:
        interval = "" if item.low is None or item.high is None else f"{item.low:.4g} to {item.high:.4g}"
        kept = {None: "", True: "met", False: "MISSED"}[item.met]
        rows.append((item.name, f"{item.value:.4g}", interval, item.unit, item.target or "", kept))
    return TextTable(("figure", "value", "95 % interval", "unit", "target", ""), rows).to_text()


def _write(claim: Claim, result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    stamp = {
        "format": FORMAT,
        "claim": claim.name,
        "command": _command(Path(sys.argv[0]).stem, sys.argv[1:]),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": _hardware(),
        "versions": _versions(),
    }
    text = json.dumps({**stamp, **result}, indent=1, ensure_ascii=False, allow_nan=False)
    (RESULTS / f"{claim.name}.json").write_text(text + "\n", "utf-8")


def _command(script: str, words: Sequence[str]) -> str:
    """How the runner is asked for this run of a script: the script's own options stand after `--`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    known, own = parser.parse_known_args(words)
    # The data folder's own place on this machine says nothing to a reader.
    data = [] if known.data is None else ["--data", "DIR"]
    return " ".join(["python -m benchmarks run", script, *data, *(["--", *own] if own else [])])


def _commit() -> str:
    """The commit measured, marked where tracked code differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT.parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "hagpolicy", "benchmarks/**/*.py")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _hardware() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    device = f", {torch.cuda.get_device_name()}" if torch is not None and torch.cuda.is_available() else ""
    return f"{model}, {cores} cores{device}"


def _versions() -> dict[str, str]:
    """Versions of Python and of what the script really loaded."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        module = {"scikit-learn": "sklearn"}.get(package, package)
        if module in sys.modules:
            found[package] = importlib.metadata.version(package)
    return found
