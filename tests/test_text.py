"""Tables, counts, durations and sizes in words."""

from __future__ import annotations

import math

import pytest

from hagpolicy._text import (
    TextTable,
    format_count,
    format_duration,
    format_size,
    parse_duration,
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


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("90s", 90.0),
        (" 10m ", 600.0),
        ("10 min", 600.0),
        ("1h30m", 5400.0),
        ("1 d 1 h", 90000.0),
        ("1 min 1 s", 61.0),
        ("1.5h", 5400.0),
    ],
)
def test_durations_are_read(words: str, seconds: float) -> None:
    assert parse_duration(words) == seconds


@pytest.mark.parametrize(
    "words", ["", " ", "m", "soon", "-5", "nan", "inf", "1h30", "30m1h", "10 m 5 m", "5 weeks", "1_0s", "٣", "٣s"]
)
def test_what_is_no_duration_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="length of time"):
        parse_duration(words)


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
