"""`write_report`: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagpolicy._extras import require
from hagpolicy._files import check_replaceable, write_text
from hagpolicy.analysis.checks import keep_comparable
from hagpolicy.analysis.evaluation import evaluate
from hagpolicy.analysis.headroom import Headroom
from hagpolicy.analysis.headroom import headroom as measure_headroom
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.reporting.sections import SECTIONS, Report
from hagpolicy.reporting.text import format_interval, format_signed
from hagpolicy.results import Evaluation

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

# What the head of every report holds; reports of before the first mark hold the second.
_MARKS = (
    b'<meta name="generator" content="hagpolicy">',
    b"""<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">\n<title>""",
)


_FIT_OR_TAKE = (
    "Fit it again on this sweep, or report the sweep it was fitted on; where that was of more or of other prompts of "
    "the same folder, take them (--all, --prompts FILE)."
)


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
        path: of the HTML file; its folder is made where it is missing. An older report is replaced, nothing else.
        table: the sweep.
        policy: fitted on it, or on another sweep: then it is evaluated on the prompts here that it has not seen.
            None: the report ends with what there is to win.
        headroom: of the table; None: computed here.
        evaluation: None: the policy's own, cross-fitted one, or that on this sweep.
        title: the page's name.
        command: that made all this, for the reader who wants to repeat it.

    Returns:
        The path.

    Raises:
        InvalidInput: the policy's space is not the table's, it was fitted on these prompts in another sweep, fewer
            than two prompts can be compared, or something else than a report lies at the path.
        MissingExtra: jinja2 is not installed.
    """
    environment = make_environment()
    check_report_path(path)
    if policy is not None and policy.space != table.space:
        raise InvalidInput("policy", f"one over the table's space, {table.space!r}", policy.space)
    found = headroom or measure_headroom(table, objective=policy.dial.points[0].objective if policy else "reward")
    shown = evaluation if evaluation is not None or policy is None else _evaluate(policy, table)
    report = Report(table, found, policy, shown, command)
    built = ((name, build(report, environment)) for name, build in SECTIONS.items())
    sections = [(name, it) for name, it in built if it is not None]
    check_report_path(path)  # the work took its time
    return write_text(path, environment.get_template("report.html").render(title=title, sections=sections))


def _evaluate(policy: Policy, table: SweepTable) -> Evaluation | None:
    """The policy's own evaluation where it was fitted on this table; else a new one, on the prompts it has not seen.

    Raises:
        InvalidInput: it was fitted on another table that held these prompts: nothing here would be new to it.
    """
    objectives = [get_objectives(point.objective)[0] for point in policy.dial.points]
    if policy.fitted_on(keep_comparable(table, tuple(objectives))):
        return policy.evaluation
    if not (~policy.trained_on(table.prompts)).any():
        expected = "one fitted on this sweep, or on other prompts"
        got = "one fitted on these prompts with other configurations, samples, rewards or prompts beside them"
        raise InvalidInput("policy", expected, got, _FIT_OR_TAKE)
    return evaluate(policy, table)


def check_report_path(path: str | Path) -> None:
    """Refuse a path at which something else than a report lies.

    Raises:
        InvalidInput: naming it.
    """
    check_replaceable(path, lambda head: any(mark in head[:1000] for mark in _MARKS), "a report of hagpolicy")


def make_environment() -> Any:
    """The templates of the report, which escape what they are given.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    jinja2 = require("jinja2", "report", "the report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hagpolicy", "assets/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": format_signed, "interval": format_interval}
    return environment
