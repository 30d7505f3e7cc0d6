"""The sections of the report, in their order: each is a function here and a template of its name.

A function gets the whole report and an environment of templates, and returns what its template shows as `it`, or None
where the report has nothing to say there. A further section is a function, a row of `SECTIONS` and a template in
`assets/report/sections`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hagpolicy.analysis.effects import Effects
from hagpolicy.analysis.effects import effects as measure_effects
from hagpolicy.analysis.headroom import Headroom
from hagpolicy.analysis.rule import MIN_DEPARTING
from hagpolicy.data.table import SweepTable
from hagpolicy.reporting import rows
from hagpolicy.reporting.answers import pick_prompts, show_answers, summarise_endings
from hagpolicy.reporting.plots import draw_both_widths
from hagpolicy.reporting.text import describe_config, describe_objective, format_interval, format_signed
from hagpolicy.results import STANDING, Evaluation

# Tasks whose answers are shown.
MOST_TASKS = 8

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

    @property
    def elsewhere(self) -> bool:
        """The evaluation is of a policy that was fitted on another sweep: its SBS is that of other prompts."""
        return self.evaluation is not None and self.evaluation.candidate is None

    @cached_property
    def effects(self) -> Effects:
        """What the settings of the sweep do."""
        return measure_effects(self.table)


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
    return {"grid": rows.tabulate_rewards(report.table, report.headroom.sbs_index, report.effects)}


def build_effects(report: Report, environment: Any) -> dict[str, Any] | None:
    """What each setting does: a plot a measure over all prompts, what is marked by task, and what stays open."""
    found = report.effects
    if not found.effects:
        return None
    lines = rows.make_effect_lines(found)
    return {
        "count": len(found.effects),
        "marked": bool(found.marked),
        "plots": [(name, draw_both_widths(environment, drawn, "0", name)) for name, drawn in lines.items()],
        "rows": [effect for effect in found.marked if effect.task],
        "sentences": [str(found.noise), *(f"Not told: {text}" for text in found.unidentified)],
    }


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
        "reference": _describe_sbs(report) if report.elsewhere else "",
    }


def build_dial(report: Report, environment: Any) -> dict[str, Any] | None:
    """What the gate decided at each point of a dial of several."""
    points = [] if report.policy is None else rows.tabulate_dial(report.policy)
    return {"rows": points} if len(points) > 1 else None


def build_choices(report: Report, environment: Any) -> dict[str, Any] | None:
    """What the shipped policy and, where the gate held, the candidate choose on the swept prompts."""
    if report.policy is None:
        return None
    table, sbs = report.table, _find_sbs(report)
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
                "examples": rows.list_departures(chooser, table, choices, chooser.reference_index),
            }
        )
    return {"parts": parts, "trained": rows.describe_trained(report.policy, table)}


def build_explanations(report: Report, environment: Any) -> dict[str, Any] | None:
    """Why a few prompts get their configurations, where a policy that chooses per prompt can say it."""
    policy = report.policy
    if policy is None or policy.training is None or policy.dial.rule_at().ships != "per_prompt":
        return None
    found = rows.explain_departures(policy, report.table, rows.predict_choices(policy, report.table))
    return {"rows": found, "reference": describe_config(policy.reference)} if found else None


def build_answers(report: Report, environment: Any) -> dict[str, Any] | None:
    """Answers to look at, the worst, the best and those that configs differ most on, of every task; and how answers
    end under each config. Left out where the table holds no answers."""
    table = report.table
    if table.texts is None:
        return None
    picked: dict[int, str] = {}
    tasks = sorted(set(table.tasks.tolist()))[:MOST_TASKS]
    for kind in ("disagreeing", "worst", "best"):
        for task in tasks:
            for number, why in pick_prompts(table, kind, 2 if kind == "disagreeing" else 1, table.tasks == task):
                picked.setdefault(number, why)
    shown = show_answers(table, sorted(picked.items()))
    return {"prompts": shown, "endings": summarise_endings(table)}


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
    "effects": build_effects,
    "comparison": build_comparison,
    "dial": build_dial,
    "choices": build_choices,
    "explanations": build_explanations,
    "answers": build_answers,
    "cost": build_cost,
    "left_out": build_left_out,
    "provenance": build_provenance,
}
"""What fills each section, by the name of its template, in the order of the page."""


def _judge_default(report: Report) -> dict[str, str]:
    """Figure and text: what the SBS gains over the engine's default, and whether that is proven."""
    found, evaluation = report.headroom, None if report.elsewhere else report.evaluation
    # What an evaluation elsewhere says is of the single best config of other prompts.
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
    text = words if proven else f"{words} The interval reaches zero: not proven, and the default stands."
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
    if evaluation is None:
        words = f"Knowing each prompt's best configuration would win {low} to {found.could_win_high.value:.3f} more"
        text = f"{words} (the upper end is biased). No policy is fitted yet."
        return {"figure": "open", "interval": "", "text": text, "state": "open"}
    if evaluation.candidate is None:
        return _judge_elsewhere(report, evaluation)
    candidate = evaluation.candidate
    stands = STANDING[candidate.over]
    if not candidate.found:
        text = f"No per-prompt policy beat {stands}. It ships, for every prompt."
        return {"figure": "none", "interval": "", "text": text, "state": "held"}
    gain = candidate.gain
    interval = f"95 % interval {format_interval(gain, signed=True)}"
    figures = {"figure": format_signed(gain.value), "interval": interval}
    departs = f"It departs from that in {candidate.departing_groups} independent groups."
    if candidate.shipped:
        text = f"is what the policy that ships, {candidate.name}, gains over {stands}. {departs}"
        return {**figures, "text": text, "state": "proven"}
    why = "the interval reaches zero" if gain.low <= 0.0 else f"fewer than {MIN_DEPARTING} independent groups depart"
    text = (
        f"Not proven, because {why}: what the best per-prompt candidate, {candidate.name}, gains over {stands}, which "
        f"ships. {departs}"
    )
    return {**figures, "text": text, "state": "held"}


def _judge_elsewhere(report: Report, evaluation: Evaluation) -> dict[str, str]:
    """Figure and text: what a policy from another sweep gains on the prompts here that it has not seen."""
    gain = evaluation.row("policy").gain_estimate
    where = f"on the {evaluation.n_prompts} prompts here that it was not fitted on"
    if (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0):
        text = f"The policy was fitted on another sweep and gives, {where}, what {_describe_sbs(report)} gives."
        return {"figure": "±0", "interval": "", "text": text, "state": "held"}
    proven = gain.low > 0.0
    text = f"is what the policy, which was fitted on another sweep, gains over {_describe_sbs(report)}, {where}."
    return {
        "figure": format_signed(gain.value),
        "interval": f"95 % interval {format_interval(gain, signed=True)}",
        "text": text if proven else f"{text} The interval reaches zero: not proven here.",
        "state": "proven" if proven else "held",
    }


def _find_sbs(report: Report) -> int:
    """Index of the single best config that the policy is compared with: of its own prompts, where they are others."""
    if report.policy is None or not report.elsewhere:
        return report.headroom.sbs_index
    return int(report.policy.dial.rule_at().sbs)


def _describe_sbs(report: Report) -> str:
    """The single best config of the prompts that a policy from elsewhere was fitted on, in words."""
    name = "the single best configuration of the prompts that it was fitted on"
    return name if report.policy is None else f"{name}, {describe_config(report.table.space[_find_sbs(report)])}"
