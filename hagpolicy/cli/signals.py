"""Signals that end a command: all of them are what Ctrl-C is, so that what is done gets stored."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["Stopped", "stop_on_signals"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end.

    Attributes:
        code: exit code, 128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        self.code = 128 + number
        super().__init__(signal.Signals(number).name)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Within the block a signal raises `Stopped` in the main thread, and a second one ends the process at once.

    Those that whoever started the command has it ignore (nohup, jobs in the background) are ignored still.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, _stop)
    _seen.clear()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_seen: list[int] = []


def _stop(number: int, frame: FrameType | None) -> None:
    if _seen:
        os._exit(128 + number)
    _seen.append(number)
    raise Stopped(number)
