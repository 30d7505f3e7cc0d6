"""The standard streams of a command: closed ones, readers that have gone, and text that a terminal would obey."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from hagpolicy._files import parse_json
from hagpolicy._text import escape_controls
from hagpolicy.errors import InvalidInput

__all__ = [
    "ReaderGone",
    "StdoutClosed",
    "flush",
    "prepare_streams",
    "read_stdin",
    "read_stdin_rows",
    "show_progress",
    "write",
    "write_error",
]

_LONGEST_PROMPT = 1 << 24  # characters
_LONGEST_LINE = 1200  # characters of an error


class ReaderGone(Exception):
    """Who read stdout has seen enough, such as `head`."""


class StdoutClosed(Exception):
    """Nothing can be printed: stdout was closed before the command began."""


class _LineFormatter(logging.Formatter):
    """A log record as one line that a terminal shows and does not obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's message."""
        return escape_controls(" ".join(super().format(record).split()))


@contextlib.contextmanager
def prepare_streams() -> Iterator[None]:
    """Within the block all three standard streams can be used; warnings of the library are single lines on stderr.

    A closed one is the null device, so that no file that is opened later takes its number.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            if not _is_open(number):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            made = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - lives as long as the process
            made.name_of_closed = name  # type: ignore[attr-defined]
            setattr(sys, name, made)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a sign shows ?, and the work is not lost
    handler = logging.lastResort
    before = handler.formatter if handler is not None else None
    if handler is not None:
        handler.setFormatter(_LineFormatter())
    try:
        yield
    finally:
        if handler is not None:
            handler.setFormatter(before)


@contextlib.contextmanager
def show_progress(name: str, after: float = 5.0) -> Iterator[None]:
    """Within the block what a logger tells of its progress is shown on stderr, a line in so many seconds at most, and
    every warning."""
    logger, handler, shown = logging.getLogger(name), logging.StreamHandler(sys.stderr), time.monotonic()

    def is_due(record: logging.LogRecord) -> bool:
        nonlocal shown
        if record.levelno > logging.INFO:
            return True
        if record.levelno < logging.INFO or time.monotonic() - shown <= after:
            return False
        shown = time.monotonic()
        return True

    handler.setFormatter(_LineFormatter())
    handler.addFilter(is_due)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def write(text: str = "") -> None:
    """Print lines on stdout, with control characters as \\uXXXX, which JSON reads as well.

    Raises:
        ReaderGone: nobody reads it any more.
        StdoutClosed: it was closed before the command began.
        OSError: it cannot be written, such as to a full disk.
    """
    if hasattr(sys.stdout, "name_of_closed"):
        raise StdoutClosed("stdout is closed: nothing could be printed")
    with _reading():
        sys.stdout.write(escape_controls(text) + "\n")


def flush() -> None:
    """Hand over what was printed; errors as of `write`."""
    with _reading():
        sys.stdout.flush()


def write_error(message: str) -> None:
    """One line on stderr, where that can be written; the middle of a very long one is left out."""
    line = " ".join(message.split())
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} … {line[-_LONGEST_LINE // 2 :]}"
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"hagpolicy: {escape_controls(line)}\n")
        sys.stderr.flush()


def read_stdin() -> str:
    """The text on stdin.

    Raises:
        InvalidInput: it is no text, cannot be read, or has no end within 16 million characters.
    """
    try:
        text = sys.stdin.read(_LONGEST_PROMPT + 1)
    except (UnicodeDecodeError, OSError) as error:
        raise InvalidInput("prompt on stdin", f"text in {sys.stdin.encoding}", str(error)) from error
    if len(text) > _LONGEST_PROMPT:
        raise InvalidInput("prompt on stdin", f"at most {_LONGEST_PROMPT:,} characters", "more")
    return text


def read_stdin_rows() -> Iterator[tuple[str, Any]]:
    """Values of the JSON Lines on stdin that are not blank, each with its place, such as "stdin, line 3".

    Raises:
        InvalidInput: it cannot be read, or a line (it is named) is no JSON, or longer than 16 million characters.
    """
    number = 0
    try:
        while line := sys.stdin.readline(_LONGEST_PROMPT):
            number += 1
            if line.strip():
                yield f"stdin, line {number}", parse_json(line.removeprefix("\ufeff") if number == 1 else line)
    except UnicodeDecodeError as error:  # it is decoded in blocks: the line is not known
        raise InvalidInput("stdin", f"text in {sys.stdin.encoding}", str(error)) from error
    except OSError as error:
        raise InvalidInput("stdin", "something that can be read", str(error)) from error
    except ValueError as error:
        raise InvalidInput(f"stdin, line {number}", "one JSON value", f"{line[:80]!r} ({error})") from error


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is left in the buffer must not be tried again when Python closes stdout.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from None
        raise


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
