"""The loop of a sweep: generate a unit, score it, store it."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from hagpolicy.engines.base import Completion, Engine, Request
from hagpolicy.errors import EngineError, StoreError
from hagpolicy.prompts import Prompt
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.store.cells import Plan, stream_seed
from hagpolicy.store.folder import SweepStore
from hagpolicy.store.segments import CELL_COLUMNS
from hagpolicy.sweeping.budget import Purse
from hagpolicy.sweeping.progress import Meter
from hagpolicy.sweeping.scoring import identity, scored

logger = logging.getLogger(__name__)

# Units that end within a second of each other share a segment: a fast engine would else leave a file a unit.
FLUSH_SECONDS = 1.0
FLUSH_CELLS = 20_000
# After so many units in a row on which the engine failed as a whole, it is taken for dead.
DEAD_AFTER = 3


class _Buffer:
    """Generated cells on their way to the next segment."""

    def __init__(self, store: SweepStore) -> None:
        self._store = store
        # Rows, not columns: a Ctrl-C between two columns would leave them of unequal length.
        self._rows: list[tuple[Any, ...]] = []
        self._path: str | None = None
        self._flushed = time.monotonic()

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take the cells of one unit; write when it is time."""
        self._rows.extend(list(rows))
        if time.monotonic() - self._flushed >= FLUSH_SECONDS or len(self._rows) >= FLUSH_CELLS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one segment. Interrupted and called again, it writes the same file anew."""
        if self._rows:
            self._path = self._path or self._store.new_segment()
            self._store.add_cells(self._path, dict(zip(CELL_COLUMNS, zip(*self._rows, strict=True), strict=True)))
            self._rows, self._path = [], None
        self._flushed = time.monotonic()


class _Feed:
    """The units of a sweep on their way to the engine, as long as the budget lasts."""

    def __init__(self, units: Iterable[tuple[Plan, int]], purse: Purse) -> None:
        self._units, self._purse = units, purse
        self._flying: dict[int, tuple[list[str], list[Request]]] = {}
        self.all_taken = False

    def __iter__(self) -> Iterator[list[Request]]:
        for number, (plan, unit) in enumerate(self._units):
            keys = plan.keys(unit)
            if not self._purse.begin(len(keys)):
                return
            self._flying[number] = keys, _requests(plan, unit, keys)
            yield self._flying[number][1]
        self.all_taken = True

    def landed(self, number: int) -> tuple[list[str], list[Request]]:
        """Keys and requests of a unit that ended."""
        return self._flying.pop(number)


def run_units(
    engine: Engine,
    store: SweepStore,
    units: Iterable[tuple[Plan, int]],
    scorers: Mapping[Prompt, Scorer],
    meter: Meter,
    purse: Purse,
) -> bool:
    """Generate, score and store units.

    Returns:
        False where the budget ended before the units did.
    """
    buffer, feed, dead = _Buffer(store), _Feed(units, purse), 0
    try:
        with contextlib.closing(cast("Generator[Any, None, None]", engine.stream(feed))) as outcomes:
            for number, outcome in outcomes:
                keys, requests = feed.landed(number)
                completions, error = _checked(engine, requests, outcome)
                dead = dead + 1 if error is not None else 0
                names = [scorers[request.prompt] for request in requests]
                scores = _scored_now(names, requests, completions)
                buffer.add(_row(*cell) for cell in zip(keys, requests, completions, names, scores, strict=True))
                tokens = sum(completion.tokens for completion in completions)
                purse.spend(tokens)
                missing = [score for score in scores if score is not None and score.value != score.value]
                meter.add(completions, [score.reason or "no reason given" for score in missing])
                if dead >= DEAD_AFTER:
                    raise EngineError(
                        f"{engine.name} failed on {dead} units in a row, last with: {error}. What this run did is "
                        f"stored in {store.path}; the same call tries the failed cells again."
                    ) from error
        buffer.flush()
    except StoreError:
        raise
    except BaseException as error:
        buffer.flush()
        if isinstance(error, KeyboardInterrupt):
            done, total = meter.state.done, meter.state.total
            words = "stopped: %d of %d cells of this run are stored in %s; the same call goes on from there"
            logger.warning(words, done, total, store.path)
        raise
    return feed.all_taken


def _requests(plan: Plan, unit: int, keys: Sequence[str]) -> list[Request]:
    view = plan.view
    requests = []
    for key, (prompt, slot) in zip(keys, plan.cells(unit), strict=True):
        j, sample = view.slots[slot]
        requests.append(Request(view.prompts[prompt], view.space[j], sample, stream_seed(key), view.limit(j)))
    return requests


def _checked(
    engine: Engine, requests: Sequence[Request], outcome: list[Completion] | Exception
) -> tuple[list[Completion], Exception | None]:
    """The completions of a unit; where the engine failed as a whole, failed ones and the error."""
    error = outcome if isinstance(outcome, Exception) else _misfit(engine, requests, outcome)
    if error is None:
        assert not isinstance(outcome, Exception)
        return list(outcome), None
    logger.warning("%s failed on a unit of %d cells: %s", engine.name, len(requests), error)
    reason = f"{type(error).__name__}: {error}"
    return [Completion("", finish="error", error=reason) for _ in requests], error


def _misfit(engine: Engine, requests: Sequence[Request], outcome: Any) -> Exception | None:
    """What is wrong with what an engine gave for a unit."""
    try:
        given = list(outcome)
    except TypeError:
        return EngineError(f"{engine.name} gave no completions, but {outcome!r:.80}")
    if len(given) != len(requests):
        return EngineError(f"{engine.name} gave {len(given)} completions for {len(requests)} requests")
    bad = [one for one in given if not isinstance(one, Completion) or not isinstance(one.text, str)]
    return EngineError(f"{engine.name} gave no completion with a text, but {bad[0]!r:.80}") if bad else None


def _scored_now(
    scorers: Sequence[Scorer], requests: Sequence[Request], completions: Sequence[Completion]
) -> list[Score | None]:
    """Rewards in order; None where the scorer needs what is generated elsewhere."""
    scores: list[Score | None] = [None] * len(requests)
    now = [i for i, scorer in enumerate(scorers) if not scorer.needs_default or completions[i].finish == "error"]
    found = scored([scorers[i] for i in now], [(requests[i].prompt, completions[i]) for i in now])
    for i, score in zip(now, found, strict=True):
        scores[i] = score
    return scores


def _row(key: str, request: Request, completion: Completion, scorer: Scorer, score: Score | None) -> tuple[Any, ...]:
    """A cell in the order of `CELL_COLUMNS`."""
    prompt = request.prompt
    # An engine that cut a text within a character may leave half of one, which no file format takes.
    text = completion.text.encode("utf-8", "replace").decode("utf-8")
    failed = completion.finish == "error"
    error = (completion.error or "unknown") if failed else None
    reward = (None,) * 4 if score is None else (score.value, score.reason, score.answer, identity(scorer))
    return (
        key, prompt.digest, prompt.id, prompt.task,
        request.config.digest, request.max_tokens, request.sample, request.seed,
        text, completion.tokens, completion.prompt_tokens, completion.seconds, completion.finish, error,
        *reward, json.dumps(dict(completion.receipt), default=str),
    )  # fmt: skip
