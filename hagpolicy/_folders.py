"""Folders read as they stand at one moment, and put in place at one moment.

What is written gets the rights that the process's umask leaves, as by any other program.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from hagpolicy._files import read_regular, sync

__all__ = ["OpenFolder", "new_folder", "open_folder"]

_NOW = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_FOLDER = _NOW | getattr(os, "O_DIRECTORY", 0)
_MOST_LINKS = 40
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class OpenFolder:
    """The files of a folder, all opened before one is read, so that they are of one moment where the folder is
    replaced meanwhile; see `open_folder`.

    Attributes:
        names: of what is in it.
        links: names among them that are symbolic links.
    """

    def __init__(self, path: Path, most: int, stack: contextlib.ExitStack) -> None:
        self._path = Path(os.path.realpath(path))
        self._stack = stack
        # Where there is no opening relative to a folder, paths must do.
        self._root = self._keep(os.open(self._path, _FOLDER)) if os.open in os.supports_dir_fd else None
        with os.scandir(self._path if self._root is None else self._root) as found:
            entries = [entry for entry, _ in zip(found, range(most + 1), strict=False)]
        if len(entries) > most:
            raise OSError(errno.EINVAL, f"expected at most {most} files, got more", str(path))
        self.names = tuple(sorted(entry.name for entry in entries))
        self.links = tuple(sorted(entry.name for entry in entries if entry.is_symlink()))
        self._targets: dict[Path, str | None] = {}
        self._opened: dict[str, int | OSError] = {}
        for name in self.names:
            if not name.startswith("."):
                try:
                    self._opened[name] = self._open(name)
                except OSError as error:
                    self._opened[name] = error

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of one of its visible files.

        Raises:
            OSError: it cannot be read, is no regular file, is larger than `limit`, or is a link out of the folder.
        """
        opened = self._opened[name]
        if isinstance(opened, OSError):
            raise opened
        return read_regular(self._path / name, limit, opener=lambda *_: os.dup(opened))

    def _open(self, name: str) -> int:
        """A descriptor of a file. Links are resolved, but the way to where they lead is gone without following any."""
        parts: tuple[str, ...] = (name,)
        if name in self.links:
            target = self._resolve(self._path / name)
            if not target.is_relative_to(self._path) or target == self._path:
                raise OSError(
                    errno.EPERM, "expected a file of this folder, got a link out of it", str(self._path / name)
                )
            parts = target.relative_to(self._path).parts
        if self._root is None:
            return self._keep(os.open(self._path.joinpath(*parts), os.O_RDONLY | _NOW))
        place = self._root
        for part in parts[:-1]:
            place = self._keep(os.open(part, _FOLDER, dir_fd=place))
        # A device may act on being opened: looked at before, and again by whoever reads it.
        if not stat.S_ISREG(os.stat(parts[-1], dir_fd=place, follow_symlinks=False).st_mode):
            raise OSError(errno.EINVAL, "expected a regular file, got another kind", str(self._path / name))
        return self._keep(os.open(parts[-1], os.O_RDONLY | _NOW, dir_fd=place))

    def _resolve(self, path: Path) -> Path:
        """Where a path leads to. Each link is looked up once for all files: they are of one moment where it is set
        anew meanwhile, as Kubernetes does."""
        if self._root is None:
            return Path(os.path.realpath(path))
        found, rest, left = Path(path.anchor), list(reversed(path.parts[1:])), _MOST_LINKS
        while rest:
            part = rest.pop()
            found = found.parent if part == ".." else found / part
            if found not in self._targets:
                try:
                    self._targets[found] = os.readlink(found)
                except OSError:  # no link, or nothing at all, which opening it tells
                    self._targets[found] = None
            target = self._targets[found]
            if target is not None:
                left -= 1
                if not left:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                rest += reversed(Path(target).parts)
                found = found.parent
                if Path(target).is_absolute():
                    found = Path(rest.pop())
        return found

    def _keep(self, descriptor: int) -> int:
        self._stack.callback(os.close, descriptor)
        return descriptor


@contextlib.contextmanager
def open_folder(path: Path, most: int) -> Iterator[OpenFolder]:
    """A folder's files, opened without waiting; hidden ones are named only.

    A symbolic link is followed where its target lies inside the folder, as in a mount of Kubernetes; the folder itself
    may be one.

    Args:
        path: of the folder.
        most: this many entries at most.

    Raises:
        OSError: no folder, or too many entries.
    """
    with contextlib.ExitStack() as stack:
        yield OpenFolder(path, most, stack)


@contextlib.contextmanager
def new_folder(folder: str | Path, *, replaces: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """An empty folder to be filled, which gets the name `folder` at the end of the block, whole or not at all.

    It is filled in a hidden folder beside it, locked while its writer lives; one of a dead writer goes with the next.
    A folder that is replaced changes places with the new one in one step of the system. Where the system has no such
    step (outside Linux, on some network disks) there are two renames, and no folder for a moment between them.

    Args:
        folder: the name; folders above it are made.
        replaces: says whether a folder is one that may be replaced, and is asked again for the one that was taken
            away; None: a folder that has this name already stays, and the new one goes.

    Raises:
        OSError: it cannot be written, or what is there may not be replaced; it is untouched.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    _tidy(folder, replaces)
    with _claim_room(folder) as room:
        made, whole = room / "new", room / "whole"
        made.mkdir()
        yield made
        for path in [*made.rglob("*"), made]:
            sync(path)
        made.rename(whole)
        _put(whole, folder, replaces)
        sync(folder.parent)


def _put(whole: Path, folder: Path, replaces: Callable[[Path], bool] | None) -> None:
    """Give a folder its name; what had it is in its place in the room afterwards, or stays."""
    while True:
        try:
            return os.rename(whole, folder)  # takes a free name, and that of an empty folder
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        if replaces is None:
            return None
        refused = FileExistsError(errno.EEXIST, "what is there now is nothing that may be replaced", str(folder))
        if not replaces(folder):
            raise refused
        try:
            old = _exchange(whole, folder, spare=whole.with_name("old"))
        except FileNotFoundError:
            continue  # it went meanwhile: the name is free
        if not replaces(old):  # something else came meanwhile
            _put_back(old, folder, spare=whole)
            raise refused
        return None


def _put_back(old: Path, folder: Path, spare: Path) -> None:
    try:
        _exchange(old, folder, spare)
    except FileNotFoundError:  # what was put there went meanwhile
        os.rename(old, folder)


def _exchange(one: Path, other: Path, spare: Path) -> Path:
    """Let two folders change places, by way of a spare name where need be. Returns where `other` is now."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is not None:
        if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return one
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise OSError(code, os.strerror(code), str(other))
    os.rename(other, spare)
    try:
        os.rename(one, other)
    except OSError:
        os.rename(spare, other)
        raise
    return spare


@contextlib.contextmanager
def _claim_room(folder: Path) -> Iterator[Path]:
    """A new hidden folder beside `folder`, locked until the end of the block, when it goes."""
    while True:
        room = folder.with_name(f".{folder.name}.saving-{secrets.token_hex(8)}")
        room.mkdir()
        with _lock(room, mine=True) as held:
            if not held:
                continue  # another writer found it before it was locked, and took it for a dead one's
            try:
                yield room
            finally:
                _remove(room, folder)
            return


def _tidy(folder: Path, replaces: Callable[[Path], bool] | None) -> None:
    """Remove what writers left that were killed. What may have stood at the name goes only where it may be replaced."""
    with os.scandir(folder.parent) as found:
        left = [Path(entry.path) for entry in found if entry.name.startswith(f".{folder.name}.saving-")]
    for room in left:
        with contextlib.suppress(OSError), _lock(room, mine=False) as held:
            if not held:
                continue
            if (room / "old").exists() and not folder.exists():  # killed between two renames
                os.rename(room / "old", folder)
            stood = [room / name for name in ("whole", "old") if (room / name).exists()]
            if replaces is None or all(map(replaces, stood)):
                _remove(room, folder)


def _remove(room: Path, folder: Path) -> None:
    """Remove a writer's hidden folder, unless the only copy of what stood at the name is in it."""
    if folder.exists() or not (room / "old").exists():
        # Half of a folder that was removed is nothing of ours to who comes next, if this one is killed meanwhile.
        for name in ("whole", "old"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(room / name, room / f"{name}.removed")
        shutil.rmtree(room, ignore_errors=True)


@contextlib.contextmanager
def _lock(room: Path, *, mine: bool) -> Iterator[bool]:
    """Whether a folder is there and locked by nobody else; where it is, it is locked until the end of the block.

    By flock, which ends with its process. Where the disk or the system has no such lock, only what is `mine` is held,
    and nothing of others is ever removed.
    """
    descriptor = None
    try:
        held = mine
        with contextlib.suppress(ImportError, FileNotFoundError):
            import fcntl

            held = False
            descriptor = os.open(room, _FOLDER)
            free = True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                free = False
            except OSError:
                free = mine
            held = free and os.path.samestat(os.fstat(descriptor), os.stat(room))
        yield held
    finally:
        if descriptor is not None:
            os.close(descriptor)
