"""One pass of units over the workers of a Ray sweep."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from hagpolicy.data.completion import Request
from hagpolicy.engines.base import UnitOutcome
from hagpolicy.engines.ray.actor import UnitResult
from hagpolicy.engines.ray.workers import WAIT_SECONDS, Job, Worker, WorkerPool, shorten_error
from hagpolicy.errors import EngineError

logger = logging.getLogger(__name__)

# A unit that so many workers did not survive is given up; the others go on.
MAX_LOSSES = 3
# A worker whose engine failed on so many units in a row is replaced: a broken device fails fast, and
# one broken worker among many would else eat the units of all.
MAX_FAILURES = 2


class Dispatcher:
    """Gives units to the workers of a pool, and takes back what they generate.

    Args:
        ray: the module.
        pool: the workers.
        units: drawn as workers have room.
    """

    def __init__(self, ray: Any, pool: WorkerPool, units: Iterable[Sequence[Request]]) -> None:
        self._ray, self._pool = ray, pool
        self._source = enumerate(units)
        self._requeued: deque[Job] = deque()
        self._exhausted = False

    @property
    def finished(self) -> bool:
        """True when nothing is left to give out and nothing is on its way."""
        return self._exhausted and not self._requeued and not any(worker.jobs for worker in self._pool.ready)

    def dispatch(self) -> None:
        """Give units to the workers that have room, one to each before a second to any."""
        for depth in (1, 2):
            for worker in self._pool.ready:
                while len(worker.jobs) < min(depth, worker.room):
                    job = self._next()
                    if job is None:
                        return
                    worker.assign(job)

    def _next(self) -> Job | None:
        if self._requeued:
            return self._requeued.popleft()
        if not self._exhausted:
            for number, unit in self._source:
                return Job(number, unit)
            self._exhausted = True
        return None

    def collect(self) -> list[UnitOutcome]:
        """Outcomes of the units that have ended, after a wait of up to half a second for the first."""
        # A worker takes its units in order, so only the oldest of each can have ended next.
        heads = {worker.jobs[0].ref: worker for worker in self._pool.ready if worker.jobs}
        waited = [*heads, *(worker.loading for worker in self._pool.starting)]
        if not waited:
            time.sleep(WAIT_SECONDS)
            return []
        if not self._ray.wait(waited, num_returns=1, timeout=WAIT_SECONDS)[0] or not heads:
            return []
        ended, _ = self._ray.wait(list(heads), num_returns=len(heads), timeout=0)
        return [outcome for ref in ended for outcome in self._take_result(heads[ref])]

    def _take_result(self, worker: Worker) -> list[UnitOutcome]:
        try:
            result: UnitResult = self._ray.get(worker.jobs[0].ref)
        except self._ray.exceptions.RayError as error:
            return self._requeue(worker, error)
        job = worker.jobs.popleft()
        worker.pace = result.seconds
        if result.failure is None:
            worker.failures = 0
            return [(job.number, result.completions)]
        worker.failures += 1
        if worker.failures >= MAX_FAILURES:
            logger.warning("%s is replaced: its engine failed on %d units in a row", worker, worker.failures)
            self._requeued.extendleft(reversed(worker.jobs))
            self._pool.discard(worker)
        return [(job.number, _rebuild_error(*result.failure))]

    def _requeue(self, worker: Worker, error: Exception) -> list[UnitOutcome]:
        """Take back a lost worker's units. The oldest is the one it was generating."""
        jobs, why = list(worker.jobs), shorten_error(error)
        self._pool.discard(worker)
        jobs[0].losses += 1
        given_up = jobs.pop(0) if jobs[0].losses >= MAX_LOSSES else None
        self._requeued.extendleft(reversed(jobs))
        logger.warning("lost %s (%s); units to be done again: %d", worker, why, len(jobs))
        if given_up is None:
            return []
        logger.warning("unit %d is given up: %d workers were lost while they generated it", given_up.number, MAX_LOSSES)
        words = f"given up: {MAX_LOSSES} Ray workers were lost while they generated this unit, the last: {why}"
        return [(given_up.number, EngineError(words))]


def _rebuild_error(name: str, message: str) -> EngineError:
    """An engine's exception from its name and message, so that a mark on its cells reads as in a single process."""
    return EngineError(message) if name == "EngineError" else type(name, (EngineError,), {})(message)
