"""Results are laid out once: every output shows the same labels, figures and blanks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import hagpolicy as hag
from hagpolicy.analysis.headroom import headroom
from hagpolicy.cli.demo_text import format_fit, format_headroom
from hagpolicy.fitting.fit import fit
from hagpolicy.policy.card import format_card
from hagpolicy.policy.policy import Policy
from hagpolicy.reporting.page import write_report
from hagpolicy.reporting.rows import (
    add_reference,
    list_departures,
    list_left_out,
    make_lines,
    predict_choices,
    tabulate_choices,
    tabulate_costs,
    tabulate_rewards,
)
from hagpolicy.reporting.text import describe_config
from hagpolicy.results import ROW_LABELS, Estimate, EvaluationRow, FormattedRow
from tests.reporting.tables import SPACE, TASKS, Page, made_table


def test_every_output_shows_the_rows_of_a_comparison(tmp_path: Path) -> None:
    table = made_table()
    policy = fit(table, learner="ridge")
    evaluation = policy.evaluation
    assert evaluation is not None
    rows = evaluation.format_rows()
    assert [row.name for row in rows] == [row.name for row in evaluation.rows]
    text, demo = str(evaluation), format_fit(policy, 1.0)
    page = Page(write_report(tmp_path / "r.html", table=table, policy=policy).read_text("utf-8")).words
    assert text in format_card(policy.manifest)
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
    lines = make_lines(add_reference(rows))
    assert [(line.label, line.estimate.value, line.kind) for line in lines] == [
        ("single best configuration (SBS)", 0.0, "strong"),
        ("oracle, same samples: biased", 0.2, "biased"),
    ]
    assert [line.estimate.value for line in make_lines(rows)] == [0.5, 0.2]


def test_the_choices_shown_are_the_policys(proven: Policy) -> None:
    table = made_table()
    choices = predict_choices(proven, table)
    assert choices.tolist() == [SPACE.index(proven.predict(prompt)) for prompt in table.prompts]
    rows = list_departures(proven, table, choices, proven.sbs_index)
    assert 0 < len(rows) <= 8
    shown = [float(row["advantage"]) for row in rows]
    assert shown == sorted(shown, reverse=True)
    assert all(row["config"] != describe_config(proven.sbs) for row in rows)


def test_reward_grid_shows_the_means_and_marks_sbs_default_and_best() -> None:
    table = made_table()
    sbs = int(np.argmax(table.means.mean(axis=0)))
    grid = tabulate_rewards(table, sbs, hag.effects(table))
    assert grid.columns == (("all", 60), ("arithmetic", 15), ("facts", 15), ("lists", 15), ("sentences", 15))
    assert grid.rows[0].config == describe_config(SPACE[sbs])
    assert grid.rows[0].marks == ("SBS",)
    assert {row.config: row.marks for row in grid.rows}["temperature 0.7"] == ("engine's default",)
    lists = [row.cells[3] for row in grid.rows]
    shown = {row.config: cell[0] for row, cell in zip(grid.rows, lists, strict=True)}
    assert shown["greedy · repetition_penalty 1.2"].startswith(f"{table.means[15:30, 1].mean():.2f} ±0.")
    assert not any(cell[2] for row in grid.rows for cell in row.cells[1:])  # 15 prompts prove nothing


def test_only_a_proven_best_is_underlined() -> None:
    rng = np.random.default_rng(0)
    for means in ([0.5] * len(SPACE), [0.1, 0.9, 0.5, 0.2]):
        rewards = (rng.random((80, len(SPACE), 2)) < np.array(means)[:, None]).astype(float)
        table = hag.SweepTable.from_arrays([f"prompt {number}" for number in range(80)], SPACE, rewards)
        grid = tabulate_rewards(table, 1, hag.effects(table))
        proven = means[1] == 0.9
        assert [row.cells[0][2] for row in grid.rows] == [proven, False, False, False]


def test_choice_grid_counts_shares_by_task() -> None:
    choices = np.array([1 if task == "lists" else 0 for task in TASKS])
    grid = tabulate_choices(made_table(), choices, 0)
    assert [(row.config, [cell[0] for cell in row.cells]) for row in grid.rows] == [
        ("greedy", ["75%", "100%", "100%", "–", "100%"]),
        ("greedy · repetition_penalty 1.2", ["25%", "–", "–", "100%", "–"]),
    ]


def test_left_out_names_failures_missing_samples_and_prompts() -> None:
    rewards = np.array(made_table().rewards)
    rewards[0, 3, :] = np.nan
    table = made_table(rewards=rewards, failures={"no list found": 2})
    sentences = " ".join(list_left_out(table, headroom(table)))
    assert "2 cells were not scored: no list found" in sentences
    assert "1 pairs of prompt and configuration have fewer samples" in sentences
    assert "1 prompts are left out of every comparison" in sentences
    assert list_left_out(made_table(), headroom(made_table())) == []


def test_cost_leaves_out_what_is_unknown() -> None:
    assert tabulate_costs(made_table(tokens=None)) == []
    rows = tabulate_costs(made_table())
    assert {row["tokens"] for row in rows} == {"20.0"}
    assert all("seconds" not in row for row in rows)
