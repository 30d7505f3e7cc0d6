"""The loop of a sweep: generate a unit, score it, store it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hagpolicy.engines.base import Completion, Engine, Request
from hagpolicy.errors import EngineError, StoreError
from hagpolicy.prompts import Prompt
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.store.cells import Plan, stream_seed
from hagpolicy.store.folder import SweepStore
from hagpolicy.store.segments import CELL_COLUMNS
from hagpolicy.sweeping.plan import Work
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
        self._path: Path | None = None
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


def run_units(engine: Engine, store: SweepStore, work: Work, scorers: Mapping[Prompt, Scorer], meter: Meter) -> None:
    """Generate, score and store all units of `work`."""
    buffer = _Buffer(store)
    dead = 0
    try:
        for plan, unit in work.units():
            keys = plan.keys(unit)
            requests = _requests(plan, unit, keys)
            completions, error = _generated(engine, requests)
            dead = dead + 1 if error is not None else 0
            names = [scorers[request.prompt] for request in requests]
            scores = scored(names, [(request.prompt, c) for request, c in zip(requests, completions, strict=True)])
            buffer.add(_row(*cell) for cell in zip(keys, requests, completions, names, scores, strict=True))
            n_failed = sum(score.value != score.value for score in scores)
            meter.add(len(keys), n_failed, sum(completion.tokens for completion in completions))
            if dead >= DEAD_AFTER:
                raise EngineError(
                    f"{engine.name} failed on {dead} units in a row, last with: {error}. What this run did is stored "
                    f"in {store.path}; the same call tries the failed cells again."
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


def _requests(plan: Plan, unit: int, keys: Sequence[str]) -> list[Request]:
    view = plan.view
    requests = []
    for key, (prompt, slot) in zip(keys, plan.cells(unit), strict=True):
        j, sample = view.slots[slot]
        requests.append(Request(view.prompts[prompt], view.space[j], sample, stream_seed(key), view.limit(j)))
    return requests


def _generated(engine: Engine, requests: Sequence[Request]) -> tuple[list[Completion], Exception | None]:
    """The completions of a unit; where the engine failed as a whole, failed ones and the error."""
    try:
        completions = list(engine.generate(requests))
        if len(completions) != len(requests):
            raise EngineError(f"{engine.name} gave {len(completions)} completions for {len(requests)} requests")
        for given in completions:
            if not isinstance(given, Completion) or not isinstance(given.text, str):
                raise EngineError(f"{engine.name} gave no completion with a text, but {given!r:.80}")
    except Exception as error:  # whatever an engine raises is a mark on its cells; the run goes on
        logger.warning("%s failed on a unit of %d cells: %s", engine.name, len(requests), error)
        reason = f"{type(error).__name__}: {error}"
        return [Completion("", finish="error", error=reason) for _ in requests], error
    return completions, None


def _row(key: str, request: Request, completion: Completion, scorer: Scorer, score: Score) -> tuple[Any, ...]:
    """A cell in the order of `CELL_COLUMNS`."""
    prompt = request.prompt
    # An engine that cut a text within a character may leave half of one, which no file format takes.
    text = completion.text.encode("utf-8", "replace").decode("utf-8")
    failed = completion.finish == "error"
    error = (completion.error or "unknown") if failed else None
    return (
        key, prompt.digest, prompt.id, prompt.task,
        request.config.digest, request.max_tokens, request.sample, request.seed,
        text, completion.tokens, completion.prompt_tokens, completion.seconds, completion.finish, error,
        score.value, score.reason, score.answer, identity(scorer), json.dumps(dict(completion.receipt), default=str),
    )  # fmt: skip
