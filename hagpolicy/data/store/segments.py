"""Segments: Parquet with a digest of the whole file and the mark of the engine whose cells they hold."""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from hagpolicy._extras import require
from hagpolicy.data.parquet_digest import SLACK_BYTES, DamagedFile, add_digest, check_digest, limit_unpacked
from hagpolicy.data.store.records import FINISHES, CellRecord, ScoreRecord

logger = logging.getLogger(__name__)

# Digest of the engine's fingerprint, in the file's metadata; files of before have none.
ENGINE = b"hagpolicy.engine"
# The name under which a segment was stored, in its metadata: one under another name is a copy, or stands for another.
# Only files that bear a digest have it.
NAME = b"hagpolicy.name"

# A segment may have so many rows more than its bytes say that it has.
SLACK_ROWS = 10_000

_DIGESTS = {"cell", "prompt", "config"}  # whose lengths have a range
_RANGES = {
    **dict.fromkeys(_DIGESTS, (32, 32)),
    "max_tokens": (1, math.inf),
    **dict.fromkeys(("sample", "tokens", "prompt_tokens"), (0, math.inf)),
    "threads": (1, math.inf),
    "reward": (0, 1),
}
_FILLED = _RANGES.keys() - {"reward", "tokens", "prompt_tokens", "threads"} | {
    "task",
    "seed",
    "text",
    "seconds",
    "finish",
    "receipt",
}


def list_columns(kind: type[CellRecord] | type[ScoreRecord]) -> dict[str, str]:
    """Names of a segment's columns, in their order, with the names of their Arrow types."""
    return {field.name: field.metadata["arrow"] for field in fields(kind)}


def list_required_columns(kind: type[CellRecord] | type[ScoreRecord]) -> set[str]:
    """Names of the columns that a whole segment has, one of an earlier version too."""
    return {field.name for field in fields(kind) if not field.metadata["optional"]}


def _list_sparse_columns(kind: type[CellRecord] | type[ScoreRecord]) -> list[str]:
    """Names of the columns that a segment has only where one of its records has a value."""
    return [field.name for field in fields(kind) if field.metadata.get("sparse")]


def to_table(records: Sequence[CellRecord] | Sequence[ScoreRecord]) -> Any:
    """An Arrow table of at least one record, all of one kind."""
    arrow = require("pyarrow", "sweep", "a sweep folder")
    types = list_columns(type(records[0]))
    columns = dict(zip(types, zip(*map(attrgetter(*types), records), strict=True), strict=True))
    for name in _list_sparse_columns(type(records[0])):
        if all(value is None for value in columns[name]):
            del types[name]
    return arrow.table({name: arrow.array(columns[name], type=getattr(arrow, kind)()) for name, kind in types.items()})


def encode_segment(table: Any, engine: str, name: str = "") -> bytes:
    """A segment as the bytes of a Parquet file that bears their digest.

    Args:
        table: Arrow table.
        engine: digest of the engine's fingerprint.
        name: under which it is stored; "": none.
    """
    parquet = require("pyarrow.parquet", "sweep", "a sweep folder")
    buffer = io.BytesIO()
    marked = table.replace_schema_metadata({ENGINE: engine.encode(), NAME: name.encode()})
    # Parquet is written to memory first: a full disk is then an OSError of ours to explain, never a half-written file.
    parquet.write_table(marked, buffer, compression="zstd", write_page_checksum=True, write_page_index=False)
    return add_digest(buffer.getvalue())


def decode_segment(data: bytes) -> Any:
    """The segment as an Arrow table, every byte checked; None when it is damaged.

    One of before, which bears no digest, is checked by the sums of its pages. Nothing is decoded that would take more
    memory than `limit_unpacked` says.
    """
    arrow = require("pyarrow", "sweep", "a sweep folder")
    require("pyarrow.parquet", "sweep", "a sweep folder")
    require("pyarrow.compute", "sweep", "a sweep folder")
    try:
        return _decode(arrow, data)
    except Exception as error:  # whatever damaged bytes make a decoder raise, a lack of memory too
        logger.debug("a segment of %d bytes is damaged: %r", len(data), error)
        return None


def _decode(arrow: Any, data: bytes) -> Any:
    has_digest = check_digest(data)
    with arrow.parquet.ParquetFile(arrow.BufferReader(data), page_checksum_verification=True) as file:
        schema, metadata = file.schema_arrow, file.metadata
        _check_schema(arrow, schema)
        if not has_digest and NAME in (schema.metadata or {}):
            raise DamagedFile("it bore a digest, which is damaged beyond being recognised")
        unpacked = _check_sizes(metadata, len(data))
        # On a thread of Arrow's own the last reference to `data` may be dropped, which ends in an abort when
        # Python is just shutting down.
        small = metadata.num_rows * unpacked <= SLACK_BYTES
        table = file.read(use_threads=False) if small else _read_large(arrow, data, schema, metadata)
    if len(table) != metadata.num_rows:
        raise DamagedFile("it has other rows than it says")
    return table if has_digest else _read_old_finishes(arrow, table)


def _check_schema(arrow: Any, schema: Any) -> None:
    """Check that a segment has the columns of cells or of rewards, of their types.

    Raises:
        DamagedFile: otherwise.
    """
    types = {field.name: field.type for field in schema}
    kind = CellRecord if "text" in types else ScoreRecord
    expected = {name: getattr(arrow, of)() for name, of in list_columns(kind).items()}
    if len(types) < len(schema) or any(expected.get(name) != of for name, of in types.items()):
        raise DamagedFile(f"its columns are {types}")
    if not list_required_columns(kind) <= types.keys() or not all(field.nullable for field in schema):
        raise DamagedFile(f"of its columns {list(types)} some lack, or must not be empty")


def _read_large(arrow: Any, data: bytes, schema: Any, metadata: Any) -> Any:
    """The table of a segment whose texts may stand in it often; they are spread when it is known what that takes."""
    texts = [field.name for field in schema if field.type == arrow.string()]
    source = arrow.BufferReader(data)
    with arrow.parquet.ParquetFile(
        source, metadata=metadata, read_dictionary=texts, page_checksum_verification=True
    ) as file:
        table = file.read(use_threads=False)
    size = 0
    for chunk in (chunk for name in texts for chunk in table.column(name).chunks):
        lengths = arrow.compute.binary_length(chunk.dictionary)
        size += arrow.compute.sum(arrow.compute.take(lengths, chunk.indices)).as_py() or 0
    if size > limit_unpacked(len(data)):
        raise DamagedFile(f"{size} bytes of texts are more than a sweep's segment of {len(data)} bytes holds")
    return table.cast(schema)


def _check_sizes(metadata: Any, size: int) -> int:
    """How many bytes a file says that its pages unpack to, where that is no more than such a file can hold.

    Raises:
        DamagedFile: it is more.
    """
    # Every row has a key of its own, 16 bytes that nothing can be packed into less.
    if not 0 <= metadata.num_rows <= SLACK_ROWS + size // 16:
        raise DamagedFile(f"{metadata.num_rows} rows are more than {size} bytes can hold")
    # Not of each column: of some damaged ones pyarrow cannot speak without ending the process.
    unpacked = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    if not all(part >= 0 for part in unpacked) or sum(unpacked) > limit_unpacked(size):
        raise DamagedFile("it unpacks to more than a sweep's segment can hold")
    return sum(unpacked)


def _read_old_finishes(arrow: Any, table: Any) -> Any:
    """A segment of before, when an engine's own word for an end was stored: any but the three is "stop"."""
    if "finish" not in table.column_names:
        return table
    column = table.column("finish")
    known = arrow.compute.is_in(column, value_set=arrow.array(FINISHES))
    at = table.column_names.index("finish")
    return table.set_column(at, table.field(at), arrow.compute.if_else(known, column, "stop"))


def find_bad_values(table: Any) -> str | None:
    """What in a segment no sweep stores, in words; None where there is nothing."""
    compute = require("pyarrow.compute", "sweep", "a sweep folder")
    for name, values in zip(table.column_names, table.columns, strict=True):
        if name in _FILLED and values.null_count:
            return f"no {name} in {values.null_count} rows"
        if name in _RANGES:
            low, high = _RANGES[name]
            ends = compute.min_max(compute.binary_length(values) if name in _DIGESTS else values).as_py()
            if any(end is not None and not (low <= end <= high or end != end) for end in ends.values()):
                return f"{name} from {ends['min']} to {ends['max']}"
        if name == "finish" and not set(compute.unique(values).to_pylist()) <= set(FINISHES):
            return "a finish that is none"
    return None


def read_engine(table: Any) -> str | None:
    """Digest of the fingerprint of the engine that filled a segment; None where it does not say."""
    return _read_metadata(table, ENGINE)


def read_name(table: Any) -> str | None:
    """The name under which a segment was stored; None where it does not say."""
    return _read_metadata(table, NAME) or None


def _read_metadata(table: Any, key: bytes) -> str | None:
    metadata = table.schema.metadata or {}
    return metadata[key].decode("ascii", "replace") if key in metadata else None


def find_next_number(names: Iterable[str]) -> int:
    """One more than the highest number that one of the file names starts with, torn ones included."""
    heads = [re.match(r"([0-9]{1,12})(?![0-9])", name) for name in names]
    return max((int(head[1]) for head in heads if head), default=0) + 1
