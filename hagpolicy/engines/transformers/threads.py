"""`ThreadChooser`: how many threads a model on a CPU computes with, chosen by measuring.

Threads of one operation wait for each other at its end. Where other processes are busy, one of them is always late, and
two threads can fall to a tenth of what one does; how many are best is known only by trying.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from hagpolicy._checks import is_whole
from hagpolicy.errors import InvalidInput

__all__ = ["ThreadChooser", "check_threads", "count_usable_cores"]

logger = logging.getLogger(__name__)

# A trial is a forward pass of so many rows of so many tokens, about a step of a batch.
TRIAL_ROWS, TRIAL_TOKENS = 16, 2
# Passes with each number of threads at a choice; fewer where they take longer than so many seconds together.
TRIALS, TRIAL_SECONDS = 5, 1.5
# Between choices one pass at such intervals tells whether the rate has fallen: below this share of what it was.
WATCH_SECONDS, FALLEN = 10.0, 0.6
# A neighbour that has gone is noticed only by trying again. All trials stay within this share of the time.
AGAIN_SECONDS, TRIAL_SHARE = 60.0, 0.02


class ThreadChooser:
    """Sets torch's threads while a model computes.

    Args:
        model: of transformers. One that is not on a CPU is left alone.
        fixed: so many, always; None: measured, from one to as many as torch has (which OMP_NUM_THREADS bounds) and
            as there are cores to be used (`count_usable_cores`).

    Attributes:
        now: how many it computes with; None where it is not on a CPU.
        changes: how often the number was changed after the first choice.
    """

    def __init__(self, model: Any, fixed: int | None = None) -> None:
        on_cpu = model.device.type == "cpu"
        self._most = min(torch.get_num_threads(), count_usable_cores()) if on_cpu else 1
        self._model = model
        self._fixed = check_threads(fixed)
        self._on_cpu = on_cpu
        self.now: int | None = (self._fixed or self._most) if on_cpu else None
        self.changes = 0
        self._expected = math.nan  # seconds of a pass when the number was chosen
        self._watch_at = self._choose_at = 0.0

    def fix(self, threads: int) -> None:
        """Compute with so many from now on.

        Raises:
            InvalidInput: no whole number of at least 1.
        """
        self._fixed = check_threads(threads)
        self.now = self._fixed if self._on_cpu else None

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """A context in which torch has the chosen number of threads; afterwards those of before."""
        if self.now is None:
            yield
            return
        before = torch.get_num_threads()
        try:
            self.review()
            torch.set_num_threads(self.now)
            yield
        finally:
            torch.set_num_threads(before)

    def review(self) -> None:
        """Choose at the first call, and again where the rate has fallen or the last choice is old."""
        if self._fixed or self.now is None or self._most == 1:
            return
        now = time.monotonic()
        if now < min(self._watch_at, self._choose_at):
            return
        fallen = now < self._choose_at and self._time_pass() > self._expected / FALLEN
        if fallen or now >= self._choose_at:
            self._choose()
        self._watch_at = time.monotonic() + WATCH_SECONDS

    def _choose(self) -> None:
        begun, before, first = time.monotonic(), self.now, math.isnan(self._expected)
        try:
            seconds = measure_threads(list_candidates(self._most), self._time_pass)
        except Exception as error:  # a model of another kind may ask for more than tokens
            logger.info("threads cannot be measured, %d are taken: %r", self._most, error)
            self._fixed = self.now = self._most
            return
        self.now = min(seconds, key=lambda count: (seconds[count], count))
        self._expected = seconds[self.now]
        torch.set_num_threads(self.now)
        spent = time.monotonic() - begun
        self._choose_at = time.monotonic() + max(AGAIN_SECONDS, spent / TRIAL_SHARE)
        self.changes += not first and self.now != before
        level = logging.INFO if first or self.now != before else logging.DEBUG
        rates = ", ".join(f"{count}: {1000.0 * one:.0f} ms" for count, one in seconds.items())
        logger.log(level, "computing with %d of %d threads (a step with %s)", self.now, self._most, rates)

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch's own has no types
    def _time_pass(self) -> float:
        """Seconds of one pass with the threads that torch has now."""
        ids = torch.zeros((TRIAL_ROWS, TRIAL_TOKENS), dtype=torch.int64)
        begun = time.perf_counter()
        self._model(input_ids=ids, use_cache=False)
        return time.perf_counter() - begun


def measure_threads(candidates: list[int], time_pass: Callable[[], float]) -> dict[int, float]:
    """Seconds of a pass, the mean of some, by number of threads; the order of the passes turns round each time."""
    found: dict[int, list[float]] = {count: [] for count in candidates}
    begun = time.monotonic()
    torch.set_num_threads(candidates[0])
    time_pass()  # the first one allocates
    for turn in range(TRIALS):
        for count in candidates if turn % 2 else candidates[::-1]:
            torch.set_num_threads(count)
            found[count].append(time_pass())
        if time.monotonic() - begun > TRIAL_SECONDS:
            break
    return {count: statistics.fmean(each) for count, each in found.items()}


def list_candidates(most: int) -> list[int]:
    """Numbers of threads to try: powers of two and the most."""
    return sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)})


def check_threads(threads: Any) -> int | None:
    """The number of threads, or None where none is given.

    Raises:
        InvalidInput: no whole number of at least 1.
    """
    if threads is not None and not is_whole(threads, 1):
        raise InvalidInput("threads", "a whole number of at least 1, or None: measured", threads)
    return None if threads is None else int(threads)


def count_usable_cores(control: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: those it is bound to, within the CPU limit of its container, at least 1.

    Args:
        control: where the kernel tells the limits of control groups.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = "max", "1"
    with contextlib.suppress(OSError, ValueError):
        quota, period = (control / "cpu.max").read_text().split()
    if quota == "max":
        with contextlib.suppress(OSError, ValueError):
            quota = (control / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (control / "cpu" / "cpu.cfs_period_us").read_text().strip()
    try:
        share = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return max(cores, 1)
    return max(min(cores, math.ceil(share)) if share > 0.0 else cores, 1)
