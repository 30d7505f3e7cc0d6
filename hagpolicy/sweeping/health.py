"""`Health`: tells an engine that is dead from one that has only met units which it cannot do; `ScoreWatch`: whether the
first cells of a sweep get rewards at all."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.errors import ScorerError
from hagpolicy.scorers.base import Score, Scorer

logger = logging.getLogger(__name__)

# So many failures without a success in between are taken for death: one in twenty of the units that succeeded, within
# these bounds. After thousands of good units a few bad neighbours are no sign of it.
LEAST, MOST, SHARE = 3, 50, 20

# So many cells without one reward, of so many prompts, end a sweep: a scorer that fails does so on all that follow.
SCORELESS_CELLS, SCORELESS_PROMPTS = 20, 3
SHOWN_CHARACTERS = 200


class Health:
    """Judges an engine by the units that end.

    Units come back in any order, and a bad one often first: those that were in flight at the first
    failure are waited for. A unit that failed in an earlier call says nothing when it fails again.

    Attributes:
        good: units that succeeded.
        failures: units that failed since the last one that succeeded.
        error: what the latest of them failed with; None where none failed.
        dead: nothing more is to be expected of the engine. What ends after that changes nothing.
    """

    def __init__(self) -> None:
        self.good = self.failures = 0
        self.dead = False
        self.error: Exception | None = None
        self._awaited: set[int] = set()

    def record_end(
        self, number: int, error: Exception | None, in_flight: Iterable[int], *, failed_before: bool
    ) -> None:
        """Take in a unit that ended.

        Args:
            number: of the unit.
            error: what the engine failed with on it as a whole; None: it did not.
            in_flight: numbers of the units that have begun and not ended.
            failed_before: whether the engine failed on cells of it in an earlier call.
        """
        self._awaited.discard(number)
        if self.dead:
            return
        if error is None:
            self.good += 1
            self.failures, self._awaited = 0, set()
        elif not failed_before:
            if not self.failures:
                self._awaited = set(in_flight)
            self.failures += 1
            self.error = error
        enough = self.failures >= min(max(LEAST, self.good // SHARE), MOST)
        # One that hangs is not waited for while all others fail.
        self.dead = enough and (not self._awaited or self.failures >= MOST)


class ScoreWatch:
    """Watches whether the first cells of each scorer get rewards.

    Once one has got a reward, in this call or, by what is stored, in an earlier one, a scorer is no longer watched. Of
    cells that the engine failed on nothing follows, nor of those that are scored later.

    Args:
        store: the sweep folder.
    """

    def __init__(self, store: SweepStore) -> None:
        self._path = store.path
        self._seen: dict[str, list[tuple[Request, Completion, Score]]] = {}
        scored = {name for name, stored in store.scores.items() if np.isfinite(stored.column("reward")).any()}
        self._done = scored

    def record(
        self,
        scorers: Sequence[Scorer],
        requests: Sequence[Request],
        completions: Sequence[Completion],
        scores: Sequence[Score | None],
    ) -> None:
        """Take in some cells, which are stored or will be.

        Raises:
            ScorerError: a scorer has given none of its first cells a reward.
        """
        # A sweep has millions of cells, and nearly all of them come after its scorers are known to work.
        names = {id(scorer): scorer.stored_name for scorer in set(scorers)}
        if self._done.issuperset(names.values()):
            return
        for scorer, request, completion, score in zip(scorers, requests, completions, scores, strict=True):
            name = names[id(scorer)]
            if name not in self._done and score is not None and completion.finish != "error":
                self._seen.setdefault(name, []).append((request, completion, score))
        for name in [name for name in self._seen if self._is_enough(name)]:
            self._done.add(name)
            _judge_first(name, self._seen.pop(name), self._path)

    def _is_enough(self, name: str) -> bool:
        seen = self._seen[name]
        if any(score.value > 0.0 for *_, score in seen):
            return True
        return len(seen) >= SCORELESS_CELLS and len({request.prompt for request, *_ in seen}) >= SCORELESS_PROMPTS


def _judge_first(name: str, seen: Sequence[tuple[Request, Completion, Score]], path: str) -> None:
    """Raise where no cell has a reward; warn where every reward is 0."""
    rewards = [score.value for *_, score in seen if score.value == score.value]
    request, completion, score = seen[0]
    example = f"prompt {request.prompt.text!r:.{SHOWN_CHARACTERS}}, answer {completion.text!r:.{SHOWN_CHARACTERS}}"
    if not rewards:
        raise ScorerError(
            f"the scorer {name} gave none of the first {len(seen)} cells a reward; the first: "
            f"{score.reason or 'no reason given'} ({example}). What was generated is stored in {path}: the same call "
            f"with another scorer goes on from there, and `rescore` scores what is stored."
        )
    if not any(rewards):
        logger.warning("the scorer %s gave each of the first %d cells the reward 0; %s", name, len(seen), example)
