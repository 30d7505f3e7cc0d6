"""The files of a sweep folder, on this machine's disks; `open_files` finds the kind of place that `out` names.

Every file is written whole or not at all, and never changed: a later one is added, an earlier one removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hagpolicy._files import check_path, read_regular, write_bytes
from hagpolicy.data.store.locks import FolderLock
from hagpolicy.data.store.place import INTACT, MAX_BYTES, Files, Place
from hagpolicy.errors import StoreError


class LocalFiles(Files):
    """A folder on a disk that this machine has mounted: synced, renamed into place, held by flock."""

    def __init__(self, folder: Path) -> None:
        self.folder: Path = folder
        self.place = str(folder)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """See `Files`."""
        found: dict[str, int] = {}
        self._check_link(self.folder / folder)
        try:
            names = sorted(os.listdir(self.folder / folder))
        except FileNotFoundError:
            return found
        for name in names:
            # One that a writer has merged away meanwhile is not there any more.
            with contextlib.suppress(FileNotFoundError):
                found[name] = (self.folder / folder / name).stat().st_size
        return found

    def read(self, name: str) -> bytes:
        """See `Files`."""
        self._check_link(self.folder / name)
        return read_regular(self.folder / name, MAX_BYTES)

    def _check_link(self, path: Path) -> None:
        """Raise OSError for a link, or what lies in one, whose target is not within the folder."""
        links = [one for one in (path, path.parent) if one != self.folder and one.is_symlink()]
        if path != self.folder and links and not path.resolve().is_relative_to(self.folder.resolve()):
            raise OSError(errno.EINVAL, "a link that leaves the sweep folder is not followed", str(path))

    def write(self, name: str, data: bytes) -> None:
        """See `Files`."""
        try:
            write_bytes(self.folder / name, data, replace=False)
        except FileExistsError as error:
            # A write that was interrupted may have happened, and is then made again.
            if self.read(name) != data:
                raise StoreError(
                    f"{self.folder / name} was written by another process meanwhile. Nothing was overwritten; let one "
                    "of them run at a time."
                ) from error
        except OSError as error:
            raise StoreError(f"cannot write {self.folder / name}: {error}. {INTACT}") from error

    def rename(self, name: str, new: str) -> None:
        """See `Files`."""
        (self.folder / name).replace(self.folder / new)

    def remove(self, name: str) -> None:
        """See `Files`."""
        (self.folder / name).unlink(missing_ok=True)

    def make(self, folders: Iterable[str]) -> None:
        """See `Files`."""
        for name in ("", *folders):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def lock(self) -> FolderLock:
        """See `Files`."""
        return FolderLock(self.folder)


def open_files(out: Place) -> Files:
    """The files of a sweep folder.

    Args:
        out: a path; a URL that fsspec knows, such as "s3://bucket/sweep" (its packages and keys are
            fsspec's own: environment and configuration files); or a file system whose root is the
            folder: fsspec's `DirFileSystem`, pyarrow's `SubTreeFileSystem`.

    Raises:
        InvalidInput: nothing of these, or a URL that fsspec cannot open.
        MissingExtra: fsspec is not installed.
    """
    if isinstance(out, str) and "://" in out and not out.startswith(("file://", "local://")):
        from hagpolicy.data.store.remote import open_url

        return open_url(out)
    if isinstance(out, str) and out.startswith(("file://", "local://")):
        parts = urlsplit(out)
        return LocalFiles(check_path(unquote(parts.netloc + parts.path), "out"))
    if isinstance(out, (str, os.PathLike)):
        return LocalFiles(check_path(out, "out"))
    from hagpolicy.data.store.remote import open_system

    return open_system(out)
