"""`main`: runs one command and turns errors into exit codes."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Sequence

from hagpolicy.cli.exit_codes import BAD_INPUT, DONE, FAILED, FAULT, MISSING
from hagpolicy.cli.signals import Stopped, stop_on_signals
from hagpolicy.cli.streams import ReaderGone, StdoutClosed, flush, prepare_streams, write_error
from hagpolicy.errors import EngineError, HagError, MissingExtra

__all__ = ["main"]

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `exit_codes`); errors are one line on stderr.

    Args:
        argv: the arguments after the program's name; None: those of the process.
    """
    with prepare_streams():
        try:
            with stop_on_signals():
                return _run(argv)
        except BaseException as error:
            message, code = _explain(error)
            if message:
                write_error(message)
            if os.environ.get("HAGPOLICY_TRACEBACK"):
                traceback.print_exception(error)
            return code


def _run(argv: Sequence[str] | None) -> int:
    from hagpolicy.cli.options import check_arguments
    from hagpolicy.cli.parser import build_parser

    arguments = build_parser().parse_args(argv)
    check_arguments(arguments)
    code: int = arguments.run(arguments)
    flush()
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    """Message and exit code of whatever ended a command; no message where there is nothing to be said."""
    if isinstance(error, SystemExit):  # argparse: --help, --version
        return "", error.code if isinstance(error.code, int) else DONE
    if isinstance(error, KeyboardInterrupt):
        stopped = error if isinstance(error, Stopped) else Stopped(2)
        word = "interrupted" if stopped.code == 130 else f"ended by {stopped}"
        return f"{word}; what is stored stays, and the same command goes on from there", stopped.code
    if isinstance(error, ReaderGone):
        return "", DONE
    if isinstance(error, MissingExtra):
        return str(error), MISSING
    if isinstance(error, (EngineError, StdoutClosed, OSError)):
        return str(error), FAILED
    if isinstance(error, HagError):
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_ERRORS
        return str(error), FAILED if full else BAD_INPUT
    if isinstance(error, MemoryError):
        return "the memory is not enough for this", FAILED
    kind = type(error).__name__
    return f"a fault of hagpolicy itself, please report it: {kind}: {str(error)[:300]}", FAULT
