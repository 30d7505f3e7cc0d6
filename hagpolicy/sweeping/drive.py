"""The loop of a sweep: generate a unit, score it, store it."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, cast

from hagpolicy._text import replace_surrogates
from hagpolicy.config.render import fill_hint
from hagpolicy.config.slots import describe_slots
from hagpolicy.data.completion import Completion, Request, sum_tokens
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.stopping import cut_at_stop
from hagpolicy.data.store.cells import Plan, derive_stream_seed
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.records import FINISHES, CellRecord
from hagpolicy.engines.base import Engine, EngineLost
from hagpolicy.errors import EngineError, StoreError
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.sweeping.budget import BudgetMeter
from hagpolicy.sweeping.forecast.progress import ProgressReporter
from hagpolicy.sweeping.health import Health, ScoreWatch
from hagpolicy.sweeping.scoring import make_score_record, score_items

logger = logging.getLogger(__name__)

# Units that end within a second of each other share a segment: a fast engine would else leave a file a unit.
FLUSH_SECONDS = 1.0
FLUSH_CELLS = 20_000
# A run that has stored nothing for so long says so in the folder.
STALL_SECONDS = 5.0
# Of characters: texts that repeat themselves pack well, and what is stored must not fill the memory when it is read.
FLUSH_CHARACTERS = 32 << 20
# A text that is longer is none that an LLM gave.
MOST_CHARACTERS = 64 << 20


class _StallNote:
    """Notes in the folder that this run has stored nothing for a while, for as long as that is so.

    Should the run be killed then, the next one starts slowly (`plan_work`): without that, a machine that is taken away
    every few seconds would begin the same unit for ever. A note that is found stays until the run ends by itself, since
    it may be killed as soon as the last one.
    """

    def __init__(self, store: SweepStore) -> None:
        self._store, self._found = store, store.stalled
        self._stored, self._lock = False, threading.Lock()
        self._timer = threading.Timer(STALL_SECONDS, self._write)
        self._timer.daemon = True
        self._timer.start()

    def _write(self) -> None:
        with self._lock, contextlib.suppress(OSError, StoreError):  # the run itself meets them, and tells
            if not self._stored:
                self._store.note_stall()

    def record_stored(self) -> None:
        """Cells were stored."""
        self._timer.cancel()
        with self._lock:
            if not self._stored and not self._found:
                self._store.clear_stall()
            self._stored = True

    def end(self) -> None:
        """The run has ended by itself."""
        self._timer.cancel()
        with self._lock, contextlib.suppress(OSError, StoreError):
            if self._stored:
                self._store.clear_stall()


class _Buffer:
    """Generated cells on their way to the next segment."""

    def __init__(self, store: SweepStore, stall_note: _StallNote) -> None:
        self._store, self._stall_note = store, stall_note
        # Rows, not columns: a Ctrl-C between two columns would leave them of unequal length.
        self._rows: list[CellRecord] = []
        self._characters = 0
        self._path: str | None = None
        self._flushed = time.monotonic()

    def add(self, rows: Iterable[CellRecord]) -> None:
        """Take the cells of one unit; write when it is time."""
        new = list(rows)
        self._rows.extend(new)
        self._characters += sum(len(row.text) for row in new)
        full = len(self._rows) >= FLUSH_CELLS or self._characters >= FLUSH_CHARACTERS
        if full or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one segment. Interrupted and called again, it writes the same file anew."""
        if self._rows:
            self._path = self._path or self._store.new_segment()
            self._store.add_cells(self._path, self._rows)
            self._rows, self._characters, self._path = [], 0, None
            self._stall_note.record_stored()
        self._flushed = time.monotonic()


@dataclass
class _Unit:
    """A unit on its way through the engine: keys and requests of its cells; whether cells of it failed before.

    `left` are indices of its cells that were not handed over yet: nothing is taken twice.
    """

    keys: list[str]
    requests: list[Request]
    failed_before: bool
    left: dict[int, None] = field(init=False)

    def __post_init__(self) -> None:
        self.left = dict.fromkeys(range(len(self.keys)))

    def take(self, indices: Iterable[int]) -> list[int]:
        """Those of these cells that were not handed over before; from now on they are."""
        new = [index for index in indices if index in self.left]
        for index in new:
            del self.left[index]
        return new


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
    watch: ScoreWatch | None = None,
) -> bool:
    """Generate, score and store units.

    Args:
        engine: generates.
        store: takes what is generated.
        units: (plan, unit) each.
        scorers: of each prompt.
        reporter: is told what has ended.
        budget_meter: says what may be begun.
        watch: of a sweep that runs its units in several calls; None: these are all.

    Returns:
        False where the budget ended before the units did.

    Raises:
        EngineError: the engine is dead by its `Health` (units that were left are not begun), or loses units.
        InvalidInput: there is a budget in tokens, and those of a unit were not counted; it is stored.
        ScorerError: a scorer gives none of its first cells a reward; they are stored.
    """
    health, lost = Health(), None
    stall_note = _StallNote(store)
    buffer, queue = _Buffer(store, stall_note), _UnitQueue(units, store, budget_meter, health)
    intake = _Intake(scorers, buffer, reporter, budget_meter, watch or ScoreWatch(store))
    try:
        with contextlib.closing(cast("Generator[Any, None, None]", engine.stream_parts(queue))) as outcomes:
            for number, outcome in outcomes:
                unit = queue.in_flight.get(number)
                if unit is None:
                    raise EngineError(f"{engine.name} gave back a unit {number!r} that it was not given")
                if isinstance(outcome, dict):
                    part, outcome = _check_part(engine, unit, outcome)
                    if not isinstance(outcome, Exception):
                        intake.take(unit, part)
                        continue
                del queue.in_flight[number]
                if isinstance(outcome, EngineLost):
                    lost = outcome  # closing the stream ends what is in flight: none of it will be answered
                    break
                completions, error = _check_completions(engine, unit.requests, outcome)
                health.record_end(number, error, queue.in_flight, failed_before=unit.failed_before)
                intake.take(unit, dict(enumerate(completions)))
        buffer.flush()
        if queue.in_flight and lost is None:
            raise EngineError(
                f"{engine.name} gave {len(queue.in_flight)} units not back; the same call goes on from there"
            )
    except StoreError:
        raise
    except BaseException:
        buffer.flush()
        raise
    finally:
        stall_note.end()
    stored = f"What this run did is stored in {store.path}; the same call"
    if lost is not None:
        raise EngineError(f"{lost}. {stored} goes on from there.")
    if health.dead and not (queue.all_taken and health.good):
        raise EngineError(
            f"{engine.name} failed on {health.failures} units in a row, last with: {health.error}. {stored} tries "
            "the failed cells again."
        ) from health.error
    return queue.all_taken


@dataclass
class _Intake:
    """Takes cells from the engine: scores, stores and counts them."""

    scorers: Mapping[Prompt, Scorer]
    buffer: _Buffer
    reporter: ProgressReporter
    budget_meter: BudgetMeter
    watch: ScoreWatch

    def take(self, unit: _Unit, given: Mapping[int, Completion]) -> None:
        """Take those of some cells of a unit that were not taken before.

        Raises:
            ScorerError: the first cells are stored, and the scorer gives none of them a reward.
            InvalidInput: there is a budget in tokens, and those of a cell were not counted; it is stored.
        """
        indices = unit.take(given)
        if not indices:
            self.reporter.wait()
            return
        keys, requests = [unit.keys[index] for index in indices], [unit.requests[index] for index in indices]
        completions = [given[index] for index in indices]
        owners = [self.scorers[request.prompt] for request in requests]
        scores: list[Score | None] = [None] * len(owners)
        try:
            scores = _score_now(owners, requests, completions)
        finally:
            # Interrupted while they were scored, the texts are stored all the same: the next call scores them.
            self.buffer.add(_record(*cell) for cell in zip(keys, requests, completions, owners, scores, strict=True))
        missing = [score for score in scores if score is not None and score.value != score.value]
        self.reporter.add(completions, [score.reason or "no reason given" for score in missing])
        self.budget_meter.add_tokens(sum_tokens(completions), sum_tokens(completions, of_prompts=True))
        self.watch.record(owners, requests, completions, scores)


def _check_part(
    engine: Engine, unit: _Unit, given: Mapping[int, Completion]
) -> tuple[dict[int, Completion], Exception | None]:
    """Cells of a unit that ended before it, as they are stored; or the error in what the engine gave."""
    if any(index not in range(len(unit.keys)) for index in given):
        return {}, EngineError(f"{engine.name} gave cells {list(given)!r:.80} of a unit of {len(unit.keys)}")
    completions, error = _check_completions(engine, [unit.requests[index] for index in given], list(given.values()))
    return dict(zip(given, completions, strict=True)), error


def _make_requests(plan: Plan, unit: int, keys: Sequence[str]) -> list[Request]:
    view = plan.view
    requests = []
    for key, (prompt, slot) in zip(keys, plan.cells(unit), strict=False):  # a budget may end within the unit
        j, sample = view.slots[slot]
        stream = derive_stream_seed(key)
        requests.append(Request(view.prompts[prompt], view.space[j], sample, stream, view.limit(j), view.stop))
    return requests


def _check_completions(
    engine: Engine, requests: Sequence[Request], outcome: list[Completion] | Exception
) -> tuple[list[Completion], Exception | None]:
    """The completions of a unit; where the engine failed as a whole, failed ones and the error."""
    error = outcome if isinstance(outcome, Exception) else _find_misfit(engine, requests, outcome)
    if error is None:
        assert not isinstance(outcome, Exception)
        # Whatever an engine makes of the strings that stop it, what is stored ends before them.
        cut = (cut_at_stop(one, request.stop) for one, request in zip(outcome, requests, strict=True))
        return [_make_storable(completion) for completion in cut], None
    logger.warning("%s failed on a unit of %d cells: %s", engine.name, len(requests), error)
    reason = f"{type(error).__name__}: {error}"
    return [_make_storable(Completion("", finish="error", error=reason)) for _ in requests], error


def _make_storable(completion: Completion) -> Completion:
    """The completion as its cell will hold it, so that what is scored now is what is stored."""
    text, finish = replace_surrogates(completion.text), completion.finish
    thought = replace_surrogates(completion.reasoning)
    unchanged = text == completion.text and thought == completion.reasoning
    if unchanged and finish in ("stop", "length") and type(completion.seconds) is float:
        return completion  # nearly all: a sweep has millions of them
    finish = finish if finish in FINISHES else "stop"
    error = replace_surrogates(str(completion.error or "unknown")) if finish == "error" else None
    seconds = float(completion.seconds)
    return replace(completion, text=text, reasoning=thought, finish=finish, error=error, seconds=seconds)


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
        and isinstance(one.reasoning, str)
        and len(one.text) + len(one.reasoning) <= MOST_CHARACTERS
        and _is_count(one.tokens)
        and _is_count(one.prompt_tokens)
        and isinstance(one.seconds, Real)
    )


def _is_count(value: Any) -> bool:
    """True for a number of tokens, or NaN."""
    return value != value if isinstance(value, float) else isinstance(value, Integral) and 0 <= int(value) < 2**31


def _store_count(tokens: float) -> int | None:
    return None if tokens != tokens else int(tokens)


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


def _note_slots(request: Request) -> dict[str, str]:
    """For the receipt that a hint was left out, since the prompt fills no slot of it."""
    hint = request.config.hint
    left_out = bool(hint) and not fill_hint(request.prompt.content, hint)
    return {"hint": describe_slots(hint, "")} if left_out else {}


def _record(key: str, request: Request, completion: Completion, scorer: Scorer, score: Score | None) -> CellRecord:
    prompt = request.prompt
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
        text=completion.text,
        tokens=_store_count(completion.tokens),
        prompt_tokens=_store_count(completion.prompt_tokens),
        seconds=completion.seconds,
        finish=completion.finish,
        error=completion.error if completion.finish == "error" else None,
        reward=None if stored is None else stored.reward,
        reason=None if stored is None else stored.reason,
        answer=None if stored is None else stored.answer,
        scorer=None if stored is None else stored.scorer,
        answers_agree=None if stored is None else stored.answers_agree,
        receipt=json.dumps(_note_slots(request) | dict(completion.receipt), default=str),
        threads=completion.threads,
        reasoning=completion.reasoning or None,
    )
