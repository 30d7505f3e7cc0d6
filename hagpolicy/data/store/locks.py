"""One writer at a time: flock on a disk; elsewhere a file that its owner keeps changing."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

from hagpolicy._files import parse_json
from hagpolicy.errors import StoreError, SweepLocked

logger = logging.getLogger(__name__)

# In seconds: the owner of a leased lock changes it so often, and one that has not changed for so long is taken over.
HEARTBEAT_SECONDS = 5.0
LEASE_SECONDS = 40.0
# What a lock file says that is kept and held by nobody.
FREE = b'{"free": true}'


class FolderLock:
    """The right to write to a folder, held by one process at a time.

    It rests on flock, which the system takes back when the process ends in whatever way, so a
    dead process never leaves it behind; the file's content only says who holds it. Not by `filelock`: most of its
    versions empty the file on every attempt, so that a second runner would read no holder, and where there is no
    flock it goes over to a file that a dead process does leave behind.

    Raises:
        SweepLocked: another process holds it; the message names its pid and host.
        StoreError: the lock file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError as error:
            raise StoreError("sweep folders are locked by flock, which this system lacks: use WSL.") from error
        self._held = False
        self._path = folder / "lock"
        # Never through a link, and without waiting for what is no file: what it names is written to.
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._file: int | None = os.open(self._path, how, 0o666)
        except OSError as error:
            raise StoreError(f"cannot write to the sweep folder {folder}: {error}") from error
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            self.release()
            raise StoreError(f"{self._path} is no regular file. Remove it.")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _name_holder(os.pread(self._file, 4096, 0))
            self.release()
            raise SweepLocked(
                f"{folder} is being written to by {holder}. Wait until it ends, or give another folder."
            ) from error
        self._held = True
        self._describe(json.dumps(_this_process()).encode())

    def check(self) -> None:
        """See `WriteLock`: nothing can take flock away, but another process can lock another file of the name.

        Raises:
            SweepLocked: the lock file was removed or replaced.
        """
        try:
            there: os.stat_result | None = os.stat(self._path, follow_symlinks=False)
        except OSError:
            there = None
        if self._file is None or there is None or not os.path.samestat(there, os.fstat(self._file)):
            raise SweepLocked(_describe_removal(str(self._path)))

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._file is not None:
            if self._held:
                self._describe(FREE)
            os.close(self._file)
            self._file = None

    def _describe(self, content: bytes) -> None:
        """Write who holds the lock: on a full disk it holds all the same, and only its description is missing."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, content, 0)


class LeasedLock:
    """The right to write to a folder that knows no flock: a file that its owner changes every few seconds.

    A file that somebody else left is watched. If it changes, its owner lives; if it stays as it is
    for `LEASE_SECONDS` of the watcher's own monotonic clock, its owner is taken for dead and the
    lock is taken over. No clock of another machine is read and no wall clock at all.

    What it cannot do: an owner that is stopped for longer than that and then goes on learns of
    its loss only at its next `check`, made before every write, and two processes that take the
    lock within the same moment may, where the file system cannot create a file exclusively, both
    have it until then. Names of segments carry their writer's mark, so even then no writer
    destroys what another stored; at worst some cells are generated twice.

    Args:
        files: where the lock is: `RemoteFiles`.
        token: of this owner, unlike any other.

    Raises:
        SweepLocked: another process holds it; the message names its pid and host.
        StoreError: the lock cannot be written.
    """

    def __init__(self, files: Any, token: str) -> None:
        self._files, self._token, self._count = files, token, 0
        # Where a file cannot be replaced at once, a beat's half-written content must not be taken for another's.
        self._writing = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            # A listing tells what is no file, of which reading might never end.
            files.sizes()
            while not files.create("lock", self._content()):
                if self._content_there() == FREE or self._wait_for_owner():
                    files.overwrite("lock", self._content())
                    # Whoever took it over at the same moment has written by then: the last one has it.
                    time.sleep(min(2.0, LEASE_SECONDS / 4))
                    break
            self.check()
        except OSError as error:
            raise StoreError(f"cannot lock the sweep folder {files.place}: {error}") from error
        self._thread = threading.Thread(target=self._keep_alive, name="hagpolicy sweep lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """See `WriteLock`.

        Raises:
            SweepLocked: another process took the lock over.
            StoreError: the lock cannot be read.
        """
        try:
            with self._writing:
                content = self._content_there() or b""
        except OSError as error:
            raise StoreError(f"cannot read the lock of {self._files.place}: {error}") from error
        if not content:
            raise SweepLocked(_describe_removal(self._files.at("lock")))
        if self._token.encode() not in content:
            raise SweepLocked(
                f"the lock of {self._files.place} was taken over by {_name_holder(content)}, since this process had "
                "not been heard of. What it stored is kept; run the same call again when the other one has ended."
            )

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
            try:
                self.check()
                self._files.remove("lock")
            except (StoreError, OSError) as error:
                logger.warning("the lock of %s is not given back: %s", self._files.place, error)

    def _content(self) -> bytes:
        return json.dumps({**_this_process(), "token": self._token, "beat": self._count}).encode()

    def _wait_for_owner(self) -> bool:
        """Watch another's lock: True when it never changed, False when it vanished."""
        seen = self._content_there()
        begin = time.monotonic()
        logger.info("%s is locked by %s: waiting for a sign of life", self._files.place, _name_holder(seen or b""))
        while time.monotonic() - begin < LEASE_SECONDS:
            time.sleep(min(HEARTBEAT_SECONDS, 1.0) / 4)
            now = self._content_there()
            if now is None:
                return False
            if now != seen:
                holder = f"{self._files.place} is being written to by {_name_holder(now, seen)}."
                raise SweepLocked(f"{holder} Wait until it ends, or give another folder.")
        message = "the lock of %s, left by %s, has not changed for %g s: its owner is taken for dead"
        logger.warning(message, self._files.place, _name_holder(seen or b""), LEASE_SECONDS)
        return True

    def _content_there(self) -> bytes | None:
        try:
            content: bytes = self._files.read("lock")
        except FileNotFoundError:
            return None
        return content

    def _keep_alive(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                with self._writing:
                    self.check()
                    self._count += 1
                    self._files.overwrite("lock", self._content())
            except SweepLocked:
                return
            except (StoreError, OSError) as error:
                # The next beat may come through; where none does, another process will take over and `check` tell.
                logger.warning("no sign of life could be left in the lock of %s: %s", self._files.place, error)


def make_token() -> str:
    """What tells one writer from all others, 8 hex digits."""
    return secrets.token_hex(4)


def _describe_removal(path: str) -> str:
    return (
        f"the lock {path} was removed or replaced while this process held it, so another one may be writing. What was "
        "stored is kept and nothing more is written; run the same call again when no other one runs."
    )


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}


def _name_holder(*contents: bytes | None) -> str:
    """The process by the first of some contents of a lock that can be read: one may have been half written."""
    for content in contents:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            about = parse_json(content or b"")
            return f"process {about['pid']} on host {about['host']} (since {about['since']})"
    return "another process"
