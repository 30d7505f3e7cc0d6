"""The loop of a sweep: generate a unit, score it, store it."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, cast

from hagpolicy._text import replace_surrogates
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store.cells import Plan, derive_stream_seed
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.records import CellRecord
from hagpolicy.engines.base import Engine
from hagpolicy.errors import EngineError, StoreError
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.sweeping.budget import BudgetMeter
from hagpolicy.sweeping.forecast.progress import ProgressReporter
from hagpolicy.sweeping.health import Health
from hagpolicy.sweeping.scoring import make_score_record, score_items

logger = logging.getLogger(__name__)

# Units that end within a second of each other share a segment: a fast engine would else leave a file a unit.
FLUSH_SECONDS = 1.0
FLUSH_CELLS = 20_000


class _Buffer:
    """Generated cells on their way to the next segment."""

    def __init__(self, store: SweepStore) -> None:
        self._store = store
        # Rows, not columns: a Ctrl-C between two columns would leave them of unequal length.
        self._rows: list[CellRecord] = []
        self._path: str | None = None
        self._flushed = time.monotonic()

    def add(self, rows: Iterable[CellRecord]) -> None:
        """Take the cells of one unit; write when it is time."""
        self._rows.extend(list(rows))
        if time.monotonic() - self._flushed >= FLUSH_SECONDS or len(self._rows) >= FLUSH_CELLS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one segment. Interrupted and called again, it writes the same file anew."""
        if self._rows:
            self._path = self._path or self._store.new_segment()
            self._store.add_cells(self._path, self._rows)
            self._rows, self._path = [], None
        self._flushed = time.monotonic()


@dataclass
class _Unit:
    """A unit on its way through the engine: keys and requests of its cells; whether cells of it failed before."""

    keys: list[str]
    requests: list[Request]
    failed_before: bool


class _UnitQueue:
    """The units of a sweep on their way to the engine, as long as the budget lasts and the engine lives."""

    def __init__(
        self, units: Iterable[tuple[Plan, int]], store: SweepStore, budget_meter: BudgetMeter, health: Health
    ) -> None:
        self._units, self._store, self._budget_meter, self._health = units, store, budget_meter, health
        self.in_flight: dict[int, _Unit] = {}
        self.all_taken = True

    def __iter__(self) -> Iterator[list[Request]]:
        number = 0
        for plan, unit in self._units:
            if self._health.dead:
                self.all_taken = False
                return
            wanted = plan.keys(unit)
            # Only cells that failed are generated again.
            again = any(key in self._store.cells.rows for key in wanted)
            keys = wanted[: self._budget_meter.admit(len(wanted), again=again)]
            if keys:
                self.in_flight[number] = _Unit(keys, _make_requests(plan, unit, keys), again)
                yield self.in_flight[number].requests
                number += 1
            # Not the end: where a budget has no room for more, cells that failed are still tried again.
            self.all_taken = self.all_taken and len(keys) == len(wanted)


def run_units(
    engine: Engine,
    store: SweepStore,
    units: Iterable[tuple[Plan, int]],
    scorers: Mapping[Prompt, Scorer],
    reporter: ProgressReporter,
    budget_meter: BudgetMeter,
) -> bool:
    """Generate, score and store units.

    Returns:
        False where the budget ended before the units did.

    Raises:
        EngineError: the engine is dead by its `Health` (units that were left are not begun), or loses units.
    """
    health = Health()
    buffer, queue = _Buffer(store), _UnitQueue(units, store, budget_meter, health)
    try:
        with contextlib.closing(cast("Generator[Any, None, None]", engine.stream(queue))) as outcomes:
            for number, outcome in outcomes:
                unit = queue.in_flight.pop(number, None)
                if unit is None:
                    raise EngineError(f"{engine.name} gave back a unit {number!r} that it was not given")
                completions, error = _check_completions(engine, unit.requests, outcome)
                health.record_end(number, error, queue.in_flight, failed_before=unit.failed_before)
                scores = _score_and_store(unit, completions, scorers, buffer)
                budget_meter.add_tokens(sum(completion.tokens for completion in completions))
                missing = [score for score in scores if score is not None and score.value != score.value]
                reporter.add(completions, [score.reason or "no reason given" for score in missing])
        buffer.flush()
        if queue.in_flight:
            raise EngineError(
                f"{engine.name} gave {len(queue.in_flight)} units not back; the same call goes on from there"
            )
    except StoreError:
        raise
    except BaseException as error:
        buffer.flush()
        if isinstance(error, KeyboardInterrupt):
            done, total = reporter.state.done, reporter.state.total
            words = "stopped: %d of %d cells of this run are stored in %s; the same call goes on from there"
            logger.warning(words, done, total, store.path)
        raise
    if health.dead and not (queue.all_taken and health.good):
        raise EngineError(
            f"{engine.name} failed on {health.failures} units in a row, last with: {health.error}. What this run did "
            f"is stored in {store.path}; the same call tries the failed cells again."
        ) from health.error
    return queue.all_taken


def _score_and_store(
    unit: _Unit, completions: Sequence[Completion], scorers: Mapping[Prompt, Scorer], buffer: _Buffer
) -> list[Score | None]:
    """Score a unit and hand its cells on; their scores."""
    owners = [scorers[request.prompt] for request in unit.requests]
    scores: list[Score | None] = [None] * len(owners)
    try:
        scores = _score_now(owners, unit.requests, completions)
    finally:
        # Interrupted while they were scored, the texts are stored all the same: the next call scores them.
        buffer.add(_record(*cell) for cell in zip(unit.keys, unit.requests, completions, owners, scores, strict=True))
    return scores


def _make_requests(plan: Plan, unit: int, keys: Sequence[str]) -> list[Request]:
    view = plan.view
    requests = []
    for key, (prompt, slot) in zip(keys, plan.cells(unit), strict=False):  # a budget may end within the unit
        j, sample = view.slots[slot]
        requests.append(Request(view.prompts[prompt], view.space[j], sample, derive_stream_seed(key), view.limit(j)))
    return requests


def _check_completions(
    engine: Engine, requests: Sequence[Request], outcome: list[Completion] | Exception
) -> tuple[list[Completion], Exception | None]:
    """The completions of a unit; where the engine failed as a whole, failed ones and the error."""
    error = outcome if isinstance(outcome, Exception) else _find_misfit(engine, requests, outcome)
    if error is None:
        assert not isinstance(outcome, Exception)
        return list(outcome), None
    logger.warning("%s failed on a unit of %d cells: %s", engine.name, len(requests), error)
    reason = f"{type(error).__name__}: {error}"
    return [Completion("", finish="error", error=reason) for _ in requests], error


def _find_misfit(engine: Engine, requests: Sequence[Request], outcome: Any) -> Exception | None:
    """The error in what an engine gave for a unit; None where there is none."""
    try:
        given = list(outcome)
    except TypeError:
        return EngineError(f"{engine.name} gave no completions, but {outcome!r:.80}")
    if len(given) != len(requests):
        return EngineError(f"{engine.name} gave {len(given)} completions for {len(requests)} requests")
    bad = [one for one in given if not _is_well_formed(one)]
    return EngineError(f"{engine.name} gave no completion with a text, but {bad[0]!r:.200}") if bad else None


def _is_well_formed(one: Any) -> bool:
    """True for a completion that can be stored."""
    return (
        isinstance(one, Completion)
        and isinstance(one.text, str)
        and _is_count(one.tokens)
        and _is_count(one.prompt_tokens)
        and isinstance(one.seconds, Real)
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and 0 <= int(value) < 2**31


def _score_now(
    scorers: Sequence[Scorer], requests: Sequence[Request], completions: Sequence[Completion]
) -> list[Score | None]:
    """Rewards in order; None where the scorer needs what is generated elsewhere."""
    scores: list[Score | None] = [None] * len(requests)
    now = [i for i, scorer in enumerate(scorers) if not scorer.needs_default or completions[i].finish == "error"]
    found = score_items([scorers[i] for i in now], [(requests[i].prompt, completions[i]) for i in now])
    for i, score in zip(now, found, strict=True):
        scores[i] = score
    return scores


def _record(key: str, request: Request, completion: Completion, scorer: Scorer, score: Score | None) -> CellRecord:
    prompt = request.prompt
    error = replace_surrogates(str(completion.error or "unknown")) if completion.finish == "error" else None
    stored = None if score is None else make_score_record(key, score, scorer)
    return CellRecord(
        cell=key,
        prompt=prompt.digest,
        prompt_id=prompt.id and replace_surrogates(str(prompt.id)),
        task=replace_surrogates(prompt.task),
        config=request.config.digest,
        max_tokens=request.max_tokens,
        sample=request.sample,
        seed=request.seed,
        text=replace_surrogates(completion.text),
        tokens=completion.tokens,
        prompt_tokens=completion.prompt_tokens,
        seconds=completion.seconds,
        finish=str(completion.finish),
        error=error,
        reward=None if stored is None else stored.reward,
        reason=None if stored is None else stored.reason,
        answer=None if stored is None else stored.answer,
        scorer=None if stored is None else stored.scorer,
        answers_agree=None if stored is None else stored.answers_agree,
        receipt=json.dumps(dict(completion.receipt), default=str),
    )
