"""Requests of several units in flight at once, behind an iterator that is not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from hagpolicy.data.completion import Completion, Request
from hagpolicy.engines.base import PartOutcome
from hagpolicy.engines.openai.concurrency import ConcurrencyLimiter
from hagpolicy.errors import EngineError

__all__ = ["THREAD_NAME", "EventLoopThread", "Slots", "stream_units"]

T = TypeVar("T")
HandOver = Callable[[dict[int, Completion]], None]
Work = Callable[[list[Request], Callable[[int], None], HandOver], Coroutine[Any, Any, list[Completion]]]
END_SECONDS = 10.0
# So long nothing ends before the consumer is told that the server is still waited for.
SILENT_SECONDS = 5.0
THREAD_NAME = "hagpolicy-http"


class EventLoopThread:
    """An event loop in a thread of its own, started with the first coroutine given to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.closed = False

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """The future of a coroutine, which runs in the loop.

        Raises:
            EngineError: the loop was stopped.
        """
        with self._lock:
            if self.closed:
                work.close()
                raise EngineError("the engine was closed; load it anew")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=THREAD_NAME, daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, which runs in the loop."""
        future = self.submit(work)
        try:
            result: T = future.result()
        except BaseException:
            future.cancel()
            raise
        return result

    @property
    def inside(self) -> bool:
        """Whether the caller runs in the loop's own thread, where waiting for the loop would never end."""
        return threading.current_thread() is self._thread

    def stop(self, last: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Cancel what runs, run `last`, end the loop and join its thread; a second call does nothing."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        ending = asyncio.run_coroutine_threadsafe(_shut_down(last), loop)
        if self.inside:
            ending.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
            return
        # A name that is being looked up cannot be cancelled; nobody should wait for it.
        wait([ending], timeout=END_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _shut_down(last: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last()
    await asyncio.get_running_loop().shutdown_default_executor()


class Slots:
    """As many requests at a time as the limiter allows, first come, first served; used inside the loop."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self.limiter = limiter
        self._waiting: deque[asyncio.Future[float]] = deque()

    async def __aenter__(self) -> float:
        """Wait for a slot; by the loop's clock, since when it is taken (the task may be woken later)."""
        loop = asyncio.get_running_loop()
        if not self._waiting and self.limiter.in_flight < self.limiter.limit:
            self.limiter.acquire()
            return loop.time()
        place: asyncio.Future[float] = loop.create_future()
        self._waiting.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._release()  # it was handed over just as its receiver was cancelled
            elif place in self._waiting:
                self._waiting.remove(place)  # else those who come next would queue behind nobody
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    async def lend(self, seconds: float) -> None:
        """Give the slot to others for so many seconds, and take another one then."""
        self._release()
        try:
            await asyncio.sleep(seconds)
            await self.__aenter__()
        except BaseException:
            self.limiter.acquire()  # whoever holds it gives it back
            raise

    def _release(self) -> None:
        self.limiter.release()
        # Handed over at once, so that slots do not stand empty until the next task is woken.
        while self._waiting and self.limiter.in_flight < self.limiter.limit:
            place = self._waiting.popleft()
            if not place.done():
                self.limiter.acquire()
                place.set_result(place.get_loop().time())


class _Backlog:
    """Cells drawn and not yet begun. `drawn` is counted by the consumer, `begun` in the loop."""

    def __init__(self, limit: Callable[[], int], wake: Callable[[], None]) -> None:
        self._limit, self._wake = limit, wake
        self.drawn = self.begun = 0
        self._woken = False

    def is_low(self) -> bool:
        """Whether more should be drawn: fewer cells wait than twice as many as are in flight."""
        self._woken = False
        return self._needs_more()

    def record_begun(self, cells: int) -> None:
        """So many cells have begun; wakes the consumer where it should draw more."""
        self.begun += cells
        if self._needs_more() and not self._woken:
            self._woken = True
            self._wake()

    def _needs_more(self) -> bool:
        return self.drawn - self.begun < 2 * self._limit()


def stream_units(
    thread: EventLoopThread,
    units: Iterable[Sequence[Request]],
    work: Work,
    limit: Callable[[], int],
) -> Generator[PartOutcome, None, None]:
    """Outcomes of units that run through `work`, several at a time, and parts of them; see `Engine.stream_parts`.

    Units are drawn in the caller's thread, and only as many as keep the server busy. Closing the
    iterator cancels what is in flight and waits until it has ended.

    Args:
        thread: where `work` runs.
        units: drawn lazily.
        work: fills one unit; calls its second argument with the number of cells that have begun, its third with
            cells that have ended.
        limit: how many requests may be in flight now.
    """
    finished: SimpleQueue[PartOutcome | None] = SimpleQueue()
    backlog = _Backlog(limit, lambda: finished.put(None))
    running: dict[int, Future[None]] = {}

    async def run_unit(number: int, unit: list[Request]) -> None:
        outcome: list[Completion] | Exception = EngineError("the engine was closed")
        try:
            outcome = await _fill_and_count(work, unit, backlog, lambda part: finished.put((number, part)))
        except Exception as error:  # whatever it is, it is the unit's outcome, and the stream goes on
            outcome = error
        finally:
            finished.put((number, outcome))

    source = enumerate(units)
    more = True
    try:
        while more or running:
            while more and (backlog.is_low() or not running):
                number, unit = next(source, (0, None))
                if unit is None:
                    more = False
                    break
                cells = list(unit)
                backlog.drawn += len(cells)
                running[number] = thread.submit(run_unit(number, cells))
            if running and (done := _get(finished, next(iter(running)))) is not None:
                if not isinstance(done[1], dict):
                    running.pop(done[0])
                yield done
    finally:
        _cancel(thread, list(running.values()))


def _get(finished: SimpleQueue[PartOutcome | None], waited_for: int) -> PartOutcome | None:
    """What has ended next; of the unit that is waited for no cells, where for a while nothing has."""
    try:
        return finished.get(timeout=SILENT_SECONDS)
    except Empty:
        return waited_for, {}


async def _fill_and_count(work: Work, unit: list[Request], backlog: _Backlog, hand_over: HandOver) -> list[Completion]:
    """The completions of a unit, whose cells leave the backlog as they begin."""
    left = len(unit)

    def begin(cells: int) -> None:
        nonlocal left
        left -= cells
        backlog.record_begun(cells)

    try:
        return await work(unit, begin, hand_over)
    finally:
        # Of a unit that failed as a whole, some cells never began; none of them waits any more.
        backlog.record_begun(left)


def _cancel(thread: EventLoopThread, futures: list[Future[None]]) -> None:
    """Cancel what runs in the loop, and wait until it has let go of its connections."""
    for future in futures:
        future.cancel()
    if futures and not thread.inside and not thread.closed:

        async def settle() -> None:
            # The cancellations were handed to the loop before this; two turns let them run their course.
            tasks = [task for task in asyncio.all_tasks() if task.cancelling() and task is not asyncio.current_task()]
            await asyncio.gather(*tasks, return_exceptions=True)

        thread.run(settle())
