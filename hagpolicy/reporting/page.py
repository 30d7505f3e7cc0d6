"""`write_report`: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagpolicy._extras import require
from hagpolicy._files import write_text
from hagpolicy.analysis.headroom import Headroom
from hagpolicy.analysis.headroom import headroom as measure_headroom
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.reporting.sections import SECTIONS, Report
from hagpolicy.reporting.text import format_interval, format_signed
from hagpolicy.results import Evaluation

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy


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
        MissingExtra: jinja2 is not installed.
    """
    environment = make_environment()
    if policy is not None and policy.space != table.space:
        raise InvalidInput("policy", f"one over the table's space, {table.space!r}", policy.space)
    found = headroom or measure_headroom(table, objective=policy.dial.points[0].objective if policy else "reward")
    shown = evaluation or (policy.evaluation if policy is not None else None)
    report = Report(table, found, policy, shown, command)
    built = ((name, build(report, environment)) for name, build in SECTIONS.items())
    sections = [(name, it) for name, it in built if it is not None]
    return write_text(path, environment.get_template("report.html").render(title=title, sections=sections))


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
