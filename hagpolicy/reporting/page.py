"""`write_report`: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagpolicy._extras import require
from hagpolicy._files import write_text
from hagpolicy.analysis.headroom import Headroom
from hagpolicy.analysis.headroom import headroom as measure_headroom
from hagpolicy.analysis.rule import MIN_DEPARTING
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.reporting import rows
from hagpolicy.reporting.plots import Line, interval_plot
from hagpolicy.reporting.text import describe_config, describe_objective, format_interval, format_signed
from hagpolicy.results import Evaluation

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

WIDE, NARROW = 760, 340


def write_report(
    path: str | Path,
    *,
    table: SweepTable,
    policy: Policy | None = None,
    headroom: Headroom | None = None,
    evaluation: Evaluation | None = None,
    title: str = "Decoding policy report",
    command: str | None = None,
) -> Path:
    """Write the report of a sweep, and of the policy fitted on it, as one HTML file.

    The file needs no network and no script, reads on a phone and on paper, in light and dark. It is
    written under a temporary name and renamed, so a reader never meets half of it. Prompts, tasks,
    hints and reasons are escaped: they stay text.

    Args:
        path: of the HTML file; its folder is made where it is missing.
        table: the sweep.
        policy: fitted on it; None: the report ends with what there is to win.
        headroom: of the table; None: computed here.
        evaluation: None: the policy's own, cross-fitted one.
        title: the page's name.
        command: that made all this, for the reader who wants to repeat it.

    Returns:
        The path.

    Raises:
        InvalidInput: the policy's space is not the table's, or fewer than two prompts can be compared.
        MissingExtra: jinja2 or matplotlib is not installed.
    """
    jinja2 = require("jinja2", "report", "the report")
    if policy is not None and policy.space != table.space:
        raise InvalidInput("policy", f"one over the table's space, {table.space!r}", policy.space)
    found = headroom or measure_headroom(table, objective=policy.dial.points[0].objective if policy else "reward")
    shown = evaluation or (policy.evaluation if policy is not None else None)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hagpolicy", "assets/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": format_signed, "interval": format_interval}
    headroom_rows = found.format_rows()
    comparison = shown.format_rows() if shown else []
    context = {
        "title": title,
        "found": found,
        "sbs_words": describe_config(found.sbs_config),
        "default": _judge_default(table, found, shown),
        "per_prompt": _judge_per_prompt(found, shown),
        "rewards": rows.tabulate_rewards(table, found.sbs_index),
        "headroom_plots": _draw_both_widths(
            jinja2,
            rows.make_lines([row for row in headroom_rows if row.value]),
            "headroom",
            None,
            describe_objective(found.objective),
        ),
        "objective": describe_objective(found.objective),
        "gains": [row for row in headroom_rows if row.gain and row.name != "sbs_over_default"],
        "comparison": comparison,
        "comparison_plots": _draw_both_widths(
            jinja2, rows.make_lines(rows.with_reference(comparison)), "comparison", "SBS", "gain over the SBS"
        )
        if comparison
        else [],
        "evaluation": shown,
        "dial": rows.tabulate_dial(policy) if policy is not None else [],
        "choices": _list_choices(policy, table, found) if policy is not None else [],
        "costs": rows.tabulate_costs(table),
        "left_out": rows.list_left_out(table, found),
        "warnings": rows.merge_warnings(found, shown),
        "provenance": rows.list_provenance(table, policy, command),
    }
    return write_text(path, environment.get_template("report.html").render(context))


def _draw_both_widths(jinja2: Any, lines: list[Line], name: str, zero: str | None, axis: str) -> list[Any]:
    """The plot for wide and for narrow screens; the page shows one of them."""
    markup = require("markupsafe", "report", "the report").Markup
    return [
        markup(interval_plot(lines, width=width, name=f"{name}{width}", zero=zero, axis=axis))
        for width in (WIDE, NARROW)
    ]


def _judge_default(table: SweepTable, found: Headroom, evaluation: Evaluation | None) -> dict[str, str]:
    """The first thing a reader wants: what one well-chosen configuration gains, and whether that is proven."""
    gain = (evaluation.sbs_over_default if evaluation else None) or found.sbs_over_default
    if gain is None:
        text = "The engine's default is not in this sweep, so there is no gain over it to report."
        return {
            "figure": f"{found.sbs.value:.3f}",
            "interval": f"mean reward of the SBS, 95 % interval {format_interval(found.sbs, signed=False)}",
            "text": text,
            "state": "open",
        }
    if table.default == found.sbs_index:
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


def _judge_per_prompt(found: Headroom, evaluation: Evaluation | None) -> dict[str, str]:
    """What the gate decided, and why."""
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


def _list_choices(policy: Policy, table: SweepTable, found: Headroom) -> list[dict[str, Any]]:
    """What the shipped policy and, where the gate held, the candidate choose on the swept prompts."""
    sections = []
    for proven, chooser in ((True, policy), (False, policy.candidate)):
        if chooser is None:
            continue
        choices = rows.predict_choices(chooser, table)
        sections.append(
            {
                "proven": proven,
                "single": describe_config(table.space[int(choices[0])]) if len(set(choices.tolist())) == 1 else "",
                "grid": rows.tabulate_choices(table, choices, found.sbs_index),
                "examples": rows.list_departures(chooser, table, choices, found.sbs_index),
            }
        )
    return sections
