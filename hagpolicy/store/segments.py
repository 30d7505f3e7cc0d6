"""Files of a sweep folder: written whole or not at all, read with their checksums, held by one writer."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hagpolicy._extras import require
from hagpolicy.errors import StoreError, SweepLocked

logger = logging.getLogger(__name__)

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
    "receipt": "string",
}
# Rewards that were computed later from stored texts.
SCORE_COLUMNS = {name: CELL_COLUMNS[name] for name in ("cell", "reward", "reason", "answer", "scorer")}


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all: temporary name, sync, rename, sync of the folder.

    Raises:
        StoreError: the disk is full, read-only, or fails; a file that was there is untouched.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(
            f"cannot write {path}: {error}. What was stored before is intact; make room or give another folder, "
            "and run the same call again."
        ) from error


def write_segment(path: Path, columns: Mapping[str, Sequence[Any]], types: Mapping[str, str]) -> None:
    """Write one Parquet segment whole.

    Args:
        path: the file.
        columns: values of every column in `types`, of one length.
        types: `CELL_COLUMNS` or `SCORE_COLUMNS`.

    Raises:
        StoreError: see `write_whole`.
    """
    arrow = require("pyarrow", "sweep", "a sweep folder")
    parquet = require("pyarrow.parquet", "sweep", "a sweep folder")
    arrays = {name: arrow.array(columns[name], type=getattr(arrow, kind)()) for name, kind in types.items()}
    buffer = io.BytesIO()
    # Parquet is written to memory first: a full disk is then an OSError of ours to explain, never a half-written file.
    parquet.write_table(arrow.table(arrays), buffer, compression="zstd", write_page_checksum=True)
    write_whole(path, buffer.getvalue())


def read_segment(path: Path) -> Any:
    """The segment as an Arrow table, every page checked; None when it cannot be read."""
    arrow = require("pyarrow", "sweep", "a sweep folder")
    parquet = require("pyarrow.parquet", "sweep", "a sweep folder")
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (OSError, arrow.ArrowException):
        return None


def set_aside(path: Path, loss: str, *, writable: bool) -> None:
    """Rename a damaged file to `*.torn` and warn; where nothing may be written, only warn.

    Args:
        path: the damaged file.
        loss: what is missing without it and what becomes of it, for the message.
        writable: False leaves the file where it is.
    """
    torn = path.with_name(path.name + ".torn")
    if writable:
        try:
            path.replace(torn)
        except OSError as error:
            raise StoreError(f"{path} is damaged and cannot be set aside as {torn.name}: {error}") from error
        logger.warning("%s is damaged: set aside as %s; %s", path, torn.name, loss)
    else:
        logger.warning("%s is damaged and left out; %s", path, loss)


def next_number(folder: Path) -> int:
    """One more than the highest number that a file in `folder` starts with, torn ones included."""
    heads = [name.split("-")[0].split(".")[0] for name in os.listdir(folder)]
    return max((int(head) for head in heads if head.isdigit()), default=0) + 1


class FolderLock:
    """The right to write to a folder, held by one process at a time.

    It rests on flock, which the system takes back when the process ends in whatever way, so a
    dead process never leaves it behind; the file's content only says who holds it.

    Raises:
        SweepLocked: another process holds it; the message names its pid and host.
        StoreError: the lock file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError as error:
            raise StoreError("sweep folders are locked by flock, which this system lacks: use WSL.") from error
        path = folder / "lock"
        try:
            self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write to the sweep folder {folder}: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(os.pread(self._file, 4096, 0))
            self.release()
            raise SweepLocked(
                f"{folder} is being written to by {holder}. Wait until it ends, or give another folder."
            ) from error
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(about).encode(), 0)
        except OSError as error:
            # On a full disk the lock holds all the same; only its description is missing.
            logger.debug("lock file %s holds no description: %s", path, error)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _holder(content: bytes) -> str:
    try:
        about = json.loads(content)
        return f"process {about['pid']} on host {about['host']} (since {about['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
