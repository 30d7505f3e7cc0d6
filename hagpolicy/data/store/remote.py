"""A sweep folder on any file system that fsspec or pyarrow knows: object stores, servers, memory."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from hagpolicy._extras import require
from hagpolicy.data.store.locks import LeasedLock, make_token
from hagpolicy.data.store.place import INTACT, MAX_BYTES, Files
from hagpolicy.errors import InvalidInput, StoreError

logger = logging.getLogger(__name__)

FEATURE = "a sweep folder that is not on a local disk"
# Stores of whole objects: one is replaced at once or not at all, and folders are only parts of names.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"}


class RemoteFiles(Files):
    """A folder on an fsspec file system.

    An object store puts a file whole by itself; elsewhere it is written under a temporary name and
    moved. Nothing can be synced here: when a write returns, the file system has taken it.

    Args:
        system: an fsspec file system.
        root: the folder on it; "": its root.
        place: the folder, for messages.
    """

    def __init__(self, system: Any, root: str, place: str) -> None:
        self.place = place
        self._system, self._root = system, root.rstrip("/")
        self.mark = f"-{make_token()}"
        # What a listing told of files: (size, whether it is one), so that looking at them costs no further request.
        self._listed: dict[str, tuple[int, bool]] = {}
        self._objects = bool(OBJECT_STORES & _protocols(system))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """See `Files`."""
        with _os_errors():
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
        # Some stores list the folder itself as an empty object.
        names = {str(entry["name"]).rstrip("/").rpartition("/")[2]: int(entry["size"] or 0) for entry in found}
        for entry in found:
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            self._listed[f"{folder}/{name}".lstrip("/")] = (names[name], entry.get("type", "file") == "file")
        return {name: names[name] for name in sorted(names) if name and name != self._path(folder).rpartition("/")[2]}

    def read(self, name: str) -> bytes:
        """See `Files`."""
        size, is_file = self._listed.get(name, (0, True))
        if not is_file:
            raise OSError(errno.EINVAL, "expected a regular file", self.at(name))
        if size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"expected at most {MAX_BYTES:,} bytes, got {size:,}", self.at(name))
        with _os_errors():
            return bytes(self._system.cat_file(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        """See `Files`."""
        path = self._path(name)
        try:
            if self._objects:
                self.overwrite(name, data)
            else:
                self.overwrite(name + ".tmp", data)
                with _os_errors():
                    self._system.mv(path + ".tmp", path)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.remove(name + ".tmp")
            raise StoreError(f"cannot write {self.at(name)}: {error}. {INTACT}") from error

    def overwrite(self, name: str, data: bytes) -> None:
        """Write a file in one go, whatever becomes of it when that fails. Raises OSError."""
        with _os_errors():
            self._system.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that is not there yet; False where it is. Raises OSError."""
        path = self._path(name)
        with _os_errors():
            try:
                with self._system.open(path, "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
            except (ValueError, NotImplementedError) as error:
                logger.warning("%s cannot create files exclusively (%s): start one runner at a time", self.place, error)
                if self.has(name):
                    return False
                self._system.pipe_file(path, data)
        return True

    def rename(self, name: str, new: str) -> None:
        """See `Files`."""
        with _os_errors():
            self._system.mv(self._path(name), self._path(new))

    def remove(self, name: str) -> None:
        """See `Files`."""
        with _os_errors(), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def make(self, folders: Iterable[str]) -> None:
        """See `Files`."""
        if not self._objects:
            with _os_errors():
                for folder in ("", *folders):
                    self._system.makedirs(self._path(folder), exist_ok=True)

    def lock(self) -> LeasedLock:
        """See `Files`."""
        return LeasedLock(self, self.mark[1:])

    def _path(self, name: str) -> str:
        return "/".join(part for part in (self._root, name) if part)


def open_url(url: str) -> RemoteFiles:
    """The folder at a URL.

    Raises:
        InvalidInput: fsspec does not know it, or lacks the package for it.
        MissingExtra: fsspec is not installed.
    """
    core = require("fsspec.core", "sweep", FEATURE)
    try:
        system, root = core.url_to_fs(url)
    except (ValueError, ImportError, OSError) as error:
        raise InvalidInput("out", "a folder, or a URL that fsspec can open", _without_keys(url), str(error)) from error
    return RemoteFiles(system, root, _without_keys(url).rstrip("/"))


def open_system(system: Any) -> RemoteFiles:
    """The folder that is the root of a file system: fsspec's `DirFileSystem`, pyarrow's `SubTreeFileSystem`.

    Raises:
        InvalidInput: no file system.
        MissingExtra: fsspec is not installed.
    """
    spec = require("fsspec.spec", "sweep", FEATURE)
    root = ""
    if hasattr(system, "base_fs") and hasattr(system, "base_path"):
        arrow = require("fsspec.implementations.arrow", "sweep", FEATURE)
        system, root = arrow.ArrowFSWrapper(system.base_fs), system.base_path
    if not isinstance(system, spec.AbstractFileSystem):
        expected = "a folder, a URL, fsspec's DirFileSystem or pyarrow's SubTreeFileSystem"
        raise InvalidInput("out", expected, system)
    kind = min(_protocols(system) - {"dir"}, default="dir")
    return RemoteFiles(system, root, f"{kind}:{(root or getattr(system, 'path', '')).rstrip('/')}")


def _protocols(system: Any) -> set[str]:
    """Names of the protocols of a file system and of those that it wraps."""
    names: set[str] = set()
    while system is not None:
        found = getattr(system, "protocol", None)
        names.update((found,) if isinstance(found, str) else tuple(found or ()))
        system = getattr(system, "fs", None)
    return names


def _without_keys(url: str) -> str:
    """The URL without a user's name and password, which some protocols take before the host."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """A block in which errors of file systems' own packages become OSErrors."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
