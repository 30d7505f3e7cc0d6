"""The pages of results: one a result, and one of all comparisons at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tools.claim import Claim
from hagpolicy._text import TextTable
from hagpolicy.analysis.rule import WIDER
from hagpolicy.results import Evaluation, format_gain

Result = dict[str, Any]
HOW_TO_READ = f"""# All comparisons at a glance

Every gain is a paired difference on the same prompts. SBS, the single best configuration, is chosen anew in each
bootstrap draw, and gains over it pay for that choice. What learned its choices on the other folds (learners, policy,
best configuration of each task, most baselines) is judged on the prompts that a draw leaves out, which makes its
intervals {WIDER} times as wide: choices learned on overlapping prompts err together. "Best configuration of each task"
and "task_lookup" know task labels that the policy is never told. "Gap closed" is the share of the split-sample
oracle's gain. Intervals are 95 %.
"""


def comparisons_page(results: Sequence[Result]) -> str:
    """All comparisons in one table: what the single best config and the policy gain, and whether it ships."""
    head = (
        "objective", "SBS over the engine's default", "policy over SBS", "ships",
        "best configuration of each task, told, over SBS", "page",
    )  # fmt: skip
    rows = []
    for result in results:
        for evaluation in read_comparisons(result):
            assert evaluation.candidate is not None
            told = [row.gain_estimate for row in evaluation.rows if row.name == "best_per_task"]
            gains = (evaluation.sbs_over_default, evaluation.candidate.gain, *(told or [None]))
            default, policy, task = map(format_gain, gains)
            ships = "**yes**" if evaluation.candidate.shipped else "no"
            page = f"[{result['claim'].removeprefix('quality_')}]({result['claim']}.md)"
            rows.append((evaluation.objective, default, policy, ships, task, page))
    return f"{HOW_TO_READ}\n{TextTable(head, rows).to_markdown()}\n\n[All claims](../README.md)\n"


def read_comparisons(result: Result) -> list[Evaluation]:
    """The comparisons of a result, one a setting of the dial; stored under the name that they once had."""
    return [Evaluation.from_json(values) for values in result.get("ladders", ())]


def result_page(result: Result, claim: Claim) -> str:
    """One result: what is claimed, every figure, comparisons and plots, how it was measured and how to run it again."""
    parts = [f"# {result['claim']}", f"{result['statement'].rstrip('.')}."]
    parts += [tabulate_figures(result["figures"]) if result["status"] == "run" else f"Not run: {result['reason']}."]
    comparisons = read_comparisons(result)
    for number, evaluation in enumerate(comparisons):
        parts.append(tabulate_comparison(evaluation))
        unlike = f"{evaluation.fallbacks:.1%}"
        parts.append(f"Fell back to the reference, being unlike the training prompts: {unlike}.")
        # The same of every point of a dial: said once.
        parts += [f"Warning: {warning}." for warning in evaluation.warnings if number == 0]
    parts += [f"![{result['claim']}](../results/{plot})" for plot in result.get("plots", ())]
    parts += [notes] if (notes := result.get("notes")) else []
    reading = " [How to read a comparison](comparisons.md)." if comparisons else ""
    parts += [format_provenance(result, claim), f"[All claims](../README.md).{reading}"]
    return "\n\n".join(parts) + "\n"


def tabulate_figures(figures: Sequence[dict[str, Any]]) -> str:
    """The figures as a table, four digits each."""
    rows = []
    for item in figures:
        interval = "" if item["low"] is None else f"{item['low']:.4g} to {item['high']:.4g}"
        kept = {None: "", True: "met", False: "**missed**"}[item["met"]]
        rows.append((item["name"], f"{item['value']:.4g}", interval, item["unit"], format_target(item), kept))
    return TextTable(("figure", "value", "95 % interval", "unit", "target", ""), rows).to_markdown()


def format_target(item: dict[str, Any]) -> str:
    """The target of a figure, empty without one."""
    return (item["target"] or "").replace(">=", "≥").replace("<=", "≤")


def tabulate_comparison(evaluation: Evaluation) -> str:
    """One comparison as a table: value, paired gains, share of the gap that is closed, cost of an answer."""
    head = ("", evaluation.objective, "over the engine's default", "over SBS", "gap closed", evaluation.cost_unit, "")
    rows = [
        (
            row.label, str(row.value), format_gain(row.over_default), format_gain(row.gain), row.gap_closed, row.cost,
            row.note_beside_label,
        )
        for row in evaluation.format_rows()
    ]  # fmt: skip
    return TextTable(head, rows).to_markdown()


def format_provenance(result: Result, claim: Claim) -> str:
    """How to run it, and by which command, at which commit, when, where and with what it was recorded."""
    data = " --data DIR" if "data" in claim.needs else ""
    command = f"python -m benchmarks run {claim.name}{data}"
    recorded = "this" if result["command"] == command else f"`{result['command']}`"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    where = f"at {result['commit']}, {result['date']}, {result['hardware']}; {versions}"
    return f"To run it: `{command}`. Recorded with {recorded} {where}."
