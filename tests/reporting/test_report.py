"""The report: complete, self-contained, escaped, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hagpolicy._files import json_text, write_text
from hagpolicy.analysis.headroom import headroom
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.fit import fit
from hagpolicy.policy.policy import Policy
from hagpolicy.reporting.page import write_report
from hagpolicy.reporting.plots import Line, interval_plot
from hagpolicy.reporting.rows import (
    list_departures,
    list_left_out,
    predict_choices,
    tabulate_choices,
    tabulate_costs,
    tabulate_rewards,
)
from hagpolicy.reporting.text import describe_config, format_signed
from hagpolicy.results import Estimate

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0),
        DecodingConfig(temperature=0, repetition_penalty=1.2),
        DecodingConfig(temperature=0.7),
        DecodingConfig(temperature=0.3, hint="<b>Be brief</b> & exact, for $5 or $6"),
    ]
)
# Row: task. The best config differs by task; "lists" wants the repetition penalty.
MEANS = {
    "arithmetic": [0.6, 0.3, 0.4, 0.5],
    "lists": [0.1, 0.9, 0.5, 0.2],
    "sentences": [0.5, 0.4, 0.6, 0.3],
    "facts": [0.7, 0.6, 0.5, 0.4],
}
TEXTS = {
    "arithmetic": "What is {0} plus {1}? Give the sum of both numbers.",
    "lists": "List {0} different animals that live in forest number {1}.",
    "sentences": "Write one sentence with the words river, stone and bridge, variant {0} of {1}.",
    "facts": "Which city is the capital of the country in atlas {0}, page {1}?",
}
TASKS = [task for task in MEANS for _ in range(15)]


class Page(HTMLParser):
    """The tags, the text and every address of a page; refuses what is not well nested."""

    VOID = ("meta", "br", "path", "use", "rect", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "!doctype"):
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.note(attrs)

    def note(self, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name.endswith("href") or name == "src"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words += data


def made_table(*, spread: float = 0.02, flat: bool = False, **changes: object) -> SweepTable:
    """Rewards near MEANS, or near one half for every config (`flat`)."""
    rng = np.random.default_rng(0)
    means = np.array([[0.5] * len(SPACE) if flat else MEANS[task] for task in TASKS])
    rewards = np.clip(means[:, :, None] + rng.normal(0, spread, (len(TASKS), len(SPACE), 2)), 0, 1)
    rewards[:, :2, 1] = np.nan
    prompts = [TEXTS[task].format(i, 3 * i) + f" <script>alert({i})</script> $x_1$" for i, task in enumerate(TASKS)]
    tokens = np.full(rewards.shape, 20.0)
    table = SweepTable.from_arrays(prompts, SPACE, rewards, tasks=TASKS, tokens=tokens, default=2)
    return dataclasses.replace(table, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def proven() -> Policy:
    """Fitted where each kind of prompt has its own best config."""
    policy = fit(made_table(), learner="ridge")
    assert not policy.ships_sbs
    return policy


@pytest.fixture(scope="module")
def held() -> Policy:
    """Fitted on noise alone; a candidate was found and held back."""
    policy = fit(made_table(flat=True, spread=0.2), learner="knn")
    assert policy.ships_sbs
    assert policy.candidate is not None
    return policy


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
    assert "is what the policy that ships, ridge on static, gains over the single best" in shipped
    assert "Not proven" not in shipped
    table = made_table(flat=True, spread=0.2)
    words = Page(write_report(tmp_path / "b.html", table=table, policy=held).read_text("utf-8")).words
    assert "Not proven, because the interval reaches zero" in words
    assert "Not proven: what the candidate that was held back would choose" in " ".join(words.split())
    assert f"It gives every prompt the same configuration: {describe_config(held.sbs)}" in words


def test_the_choices_shown_are_the_policys(proven: Policy) -> None:
    table = made_table()
    choices = predict_choices(proven, table)
    assert choices.tolist() == [SPACE.index(proven.predict(prompt)) for prompt in table.prompts]
    rows = list_departures(proven, table, choices, proven.sbs_index)
    assert 0 < len(rows) <= 8
    shown = [float(row["advantage"]) for row in rows]
    assert shown == sorted(shown, reverse=True)
    assert all(row["words"] != describe_config(proven.sbs) for row in rows)


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


def test_reward_grid_shows_the_means_and_marks_sbs_default_and_best() -> None:
    table = made_table()
    sbs = int(np.argmax(table.means.mean(axis=0)))
    grid = tabulate_rewards(table, sbs)
    assert grid.columns == (("all", 60), ("arithmetic", 15), ("facts", 15), ("lists", 15), ("sentences", 15))
    assert grid.rows[0].words == describe_config(SPACE[sbs])
    assert grid.rows[0].marks == ("SBS",)
    assert {row.words: row.marks for row in grid.rows}["temperature 0.7"] == ("engine's default",)
    lists = [row.cells[3] for row in grid.rows]
    shown = {row.words: cell[0] for row, cell in zip(grid.rows, lists, strict=True)}
    assert shown["greedy · repetition_penalty 1.2"] == f"{table.means[15:30, 1].mean():.2f}"
    assert [cell[2] for cell in lists].count(True) == 1
    assert max(lists, key=lambda cell: cell[1])[2]


def test_choice_grid_counts_shares_by_task() -> None:
    choices = np.array([1 if task == "lists" else 0 for task in TASKS])
    grid = tabulate_choices(made_table(), choices, 0)
    assert [(row.words, [cell[0] for cell in row.cells]) for row in grid.rows] == [
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


def test_a_policy_over_another_space_is_refused(tmp_path: Path, proven: Policy) -> None:
    table = made_table()
    other = SweepTable.from_arrays(table.prompts, SPACE[:2], table.rewards[:, :2])
    with pytest.raises(InvalidInput, match="table's space"):
        write_report(tmp_path / "r.html", table=other, policy=proven)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "r.html", "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["r.html"]


def test_json_has_null_for_what_it_cannot_say() -> None:
    text = json_text({"a": float("nan"), "b": (np.float32(0.5), np.int64(2)), "c": {"d": float("inf")}})
    assert json.loads(text) == {"a": None, "b": [0.5, 2], "c": {"d": None}}


def test_plot_keeps_labels_as_text_and_takes_the_pages_colours() -> None:
    lines = [
        Line("costs $5 and $6 <b>", Estimate(0.1, 0.05, 0.15), "strong"),
        Line("luck", Estimate(0.3, 0.2, 0.4), "biased"),
    ]
    svg = interval_plot(lines, width=340, name="p", zero="SBS")
    assert "costs $5 and $6 &lt;b&gt;" in svg
    assert "var(--accent)" in svg
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]", svg)
    assert svg == interval_plot(lines, width=340, name="p", zero="SBS")


def test_configs_in_words() -> None:
    assert describe_config(DecodingConfig()) == "temperature 1"
    assert describe_config(DecodingConfig(temperature=0, num_beams=4)) == "4 beams"
    assert (
        describe_config(DecodingConfig(temperature=0.7, top_k=40, hint="Go."))
        == "temperature 0.7 · top_k 40 · hint “Go.”"
    )
    assert [format_signed(value) for value in (0.1, -0.25, 0.0, -0.00001)] == ["+0.100", "−0.250", "0.000", "0.000"]
