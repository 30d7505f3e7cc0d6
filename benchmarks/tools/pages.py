"""The pages of results: one a result, and one of all comparisons at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tools.claim import Claim
from hagpolicy.analysis.rule import WIDER

Result = dict[str, Any]
ENDS = {"value": "", "low": "_low", "high": "_high"}
HOW_TO_READ = f"""# All comparisons at a glance

Every gain is a paired difference on the same prompts. SBS, the single best configuration, is chosen anew in each
bootstrap draw, and gains over it pay for that choice. What learned its choices on the other folds (learners, policy,
best per task, most baselines) is judged on the prompts that a draw leaves out, which makes its intervals {WIDER} times
as wide: choices learned on overlapping prompts err together. "Best per task" and "task lookup" know task labels that
the policy is never told. "Gap closed" is the share of the split-sample oracle's gain. Intervals are 95 %.
"""


def comparisons_page(results: Sequence[Result]) -> str:
    """All comparisons in one table: what the single best config and the policy gain, and whether it ships."""
    head = [
        "objective",
        "SBS over the engine's default",
        "policy over SBS",
        "ships",
        "best per task, told, over SBS",
        "page",
    ]
    lines = [HOW_TO_READ, f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for result in results:
        for comparison in result.get("ladders", ()):
            candidate, default = comparison["candidate"], comparison["sbs_over_default"]
            told = next((row for row in comparison["rows"] if row["name"] == "best_per_task"), None)
            cells = [
                comparison["objective"],
                _gain(default),
                _gain(candidate["gain"]),
                "**yes**" if candidate["shipped"] else "no",
                "" if told is None else _gain({name: told[f"gain{end}"] for name, end in ENDS.items()}),
                f"[{result['claim'].removeprefix('quality_')}]({result['claim']}.md)",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "[All claims](../README.md)", ""])


def result_page(result: Result, claim: Claim) -> str:
    """One result: what is claimed, every figure, comparisons and plots, how it was measured and how to run it again."""
    lines = [f"# {result['claim']}", "", f"{result['statement'].rstrip('.')}.", ""]
    if result["status"] != "run":
        lines += [f"Not run: {result['reason']}."]
    else:
        lines += figure_lines(result["figures"])
    comparisons = result.get("ladders", ())
    for number, comparison in enumerate(comparisons):
        lines += ["", *comparison_lines(comparison, first=number == 0)]
    for plot in result.get("plots", ()):
        lines += ["", f"![{result['claim']}](../results/{plot})"]
    if result.get("notes"):
        lines += ["", result["notes"]]
    lines += ["", provenance(result, claim)]
    reading = [" [How to read a comparison](comparisons.md)."] if comparisons else []
    return "\n".join([*lines, "", "".join(["[All claims](../README.md).", *reading]), ""])


def figure_lines(figures: Sequence[dict[str, Any]]) -> list[str]:
    """The figures as a table, four digits each."""
    lines = ["| figure | value | 95 % interval | unit | target | |", "|---|---|---|---|---|---|"]
    for item in figures:
        interval = "" if item["low"] is None else f"{item['low']:.4g} to {item['high']:.4g}"
        kept = {None: "", True: "met", False: "**missed**"}[item["met"]]
        lines.append(
            f"| {item['name']} | {item['value']:.4g} | {interval} | {item['unit']} | {format_target(item)} | {kept} |"
        )
    return lines


def format_target(item: dict[str, Any]) -> str:
    """The target of a figure, empty without one."""
    return (item["target"] or "").replace(">=", "≥").replace("<=", "≤")


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


def provenance(result: Result, claim: Claim) -> str:
    """How to run it, and by which command, at which commit, when, where and with what it was recorded."""
    data = " --data DIR" if "data" in claim.needs else ""
    command = f"python -m benchmarks run {claim.name}{data}"
    recorded = "this" if result["command"] == command else f"`{result['command']}`"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    where = f"at {result['commit']}, {result['date']}, {result['hardware']}; {versions}"
    return f"To run it: `{command}`. Recorded with {recorded} {where}."


def _gain(estimate: dict[str, float] | None) -> str:
    return "" if estimate is None else f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"
