"""Segments: Parquet with a checksum on every page and the mark of the engine whose cells they hold."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from hagpolicy._extras import require
from hagpolicy.data.store.records import CellRecord, ScoreRecord

# Digest of the engine's fingerprint, in the file's metadata; files of before have none.
ENGINE = b"hagpolicy.engine"


def list_columns(kind: type[CellRecord] | type[ScoreRecord]) -> dict[str, str]:
    """Names of a segment's columns, in their order, with the names of their Arrow types."""
    return {field.name: field.metadata["arrow"] for field in fields(kind)}


def list_required_columns(kind: type[CellRecord] | type[ScoreRecord]) -> set[str]:
    """Names of the columns that a whole segment has, one of an earlier version too."""
    return {field.name for field in fields(kind) if not field.metadata["optional"]}


def to_table(records: Sequence[CellRecord] | Sequence[ScoreRecord]) -> Any:
    """An Arrow table of at least one record, all of one kind."""
    arrow = require("pyarrow", "sweep", "a sweep folder")
    types = list_columns(type(records[0]))
    columns = dict(zip(types, zip(*map(attrgetter(*types), records), strict=True), strict=True))
    return arrow.table({name: arrow.array(columns[name], type=getattr(arrow, kind)()) for name, kind in types.items()})


def encode_segment(table: Any, engine: str) -> bytes:
    """A segment as the bytes of a Parquet file.

    Args:
        table: Arrow table.
        engine: digest of the engine's fingerprint.
    """
    parquet = require("pyarrow.parquet", "sweep", "a sweep folder")
    buffer = io.BytesIO()
    marked = table.replace_schema_metadata({ENGINE: engine.encode()})
    # Parquet is written to memory first: a full disk is then an OSError of ours to explain, never a half-written file.
    parquet.write_table(marked, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def decode_segment(data: bytes) -> Any:
    """The segment as an Arrow table, every page checked; None when it is damaged."""
    arrow = require("pyarrow", "sweep", "a sweep folder")
    parquet = require("pyarrow.parquet", "sweep", "a sweep folder")
    try:
        with parquet.ParquetFile(arrow.BufferReader(data), page_checksum_verification=True) as file:
            # On a thread of Arrow's own the last reference to `data` may be dropped, which ends in an abort when
            # Python is just shutting down.
            return file.read(use_threads=False)
    except (OSError, arrow.ArrowException):
        return None


def read_engine(table: Any) -> str | None:
    """Digest of the fingerprint of the engine that filled a segment; None where it does not say."""
    metadata = table.schema.metadata or {}
    return metadata[ENGINE].decode("ascii", "replace") if ENGINE in metadata else None


def find_next_number(names: Iterable[str]) -> int:
    """One more than the highest number that one of the file names starts with, torn ones included."""
    heads = [name.split("-")[0].split(".")[0] for name in names]
    return max((int(head) for head in heads if head.isdigit()), default=0) + 1
