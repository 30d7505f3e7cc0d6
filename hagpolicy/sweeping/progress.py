"""How far a sweep is: a bar for people, a value for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """State of a running sweep, after each unit.

    Attributes:
        done: cells generated in this run.
        total: cells to be generated in this run.
        failed: cells of this run without a reward.
        tokens: new tokens of this run.
        seconds: wall time of this run so far.
    """

    done: int
    total: int
    failed: int
    tokens: int
    seconds: float

    @property
    def seconds_left(self) -> float:
        """Estimate of the wall time that is left: the cells that are left at the rate so far."""
        return self.seconds / self.done * (self.total - self.done) if self.done else float("nan")


class Meter:
    """Counts a run and shows it.

    Args:
        show: True for a bar on stderr (tqdm; where it is not installed, nothing), False for
            nothing, or a function that is called with a `Progress` after each unit.
        total: cells to be generated.
    """

    def __init__(self, show: bool | Callable[[Progress], Any], total: int) -> None:
        # Monotonic: a clock that is set while the sweep runs changes no rate.
        self._begin = time.monotonic()
        self._call = show if callable(show) else None
        self._bar = _bar(total) if show is True and total else None
        self.state = Progress(0, total, 0, 0, 0.0)

    def add(self, cells: int, failed: int, tokens: int) -> None:
        """Count one unit."""
        was, seconds = self.state, time.monotonic() - self._begin
        self.state = Progress(was.done + cells, was.total, was.failed + failed, was.tokens + tokens, seconds)
        if self._call is not None:
            self._call(self.state)
        if self._bar is not None:
            rate = self.state.tokens / seconds if seconds > 0 else 0.0
            words = f"{rate:.0f} tokens/s" + (f", {self.state.failed} failed" if self.state.failed else "")
            self._bar.set_postfix_str(words, refresh=False)
            self._bar.update(cells)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def _bar(total: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # A log file gets a line every half a minute in place of a bar that moves.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, unit="cell", file=sys.stderr, mininterval=interval, dynamic_ncols=True, desc="sweep")
