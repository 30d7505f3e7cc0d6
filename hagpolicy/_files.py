"""Files that are there whole or not at all, JSON that every reader takes, JSON Lines.

What is written gets the rights that the process's umask leaves, as by any other program.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hagpolicy.errors import InvalidInput

_LARGEST_TEXT = 1 << 31


def check_path(path: object, name: str) -> Path:
    """A path that a caller gave, where a file system can have it.

    Args:
        path: a str or os.PathLike.
        name: the argument's, for the message.

    Raises:
        InvalidInput: something else, or it holds NUL or half a surrogate pair.
    """
    expected = "a path: text, or os.PathLike"
    try:
        found = Path(path)  # type: ignore[arg-type]  # what is none raises TypeError
        held = b"\0" not in os.fsencode(found)
    except TypeError as error:
        raise InvalidInput(name, expected, type(path).__name__) from error
    except UnicodeEncodeError:
        held = False
    if not held:
        raise InvalidInput(name, f"{expected}, without NUL and half surrogate pairs", ascii(str(found)))
    return found


def write_bytes(path: str | Path, data: bytes, *, replace: bool = True) -> Path:
    """Write a file whole or not at all; its folder must be there. Returns the path.

    A temporary name beside it (ending in ".tmp", all that a kill can leave), sync, rename, sync of the folder.

    Args:
        path: the file.
        data: its bytes.
        replace: a file of this name is replaced; else it stays, and FileExistsError is raised.

    Raises:
        OSError: the disk is full, read-only, or fails; a file that was there is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace or not _link(temporary, path):
            os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write a text whole or not at all, in UTF-8 ("?" for half a surrogate pair); folders are made. Returns the path.

    Raises:
        OSError: see `write_bytes`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_bytes(path, text.encode("utf-8", errors="replace"))


def append_bytes(path: str | Path, data: bytes) -> None:
    """Add bytes to the end of a file, and sync it. A kill may leave a part of them. Raises OSError."""
    with Path(path).open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def check_replaceable(path: str | Path, is_ours: Callable[[bytes], bool], what: str) -> None:
    """Refuse to write a file where something else lies than an older one of its kind, or an empty file.

    Args:
        path: of the file to be written.
        is_ours: says of the first MiB of a file whether it is of the kind.
        what: the kind, for the message, such as "a report of hagpolicy".

    Raises:
        InvalidInput: a file of another kind, a link, a folder, or what cannot be read.
    """
    path = check_path(path, "path")
    try:
        status = os.lstat(path)  # "" is the folder that one is in
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InvalidInput(str(path), f"a new file, or {what}", str(error), "Give another path.") from error
    got = f"a {_kind(status.st_mode)}"
    if stat.S_ISREG(status.st_mode):
        try:
            with open(path, "rb", opener=_open_now) as file:
                head = file.read(2**20)
        except OSError as error:
            raise InvalidInput(str(path), f"a new file, or {what}", str(error), "Give another path.") from error
        if not head or is_ours(head):
            return
        got = "another file"
    raise InvalidInput(str(path), f"a new file, or {what}", got, "Move it away, or give another path.")


def read_regular(path: str | Path, limit: int, *, opener: Callable[[str, int], int] | None = None) -> bytes:
    """The bytes of a regular file of at most `limit` bytes, symbolic links followed.

    Opened without waiting and looked at before it is read: a FIFO, a device or a file without end is refused at once.
    `opener` may give another descriptor, as in `open`.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    with open(path, "rb", opener=opener or _open_now) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"expected a regular file, got a {_kind(status.st_mode)}", str(path))
        # Asked for no more than there is: memory is taken for what is asked for.
        data = file.read(min(limit, max(status.st_size, 1 << 16)) + 1) if status.st_size <= limit else b""
        if status.st_size > limit or len(data) > limit:
            got = max(status.st_size, len(data))
            raise OSError(errno.EFBIG, f"expected at most {limit:,} bytes, got {got:,}", str(path))
    return data


def parse_json(data: bytes | str, *, unique: bool = False) -> Any:
    """The value of a JSON text from outside.

    Args:
        data: the text.
        unique: refuse an object that has a key twice, of which other readers may take the other value.

    Raises:
        ValueError: it is no JSON, no UTF-8, or nested too deeply to be read.
    """
    try:
        return json.loads(data, object_pairs_hook=_make_object if unique else None)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def format_json(value: Any) -> str:
    """JSON for other programs: NaN and infinities, which JSON has no word for, become null; numpy
    numbers become plain ones."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def format_jsonl(rows: Iterable[Any], *, ascii_only: bool = False) -> str:
    """JSON Lines: one value a line, in their order."""
    return "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)


def read_lines(path: str | Path, what: str) -> Iterator[tuple[str, str]]:
    """Lines of a text file that are not blank, each with its place, such as "prompts.jsonl, line 3".

    Args:
        path: a file in UTF-8, with or without the mark that some editors put before the first line.
        what: the file's kind, for messages, such as "prompts file".

    Raises:
        InvalidInput: it cannot be read, is no regular file or larger than 2 GiB, or a line (it is named) is no UTF-8.
    """
    path = check_path(path, what)
    try:
        data = read_regular(path, _LARGEST_TEXT)
        lines = data.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InvalidInput(f"{what} {path}", "a readable UTF-8 file", str(error)) from error
    except UnicodeDecodeError as error:
        place = f"{what} {path}, line {data[: error.start].count(10) + 1}"
        raise InvalidInput(place, "readable UTF-8", f"{data[error.start : error.start + 8]!r}") from error
    return ((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip())


def read_jsonl(path: str | Path, what: str) -> Iterator[tuple[str, Any]]:
    """Values of a file of JSON Lines, each with its place; see `read_lines`.

    Raises:
        InvalidInput: it cannot be read, or a line (it is named) is no JSON.
    """
    for place, line in read_lines(path, what):
        try:
            value = parse_json(line)
        except ValueError as error:
            raise InvalidInput(place, "one JSON value", f"{line[:80]} ({error})") from error
        yield place, value


def _link(path: Path, new: Path) -> bool:
    """Move a file to a name that is free; False where the file system knows no links. Raises FileExistsError."""
    try:
        os.link(path, new)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            return False
        raise
    path.unlink()
    return True


def _open_now(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))


def _kind(mode: int) -> str:
    named = {stat.S_IFIFO: "FIFO", stat.S_IFDIR: "folder", stat.S_IFSOCK: "socket", stat.S_IFLNK: "link"}
    return named.get(stat.S_IFMT(mode), "device")


def sync(path: Path) -> None:
    """Have the disk take a file or folder. Some file systems cannot sync folders (EINVAL): nothing to be done."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("expected each key of an object once, got one twice")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):  # a numpy number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
