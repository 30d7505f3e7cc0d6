"""Render benchmarks/README.md and the numbers in the top README from benchmarks/results/*.json."""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any

from hagpolicy.analysis.rule import WIDER

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
README = ROOT / "README.md"
TOP = ROOT.parent / "README.md"
INTRO = f"""# Benchmarks

One script a claim. Every table below is rendered by `python -m benchmarks render` from
`benchmarks/results/`, which the scripts write; a test fails where this file is stale. Intervals are 95 %. A target
that was missed stays here, marked. Speed is given as ratios of two things measured in one run.

- `make bench DATA=DIR` runs every claim; `make bench-quality DATA=DIR` the comparisons, plots and curves from the
  stored sweeps, without an LLM; `make bench-worlds DATA=DIR` the studies on simulated worlds and on permuted sweeps
  (resumable); `make bench-sweeps DATA=DIR` generates what the comparisons are made of (hours, resumable).
- How to read a table: every gain is a paired difference on the same prompts. SBS, the single best configuration, is
  chosen anew in each bootstrap draw, and gains over it pay for that choice. What learned its choices on the other
  folds (learners, policy, best per task, most baselines) is judged on the prompts that a draw leaves out, which makes
  its intervals {WIDER} times as wide: choices learned on overlapping prompts err together. "Best per task" and "task
  lookup" know task labels that the policy is never told. "Gap closed" is the share of the split-sample oracle's gain.
- `python -m benchmarks run NAME --quick` takes about a minute and writes nothing.
- `--data DIR` is a folder with public data: `tasks/` (GSM8K: openai/grade-school-math @ 3101c7d, SVAMP:
  arkilpatel/SVAMP @ 689d7cc, AQuA: google-deepmind/AQuA @ 26b64ed, CommonGen: allenai/CommonGen-Eval @ 448741b, E2E:
  tuetschek/e2e-dataset @ ab0d967, IFEval: josejg/instruction_following_eval @ 0c495b2) and `jhu-gpt35/`
  (matthewrenze/jhu-llm-temperature @ b00cfb6).
"""


# The comparisons first, in this order; then the rest by name.
FIRST = [f"quality_{name}" for name in (
    "workload", "workload_price", "drafting", "workload_pass_at_k", "workload_best_of_n", "pass_at_k", "best_of_n",
    "majority", "stronger_price", "jhu_gpt35", "single_tasks",
)]  # fmt: skip


def results() -> list[dict[str, Any]]:
    """All stored results in the order of the page."""
    paths = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    known = [name for name in FIRST if name in paths]
    return [json.loads(paths[name].read_text("utf-8")) for name in dict.fromkeys([*known, *paths])]


def benchmarks_page() -> str:
    """The text of benchmarks/README.md."""
    found = results()
    return "\n".join([INTRO, *summary(found), *(section(result) for result in found)])


def summary(found: list[dict[str, Any]]) -> list[str]:
    """All comparisons in one table: what the single best config and the policy gain, and whether it ships."""
    head = [
        "objective",
        "SBS over the engine's default",
        "policy over SBS",
        "ships",
        "best per task, told, over SBS",
        "table",
    ]
    lines = ["## All comparisons at a glance", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for result in found:
        for comparison in result.get("ladders", ()):
            candidate, default = comparison["candidate"], comparison["sbs_over_default"]
            told = next((row for row in comparison["rows"] if row["name"] == "best_per_task"), None)
            cells = [
                comparison["objective"],
                _gain(default),
                _gain(candidate["gain"]),
                "**yes**" if candidate["shipped"] else "no",
                "" if told is None else _gain({name: told[f"gain{end}"] for name, end in ENDS.items()}),
                f"[{result['claim'].removeprefix('quality_')}](#{result['claim']})",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


ENDS = {"value": "", "low": "_low", "high": "_high"}


def _gain(estimate: dict[str, float] | None) -> str:
    return "" if estimate is None else f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def section(result: dict[str, Any]) -> str:
    """One claim: sentence, table, where it was measured."""
    lines = [f"## {result['claim']}", "", f"{result['statement'].rstrip('.')}.", ""]
    if result["status"] != "run":
        return "\n".join([*lines, f"Not run: {result['reason']}.", ""])
    lines += ["| figure | value | 95 % interval | unit | target | |", "|---|---|---|---|---|---|"]
    for item in result["figures"]:
        interval = "" if item["low"] is None else f"{item['low']:.4g} to {item['high']:.4g}"
        kept = {None: "", True: "met", False: "**missed**"}[item["met"]]
        target = (item["target"] or "").replace(">=", "≥").replace("<=", "≤")
        lines.append(f"| {item['name']} | {item['value']:.4g} | {interval} | {item['unit']} | {target} | {kept} |")
    for number, comparison in enumerate(result.get("ladders", ())):
        lines += ["", *comparison_lines(comparison, first=number == 0)]
    for plot in result.get("plots", ()):
        lines += ["", f"![{result['claim']}](results/{plot})"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    where = f"`{result['command']}` at {result['commit']}, {result['date']}, {result['hardware']}; {versions}."
    return "\n".join([*lines, "", *([result["notes"], ""] if result["notes"] else []), where, ""])


def comparison_lines(comparison: dict[str, Any], *, first: bool) -> list[str]:
    """One comparison as a table: value, paired gains, share of the gap that is closed, cost of an answer."""
    unit = comparison["cost_unit"]
    head = ["", comparison["objective"], "over the engine's default", "over SBS", "gap closed", unit, ""]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in comparison["rows"]:
        over = row["over_default"]
        closed = "" if row["gap_closed"] is None else f"{row['gap_closed']:.0%}"
        cells = [
            row["name"].replace("_", " "),
            f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            _gain(over),
            f"{row['gain']:+.3f} [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}]",
            closed,
            "" if row["cost"] is None else f"{row['cost']:.3g}",
            row["note"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    unlike = comparison["fallbacks"]
    lines += ["", f"Fell back to the single best config, being unlike the training prompts: {unlike:.1%}."]
    # The same of every point of a dial: said once.
    return lines + [f"\nWarning: {warning}." for warning in comparison["warnings"] if first]


def top_page(text: str) -> str:
    """The top README with what stands between `<!-- claim.figure -->` marks replaced by the stored figure."""
    known = {result["claim"]: result for result in results() if result["status"] == "run"}

    def render(match: re.Match[str]) -> str:
        claim, name = match[1].split("/", 1)
        item = next((item for item in known.get(claim, {}).get("figures", []) if item["name"] == name), None)
        if item is None:
            return match[0]
        return f"<!-- {match[1]} -->{_words(item)}<!-- / -->"

    return re.sub(r"<!-- (\w+/[^>]*?) -->.*?<!-- / -->", render, text, flags=re.DOTALL)


def _words(item: dict[str, Any]) -> str:
    sign = "+" if item["unit"] == "reward gain" else ""
    unit = {"times": " times", "reward gain": "", "reward": "", "share": ""}.get(item["unit"], f" {item['unit']}")
    digits = ".3f" if item["unit"].startswith("reward") else ".3g"
    interval = "" if item["low"] is None else f" [{item['low']:{sign}{digits}}, {item['high']:{sign}{digits}}]"
    return f"{item['value']:{sign}{digits}}{unit}{interval}"


def documents() -> dict[Path, str]:
    """The text of every rendered document by its path."""
    return {README: benchmarks_page(), TOP: top_page(TOP.read_text("utf-8"))}


def render() -> None:
    """Write every rendered document that is stale."""
    for path, text in documents().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def check() -> int:
    """1 where a rendered document is stale, with the difference printed; else 0."""
    stale = 0
    for path, text in documents().items():
        old = path.read_text("utf-8") if path.exists() else ""
        if old != text:
            stale = 1
            sys.stdout.writelines(
                difflib.unified_diff(old.splitlines(True), text.splitlines(True), path.name, "rendered")
            )
    return stale
