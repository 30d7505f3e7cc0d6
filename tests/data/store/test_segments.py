"""Records of cells and rewards as the columns of a segment: their names and types are a file format."""

import dataclasses
import re

import pytest

pa = pytest.importorskip("pyarrow")

from hagpolicy.data.store.records import CellRecord, ScoreRecord  # noqa: E402
from hagpolicy.data.store.segments import decode_segment, encode_segment, find_next_number, read_engine, to_table  # noqa: E402
from tests.support.paths import FIXTURES  # noqa: E402

CELL = CellRecord(
    cell="k", prompt="p", prompt_id=None, task="math", config="c", max_tokens=64, sample=1, seed=2**62, text="18",
    tokens=3, prompt_tokens=7, seconds=0.5, finish="stop", error=None, reward=1.0, reason=None, answer="18",
    scorer="numeric_match@1", answers_agree=True, receipt="{}",
)  # fmt: skip
LATER = dataclasses.replace(CELL, cell="l", reward=None, reason=None, answer=None, scorer=None, answers_agree=None)
THOUGHT = dataclasses.replace(CELL, cell="m", text="", reasoning="9 + 9 is", finish="length")
SCORE = ScoreRecord(cell="k", reward=0.0, reason=None, answer="17", scorer="numeric_match@1", answers_agree=True)

CELL_FORMAT = {
    "cell": "string", "prompt": "string", "prompt_id": "string", "task": "string", "config": "string",
    "max_tokens": "int32", "sample": "int32", "seed": "int64", "text": "string", "tokens": "int32",
    "prompt_tokens": "int32", "seconds": "double", "finish": "string", "error": "string", "reward": "double",
    "reason": "string", "answer": "string", "scorer": "string", "answers_agree": "bool", "receipt": "string",
    "threads": "int32",
}  # fmt: skip
SCORE_FORMAT = {name: CELL_FORMAT[name] for name in ("cell", "reward", "reason", "answer", "scorer", "answers_agree")}


WITH_THOUGHTS = {**CELL_FORMAT, "reasoning": "string"}


@pytest.mark.parametrize(
    ("records", "format"),
    [([CELL, LATER], CELL_FORMAT), ([CELL, THOUGHT], WITH_THOUGHTS), ([SCORE], SCORE_FORMAT)],
)
def test_records_come_back_by_name(records, format):
    table = decode_segment(encode_segment(to_table(records), "an engine's digest"))
    assert {field.name: str(field.type) for field in table.schema} == format
    assert table.column_names == list(format)
    assert [type(records[0])(**row) for row in table.to_pylist()] == records
    assert read_engine(table) == "an engine's digest"


def test_the_page_on_formats_names_every_column():
    page = (FIXTURES.parents[1] / "docs" / "formats.md").read_text("utf-8")
    columns, rewards = page.partition("| column of `cells`")[2].split("\n\n")[:2]
    assert re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in columns.split("\n")[2:])) == list(
        WITH_THOUGHTS
    )
    assert set(re.findall(r"`(\w+)`", rewards)) == set(SCORE_FORMAT) | {"rewards"}


def test_a_damaged_segment_is_none():
    data = encode_segment(to_table([CELL]), "an engine's digest")
    assert decode_segment(data[:-20]) is None
    assert decode_segment(b"") is None


def test_the_next_number_is_beyond_torn_and_unfinished_files():
    assert find_next_number([]) == 1
    assert find_next_number(["000002.parquet", "000007-ab12.parquet.torn", "000009.parquet.0a.tmp", "notes"]) == 10
