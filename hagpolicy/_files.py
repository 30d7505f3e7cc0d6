"""Files and folders that are there whole or not at all, JSON that every reader takes, JSON Lines.

What is written gets the rights that the process's umask leaves, as by any other program.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hagpolicy.errors import InvalidInput


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file whole or not at all; its folder must be there. Returns the path.

    A temporary name beside it (ending in ".tmp", all that a kill can leave), sync, rename, sync of the folder.

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
        os.replace(temporary, path)
        _sync(path.parent)
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


@contextlib.contextmanager
def new_folder(folder: str | Path, *, replace: bool) -> Iterator[Path]:
    """An empty folder to be filled, which gets the name `folder` at the end of the block, whole or not at all.

    Args:
        folder: the name; folders above it are made.
        replace: a folder that has this name already is replaced; else it stays, and the new one goes.

    Raises:
        OSError: it cannot be written; a folder that was there is untouched.
    """
    folder = Path(folder).absolute()
    mark = secrets.token_hex(4)
    made, old = (folder.with_name(f".{folder.name}.{what}-{mark}") for what in ("new", "old"))
    try:
        made.mkdir(parents=True)
        yield made
        for path in [*made.rglob("*"), made]:
            _sync(path)
        if folder.exists():
            if not replace:
                return
            folder.rename(old)
        try:
            made.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        _sync(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


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
        InvalidInput: it cannot be read.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} {path}", "a readable UTF-8 file", str(error)) from error
    return ((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip())


def read_jsonl(path: str | Path, what: str) -> Iterator[tuple[str, Any]]:
    """Values of a file of JSON Lines, each with its place; see `read_lines`.

    Raises:
        InvalidInput: it cannot be read, or a line (it is named) is no JSON.
    """
    for place, line in read_lines(path, what):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InvalidInput(place, "one JSON value", f"{line[:80]} ({error})") from error
        yield place, value


def _sync(path: Path) -> None:
    """Have the disk take a file or folder. Some file systems cannot sync folders (EINVAL): nothing to be done."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):  # a numpy number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
