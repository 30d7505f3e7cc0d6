"""`main`: runs one command and turns errors into exit codes."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence

from hagpolicy.cli.exit_codes import BAD_INPUT, DONE, INTERRUPTED, MISSING, PARTLY
from hagpolicy.errors import EngineError, HagError, MissingExtra

__all__ = ["main"]

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr.

    Args:
        argv: the arguments after the program's name; None: those of the process.

    Returns:
        0 done; 1 done in part (cells failed, the engine gave up, nothing agrees with what is fixed);
        2 bad input or usage; 3 a package is missing; 130 interrupted.
    """
    from hagpolicy.cli.parser import build_parser

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a sign shows ?, and the work is not lost
    try:
        arguments = build_parser().parse_args(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as error:  # argparse: --help, --version, wrong usage
        return error.code if isinstance(error.code, int) else DONE
    except KeyboardInterrupt:
        return _report_error("interrupted; what is stored stays, and the same command goes on from there", INTERRUPTED)
    except BrokenPipeError:
        # The reader has seen enough (`| head`); Python must not complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except MissingExtra as error:
        return _report_error(str(error), MISSING)
    except EngineError as error:
        return _report_error(str(error), PARTLY)
    except HagError as error:
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_ERRORS
        return _report_error(str(error), PARTLY if full else BAD_INPUT)
    except OSError as error:
        return _report_error(str(error), PARTLY)


def _report_error(message: str, code: int) -> int:
    sys.stderr.write(f"hagpolicy: {' '.join(message.split())}\n")
    return code
