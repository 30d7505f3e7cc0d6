"""The sections of the report, in their order: each is a function here and a template of its name.

A function gets the whole report and an environment of templates, and returns what its template shows as `it`, or None
where the report has nothing to say there. A further section is a function, a row of `SECTIONS` and a template in
`assets/report/sections`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hagpolicy.analysis.headroom import Headroom
from hagpolicy.analysis.rule import MIN_DEPARTING
from hagpolicy.data.table import SweepTable
from hagpolicy.reporting import rows
from hagpolicy.reporting.plots import draw_both_widths
from hagpolicy.reporting.text import describe_config, describe_objective, format_interval, format_signed
from hagpolicy.results import Evaluation

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy


@dataclass(frozen=True)
class Report:
    """What a report is about.

    Attributes:
        table: the sweep.
        headroom: of the table.
        policy: fitted on it; None: none yet.
        evaluation: that is shown; None without one.
        command: that made all this; None: unknown.
    """

    table: SweepTable
    headroom: Headroom
    policy: Policy | None = None
    evaluation: Evaluation | None = None
    command: str | None = None


def build_verdicts(report: Report, environment: Any) -> dict[str, Any]:
    """What one configuration for all gains, what one per prompt gains, and the warnings."""
    return {
        "found": report.headroom,
        "n_configs": len(report.table.space),
        "default": _judge_default(report),
        "per_prompt": _judge_per_prompt(report),
        "warnings": rows.merge_warnings(report.headroom, report.evaluation),
    }


def build_headroom(report: Report, environment: Any) -> dict[str, Any]:
    """What there is to win: scores of SBS and oracles as a plot, gains over SBS as a table."""
    found = report.headroom
    shown = found.format_rows()
    objective = describe_objective(found.objective)
    values = rows.make_lines([row for row in shown if row.value])
    return {
        "objective": objective,
        "plots": draw_both_widths(environment, values, None, objective),
        "gains": [row for row in shown if row.gain and row.name != "sbs_over_default"],
        "detectable": found.detectable,
    }


def build_rewards(report: Report, environment: Any) -> dict[str, Any]:
    """Mean rewards of every configuration by task."""
    return {"grid": rows.tabulate_rewards(report.table, report.headroom.sbs_index)}


def build_comparison(report: Report, environment: Any) -> dict[str, Any] | None:
    """Everything against SBS, as a plot and a table."""
    if report.evaluation is None:
        return None
    shown = report.evaluation.format_rows()
    lines = rows.make_lines(rows.add_reference(shown))
    return {
        "evaluation": report.evaluation,
        "rows": shown,
        "plots": draw_both_widths(environment, lines, "SBS", "gain over the SBS"),
    }


def build_dial(report: Report, environment: Any) -> dict[str, Any] | None:
    """What the gate decided at each point of a dial of several."""
    points = [] if report.policy is None else rows.tabulate_dial(report.policy)
    return {"rows": points} if len(points) > 1 else None


def build_choices(report: Report, environment: Any) -> dict[str, Any] | None:
    """What the shipped policy and, where the gate held, the candidate choose on the swept prompts."""
    if report.policy is None:
        return None
    table, sbs = report.table, report.headroom.sbs_index
    parts = []
    for proven, chooser in ((True, report.policy), (False, report.policy.candidate)):
        if chooser is None:
            continue
        choices = rows.predict_choices(chooser, table)
        parts.append(
            {
                "proven": proven,
                "single": describe_config(table.space[int(choices[0])]) if len(set(choices.tolist())) == 1 else "",
                "grid": rows.tabulate_choices(table, choices, sbs),
                "examples": rows.list_departures(chooser, table, choices, sbs),
            }
        )
    return {"parts": parts}


def build_cost(report: Report, environment: Any) -> dict[str, Any] | None:
    """New tokens and seconds of an answer by configuration."""
    costs = rows.tabulate_costs(report.table)
    return {"rows": costs} if costs else None


def build_left_out(report: Report, environment: Any) -> dict[str, Any]:
    """What does not stand in the figures, and why."""
    return {"sentences": rows.list_left_out(report.table, report.headroom)}


def build_provenance(report: Report, environment: Any) -> dict[str, Any]:
    """Where the figures come from."""
    return {"rows": rows.list_provenance(report.table, report.policy, report.command)}


SECTIONS: Mapping[str, Callable[[Report, Any], dict[str, Any] | None]] = {
    "verdicts": build_verdicts,
    "headroom": build_headroom,
    "rewards": build_rewards,
    "comparison": build_comparison,
    "dial": build_dial,
    "choices": build_choices,
    "cost": build_cost,
    "left_out": build_left_out,
    "provenance": build_provenance,
}
"""What fills each section, by the name of its template, in the order of the page."""


def _judge_default(report: Report) -> dict[str, str]:
    """Figure and text: what the SBS gains over the engine's default, and whether that is proven."""
    found, evaluation = report.headroom, report.evaluation
    gain = (evaluation.sbs_over_default if evaluation else None) or found.sbs_over_default
    if gain is None:
        text = "The engine's default is not in this sweep, so there is no gain over it to report."
        return {
            "figure": f"{found.sbs.value:.3f}",
            "interval": f"mean reward of the SBS, 95 % interval {format_interval(found.sbs, signed=False)}",
            "text": text,
            "state": "open",
        }
    if report.table.default == found.sbs_index:
        text = "The engine's default is itself the best single configuration of this sweep."
        return {"figure": "±0", "interval": "", "text": text, "state": "open"}
    words = (
        f"is what the best single configuration, {describe_config(found.sbs_config)}, gains over the engine's default."
    )
    proven = gain.low > 0.0
    text = words if proven else f"{words} The interval reaches zero: not proven."
    return {
        "figure": format_signed(gain.value),
        "interval": f"95 % interval {format_interval(gain, signed=True)}",
        "text": text,
        "state": "proven" if proven else "open",
    }


def _judge_per_prompt(report: Report) -> dict[str, str]:
    """Figure and text: what the policy gains over the SBS, what the gate decided, and why."""
    found, evaluation = report.headroom, report.evaluation
    low = "an unknown amount" if found.could_win_low is None else f"{max(found.could_win_low.value, 0.0):.3f}"
    if evaluation is None or evaluation.candidate is None:
        words = f"Knowing each prompt's best configuration would win {low} to {found.could_win_high.value:.3f} more"
        text = f"{words} (the upper end is biased). " + (
            "No policy is fitted yet."
            if evaluation is None
            else "This is an evaluation on other prompts: see the comparison."
        )
        return {"figure": "open", "interval": "", "text": text, "state": "open"}
    candidate = evaluation.candidate
    if candidate.name == "sbs":
        text = "No per-prompt policy beat the single best configuration. It ships, for every prompt."
        return {"figure": "none", "interval": "", "text": text, "state": "held"}
    gain = candidate.gain
    figures = {"figure": format_signed(gain.value), "interval": f"95 % interval {format_interval(gain, signed=True)}"}
    departs = f"It departs from the SBS in {candidate.departing_groups} independent groups."
    if candidate.shipped:
        text = f"is what the policy that ships, {candidate.name}, gains over the single best (SBS). {departs}"
        return {**figures, "text": text, "state": "proven"}
    why = "the interval reaches zero" if gain.low <= 0.0 else f"fewer than {MIN_DEPARTING} independent groups depart"
    text = (
        f"Not proven, because {why}: the best per-prompt candidate, {candidate.name}, is held back, and the single "
        f"best configuration (SBS) ships. {departs}"
    )
    return {**figures, "text": text, "state": "held"}
