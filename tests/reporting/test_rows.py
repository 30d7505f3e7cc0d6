"""Results are laid out once: every output shows the same labels, figures and blanks."""

from __future__ import annotations

from pathlib import Path

from hagpolicy._text import TextTable
from hagpolicy.analysis.headroom import headroom
from hagpolicy.cli.demo_text import format_fit, format_headroom
from hagpolicy.fitting.fit import fit
from hagpolicy.policy.card import policy_card
from hagpolicy.reporting.page import write_report
from hagpolicy.reporting.rows import make_lines, with_reference
from hagpolicy.results import ROW_LABELS, Estimate, EvaluationRow, FormattedRow
from tests.reporting.test_report import Page, made_table


def test_every_output_shows_the_rows_of_a_comparison(tmp_path: Path) -> None:
    table = made_table()
    policy = fit(table, learner="ridge")
    evaluation = policy.evaluation
    assert evaluation is not None
    rows = evaluation.format_rows()
    assert [row.name for row in rows] == [row.name for row in evaluation.rows]
    text, demo = str(evaluation), format_fit(policy, 1.0)
    page = Page(write_report(tmp_path / "r.html", table=table, policy=policy).read_text("utf-8")).words
    assert text in policy_card(policy)
    for row in rows:
        assert row.value is not None
        assert f"{row.name} " in text
        assert f"{row.value!s}" in text
        for words in (demo, page):
            assert row.label in words
            assert f"{row.value.value:.3f}" in words
            assert row.note_beside_label in words
        if row.gain is not None:
            assert f"{row.gain:+}" in text
            assert f"{row.gain:+}" in demo
        assert (row.gain is None) == (row.name == "sbs")


def test_every_output_shows_the_rows_of_headroom(tmp_path: Path) -> None:
    table = made_table()
    found = headroom(table)
    page = Page(write_report(tmp_path / "r.html", table=table, headroom=found).read_text("utf-8")).words
    for row in found.format_rows():
        assert row.label in str(found)
        assert getattr(found, row.name) == (row.value or row.gain)
        if row.gain is not None:
            assert f"{row.gain:+}" in format_headroom(found)
            assert row.label in page or row.name == "sbs_over_default"  # the page's headline is that gain


def test_what_is_biased_says_so_and_the_reference_is_drawn_at_zero() -> None:
    rows = [
        EvaluationRow("sbs", 0.5, 0.4, 0.6, 0.0, 0.0, 0.0, 0.0).format(),
        EvaluationRow("naive_vbs", 0.7, 0.6, 0.8, 0.2, 0.1, 0.3, None, "biased upward", 3.14159).format(),
    ]
    assert rows[1] == FormattedRow(
        "naive_vbs",
        ROW_LABELS["naive_vbs"],
        Estimate(0.7, 0.6, 0.8),
        Estimate(0.2, 0.1, 0.3),
        "biased upward",
        cost="3.14",
        kind="biased",
    )
    lines = make_lines(with_reference(rows))
    assert [(line.label, line.estimate.value, line.kind) for line in lines] == [
        ("single best configuration (SBS)", 0.0, "strong"),
        ("oracle, same samples: biased", 0.2, "biased"),
    ]
    assert [line.estimate.value for line in make_lines(rows)] == [0.5, 0.2]


def test_columns_line_up_and_cells_cannot_end_a_markdown_row() -> None:
    table = TextTable(("", "share", "note"), [("one", "9%", ""), ("eleven", "100%", "a | b\nc")], "<><")
    assert table.to_text(" ").splitlines() == ["         share  note", " one        9%", " eleven   100%  a | b", "c"]
    assert table.to_markdown().splitlines() == [
        "|  | share | note |",
        "|---|---|---|",
        "| one | 9% |  |",
        "| eleven | 100% | a \\| b c |",
    ]
    assert TextTable(("", ""), [("a", "b")]).to_text() == "a  b"
