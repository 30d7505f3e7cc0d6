"""Files of prompts: those of other tools, and files that are none."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hagpolicy.data.prompts import Prompt, as_prompts, read_prompts
from hagpolicy.errors import InvalidInput

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_array_in_a_json_file_is_read_item_by_item(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(["a", CHAT, {"prompt": "b", "id": 3}], indent=1), "utf-8-sig")
    assert as_prompts(str(path)) == as_prompts(path) == (Prompt("a"), Prompt(CHAT), Prompt("b", id="3"))
    path.write_text('["a", {"prompt": 3}]')
    with pytest.raises(InvalidInput, match=r"prompts\.json, item 1"):
        read_prompts(path)
    write_lines(path, "a", {"prompt": "b"})  # JSON Lines under this name were read before
    assert [prompt.text for prompt in read_prompts(path)] == ["a", "b"]


def test_requests_of_the_batch_format_are_prompts(tmp_path: Path) -> None:
    line = {"custom_id": "r-1", "method": "POST", "url": "/v1/chat/completions"}
    rows = [
        {**line, "body": {"model": "m", "messages": CHAT}},
        {**line, "custom_id": 2, "url": "/v1/completions", "body": {"prompt": "2+2?"}},
        {**line, "custom_id": "3", "url": "/v1/responses", "body": {"input": "2+2?", "instructions": "Be brief."}},
        {
            **line,
            "custom_id": 4,
            "url": "/v1/completions?api-version=1",
            "body": {"prompt": ["2+2?"]},
            "reference": "4",
            "task": "sums",
        },
    ]
    read = read_prompts(write_lines(tmp_path / "batch.jsonl", *rows))
    assert [(prompt.id, prompt.text) for prompt in read] == [
        ("r-1", "Be brief.\n\n2+2?"),
        ("2", "2+2?"),
        ("3", "Be brief.\n\n2+2?"),
        ("4", "2+2?"),
    ]
    assert (read[3].reference, read[3].task) == ("4", "sums")
    assert read[0].metadata == {"body": {"model": "m"}}


@pytest.mark.parametrize(
    "row",
    [
        {"custom_id": "1", "response": {"status_code": 200, "body": {}}},
        {"custom_id": "1", "url": "/v1/embeddings", "body": {"input": "a"}},
        {"custom_id": "1", "params": {"messages": CHAT}},
        {"custom_id": "1", "url": "/v1/completions", "body": {"prompt": [1, 2, 3]}},
        {"custom_id": "1", "body": [1]},
        {"custom_id": "1", "url": "/v1/responses", "body": {"input": 5, "instructions": "a"}},
        {"custom_id": "1", "url": "/v1/completions", "body": {"prompt": ["a", "b"]}},
    ],
)
def test_other_batches_are_named(tmp_path: Path, row: Any) -> None:
    with pytest.raises(InvalidInput, match=r"batch\.jsonl, line 1: (batch request|prompt)"):
        read_prompts(write_lines(tmp_path / "batch.jsonl", row))


def write_array(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def lm_eval_line(number: int, prompt: Any, **more: Any) -> dict[str, Any]:
    """A line as lm-eval logs it for a task that generates."""
    asked = {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"]}}}
    line = {"doc_id": number, "doc": {"question": "2+2?"}, "target": "4", "arguments": asked}
    return {**line, "resps": [["4"]], "filtered_resps": ["4"], "filter": "strict-match", "exact_match": 1.0, **more}


def test_samples_of_lm_eval_are_prompts(tmp_path: Path) -> None:
    chat = [json.dumps(CHAT)]
    older = [["2+2?", {"until": ["\n"]}]]
    rows = [
        lm_eval_line(0, "Q: 2+2?\nA:"),
        lm_eval_line(1, chat),
        lm_eval_line(0, "Q: 2+2?\nA:", filter="flexible-extract", filtered_resps=["4."]),
        lm_eval_line(2, "", arguments=older, doc={"score": float("nan")}),
        lm_eval_line(3, json.dumps([{"content": "2+2?", "role": "user"}])),
        lm_eval_line(4, "", arguments=["2+2?"]),
    ]
    read = read_prompts(write_lines(tmp_path / "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl", *rows))
    assert [prompt.text for prompt in read] == ["Q: 2+2?\nA:", "Be brief.\n\n2+2?", "2+2?", "2+2?", "2+2?"]
    assert read == read_prompts(write_array(tmp_path / "samples_gsm8k_2026-01-02T03-04-05.678901.json", rows))
    first = read[0]
    assert (first.id, first.task, first.reference) == ("0", "gsm8k", "4")
    assert first.metadata == {"doc": {"question": "2+2?"}}


def test_choices_of_lm_eval_are_one_prompt_where_they_share_it(tmp_path: Path) -> None:
    asked = {f"gen_args_{n}": {"arg_0": "Q: 2+2?", "arg_1": f" {n}"} for n in range(3)}
    row = lm_eval_line(0, "", arguments=asked, target=1)
    assert read_prompts(write_lines(tmp_path / "a.jsonl", row)) == (
        Prompt("Q: 2+2?", 1, id="0", metadata={"doc": {"question": "2+2?"}}),
    )
    asked["gen_args_1"]["arg_0"] = "another"
    with pytest.raises(InvalidInput, match=r"line 1.*lm-eval sample: expected one prompt"):
        read_prompts(write_lines(tmp_path / "a.jsonl", row))
    older = {"doc_id": 0, "doc": {"question": "2+2?"}, "prompt_0": "2+2?"}
    with pytest.raises(InvalidInput, match=r"as version 0\.4 logs them"):
        read_prompts(write_lines(tmp_path / "a.jsonl", older))


def inspect_log(**more: Any) -> dict[str, Any]:
    calls = [{"id": "c1", "function": "add", "arguments": {"a": 2}, "type": "function"}]
    turns = [
        {"id": "m1", "content": "attachment://abc", "source": "input", "role": "user"},
        {"id": "m2", "content": "", "role": "assistant", "tool_calls": calls},
        {"id": "m3", "content": "4", "role": "tool", "tool_call_id": "c1", "function": "add"},
    ]
    asked = [{"role": "user", "content": "2+2?\nA) 3\nB) 4"}, {"role": "assistant", "content": "B"}]
    samples = [
        {"id": 10, "epoch": 1, "input": turns, "target": ["4"], "attachments": {"abc": "2+2?"}},
        {"id": 2, "epoch": 1, "input": "1+1?", "target": "2", "metadata": {"level": 1}},
        {"id": 2, "epoch": 2, "input": "1+1?", "target": "2", "metadata": {"level": 1}},
        {"id": "x", "epoch": 1, "input": "2+2?", "target": "B", "choices": ["3", "4"], "messages": asked},
    ]
    return {"version": 2, "status": "success", "eval": {"task": "sums"}, "samples": samples, **more}


def write_eval(path: Path, log: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps({key: log[key] for key in ("version", "eval")}))
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps({**log, "samples": None}))
    return path


def test_logs_of_inspect_are_prompts(tmp_path: Path) -> None:
    log = inspect_log()
    (tmp_path / "log.json").write_text(json.dumps(log))
    read = read_prompts(tmp_path / "log.json")
    assert read == as_prompts(str(write_eval(tmp_path / "log.eval", log)))
    assert [(prompt.id, prompt.text, prompt.task) for prompt in read] == [
        ("2", "1+1?", "sums"),
        ("10", "2+2?\n\n\n\n4", "sums"),
        ("x", "2+2?\nA) 3\nB) 4", "sums"),
    ]
    assert (read[0].reference, read[0].metadata) == ("2", {"level": 1})
    function = {"name": "add", "arguments": '{"a":2}'}
    assert read[1].content[1]["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert read[1].content[2] == {"role": "tool", "content": "4", "tool_call_id": "c1"}


def test_attachments_and_parts_of_inspect_are_read_as_servers_take_them(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "attachment://a"}, {"type": "image", "image": "attachment://b"}]
    attached = {"a": "What is this?", "b": "data:image/png;base64,AA"}
    rows = [
        {"id": "x/1", "epoch": 1, "input": [{"role": "user", "content": parts}], "attachments": attached},
        {"id": "x/2", "epoch": 1, "input": "attachment://a", "attachments": attached, "metadata": [float("nan")]},
    ]
    read = read_prompts(write_eval(tmp_path / "log.eval", inspect_log(samples=rows)))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    assert read[0].content == ({"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},)
    assert read[1].content == "What is this?"


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"input": None},
        {"input": "attachment://gone"},
        {"attachments": 5, "input": "attachment://a"},
        {"input": [{"role": "assistant", "content": "", "tool_calls": 5}]},
        {"input": [{"role": "assistant", "content": "", "tool_calls": [{"id": "c"}]}]},
        {"id": 10, "input": "another in this epoch"},
    ],
)
def test_a_damaged_sample_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    log = inspect_log()
    log["samples"][1].update(change)
    (tmp_path / "log.json").write_text(json.dumps(log))
    with pytest.raises(InvalidInput, match=r"log\.json, sample "):
        read_prompts(tmp_path / "log.json")


def test_any_changed_byte_of_an_archive_is_read_or_refused(tmp_path: Path) -> None:
    path = write_eval(tmp_path / "log.eval", inspect_log())
    whole, draw, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 5])):
            changed[draw.randrange(len(whole))] = draw.randrange(256)
        path.write_bytes(changed[: draw.choice([len(whole)] * 4 + [draw.randrange(len(whole))])])
        try:
            read_prompts(path)
        except InvalidInput as error:
            assert "log.eval" in str(error)  # noqa: PT017
            refused += 1
    assert refused > 150


def test_an_archive_that_lies_about_its_size_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "eval": {"task": "sums"}}))
        archive.writestr("samples/1_epoch_1.json", " " * (100 << 20))
    path.write_bytes(path.read_bytes().replace((100 << 20).to_bytes(4, "little"), (99).to_bytes(4, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match=r"log\.eval"):
            read_prompts(path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("change", [{"version": 3}, {"version": None}, {"eval": None}, {"samples": []}])
def test_another_version_of_a_log_is_one_error_that_names_it(tmp_path: Path, change: dict[str, Any]) -> None:
    log = inspect_log(**change)
    (tmp_path / "log.json").write_text(json.dumps(log))
    for path in (tmp_path / "log.json", write_eval(tmp_path / "log.eval", log)):
        if change == {"samples": []} and path.suffix == ".json":
            with pytest.raises(InvalidInput, match="at least one"):
                read_prompts(path)
            continue
        with pytest.raises(InvalidInput, match=r"log\.\w+: expected a log of inspect, version 2") as caught:
            read_prompts(path)
        assert "version" not in change or f"version {change['version']}" in str(caught.value)


def test_hostile_files_are_one_error_that_names_file_and_line(tmp_path: Path) -> None:
    deep = "[" * 100_000
    files = {
        "nested.jsonl": f'"a"\n{{"prompt": {deep}}}\n'.encode(),
        "nested.json": deep.encode(),
        "latin.jsonl": b'"a"\n"b"\n"\xe9"\n',
        "nul.jsonl": b'"a"\n"b\x00"\n',
        "wide.jsonl": '"a"\n'.encode("utf-16"),
        "long.jsonl": b'"a"\n{"id": ' + b"9" * 5000 + b', "prompt": "b"}\n',
        "repeated.jsonl": b'{"prompt": "a", "id": 1}\n{"prompt": "b", "id": "1"}\n',
        "empty.jsonl": b"\n\n",
        "no.parquet": b"PAR1 no",
        "no.eval": b"PK no",
    }
    lines = {"nested.jsonl": 2, "nested.json": 1, "latin.jsonl": 3, "nul.jsonl": 2, "wide.jsonl": 1, "long.jsonl": 2}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name in ("fifo.jsonl", "fifo.json", "fifo.parquet", "fifo.eval"):
        os.mkfifo(tmp_path / name)
    os.truncate(write_lines(tmp_path / "huge.jsonl", "a"), 1 << 33)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InvalidInput, match="at least one" if path.stem == "empty" else path.name) as caught:
            read_prompts(path)
        assert f"line {lines.get(path.name, '')}" in str(caught.value) or path.name not in lines
        assert len(str(caught.value)) < 600
    for name in (tmp_path, Path("/dev/zero"), tmp_path / "none.jsonl"):
        with pytest.raises(InvalidInput, match=str(name)):
            read_prompts(name)


def test_a_log_that_unpacks_to_more_than_its_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hagpolicy.data.formats._LARGEST", 10_000)
    log = inspect_log()
    log["samples"][0]["store"] = "0" * 100_000
    with pytest.raises(InvalidInput, match="at most 10,000 bytes"):
        read_prompts(write_eval(tmp_path / "log.eval", log))


def test_windows_lines_and_marks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf"a"\r\n\r\n"b"\r\n')
    assert [prompt.text for prompt in read_prompts(path)] == ["a", "b"]


def test_parquet_columns_that_nothing_reads_do_not_matter(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "prompt": ["a", "b"],
        "id": [1, None],
        "nanos": arrow.array([1, 2], arrow.timestamp("ns")),
        "blob": [b"\x00", b"\x01"],
        "nan": [float("nan"), 1.0],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "p.parquet")
    read = read_prompts(tmp_path / "p.parquet")
    assert [(prompt.text, prompt.id, prompt.metadata["nan"]) for prompt in read] == [("a", "1", None), ("b", None, 1.0)]
