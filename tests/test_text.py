"""Tables, counts, durations and sizes in words."""

from __future__ import annotations

import math

import pytest

from hagpolicy._text import (
    TextTable,
    format_count,
    format_duration,
    format_size,
    replace_controls,
    replace_surrogates,
    shorten,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (7170, "2 h"),
        (90000, "1 d 1 h"),
        (math.nan, "?"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0 groups"), (1, "1 group"), (2, "2 groups")])
def test_one_is_no_plural(number: int, words: str) -> None:
    assert format_count(number, "group") == words


@pytest.mark.parametrize(
    ("count", "words"), [(999, "999 B"), (1500, "1.5 kB"), (123_456, "123 kB"), (2e6, "2.0 MB"), (3.2e12, "3.2 TB")]
)
def test_sizes_in_words(count: float, words: str) -> None:
    assert format_size(count) == words


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


def test_half_of_a_surrogate_pair_is_a_question_mark_and_the_rest_stays() -> None:
    assert replace_surrogates("caf\u00e9 \ud83d \U0001f600") == "caf\u00e9 ? \U0001f600"


@pytest.mark.parametrize(("limit", "words"), [(9, "no longer"), (8, "no long…"), (4, "no…")])
def test_a_text_is_cut_to_its_limit(limit: int, words: str) -> None:
    assert shorten("no longer", limit) == words


def test_what_would_act_on_a_terminal_is_a_question_mark() -> None:
    assert (
        replace_controls("caf\u00e9 \x1b[31m\x9b\r\u202e\ud83d\u2028 \U0001f600 北")
        == "caf\u00e9 ?[31m????? \U0001f600 北"
    )
    assert replace_controls("a\n\tb", keep="\n") == "a\n?b"
