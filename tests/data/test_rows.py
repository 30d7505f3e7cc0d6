"""Collections of prompts: what is read as rows, what is refused, and what JSON cannot hold."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hagpolicy.data.prompts import Prompt, as_prompt, as_prompts
from hagpolicy.data.rows import to_json_value
from hagpolicy.errors import InvalidInput

ROWS = [
    {"prompt": "a", "id": 1, "group": 7, "task": "t", "reference": "x", "when": datetime.date(2026, 1, 2)},
    {"prompt": "b", "id": 2, "group": None, "task": None, "reference": None, "when": None},
]
READ = (
    Prompt("a", "x", "t", "7", "1", {"when": "2026-01-02"}),
    Prompt("b", None, "", None, "2", {"when": None}),
)


@pytest.mark.parametrize(
    "given",
    [
        "one prompt",
        b"bytes",
        bytearray(b"bytes"),
        Prompt("a"),
        {"prompt": "a"},
        {"prompt": ["a", "b"], "reference": [1, 2]},
        {"train": [{"prompt": "a"}], "test": [{"prompt": "b"}]},
        OrderedDict(train=["a"]),
        {},
        [],
        None,
        3,
        np.array("a"),
        io.StringIO("a\nb"),
        [{"role": "user", "content": "a"}],
        ["a", ["b", "c"]],
        ["a", 3],
        ["a", None],
        ["a", float("nan")],
        [{"prompt": float("nan")}],
        [("a", "b")],
        np.array([["a", "b"]]),
        enumerate(["a"]),
    ],
    ids=lambda given: f"{type(given).__name__}",
)
def test_what_is_no_list_of_prompts_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="prompt"):
        as_prompts(given)


@pytest.mark.parametrize(
    "given",
    [
        ("a", "b"),
        iter(["a", "b"]),
        {"a": 1, "b": 2}.keys(),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        csv.DictReader(io.StringIO("prompt\na\nb\n")),
        [{"prompt": "a"}, [{"role": "user", "content": "b"}]],
    ],
    ids=lambda given: f"{type(given).__name__}",
)
def test_collections_are_read_in_their_order(given: Any) -> None:
    assert [prompt.text for prompt in as_prompts(given)] == ["a", "b"]
    assert all(type(prompt.content) in (str, tuple) for prompt in as_prompts(["a", np.str_("b")]))


def test_splits_are_named() -> None:
    with pytest.raises(InvalidInput, match="such as the value of 'train'"):
        as_prompts({"train": ["a"], "test": ["b"]})


def test_an_arrow_table_is_read_as_rows() -> None:
    arrow = pytest.importorskip("pyarrow")
    assert as_prompts(arrow.Table.from_pylist(ROWS)) == READ
    assert as_prompts(arrow.Table.from_pylist(ROWS).to_reader()) == READ
    with pytest.raises(InvalidInput, match="one column 'id', got 2"):
        as_prompts(arrow.table([["a"], [1], [2]], names=["prompt", "id", "id"]))
    assert as_prompts(arrow.array(["a", "b"])) == (Prompt("a"), Prompt("b"))


def test_frames_and_data_sets_are_read_as_rows() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    assert as_prompts(frame) == READ  # the gap makes the groups floats
    assert as_prompts(frame.convert_dtypes()) == READ  # and here NA
    assert as_prompts(frame.to_dict("records")) == READ
    assert as_prompts(frame["prompt"]) == (Prompt("a"), Prompt("b"))
    assert as_prompts(frame.set_index(["task", "id"])) == READ  # levels with names are columns
    with pytest.raises(InvalidInput, match="one column 'prompt', got 2"):
        as_prompts(pandas.DataFrame([["a", "b"]], columns=["prompt", "prompt"]))
    assert len(as_prompts(pandas.DataFrame([["a", 1, 2]], columns=["prompt", "x", "x"]))) == 1
    with pytest.raises(InvalidInput, match="'prompt' and 'messages'"):
        as_prompts(frame.rename(columns={"prompt": "question"}))
    polars, datasets = pytest.importorskip("polars"), pytest.importorskip("datasets")
    assert as_prompts(polars.DataFrame(ROWS)) == as_prompts(polars.LazyFrame(ROWS)) == READ
    rows = datasets.Dataset.from_list(ROWS)
    for form in (None, "numpy", "pandas", "polars", "arrow", "torch"):  # however it would show its rows
        assert as_prompts(rows.with_format(form)) == READ
        assert as_prompts(rows.to_iterable_dataset().with_format(form if form != "torch" else None)) == READ
    assert as_prompts(rows.with_format("numpy", columns=["prompt"])) == (Prompt("a"), Prompt("b"))
    upper = rows.with_transform(lambda batch: {"prompt": [text.upper() for text in batch["prompt"]]})
    assert as_prompts(upper) == (Prompt("A"), Prompt("B"))
    with pytest.raises(InvalidInput, match="'train'"):
        as_prompts(datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}))


def test_columns_that_nothing_reads_are_never_a_reason_to_refuse() -> None:
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    extra = {
        "nan": math.nan,
        "nested": {"inf": [math.inf, np.float32("nan"), np.int64(3)]},
        "when": datetime.datetime(2026, 1, 2, 3, 4),
        "array": np.arange(2),
        "object": object(),
        "bytes": b"\x00",
        "deep": deep,
        "huge": 10**5000,
        "metadata": {"score": math.nan, "inner": object()},
        5: "five",
    }
    prompt = as_prompt({"prompt": "a", **extra})
    kept = {
        "nan": None,
        "nested": {"inf": [None, None, 3]},
        "when": "2026-01-02T03:04:00",
        "array": [0, 1],
        "score": None,
        "5": "five",
    }
    assert prompt.metadata == kept
    assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (1, "1"),
        (np.int32(7), "7"),
        (7.0, "7"),
        (np.float64(7), "7"),
        (np.array(7), "7"),
        (None, None),
        (math.nan, None),
    ],
)
def test_whole_numbers_are_ids_and_groups(given: Any, text: str | None) -> None:
    prompt = Prompt("a", id=given, group=given)
    assert (prompt.id, prompt.group) == (text, text)
    assert prompt.digest == Prompt("a", id=text, group=text).digest


@pytest.mark.parametrize("given", [True, 1.5, math.inf, ["1"], 10**5000, b"1"], ids=lambda given: type(given).__name__)
def test_other_ids_and_groups_are_refused(given: Any) -> None:
    for name in ("id", "group"):
        with pytest.raises(InvalidInput, match=f"{name}: expected a string, a whole number or None"):
            Prompt("a", **{name: given})


def test_ids_that_read_alike_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"prompt 1: .*'1', which prompt 0 has too"):
        as_prompts([{"prompt": "a", "id": 1}, {"prompt": "b", "id": "1"}])


def test_json_values() -> None:
    assert to_json_value({1: (np.bool_(True), Path("a"), "\ud83d")}) == {"1": [True, "a", "?"]}
    with pytest.raises(ValueError, match="no number"):
        to_json_value([math.nan])
    with pytest.raises(TypeError, match="object"):
        to_json_value(object())
