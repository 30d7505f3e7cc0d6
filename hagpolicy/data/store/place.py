"""Where a sweep folder is: the interface of its files, and the right to write to them.

Every file is written whole or not at all, and never changed: a later one is added, an earlier one removed.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

Place = str | os.PathLike[str] | Any
"""Where a sweep folder is, as `sweep`, `rescore` and `load_table` take it; see `open_files`."""


INTACT = "What was stored before is intact; make room or give another folder, and run the same call again."
# No file of a sweep is larger.
MAX_BYTES = 8 << 30


class WriteLock(Protocol):
    """The right to write to a folder."""

    def check(self) -> None:
        """Raise SweepLocked where the right was lost."""

    def release(self) -> None:
        """Give the right back; a second call does nothing."""


class Files(ABC):
    """A folder of files with one level of folders in it; names are such as "cells/000001.parquet".

    Attributes:
        place: the folder, for messages.
        folder: the folder on this machine; None where it is elsewhere.
        mark: stands in the names of new segments, so that two writers never choose the same name.
    """

    place: str
    folder: Path | None = None
    mark = ""

    @abstractmethod
    def sizes(self, folder: str = "") -> dict[str, int]:
        """Names within `folder`, sorted, and their sizes in bytes; {} where there is no such folder. Raises OSError."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises OSError, for what is no regular file or larger than `MAX_BYTES` too."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a new file so that it is there whole or not at all.

        Raises:
            StoreError: the disk is full, read-only, or fails, or another process wrote a file of this name; a file
                that was there is untouched.
        """

    @abstractmethod
    def rename(self, name: str, new: str) -> None:
        """Give a file another name. Raises OSError."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error. Raises OSError."""

    @abstractmethod
    def make(self, folders: Iterable[str]) -> None:
        """Make the folder, with these in it, where they are not there. Raises OSError."""

    @abstractmethod
    def lock(self) -> WriteLock:
        """Take the right to write. Raises SweepLocked, StoreError."""

    def has(self, name: str) -> bool:
        """Whether there is such a file. Raises OSError."""
        folder, _, base = name.rpartition("/")
        return base in self.sizes(folder)

    def at(self, name: str) -> str:
        """The whole name of a file, for messages."""
        return f"{self.place}/{name}"
