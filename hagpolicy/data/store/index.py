"""`Index`: what the segments of a sweep folder hold, in memory, without the texts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from hagpolicy.data.answers import AnswerCodes
from hagpolicy.data.completion import NOT_COUNTED, UNKNOWN
from hagpolicy.data.store.records import Records

# Rewards of before `answers_agree` was stored beside them, by the scorer's stored name, which for a weighted scorer has
# the names of its parts in it: what these scorers put into `answer` are remarks, of which no majority can be taken.
_SCORERS_WITH_REMARKS = ("judge", "reward_model", "python_tests", "distinct_items")


class Index:
    """The records of all segments, added in the order in which they count.

    Attributes:
        cells: records of the generated cells: `tokens`, `prompt_tokens`, `seconds`, `failed` (0 or 1), `error`.
        scores: for each scorer identity, records of rewards: `reward`, `answer` (its code, -1 for none), `reason`.
        starts: the segments of cells by name, each with the number of its first record in `cells`.
    """

    def __init__(self) -> None:
        self.cells = Records(("tokens", "prompt_tokens", "seconds", "failed"), ("error",))
        self.scores: dict[str, Records] = {}
        self.starts: list[tuple[str, int]] = []
        self._codes = AnswerCodes()
        self._answers_agree: dict[str, bool] = {}

    def add(self, name: str, table: Any) -> None:
        """Take in a segment.

        Args:
            name: of the file: "cells/…" or "rewards/…".
            table: the Arrow table.
        """
        keys = table.column("cell").to_pylist()
        if name.startswith("cells/"):
            self._add_cells(name, table, keys)
            # Rewards that were computed from a text which was lost or failed are not those of the new text.
            for records in self.scores.values():
                records.forget(keys)
        scorers = np.array(table.column("scorer").to_pylist(), dtype=object)
        rewards, reasons = table.column("reward").to_numpy(), table.column("reason").to_pylist()
        answers = self._codes.column(table.column("answer"))
        for scorer in dict.fromkeys(scorers):
            if scorer is None:  # generated, and to be scored later
                continue
            mine = np.flatnonzero(scorers == scorer)
            some = mine.tolist()
            records = self.scores.setdefault(scorer, make_score_records())
            numbers = {"reward": rewards[mine], "answer": answers[mine]}
            records.add([keys[i] for i in some], numbers, {"reason": [reasons[i] for i in some]})
            if "answers_agree" in table.column_names:
                declared = table.column("answers_agree").take(mine).drop_null()
                if len(declared):
                    self._answers_agree[scorer] = declared[len(declared) - 1].as_py()

    def sum_tokens(self, rows: Sequence[int], *, of_prompts: bool = False) -> float:
        """New tokens of some cells by their rows, or of their prompts; NaN where those of one that did not fail are
        unknown."""
        tokens = self.cells.column("prompt_tokens" if of_prompts else "tokens")[rows]
        counted = tokens[~np.isnan(tokens) | (self.cells.column("failed")[rows] == 0.0)]
        return UNKNOWN if np.isnan(counted).any() else int(counted.sum())

    def answers_agree(self, scorer: str) -> bool:
        """Whether equal answers of a scorer, by its stored name, mean the same answer, as it declared it."""
        declared = self._answers_agree.get(scorer)
        return not any(name in scorer for name in _SCORERS_WITH_REMARKS) if declared is None else declared

    def replace(self, names: Collection[str], name: str, table: Any) -> None:
        """Put a segment of cells, of the latest records of some that are gone, in their place.

        Args:
            names: of the segments that are gone.
            name: of the new segment.
            table: its Arrow table.
        """
        ends = [start for _, start in self.starts[1:]] + [len(self.cells)]
        gone = [(start, end) for (old, start), end in zip(self.starts, ends, strict=True) if old in names]
        keys = table.column("cell").to_pylist()
        # A record that a later segment replaced stays replaced.
        before = np.array([self.cells.rows.get(key, -1) for key in keys], dtype=np.int64)
        live = np.any([(start <= before) & (before < end) for start, end in gone], axis=0)
        replaced = {key: row for key, row, mine in zip(keys, before.tolist(), live, strict=True) if not mine}
        self.starts = [part for part in self.starts if part[0] not in names]
        self._add_cells(name, table, keys)
        self.cells.rows.update(replaced)

    def _add_cells(self, name: str, table: Any, keys: Sequence[str]) -> None:
        self.starts.append((name, len(self.cells)))
        errors = table.column("error")
        numbers = {"tokens": _read_tokens(table), "seconds": table.column("seconds").to_numpy()}
        of_prompts = np.array(table.column("prompt_tokens").to_numpy(), dtype=np.float64)
        # Every prompt has one: files of before have 0 where they were not counted.
        numbers["prompt_tokens"] = np.where((of_prompts == 0.0) & errors.is_null().to_numpy(), UNKNOWN, of_prompts)
        self.cells.add(keys, {**numbers, "failed": errors.is_valid().to_numpy()}, {"error": errors.to_pylist()})

    def drop_outdated(self) -> list[str]:
        """Forget the segments of cells of which every record is replaced by a later one; their names."""
        starts = np.array([start for _, start in self.starts], dtype=np.int64)
        rows = np.fromiter(self.cells.rows.values(), dtype=np.int64, count=len(self.cells.rows))
        counting = np.bincount(np.searchsorted(starts, rows, side="right") - 1, minlength=len(starts))
        outdated = [name for (name, _), live in zip(self.starts, counting, strict=True) if live == 0]
        self.starts = [(name, start) for name, start in self.starts if name not in outdated]
        return outdated


def _read_tokens(table: Any) -> np.ndarray:
    """float64 (n,): new tokens of a segment's cells, NaN where they were not counted: files of before have 0 there."""
    tokens = np.array(table.column("tokens").to_numpy(), dtype=np.float64)
    zero = np.flatnonzero(tokens == 0.0)
    rows = table.select(["text", "receipt"]).take(zero).to_pylist() if len(zero) else []
    unknown = [bool(row["text"]) or NOT_COUNTED in (row["receipt"] or "") for row in rows]
    tokens[zero[np.array(unknown, dtype=bool)]] = UNKNOWN
    return tokens


def make_score_records() -> Records:
    """Records of the rewards of one scorer, none yet."""
    return Records(("reward", "answer"), ("reason",))
