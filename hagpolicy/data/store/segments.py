"""Segments: Parquet with a checksum on every page and the mark of the engine whose cells they hold."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hagpolicy._extras import require

# Column name -> Arrow type name. A cell has its identity, what came back, and its first reward.
CELL_COLUMNS = {
    "cell": "string",
    "prompt": "string",
    "prompt_id": "string",
    "task": "string",
    "config": "string",
    "max_tokens": "int32",
    "sample": "int32",
    "seed": "int64",
    "text": "string",
    "tokens": "int32",
    "prompt_tokens": "int32",
    "seconds": "float64",
    "finish": "string",
    "error": "string",
    "reward": "float64",
    "reason": "string",
    "answer": "string",
    "scorer": "string",
    "answers_agree": "bool_",
    "receipt": "string",
}
# Rewards that were computed later from stored texts.
SCORE_COLUMNS = {name: CELL_COLUMNS[name] for name in ("cell", "reward", "reason", "answer", "scorer", "answers_agree")}
# Whether equal answers of the scorer mean the same answer: segments of before this was stored have no such column.
OPTIONAL = {"answers_agree"}
# Digest of the engine's fingerprint, in the file's metadata; files of before have none.
ENGINE = b"hagpolicy.engine"


def to_table(columns: Mapping[str, Sequence[Any]], types: Mapping[str, str]) -> Any:
    """An Arrow table of values of every column in `types` (`CELL_COLUMNS`, `SCORE_COLUMNS`), of one length."""
    arrow = require("pyarrow", "sweep", "a sweep folder")
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


def engine_of(table: Any) -> str | None:
    """Digest of the fingerprint of the engine that filled a segment; None where it does not say."""
    metadata = table.schema.metadata or {}
    return metadata[ENGINE].decode("ascii", "replace") if ENGINE in metadata else None


def next_number(names: Iterable[str]) -> int:
    """One more than the highest number that one of the file names starts with, torn ones included."""
    heads = [name.split("-")[0].split(".")[0] for name in names]
    return max((int(head) for head in heads if head.isdigit()), default=0) + 1
