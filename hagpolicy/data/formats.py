"""Files of prompts, our own and those of other tools, as mappings with the keys of `Prompt.from_dict`.

The tools are known by the shape of their files; their packages are not needed.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

from hagpolicy._digest import canonical_json
from hagpolicy._extras import require
from hagpolicy._files import check_path, parse_json, read_jsonl, read_lines, read_regular
from hagpolicy.data.rows import check_columns
from hagpolicy.errors import HagError, InvalidInput

__all__ = [
    "PROMPT_FILES",
    "InspectLog",
    "InspectSample",
    "is_lm_eval",
    "open_inspect",
    "read_rows",
    "read_rows_of_every_filter",
    "to_own_keys",
]

PROMPT_FILES = (".jsonl", ".json", ".parquet", ".eval", ".csv", ".tsv", ".txt")
"""Endings by which a string is known as the path of a file of prompts."""

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LARGEST = 1 << 31  # bytes of a file, and of what an archive holds
_LARGEST_SAMPLE = 1 << 28  # bytes of one sample in an archive
_INSPECT_VERSION = 2
# samples_TASK_TIME.jsonl, as lm-eval names them
_LM_EVAL_NAME = re.compile(r"samples_(.+)_\d{4}-\d\d-\d\dT[\d.:-]+\.jsonl?")
_ATTACHMENT = "attachment://"


def read_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """What a file holds, each with its place, such as "qa.jsonl, line 3": strings, lists of messages, mappings.

    Args:
        path: .parquet; .csv and .tsv (a head, then a row a prompt; an empty cell is no value); .json (an array, or a
            log of inspect); .eval (a log of inspect); .txt (a line a prompt, unless its first line is a JSON object);
            else JSONL, whose lines may be requests of OpenAI's batch format or samples of lm-eval, which are named by
            file for the task.

    Raises:
        InvalidInput: it cannot be read, or is of an unknown kind or version.
    """
    path = check_path(path, "prompts file")
    with _name_damage(path):
        yield from _drop_repeated_logs(_read_file(path), path)


def read_rows_of_every_filter(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """What a file of lm-eval's samples holds, as `read_rows`, with the lines that repeat a prompt for another filter.

    Raises:
        InvalidInput: it cannot be read, or is of an unknown kind or version.
    """
    path = check_path(path, "samples file")
    with _name_damage(path):
        yield from _name_tasks(_read_file(path), path)


class InspectSample(NamedTuple):
    """One sample of a log of inspect.

    Attributes:
        place: of it, for messages.
        row: what was asked, with the keys of `Prompt.from_dict`.
        sample: the sample itself.
    """

    place: str
    row: dict[str, Any]
    sample: dict[str, Any]


class InspectLog(NamedTuple):
    """A log of inspect.

    Attributes:
        values: its head.
        samples: of every epoch, as they are read.
    """

    values: dict[str, Any]
    samples: Iterator[InspectSample]


def open_inspect(path: str | os.PathLike[str]) -> InspectLog | None:
    """A log of inspect; None for a file of another kind.

    Raises:
        InvalidInput: it cannot be read, or is of an unknown version; of a sample when it is read.
    """
    path = check_path(path, "log")
    with _name_damage(path):
        if path.suffix == ".eval":
            values, samples = _open_eval(path)
        elif path.suffix == ".json" and isinstance(values := _parse_file(path), dict) and _is_inspect(values):
            samples = iter(_check_samples(path, values))
        else:
            return None
    return InspectLog(values, _read_guarded(path, values, samples))


def _read_guarded(path: Path, values: dict[str, Any], samples: Iterator[Any]) -> Iterator[InspectSample]:
    with _name_damage(path):
        yield from _read_samples(path, values, samples)


@contextlib.contextmanager
def _name_damage(path: Path) -> Iterator[None]:
    """Whatever a reader raises over a damaged file is an InvalidInput that names it."""
    try:
        yield
    except (HagError, MemoryError):
        raise
    except Exception as error:  # of whichever library reads the format
        got = str(error) or type(error).__name__
        raise InvalidInput(f"prompts file {path}", f"a readable {path.suffix} file", got) from error


def _read_file(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix in _SEPARATORS:
        return _read_csv(path)
    if path.suffix == ".eval":
        return _read_eval(path)
    if path.suffix == ".json" and (found := _read_json(path)) is not None:
        return found
    if path.suffix == ".txt":
        return _read_text(path)
    return read_jsonl(path, "prompts file")


def to_own_keys(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row itself, or a request of OpenAI's batch format or a sample of lm-eval with the keys of our own.

    Raises:
        InvalidInput: one of these, of a kind that holds no prompt.
    """
    if "prompt" in row or "messages" in row:
        return row
    if "custom_id" in row:
        return _read_request(row)
    return _read_lm_eval(row) if is_lm_eval(row) else row


def is_lm_eval(row: Mapping[str, Any]) -> bool:
    """True for a line of lm-eval's samples."""
    return "doc" in row and ("arguments" in row or "doc_id" in row)


def _read_request(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a batch of requests to chat completions, completions or responses."""
    body, expected = row.get("body"), "a request to chat completions, completions or responses"
    if not isinstance(body, Mapping):
        raise InvalidInput("batch request", f"{expected} in 'body'", f"the keys {', '.join(sorted(map(str, row)))}")
    rest = dict(body)
    content = rest.pop("messages", None) or rest.pop("prompt", None) or rest.pop("input", None)
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], str):
        content = content[0]
    if instructions := rest.pop("instructions", None):
        turns = [{"role": "user", "content": content}] if isinstance(content, str) else content or []
        if not isinstance(turns, list):
            raise InvalidInput("batch request", expected, f"input {content!r:.80}")
        content = [{"role": "system", "content": instructions}, *turns]
    url = str(row.get("url", "/v1/chat/completions")).partition("?")[0].rstrip("/")
    if content is None or not url.endswith(("completions", "responses")):
        raise InvalidInput("batch request", expected, f"url {url!r} with {', '.join(map(str, body)) or 'nothing'}")
    added = {name: row[name] for name in ("reference", "task", "group") if name in row}
    return {**added, "prompt": content, "id": row["custom_id"], "metadata": {"body": rest} if rest else {}}


def _read_lm_eval(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of lm-eval's samples; its task is in the file's name."""
    arguments = row.get("arguments")
    asked: Any = list(arguments.values()) if isinstance(arguments, Mapping) else arguments
    try:
        contents = [_read_chat(_first_argument(one)) for one in asked]
    except (LookupError, TypeError, StopIteration) as error:
        expected = "arguments with a prompt each, as version 0.4 logs them"
        raise InvalidInput("lm-eval sample", expected, arguments) from error
    if not contents or any(content != contents[0] for content in contents[1:]):
        raise InvalidInput("lm-eval sample", "one prompt in 'arguments'", f"{len(contents)} that differ")
    found = {"prompt": contents[0], "reference": row.get("target"), "id": row.get("doc_id"), "task": row.get("task")}
    return {**found, "metadata": {"doc": row["doc"]}}


def _first_argument(asked: Any) -> Any:
    """What one request of lm-eval begins with: `{"arg_0": …}`, or a list, or a text alone."""
    if isinstance(asked, str):
        return asked
    return asked.get("arg_0", next(iter(asked.values()))) if isinstance(asked, Mapping) else asked[0]


def _read_chat(argument: Any) -> Any:
    """The prompt in an argument of lm-eval: a text, or chat messages, which are written as JSON in a list of one."""
    if isinstance(argument, list) and len(argument) == 1 and isinstance(argument[0], str):
        argument = argument[0]
    if not isinstance(argument, str) or not argument.startswith("[{"):
        return argument
    try:
        turns = parse_json(argument)
    except ValueError:
        return argument
    return turns if all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in turns) else argument


def _drop_repeated_logs(rows: Iterator[tuple[str, Any]], path: Path) -> Iterator[tuple[str, Any]]:
    """The rows; of the samples of lm-eval those that repeat a prompt for another filter are left out."""
    seen: dict[tuple[str, str], Any] = {}
    for place, row in _name_tasks(rows, path):
        if isinstance(row, dict) and "arguments" in row and "doc" in row and "prompt" not in row:
            name, asked = (str(row.get("task")), str(row.get("doc_id"))), row["arguments"]
            if "doc_id" in row and name in seen and seen[name] == asked:
                continue
            seen[name] = asked
        yield place, row


def _name_tasks(rows: Iterator[tuple[str, Any]], path: Path) -> Iterator[tuple[str, Any]]:
    """The rows; samples of lm-eval have the task that their file is named for."""
    named = _LM_EVAL_NAME.fullmatch(path.name)
    for place, row in rows:
        if named and isinstance(row, dict) and "arguments" in row and "doc" in row and "prompt" not in row:
            row = {"task": named[1], **row}
        yield place, row


def _read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a Parquet file or of a folder of such files."""
    parquet, arrow = require("pyarrow.parquet", "fit", "reading Parquet"), require("pyarrow", "fit", "reading Parquet")
    table = parquet.read_table(path if path.is_dir() else arrow.BufferReader(read_regular(path, _LARGEST)))
    check_columns(table.column_names, f"prompts file {path}")
    columns: dict[str, list[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns[name] = column.to_pylist()
        except (ValueError, TypeError, ImportError):  # such as a time in nanoseconds
            columns[name] = column.cast(arrow.string(), safe=False).to_pylist()
    return ((f"{path}, row {n}", {name: values[n] for name, values in columns.items()}) for n in range(len(table)))


def _read_json(path: Path) -> Iterator[tuple[str, Any]] | None:
    """Items of a JSON array, or the samples of a log of inspect; None for what is no single JSON value."""
    values = _parse_file(path)
    if isinstance(values, list):
        return ((f"{path}, item {number}", item) for number, item in enumerate(values))
    if isinstance(values, dict) and _is_inspect(values):
        return _list_inspect(path, values, _check_samples(path, values))
    return None


def _parse_file(path: Path) -> Any:
    """The value of a JSON file; None for what is no single JSON value."""
    try:
        return parse_json(read_regular(path, _LARGEST).decode("utf-8-sig"))
    except ValueError:
        return None


def _is_inspect(values: Mapping[str, Any]) -> bool:
    return "samples" in values or {"eval", "version"} <= values.keys()


def _check_samples(path: Path, values: dict[str, Any]) -> list[Any]:
    """The samples of a log of inspect in JSON. Raises InvalidInput."""
    samples = values.get("samples")
    _check_inspect(path, values, isinstance(samples, list))
    return list(samples or [])


def _read_text(path: Path) -> Iterator[tuple[str, Any]]:
    """The lines that are not blank; those of JSON where the first one is an object."""
    lines = list(read_lines(path, "prompts file"))
    try:
        as_json = bool(lines) and isinstance(parse_json(lines[0][1]), dict)
    except ValueError:
        as_json = False
    return read_jsonl(path, "prompts file") if as_json else ((place, line.strip()) for place, line in lines)


def _read_csv(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows by their heads; a cell that is empty is left out."""
    text = read_regular(path, _LARGEST).decode("utf-8-sig")
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=_SEPARATORS[path.suffix], strict=True)
    for row in reader:
        where = f"{path.name}, line {reader.line_num}"
        if None in row or None in row.values():
            raise InvalidInput(where, f"{len(reader.fieldnames or ())} cells, as the head has", "another number")
        yield where, {name: value for name, value in row.items() if value != ""}


def _read_eval(path: Path) -> Iterator[tuple[str, Any]]:
    """Prompts of a log of inspect in its own archive."""
    values, samples = _open_eval(path)
    yield from _list_inspect(path, values, samples)


def _open_eval(path: Path) -> tuple[dict[str, Any], Iterator[Any]]:
    """Head and samples of a log of inspect in its own archive."""
    data = read_regular(path, _LARGEST)
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}  # of one name the last counts
        heads = [name for name in ("header.json", "_journal/start.json", "start.json") if name in members]
        names = [name for name in members if re.fullmatch(r"samples/.+\.json", name)]  # ids may hold slashes
        if (size := sum(members[name].file_size for name in [*heads, *names])) > _LARGEST:
            raise ValueError(f"expected at most {_LARGEST:,} bytes in it, got {size:,}")
        values = parse_json(_unpack(archive, members[heads[0]])) if heads else {}
        _check_inspect(path, values, bool(names))
    return values, _unpack_samples(data, [members[name] for name in names])


def _unpack_samples(data: bytes, members: list[zipfile.ZipInfo]) -> Iterator[Any]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        for member in members:
            yield parse_json(_unpack(archive, member))


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """What a member holds, in no more memory than it says that it needs. Raises ValueError for one too large."""
    if member.file_size > _LARGEST_SAMPLE or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename}: expected at most {_LARGEST_SAMPLE:,} bytes, stored or deflated")
    with archive.open(member) as file:
        return file.read(member.file_size + 1)  # without a number it unpacks all there is, and cuts it then


def _check_inspect(path: Path, values: Any, has_samples: bool) -> None:
    version = values.get("version") if isinstance(values, dict) else None
    got = "" if has_samples else "no samples"
    if version != _INSPECT_VERSION:
        got = f"version {version!r}"
    elif not isinstance(values.get("eval"), dict):
        got = "no 'eval'"
    if got:
        expected, do = f"a log of inspect, version {_INSPECT_VERSION}, with samples", "Write its prompts as JSONL with "
        raise InvalidInput(f"prompts file {path}", expected, got, f"{do}the keys prompt, reference, task, id.")


def _list_inspect(path: Path, values: dict[str, Any], samples: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """One prompt a sample's id: the epochs ask it again."""
    found: dict[str, dict[str, Any]] = {}
    for _, row, _ in _read_samples(path, values, samples):
        found.setdefault(row["id"], row)
    for name in sorted(found, key=lambda name: (not name.isdecimal(), name.zfill(20))):
        yield f"{path}, sample {name}", found[name]


def _read_samples(path: Path, values: dict[str, Any], samples: Iterable[Any]) -> Iterator[InspectSample]:
    """Every sample with what it asked; the epochs of an id have the same row."""
    found: dict[str, dict[str, Any]] = {}
    asked: dict[str, Any] = {}
    task = values["eval"].get("task")
    for number, sample in enumerate(samples):
        place = f"{path}, sample {number}"
        if not (isinstance(sample, dict) and "input" in sample and isinstance(sample.get("id"), (int, str))):
            raise InvalidInput(place, "a sample of inspect with id and input", sample)
        name = str(sample["id"])
        if name not in found:
            try:
                found[name] = {**_read_sample(sample), "id": name, "task": task if isinstance(task, str) else None}
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise InvalidInput(place, "a sample of inspect", f"{type(error).__name__}: {error}") from error
        if asked.setdefault(name, sample["input"]) != sample["input"]:
            raise InvalidInput(place, "ids that differ, or epochs that ask the same", f"another input of id {name!r}")
        yield InspectSample(place, found[name], sample)


def _read_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Prompt, reference and metadata of a sample of inspect."""
    extra = {"choices": sample["choices"]} if sample.get("choices") else {}
    metadata = sample.get("metadata") or {}
    metadata = metadata if isinstance(metadata, dict) else {"metadata": metadata}
    return {"prompt": _read_input(sample), "reference": sample.get("target"), "metadata": {**metadata, **extra}}


def _read_input(sample: Mapping[str, Any]) -> Any:
    """What was asked: the input; where there are choices, which are no part of it, the messages before an answer."""
    asked = sample["input"]
    if sample.get("choices") and isinstance(sample.get("messages"), list):
        turns = sample["messages"]
        answered = [at for at, turn in enumerate(turns) if isinstance(turn, dict) and turn.get("role") == "assistant"]
        asked = turns[: answered[0]] if answered and answered[0] else asked
    asked = _attach(asked, sample.get("attachments") or {})
    return [_to_message(turn) for turn in asked] if isinstance(asked, list) else asked


def _attach(value: Any, attachments: Mapping[str, Any]) -> Any:
    """The value with the attachments in it in place of their names. Raises LookupError where one is not there."""
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        return attachments[value.removeprefix(_ATTACHMENT)]
    if isinstance(value, list):
        return [_attach(part, attachments) for part in value]
    return {key: _attach(part, attachments) for key, part in value.items()} if isinstance(value, dict) else value


def _to_message(turn: Any) -> Any:
    """A message of inspect in the form that servers take: without its own names, tool calls in their nesting."""
    if not isinstance(turn, dict):
        return turn
    made = {key: turn[key] for key in ("role", "content", "tool_call_id") if turn.get(key) is not None}
    if isinstance(made.get("content"), list):
        made["content"] = [_to_part(part) for part in made["content"]]
    if calls := turn.get("tool_calls"):
        made["tool_calls"] = [
            {
                "id": call.get("id"),
                "type": "function",
                "function": {"name": call["function"], "arguments": canonical_json(call.get("arguments") or {})},
            }
            for call in calls
        ]
    return made


def _to_part(part: Any) -> Any:
    if isinstance(part, dict) and part.get("type") == "image":
        return {"type": "image_url", "image_url": {"url": part.get("image")}}
    return part
