"""`SweepStore`: the sweep folder.

    sweep.json          format version, engine and its fingerprint
    prompts/N-D.jsonl   prompts, one a line; identified by their digest
    plans/N-D.json      what was asked for and how it was packed into units, written before the first token
    cells/N.parquet     segments: what was generated, with the reward it got then
    rewards/N.parquet   rewards computed later from stored texts
    lock                who is writing

N counts up, over cells and rewards together; of two records of one cell the later one counts. D is
the digest of the file (`digests`). Small segments are merged under the number of the last of them
(`tidying`); away from local disks N is followed by the writer's mark.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hagpolicy._digest import digest
from hagpolicy._files import format_jsonl, parse_json
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.completion import NOT_COUNTED, UNKNOWN, Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store import segments, tidying
from hagpolicy.data.store.cells import Plan, View
from hagpolicy.data.store.digests import name_file
from hagpolicy.data.store.files import open_files
from hagpolicy.data.store.index import Index
from hagpolicy.data.store.place import Place
from hagpolicy.data.store.reader import FORMAT, Reader
from hagpolicy.data.store.records import CellRecord, ScoreRecord
from hagpolicy.errors import ForeignSweep, InvalidInput, StoreError

logger = logging.getLogger(__name__)

_STALLED = "stalled.json"
_FOLDERS = ("prompts", "plans", "cells", "rewards")
# A reader may list files that a writer then merges away; it looks again so often.
_LOOKS = 10


class SweepStore:
    """A sweep folder, open for reading or, with its lock held, for writing.

    Args:
        path: the folder: a path, a URL or a file system (`open_files`); made when `fingerprint` is given.
        fingerprint: of the engine that is to fill it; None: open an existing folder.
        engine: the engine's name, for people.
        write: hold the lock and allow writing.

    Attributes:
        path: the folder, for messages.
        folder: the folder on this machine; None where it is elsewhere.
        source: opens the same folder again, from another working directory too.
        reader: reads its files.
        fingerprint: of the engine whose cells it holds.
        engine_digest: digest of the fingerprint, which every file bears.
        cells: records of the generated cells: `tokens`, `seconds`, `failed` (0 or 1), `error`.
        scores: for each scorer identity, records of rewards: `reward`, `answer` (its code, -1 for none), `reason`.
        prompts: stored prompts by digest.
        plans: stored plans in the order they were made; equal views of them are one.

    Raises:
        StoreError: no sweep folder, a newer format, or it cannot be read or written.
        ForeignSweep: it holds the cells of another engine.
        SweepLocked: another process is writing to it.
    """

    def __init__(
        self,
        path: Place,
        *,
        fingerprint: Mapping[str, str] | None = None,
        engine: str = "",
        write: bool = False,
    ) -> None:
        self.files = open_files(path)
        self.path, self.folder = self.files.place, self.files.folder
        self.source = path if self.folder is None else self.folder.absolute()
        self.writable = write
        self._numbers: dict[str, int] = {}
        try:
            if fingerprint is not None:
                self._make()
            elif not self.files.has("sweep.json"):
                why = "is no sweep folder: it has no sweep.json. Give a folder that `sweep` wrote."
                raise StoreError(f"{self.path} {why}")
        except OSError as error:
            doing = "read" if fingerprint is None else "make"
            raise StoreError(f"cannot {doing} the sweep folder {self.path}: {error}") from error
        self._lock = self.files.lock() if write else None
        try:
            self._open(fingerprint, engine)
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        # A kill right after the start leaves no more than these, so only they may be there without sweep.json.
        known = {"lock", "judges", *_FOLDERS}
        there = self.files.sizes()
        foreign = [name for name in there if name not in known and not name.startswith("sweep.json")]
        if foreign and "sweep.json" not in there:
            found = f"{self.path}, which holds {foreign[:3]}"
            raise InvalidInput("out", "a sweep folder, a new or an empty one", found)
        self.files.make(_FOLDERS)

    def _open(self, fingerprint: Mapping[str, str] | None, engine: str) -> None:
        try:
            is_new = fingerprint is not None and not self.files.has("sweep.json")
            given = dict(fingerprint or {})
            stored = given if is_new else Reader(self.files, {}, may_rename=False).about()["fingerprint"]
            self.fingerprint: dict[str, str] = stored
            if fingerprint is not None and given != stored:
                raise ForeignSweep(
                    f"{self.path} holds the cells of another engine.\n  stored: {stored}\n"
                    f"  given:  {given}\nGive another folder for this engine."
                )
            self.reader = Reader(self.files, self.fingerprint, may_rename=self.writable)
            self.engine_digest = self.reader.engine_digest
            self._read_all()
            # Only now, when it is known that most of what is there is this engine's, the folder is changed.
            if self.writable:
                self._check_lock()
                self.reader.set_aside()
                self._clear()
            if is_new:
                about = {"format_version": FORMAT, "engine": engine, "fingerprint": given}
                self._put("sweep.json", json.dumps({**about, "digest": digest(about)}, indent=1).encode())
            if self.writable:
                tidying.remove_outdated(self.files, self.index)
                self._merge()
        except OSError as error:
            raise StoreError(f"cannot read the sweep folder {self.path}: {error}") from error

    def _read_all(self) -> None:
        for _ in range(_LOOKS):
            try:
                self._read()
                break
            except FileNotFoundError:
                continue
        else:
            raise StoreError(f"files of {self.path} vanish while they are read. Is it being deleted?")
        self.reader.check_engines()

    def _clear(self) -> None:
        """Remove what killed writes left, and see which numbers are taken."""
        for folder in ("", *_FOLDERS):
            there = self.files.sizes(folder)
            self._numbers[folder] = segments.find_next_number(there)
            for name in there:
                if name.endswith(".tmp"):
                    self.files.remove(f"{folder}/{name}".lstrip("/"))

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> SweepStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.writable:
                self._check_lock()
                self._merge()
                tidying.drop_plans(self.files, list(zip(self._plan_names, self.plans, strict=True)), self.cells.rows)
        finally:
            self.close()

    def shared_view(self, view: View) -> View:
        """An equal view of a stored plan, whose keys may have been computed already; else `view` itself."""
        return next((plan.view for plan in reversed(self.plans) if plan.view == view), view)

    @property
    def engine_default(self) -> DecodingConfig | None:
        """The engine's default in the latest plan that has it: a strategy may have left it out of later ones."""
        found = (plan.view.space[plan.view.default] for plan in reversed(self.plans) if plan.view.default is not None)
        return next(found, None)

    def _read(self) -> None:
        self.prompts: dict[str, Prompt] = {}
        self.plans: list[Plan] = []
        self._plan_names: list[str] = []
        self.reader.begin()
        self.index = Index()
        self.cells, self.scores = self.index.cells, self.index.scores
        for name in self.reader.names("prompts", ".jsonl"):
            self.prompts |= self.reader.prompts(name)
        for name in self.reader.names("plans", ".json"):
            plan = self.reader.plan(name, self.prompts)
            if plan is not None:
                self._take_plan(plan, name)
        for name in self.reader.segment_names():
            table = self.reader.segment(name)
            if table is not None:
                self.index.add(name, table)

    def _take_plan(self, plan: Plan, name: str) -> None:
        shared = self.shared_view(plan.view)
        self.plans.append(Plan(shared, plan.patterns, plan.units, plan.notes))
        self._plan_names.append(name)

    def add_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Store the prompts that are not stored yet."""
        new = {prompt.digest: prompt for prompt in prompts if prompt.digest not in self.prompts}
        if new:
            lines = format_jsonl((prompt.to_dict() for prompt in new.values()), ascii_only=True).encode("ascii")
            self._put(name_file(self._next("prompts", self.files.mark), ".jsonl", lines), lines)
            self.prompts |= new

    def add_plan(self, plan: Plan) -> None:
        """Store a plan, before its first token; one that repeats the latest plan adds nothing."""
        if not plan.units and self.plans and self.plans[-1].view == plan.view:
            return
        self.add_prompts(plan.view.prompts)
        data = json.dumps({**plan.to_json(), "engine": self.engine_digest}).encode("ascii")
        name = name_file(self._next("plans", self.files.mark), ".json", data)
        self._put(name, data)
        self._take_plan(plan, name)

    def new_segment(self) -> str:
        """The name of the next segment of cells; the same until it is written."""
        return self._next("cells", f"{self.files.mark}.parquet")

    def add_cells(self, name: str, cells: Sequence[CellRecord]) -> None:
        """Store generated cells, at least one, as the segment `name` (of `new_segment`)."""
        self._add(name, segments.to_table(cells))

    def add_scores(self, scores: Sequence[ScoreRecord]) -> None:
        """Store rewards of stored cells, at least one, as one segment."""
        self._add(self._next("rewards", f"{self.files.mark}.parquet"), segments.to_table(scores))

    def _add(self, name: str, table: Any) -> None:
        self._put_segment(name, table)
        self.index.add(name, table)

    def _put_segment(self, name: str, table: Any) -> None:
        """Write a segment and nothing else."""
        self._put(name, segments.encode_segment(table, self.engine_digest, name))

    def _merge(self) -> None:
        tidying.merge_small(self.files, self.reader, self._put_segment, self.index)

    def iterate_cells(self) -> Iterator[tuple[str, int, Any]]:
        """The segments of cells, one after the other: name, number of its first record in `cells`, Arrow table.

        Raises:
            StoreError: one that was readable when the folder was opened is not any more.
        """
        for name, start in self.index.starts:
            try:
                table = self.reader.segment(name)
            except OSError as error:
                raise StoreError(f"{self.files.at(name)} cannot be read any more: {error}. Open it again.") from error
            if table is None:
                raise StoreError(f"{self.files.at(name)} was readable and is not any more. Open the folder again.")
            yield name, start, table

    def completions(self, wanted: Collection[str]) -> Iterator[list[tuple[str, Completion]]]:
        """Stored completions of some cells, one list a segment: (key, completion)."""
        for name, start, table in self.iterate_cells():
            keys = table.column("cell").to_pylist()
            mine = [i for i, key in enumerate(keys) if key in wanted and self.cells.rows[key] == start + i]
            if mine:
                rows = table.take(mine).to_pylist()
                try:
                    found = [(row["cell"], _completion(row)) for row in rows]
                except ValueError as error:
                    raise StoreError(f"{self.files.at(name)} holds a receipt that is no JSON: {error}") from error
                yield found

    def find_reason(self, key: str, scorer: str) -> str:
        """Why a generated cell has no reward by a scorer (its stored name); "" where it has one."""
        if error := self.cells.value("error", self.cells.rows[key]):
            return f"engine error: {error}"
        records = self.scores.get(scorer)
        row = -1 if records is None else records.rows.get(key, -1)
        if records is None or row < 0:
            return f"not scored by {scorer}"
        if not np.isnan(records.column("reward")[row]):
            return ""
        return str(records.value("reason", row) or "no reason given")

    @property
    def stalled(self) -> bool:
        """Whether a run was noted (`note_stall`) that stored nothing, and none since has ended by itself."""
        return self.files.has(_STALLED)

    def note_stall(self) -> None:
        """Note that this run has stored nothing for a while: should it be killed, the next one can tell."""
        self._check_lock()
        self.files.write(_STALLED, b"{}\n")

    def clear_stall(self) -> None:
        """Take the note back."""
        if self.stalled:
            self.files.remove(_STALLED)

    def _put(self, name: str, data: bytes) -> None:
        self._check_lock()
        folder, _, base = name.rpartition("/")
        # Counted before it is written: a write that is interrupted may have happened.
        self._numbers[folder] = max(self._numbers.get(folder, 1), segments.find_next_number([base]))
        self.files.write(name, data)

    def _next(self, folder: str, ending: str) -> str:
        together = ("cells", "rewards") if folder in ("cells", "rewards") else (folder,)
        return f"{folder}/{max(self._numbers[name] for name in together):06d}{ending}"


def _completion(row: Mapping[str, Any]) -> Completion:
    fields = {name: row[name] for name in ("text", "seconds", "finish", "error")}
    # Null where they were not counted.
    fields |= {name: UNKNOWN if row[name] is None else row[name] for name in ("tokens", "prompt_tokens")}
    receipt = parse_json(row["receipt"])
    receipt = receipt if isinstance(receipt, dict) else {}
    if fields["tokens"] == 0 and receipt.get("tokens") == NOT_COUNTED:  # as it was stored before
        fields["tokens"] = UNKNOWN
    return Completion(**fields, receipt=receipt, reasoning=row.get("reasoning") or "")
