"""The progress of a sweep: a bar for people, a `Progress` for programs."""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hagpolicy._text import format_duration, format_number
from hagpolicy.data.completion import Completion, sum_tokens

SHOWN_KINDS = 3
# Seconds without an answer, and three times what they take by the pace so far: the bar says so.
SHOWN_WAITING = 5.0
# Quoted parts and numbers, but not the status of an answer over HTTP, which is its kind.
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|(?<!HTTP )(?<!status )(?<![\d.,])\d[\d.,]*")


@dataclass(frozen=True)
class Progress:
    """State of a running sweep, after each unit.

    Attributes:
        done: cells generated in this run.
        total: cells to be generated in this run; of a strategy, as many as its budget lets it ask for: it may
            end before them.
        failed: cells of this run without a reward.
        tokens: new tokens of this run; NaN where they were not all counted.
        seconds: wall time of this run so far.
        prompt_tokens: tokens of the prompts of these cells; NaN where they were not all counted.
        cell_seconds: the cells' own seconds added up, of those where they were measured; more than `seconds` where
            an engine generates units side by side.
        failures: the failed cells by kind (`classify_failure`), most frequent first.
        pace: cells per second over the latter half of the run; NaN before two units have ended.
        waiting: seconds since a cell has ended, where an engine tells that it still waits for the next; else 0.
    """

    done: int
    total: int
    failed: int
    tokens: float
    seconds: float
    prompt_tokens: float = 0
    cell_seconds: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)
    pace: float = math.nan
    waiting: float = 0.0

    @property
    def seconds_left(self) -> float:
        """Estimate of the wall time that is left: the cells that are left, at the pace of the latter half of the
        run, since units are unequal and engines warm up; before there is one, at the rate so far."""
        rate = self.pace if self.pace > 0.0 else self.cells_per_second
        return (self.total - self.done) / rate if rate > 0.0 else math.nan

    @property
    def tokens_per_second(self) -> float:
        """New tokens per second of wall time."""
        return self.tokens / self.seconds if self.seconds > 0.0 else math.nan

    @property
    def cells_per_second(self) -> float:
        """Cells per second of wall time."""
        return self.done / self.seconds if self.seconds > 0.0 else math.nan


class Pace:
    """The rate of the latter half of a run, from the times at which units ended.

    Units before the middle of the time so far are forgotten, but for the last of them.
    """

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque([(0.0, 0)])

    def add(self, seconds: float, done: int) -> None:
        """A unit ended `seconds` after the begin, with `done` cells generated so far."""
        self._ends.append((seconds, done))
        while len(self._ends) > 2 and self._ends[1][0] <= seconds / 2.0:
            self._ends.popleft()

    @property
    def rate(self) -> float:
        """Cells per second; NaN before two units have ended at different times."""
        (early, before), (late, after) = self._ends[0], self._ends[-1]
        return (after - before) / (late - early) if late > early and len(self._ends) > 2 else math.nan


class ProgressReporter:
    """Counts a run and shows it.

    Args:
        show: True for a bar and messages on stderr (the bar is tqdm's; where that is not installed
            there is none), False for nothing, or a function that is called with a `Progress` after
            each unit.

    Attributes:
        state: the run so far.
        preview: what it was expected to cost; see `sweeping.forecast.estimate`. None before the sweep began.
        summary: what it did cost; see `sweeping.forecast.summary`. None before its end.
    """

    def __init__(self, show: bool | Callable[[Progress], Any] = True) -> None:
        self._begin, self._pace = time.monotonic(), Pace()
        self._call = show if callable(show) else None
        self._show = show is True
        self._bar: Any = None
        self._failures: Counter[str] = Counter()
        self._expected = self._goal = 0
        self._last = self._begin  # when the latest cell ended
        self.state = Progress(0, 0, 0, 0, 0.0)
        self.preview: Any = None
        self.summary: Any = None

    def expect(self, cells: int) -> None:
        """So many more cells are to be generated now; the first of them start the clock."""
        if not self._expected:
            # Monotonic: a clock that is set while the sweep runs changes no rate.
            self._begin = self._last = time.monotonic()
        self._expected += cells
        self._set_total(max(self._expected, self._goal))

    def set_goal(self, cells: int) -> None:
        """So many cells may be generated from now on, in rounds of which the next are not known yet."""
        self._goal = self.state.done + cells
        self._set_total(max(self._expected, self._goal))

    def wait(self) -> None:
        """The engine still waits for the cells that come next."""
        self.state = replace(self.state, waiting=time.monotonic() - self._last)
        if self._call is not None:
            self._call(self.state)
        if self._bar is not None:
            with self._showing():
                self._bar.set_postfix_str(format_bar(self.state))

    def _set_total(self, cells: int) -> None:
        self.state = replace(self.state, total=cells)
        with self._showing():
            if self._show and self._bar is None and cells:
                self._bar = _make_bar(cells)
            elif self._bar is not None and self._bar.total != cells:
                self._bar.total = self.state.total
                self._bar.set_postfix_str(format_bar(self.state))

    def add(self, completions: Sequence[Completion], failures: Iterable[str]) -> None:
        """Count some cells: what was generated, and why cells of it have no reward."""
        self._last = time.monotonic()
        was, seconds = self.state, self._last - self._begin
        self._failures.update(classify_failure(reason) for reason in failures)
        done = was.done + len(completions)
        self._pace.add(seconds, done)
        self.state = Progress(
            done=done,
            total=was.total,
            failed=self._failures.total(),
            tokens=was.tokens + sum_tokens(completions),
            seconds=seconds,
            prompt_tokens=was.prompt_tokens + sum_tokens(completions, of_prompts=True),
            cell_seconds=was.cell_seconds + sum(one.seconds for one in completions if one.seconds == one.seconds),
            failures=dict(self._failures.most_common()),
            pace=self._pace.rate,
        )
        if self._call is not None:
            self._call(self.state)
        if self._bar is not None:
            with self._showing():
                self._bar.set_postfix_str(format_bar(self.state), refresh=False)
                self._bar.update(len(completions))

    def write(self, text: str) -> None:
        """Write a message above the bar; nothing where no bar is shown."""
        with self._showing():
            if self._bar is not None:
                self._bar.write(text, file=sys.stderr)
            elif self._show:
                sys.stderr.write(text + "\n")

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            with self._showing():
                self._bar.close()
            self._bar = None

    @contextlib.contextmanager
    def _showing(self) -> Iterator[None]:
        """Nobody reads stderr any more: that ends the bar, and no sweep."""
        try:
            yield
        except (OSError, ValueError):
            self._bar, self._show = None, False


def classify_failure(reason: str) -> str:
    """The class of a reason: its first line without the numbers and quoted parts that differ from cell to cell."""
    line = next(iter(reason.splitlines()), "") or "no reason given"
    return _VARYING.sub("…", line)[:100]


def format_bar(state: Progress) -> str:
    """The text beside the bar: rates, time left, failures by kind; where nothing comes any more, for how long."""
    if state.waiting >= SHOWN_WAITING and not state.pace * state.waiting < 3.0:
        waiting = f"waiting for an answer for {format_duration(state.waiting)}"
        return ", ".join([waiting, *([format_failures(state.failures)] if state.failures else [])])
    words = [f"{format_duration(state.seconds_left)} left", f"{format_number(state.tokens_per_second)} tokens/s"]
    return ", ".join([*words, *([format_failures(state.failures)] if state.failures else [])])


def format_failures(failures: Mapping[str, int]) -> str:
    """Counts of failures, the most frequent kinds by name."""
    kinds = list(failures.items())
    named = "; ".join(f"{count:,} × {kind}" for kind, count in kinds[:SHOWN_KINDS])
    rest = sum(count for _, count in kinds[SHOWN_KINDS:])
    return f"{sum(failures.values()):,} failed: {named}" + (f"; {rest:,} × other" if rest else "")


def _make_bar(total: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # A log file gets a line every half a minute in place of a bar that moves.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} cells [{elapsed}{postfix}]"
    return tqdm(
        total=total,
        unit="cell",
        file=sys.stderr,
        mininterval=interval,
        dynamic_ncols=True,
        desc="sweep",
        bar_format=form,
    )
