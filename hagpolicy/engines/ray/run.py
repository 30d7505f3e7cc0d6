"""One pass of units over the workers of a Ray sweep."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from hagpolicy.data.completion import Completion, Request
from hagpolicy.engines.ray.actor import Answer
from hagpolicy.engines.ray.workers import WAIT_SECONDS, Crew, Job, Worker, reason
from hagpolicy.errors import EngineError

logger = logging.getLogger(__name__)
Outcome = tuple[int, list[Completion] | Exception]

# A unit that so many workers did not survive is given up; the others go on.
DEADLY = 3
# A worker whose engine failed on so many units in a row is replaced: a broken device fails fast, and
# one broken worker among many would else eat the units of all.
REPLACED_AFTER = 2


class Run:
    """What is to be given out, and what came back.

    Args:
        ray: the module.
        crew: the workers.
        units: drawn as workers have room.
    """

    def __init__(self, ray: Any, crew: Crew, units: Iterable[Sequence[Request]]) -> None:
        self._ray, self._crew = ray, crew
        self._source = enumerate(units)
        self._again: deque[Job] = deque()
        self._drained = False

    @property
    def finished(self) -> bool:
        """True when nothing is left to give out and nothing is on its way."""
        return self._drained and not self._again and not any(worker.jobs for worker in self._crew.ready)

    def feed(self) -> None:
        """Give units to the workers that have room, one to each before a second to any."""
        for depth in (1, 2):
            for worker in self._crew.ready:
                while len(worker.jobs) < min(depth, worker.room):
                    job = self._next()
                    if job is None:
                        return
                    worker.take(job)

    def _next(self) -> Job | None:
        if self._again:
            return self._again.popleft()
        if not self._drained:
            for number, unit in self._source:
                return Job(number, unit)
            self._drained = True
        return None

    def collect(self) -> list[Outcome]:
        """What has ended, after a wait of up to half a second for the first."""
        # A worker takes its units in order, so only the oldest of each can have ended next.
        heads = {worker.jobs[0].ref: worker for worker in self._crew.ready if worker.jobs}
        waited = [*heads, *(worker.arrival for worker in self._crew.starting)]
        if not waited:
            time.sleep(WAIT_SECONDS)
            return []
        if not self._ray.wait(waited, num_returns=1, timeout=WAIT_SECONDS)[0] or not heads:
            return []
        ended, _ = self._ray.wait(list(heads), num_returns=len(heads), timeout=0)
        return [outcome for ref in ended for outcome in self._ended(heads[ref])]

    def _ended(self, worker: Worker) -> list[Outcome]:
        try:
            answer: Answer = self._ray.get(worker.jobs[0].ref)
        except self._ray.exceptions.RayError as error:
            return self._lost(worker, error)
        job = worker.jobs.popleft()
        worker.pace = answer.seconds
        if answer.failure is None:
            worker.failures = 0
            return [(job.number, answer.completions)]
        worker.failures += 1
        if worker.failures >= REPLACED_AFTER:
            logger.warning("%s is replaced: its engine failed on %d units in a row", worker, worker.failures)
            self._again.extendleft(reversed(worker.jobs))
            self._crew.lost(worker)
        return [(job.number, _failure(*answer.failure))]

    def _lost(self, worker: Worker, error: Exception) -> list[Outcome]:
        """Take back a lost worker's units. The oldest is the one it was generating."""
        jobs, why = list(worker.jobs), reason(error)
        self._crew.lost(worker)
        jobs[0].deaths += 1
        deadly = jobs.pop(0) if jobs[0].deaths >= DEADLY else None
        self._again.extendleft(reversed(jobs))
        logger.warning("lost %s (%s); units to be done again: %d", worker, why, len(jobs))
        if deadly is None:
            return []
        logger.warning("unit %d is given up: %d workers were lost while they generated it", deadly.number, DEADLY)
        words = f"given up: {DEADLY} Ray workers were lost while they generated this unit, the last: {why}"
        return [(deadly.number, EngineError(words))]


def _failure(name: str, message: str) -> EngineError:
    """An engine's exception as it is told: a mark on the cells reads as that of a single process."""
    return EngineError(message) if name == "EngineError" else type(name, (EngineError,), {})(message)
