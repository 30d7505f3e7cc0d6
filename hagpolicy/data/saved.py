"""A table as one file: Parquet with a row a prompt, which bears a digest of all its bytes.

Columns are `prompt` (JSON with the keys of `Prompt.from_dict`), `group`, and of each row the values of its cells,
configs first, then samples, as lists; all that is said of the whole table is JSON in the file's metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._digest import canonical_json
from hagpolicy._extras import require
from hagpolicy._files import check_path, check_replaceable, parse_json, read_regular, write_bytes
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.looks import Look
from hagpolicy.data.origins import Origin
from hagpolicy.data.parquet_digest import DamagedFile, add_digest, check_digest, limit_unpacked
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import MissingExtra, StoreError

__all__ = ["MAGIC", "SavedTable", "read_saved", "write_saved"]

MAGIC = b"PAR1"
"""What a Parquet file begins with."""
FORMAT = 1
_KEY = b"hagpolicy.table"
_LARGEST = 8 << 30  # bytes of a file
_FEATURE = "keeping a table"
# Arrays of cells by the column that holds them, with the types of the column's numbers.
_CELLS = {
    "rewards": ("reward", "float64"),
    "tokens": ("tokens", "float32"),
    "seconds": ("seconds", "float32"),
    "answers": ("answer", "int32"),
}
_RECORDS = ("default", "fingerprint", "max_tokens", "scorers", "failures", "common", "stored")
_ORIGINS = "origins"  # of a table whose configs name artefacts
_HEAD = {"format_version", "space", "samples", "looks", *_RECORDS}


@dataclass(frozen=True)
class SavedTable:
    """What a file holds of a table; names and shapes are those of `SweepTable`.

    Attributes:
        prompts: n_prompts prompts.
        space: n_configs configs.
        groups: int64 (n_prompts,).
        cells: arrays (n_prompts, n_configs, n_samples) by name; one that is not known is not there.
        looks: see `SweepTable`.
        records: the rest, by name: plain values and mappings of them.
        origins: see `SweepTable`.
    """

    prompts: tuple[Prompt, ...]
    space: DecodingSpace
    groups: np.ndarray
    cells: Mapping[str, np.ndarray]
    looks: tuple[Look, ...]
    records: Mapping[str, Any]
    origins: tuple[Origin, ...] = ()


def write_saved(path: str | Path, saved: SavedTable) -> Path:
    """Write a table's file whole or not at all, and return its path; an older one of its kind is replaced.

    Raises:
        InvalidInput: something else lies at the path.
        OSError: the file cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    path = check_path(path, "path")
    data = _encode(saved)
    check_replaceable(path, lambda head: head.startswith(MAGIC) and _is_saved(path), "a saved table of hagpolicy")
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_bytes(path, data)


def read_saved(path: str | Path) -> SavedTable:
    """What `write_saved` wrote; every byte is checked before anything is decoded.

    Raises:
        StoreError: it cannot be read, is damaged, no saved table, or of a newer version.
        MissingExtra: pyarrow is not installed.
    """
    try:
        return _decode(read_regular(path, _LARGEST))
    except (StoreError, MissingExtra, MemoryError):
        raise
    except OSError as error:
        raise StoreError(f"cannot read the table {path}: {error.strerror or error}") from error
    except Exception as error:  # whatever a damaged file makes a decoder raise
        do = "Take a copy of it, or save the table again."
        raise StoreError(f"the table {path} cannot be used: {error}. {do}") from error


def _is_saved(path: Path) -> bool:
    try:
        data = read_regular(path, _LARGEST)
        return check_digest(data) and _KEY in data
    except (OSError, DamagedFile):
        return False


def _encode(saved: SavedTable) -> bytes:
    arrow = require("pyarrow", "sweep", _FEATURE)
    parquet = require("pyarrow.parquet", "sweep", _FEATURE)
    columns: dict[str, Any] = {
        "prompt": arrow.array(
            [json.dumps(prompt.to_dict(), ensure_ascii=False) for prompt in saved.prompts], type=arrow.string()
        ),
        "group": arrow.array(saved.groups, type=arrow.int64()),
    }
    rows, width = len(saved.prompts), int(np.prod(saved.cells["rewards"].shape[1:]))
    for name, (column, kind) in _CELLS.items():
        if name in saved.cells:
            ends = arrow.array(np.arange(rows + 1) * width, type=arrow.int64())
            columns[column] = arrow.LargeListArray.from_arrays(
                ends, arrow.array(saved.cells[name].astype(kind).ravel())
            )
    head = {"format_version": FORMAT, "space": saved.space.to_json(), "samples": saved.cells["rewards"].shape[2]}
    head |= {"looks": [look.to_json() for look in saved.looks], **saved.records}
    if saved.origins:
        head[_ORIGINS] = [origin.to_json() for origin in saved.origins]
    table = arrow.table(columns).replace_schema_metadata({_KEY: canonical_json(head).encode()})
    buffer = io.BytesIO()
    # Without dictionaries a file says itself how much it unpacks to.
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return add_digest(buffer.getvalue())


def _decode(data: bytes) -> SavedTable:
    if not check_digest(data):
        raise DamagedFile("it bears no digest, as a table that hagpolicy saved does")
    arrow = require("pyarrow", "sweep", _FEATURE)
    parquet = require("pyarrow.parquet", "sweep", _FEATURE)
    with parquet.ParquetFile(arrow.BufferReader(data)) as file:
        head = _read_head(file.schema_arrow.metadata or {})
        _check_columns(arrow, file.schema_arrow)
        _check_sizes(file.metadata, len(data))
        table = file.read(use_threads=False)
    space = DecodingSpace([DecodingConfig.from_dict(config) for config in head["space"]])
    shape = (len(table), len(space), int(head["samples"]))
    return SavedTable(
        prompts=tuple(Prompt.from_dict(parse_json(text)) for text in table.column("prompt").to_pylist()),
        space=space,
        groups=np.array(table.column("group").to_pylist(), dtype=np.int64),
        cells={
            name: _read_cells(table.column(column), kind, shape)
            for name, (column, kind) in _CELLS.items()
            if column in table.column_names
        },
        looks=tuple(Look.from_json(look) for look in head["looks"]),
        records={name: head[name] for name in _RECORDS},
        origins=tuple(Origin.from_json(origin) for origin in head.get(_ORIGINS, ())),
    )


def _read_head(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What is said of the whole table. Raises DamagedFile, StoreError."""
    if _KEY not in metadata:
        raise DamagedFile("it is another Parquet file than a table that hagpolicy saved")
    head = parse_json(metadata[_KEY], unique=True)
    if head["format_version"] != FORMAT:
        version = head["format_version"]
        raise DamagedFile(f"it is of format {version!r}, this version of hagpolicy reads {FORMAT}")
    if odd := (head.keys() - {_ORIGINS}) ^ _HEAD:
        raise DamagedFile(f"of its keys {', '.join(sorted(odd))} are not as they should be")
    if not all(isinstance(head[name], dict) for name in ("fingerprint", "scorers", "failures")):
        raise DamagedFile("of its values some are of another kind")
    return dict(head)


def _check_columns(arrow: Any, schema: Any) -> None:
    """Check names and types of the columns. Raises DamagedFile."""
    numbers = {"float64": arrow.float64(), "float32": arrow.float32(), "int32": arrow.int32()}
    known = {"prompt": arrow.string(), "group": arrow.int64()}
    known |= {column: arrow.large_list(numbers[kind]) for column, kind in _CELLS.values()}
    found = dict(zip(schema.names, schema.types, strict=True))
    right = all(known.get(name) == kind for name, kind in found.items())
    if not right or not {"prompt", "group", "reward"} <= found.keys() or len(found) < len(schema):
        raise DamagedFile(f"its columns are {', '.join(f'{name} ({kind})' for name, kind in found.items())}")


def _check_sizes(metadata: Any, size: int) -> None:
    """Refuse a file that would take more memory than a table of its size. Raises DamagedFile."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    unpacked = sum(group.total_byte_size for group in groups)
    if unpacked > limit_unpacked(size) or 8 * metadata.num_rows > limit_unpacked(size):
        raise DamagedFile("it unpacks to more than a table of its size holds")
    if any("DICTIONARY" in encoding for column in columns for encoding in column.encodings):
        raise DamagedFile("it holds dictionaries, which no saved table does")


def _read_cells(column: Any, kind: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Array of `shape` from a column of lists. Raises DamagedFile."""
    compute = require("pyarrow.compute", "sweep", _FEATURE)
    values = column.combine_chunks().flatten()
    counts = set(compute.unique(compute.list_value_length(column)).to_pylist())  # None for a row without a list
    if not counts <= {shape[1] * shape[2]} or values.null_count:
        raise DamagedFile(f"its cells are not {shape[1]} configs of {shape[2]} samples a prompt")
    return np.asarray(values.to_numpy(zero_copy_only=False).astype(kind), dtype=kind).reshape(shape)
