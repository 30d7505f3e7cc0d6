"""Rewards of completions, fresh or stored."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

from hagpolicy._text import replace_surrogates
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store.cells import View, compute_cell_key
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.records import ScoreRecord
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.checked import score_checked

logger = logging.getLogger(__name__)

# Rewards of so many cells, or of so many seconds, are held at most before they are written.
FLUSH_SCORES, FLUSH_SECONDS = 100_000, 30.0
# So many texts go to the scorers together: what is scored when a sweep is interrupted is lost.
SCORED_AT_ONCE = 1000


def make_score_record(key: str, score: Score, scorer: Scorer) -> ScoreRecord:
    """The score of a cell as it is stored."""
    reason, answer = (None if text is None else replace_surrogates(text) for text in (score.reason, score.answer))
    return ScoreRecord(
        cell=key,
        reward=score.value,
        reason=reason,
        answer=answer,
        scorer=scorer.stored_name,
        answers_agree=bool(scorer.answers_agree),
    )


def score_items(scorers: Sequence[Scorer], items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
    """Scores in order; every scorer sees its items at once."""
    mine: dict[int, list[int]] = {}
    for index, scorer in enumerate(scorers):
        mine.setdefault(id(scorer), []).append(index)
    scores: dict[int, Score] = {}
    for indices in mine.values():
        scores |= zip(indices, score_checked(scorers[indices[0]], [items[i] for i in indices]), strict=True)
    return [scores[index] for index in range(len(items))]


def score_stored(
    store: SweepStore,
    view: View,
    scorers: Sequence[Scorer],
    chosen: Sequence[Sequence[str]],
    *,
    again: bool = False,
) -> None:
    """Score stored texts of a view: of the chosen cells those without a reward of their scorer, or all (`again`).

    A scorer that needs the engine default's answer leaves out the prompts that have none yet.

    Args:
        store: the sweep folder.
        view: the view.
        scorers: one a prompt, (n_prompts,).
        chosen: for each prompt, keys of cells.
        again: see above.
    """
    failed = store.cells.column("failed") > 0
    defaults = _load_default_answers(store, view, scorers)
    bound = {id(scorer): scorer.against(defaults) if scorer.needs_default else scorer for scorer in scorers}
    wanted: dict[str, int] = {}
    for i, keys in enumerate(chosen):
        if scorers[i].needs_default and view.prompts[i].digest not in defaults:
            continue
        known = store.scores[view.scorers[i]].rows if view.scorers[i] in store.scores and not again else {}
        for key in keys:
            row = store.cells.rows.get(key)
            if row is not None and not failed[row] and key not in known:
                wanted[key] = i
    rows: list[ScoreRecord] = []
    begun = time.monotonic()
    try:
        for found in _split_segments(store.completions(wanted)) if wanted else ():
            owners = [wanted[key] for key, _ in found]
            items = [(view.prompts[i], completion) for i, (_, completion) in zip(owners, found, strict=True)]
            scores = score_items([bound[id(scorers[i])] for i in owners], items)
            for (key, _), i, score in zip(found, owners, scores, strict=True):
                rows.append(make_score_record(key, score, scorers[i]))
            if len(rows) >= FLUSH_SCORES or time.monotonic() - begun >= FLUSH_SECONDS:
                _flush_rows(store, rows)
                begun = time.monotonic()
    finally:
        _flush_rows(store, rows)
    if wanted:
        logger.info("%s: %d stored cells scored without generating", store.path, len(wanted))


def _split_segments(found: Iterable[list[tuple[str, Completion]]]) -> Iterator[list[tuple[str, Completion]]]:
    """The completions of all segments in parts of a bounded size."""
    for segment in found:
        for start in range(0, len(segment), SCORED_AT_ONCE):
            yield segment[start : start + SCORED_AT_ONCE]


def _load_default_answers(store: SweepStore, view: View, scorers: Sequence[Scorer]) -> dict[str, Completion]:
    """The engine default's answers (sample 0) that scorers need, by prompt digest."""
    comparing = [i for i, scorer in enumerate(scorers) if scorer.needs_default]
    if not comparing:
        return {}
    default = store.engine_default if view.default is None else view.space[view.default]
    if default is None:
        got = f"{view.space!r} without it"
        raise InvalidInput("scorer", "a space with the engine's default, which it compares with", got)
    limit = default.max_tokens or view.max_tokens
    failed = store.cells.column("failed") > 0
    digests = [view.prompts[i].digest for i in comparing]
    owner = {compute_cell_key(prompt, default.digest, limit, 0, view.seed): prompt for prompt in digests}
    stored = [key for key in owner if key in store.cells.rows and not failed[store.cells.rows[key]]]
    return {owner[key]: completion for found in store.completions(stored) for key, completion in found}


def _flush_rows(store: SweepStore, rows: list[ScoreRecord]) -> None:
    """Write rewards as one segment and empty the list."""
    if rows:
        store.add_scores(rows)
        rows.clear()
