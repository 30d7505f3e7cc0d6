"""The report: complete, self-contained, escaped, written whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hagpolicy.analysis.headroom import headroom
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.policy import Policy, load
from hagpolicy.reporting import sections
from hagpolicy.reporting.page import write_report
from hagpolicy.reporting.rows import N_EXPLAINED, explain_departures, predict_choices
from hagpolicy.reporting.text import describe_config, format_signed
from hagpolicy.results import STANDING
from tests.reporting.tables import SPACE, Page, made_table


def test_page_is_self_contained_and_well_formed(tmp_path: Path, proven: Policy) -> None:
    path = write_report(tmp_path / "deep" / "report.html", table=made_table(), policy=proven, command="hagpolicy demo")
    text = path.read_text("utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert all(address.startswith("#") for address in page.addresses)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))
    assert "default-src 'none'" in text
    for heading in (
        "What there is to win",
        "Reward by configuration",
        "The comparison",
        "What the policy chooses",
        "Cost",
    ):
        assert heading in page.words
    assert "hagpolicy demo" in page.words
    assert SPACE.digest in page.words


def test_what_users_wrote_stays_text(tmp_path: Path, proven: Policy) -> None:
    table = made_table(failures={"<img src=x onerror=alert(1)>": 3})
    text = write_report(tmp_path / "r.html", table=table, policy=proven, title="<i>mine</i>").read_text("utf-8")
    page = Page(text)
    assert not {"script", "img", "i", "b"} & set(page.tags)
    assert "<script>alert(" in page.words
    assert "3 cells were not scored: <img src=x onerror=alert(1)>" in page.words
    assert "<b>Be brief</b> & exact, for $5 or $6" in page.words


def test_a_proven_policy_and_one_that_was_held_back_read_differently(
    tmp_path: Path, proven: Policy, held: Policy
) -> None:
    shipped = Page(write_report(tmp_path / "a.html", table=made_table(), policy=proven).read_text("utf-8")).words
    over = STANDING[proven.evaluation.candidate.over]
    assert f"is what the policy that ships, ridge on static, gains over {over}." in shipped
    assert "Not proven" not in shipped
    table = made_table(flat=True, spread=0.2)
    words = Page(write_report(tmp_path / "b.html", table=table, policy=held).read_text("utf-8")).words
    assert "Not proven, because the interval reaches zero" in words
    assert "Not proven: what the candidate that was held back would choose" in " ".join(words.split())
    assert f"It gives every prompt the same configuration: {describe_config(held.reference)}" in words


def test_a_policy_that_can_explain_does_so_for_a_few_prompts(tmp_path: Path, proven: Policy, held: Policy) -> None:
    heading, table = "Why prompts get their configurations", made_table()
    words = Page(write_report(tmp_path / "a.html", table=table, policy=proven).read_text("utf-8")).words
    assert heading in words
    choices = predict_choices(proven, table)
    found = explain_departures(proven, table, choices)
    assert 0 < len(found) <= N_EXPLAINED
    for row in found:
        number = next(n for n, prompt in enumerate(table.prompts) if (prompt.id or str(n)) == row["id"])
        why = proven.explain(table.prompts[number], neighbours=N_EXPLAINED)
        assert row["config"] == describe_config(why.decision.config)
        assert row["moved"] == [(one.part, format_signed(-one.fall)) for one in why.moved]
        assert row["neighbours"][0][1] == "0.00"
        assert f"predicted {row['advantage']} over the reference" in words
    plain = load(proven.save(tmp_path / "plain"))
    assert heading not in Page(write_report(tmp_path / "b.html", table=table, policy=plain).read_text("utf-8")).words
    flat = made_table(flat=True, spread=0.2)
    assert heading not in Page(write_report(tmp_path / "c.html", table=flat, policy=held).read_text("utf-8")).words


def test_headline_names_the_gain_over_the_default_and_its_interval(tmp_path: Path) -> None:
    table = made_table()
    found = headroom(table)
    assert found.sbs_over_default is not None
    words = Page(write_report(tmp_path / "r.html", table=table, headroom=found).read_text("utf-8")).words
    assert format_signed(found.sbs_over_default.value) in words
    assert f"{format_signed(found.sbs_over_default.low)} to {format_signed(found.sbs_over_default.high)}" in words
    assert "No policy is fitted yet" in words
    without = Page(write_report(tmp_path / "n.html", table=made_table(default=None)).read_text("utf-8")).words
    assert "The engine's default is not in this sweep" in without
    itself = Page(write_report(tmp_path / "s.html", table=made_table(default=found.sbs_index)).read_text("utf-8")).words
    assert "itself the best single configuration" in itself


def test_a_policy_over_another_space_is_refused(tmp_path: Path, proven: Policy) -> None:
    table = made_table()
    other = SweepTable.from_arrays(table.prompts, SPACE[:2], table.rewards[:, :2])
    with pytest.raises(InvalidInput, match="table's space"):
        write_report(tmp_path / "r.html", table=other, policy=proven)
    assert list(tmp_path.iterdir()) == []


def test_every_section_has_a_template_and_every_template_a_section(tmp_path: Path, held: Policy) -> None:
    folder = Path(sections.__file__).parents[1] / "assets" / "report" / "sections"
    assert {path.stem for path in folder.iterdir()} == set(sections.SECTIONS)
    text = write_report(tmp_path / "r.html", table=made_table(flat=True, spread=0.2), policy=held).read_text("utf-8")
    headings = [
        "What there is to win",
        "Reward by",
        "The comparison",
        "What the policy chooses",
        "Cost",
        "What was left",
    ]
    places = [text.index(f"<h2>{heading}") for heading in headings]
    assert places == sorted(places)
    assert "<h2>The dial" not in text  # a section that has nothing to say is left out


def test_an_older_report_is_replaced_and_nothing_else(tmp_path: Path, proven: Policy) -> None:
    path = write_report(tmp_path / "r.html", table=made_table(), policy=proven)
    text = path.read_text("utf-8")
    # Reports that were written before they had their own mark.
    path.write_text(text.replace('<meta name="generator" content="hagpolicy">\n', ""), "utf-8")
    assert write_report(path, table=made_table(), policy=proven).read_text("utf-8") == text
    (tmp_path / "thesis.html").write_text("<!doctype html>\n<p>years of work" + " " * 2000 + text, "utf-8")
    (tmp_path / "link.html").symlink_to("r.html")
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "fifo.html")
    for name, got in {"thesis": "another file", "link": "a link", "folder": "a folder", "fifo": "a FIFO"}.items():
        with pytest.raises(InvalidInput, match=f"expected a new file, or a report of hagpolicy, got {got}"):
            write_report(tmp_path / f"{name}.html", table=made_table(), policy=proven)
    assert (tmp_path / "thesis.html").read_text("utf-8").startswith("<!doctype html>\n<p>years of work")
    assert (tmp_path / "link.html").is_symlink()
