"""`SweepStore`: the sweep folder on disk.

    sweep.json          format version, engine and its fingerprint
    prompts/N.jsonl     prompts, one a line; identified by their digest
    plans/N-D.json      what was asked for and how it was packed into units, written before the first token
    cells/N.parquet     segments: what was generated, with the reward it got then
    rewards/N.parquet   rewards computed later from stored texts
    lock                who is writing

N counts up, over cells and rewards together; of two records of one cell the later one counts. D is
the start of the plan's digest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy.engines.base import Completion
from hagpolicy.errors import ForeignSweep, InvalidInput, StoreError
from hagpolicy.prompts import Prompt
from hagpolicy.store import segments
from hagpolicy.store.cells import Plan
from hagpolicy.store.records import Records

logger = logging.getLogger(__name__)

FORMAT = 1
_FOLDERS = ("prompts", "plans", "cells", "rewards")


class SweepStore:
    """A sweep folder, open for reading or, with its lock held, for writing.

    Args:
        path: the folder; made when `fingerprint` is given.
        fingerprint: of the engine that is to fill it; None: open an existing folder.
        engine: the engine's name, for people.
        write: hold the lock and allow writing.

    Attributes:
        cells: records of the generated cells: `tokens`, `seconds`, `failed` (0 or 1), `error`.
        scores: for each scorer identity, records of rewards: `reward`, `reason`.
        prompts: stored prompts by digest.
        plans: stored plans in the order they were made.

    Raises:
        StoreError: no sweep folder, a newer format, or it cannot be read or written.
        ForeignSweep: it holds the cells of another engine.
        SweepLocked: another process is writing to it.
    """

    def __init__(
        self, path: str | Path, *, fingerprint: Mapping[str, str] | None = None, engine: str = "", write: bool = False
    ) -> None:
        self.path = Path(path)
        self.writable = write
        if fingerprint is not None:
            _make_folder(self.path)
        elif not (self.path / "sweep.json").is_file():
            raise StoreError(f"{self.path} is no sweep folder: it has no sweep.json. Give a folder that `sweep` wrote.")
        self._lock = segments.FolderLock(self.path) if write else None
        try:
            self._open(fingerprint, engine)
        except BaseException:
            self.close()
            raise

    def _open(self, fingerprint: Mapping[str, str] | None, engine: str) -> None:
        if fingerprint is not None and not (self.path / "sweep.json").is_file():
            about = {"format_version": FORMAT, "engine": engine, "fingerprint": dict(fingerprint)}
            segments.write_whole(self.path / "sweep.json", json.dumps(about, indent=1).encode())
        try:
            about = json.loads((self.path / "sweep.json").read_text("utf-8"))
            version, self.fingerprint = int(about["format_version"]), dict(about["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.path / 'sweep.json'} cannot be read: {error!r}") from error
        if version > FORMAT:
            raise StoreError(f"{self.path} has format {version}, this version reads up to {FORMAT}. Update hagpolicy.")
        if fingerprint is not None and dict(fingerprint) != self.fingerprint:
            raise ForeignSweep(
                f"{self.path} holds the cells of another engine.\n  stored: {self.fingerprint}\n"
                f"  given:  {dict(fingerprint)}\nGive another folder for this engine."
            )
        if self.writable:
            for leftover in self.path.glob("**/*.tmp"):
                leftover.unlink()
        self.prompts: dict[str, Prompt] = {}
        self.plans: list[Plan] = []
        self.cells = Records(("tokens", "seconds", "failed"), ("error",))
        self.scores: dict[str, Records] = {}
        self._starts: list[tuple[Path, int]] = []
        self._read_prompts()
        self._read_plans()
        for path in sorted(self.path.glob("[cr]e*/*.parquet"), key=lambda path: path.name):
            self._read_segment(path, is_cells=path.parent.name == "cells")

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> SweepStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_prompts(self) -> None:
        for path in sorted((self.path / "prompts").glob("*.jsonl")):
            try:
                read = [Prompt.from_dict(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
            except (OSError, ValueError, TypeError):
                segments.set_aside(path, "its prompts are stored again by the next sweep", writable=self.writable)
            else:
                self.prompts |= {prompt.digest: prompt for prompt in read}

    def _read_plans(self) -> None:
        for path in sorted((self.path / "plans").glob("*.json")):
            try:
                self.plans.append(Plan.from_json(json.loads(path.read_text("utf-8")), self.prompts))
            except (OSError, ValueError, TypeError, KeyError):
                segments.set_aside(path, "the next sweep makes a new plan", writable=self.writable)
            except StoreError as error:
                if "format" in str(error):
                    raise
                logger.warning("%s: %s", path, error)

    def _read_segment(self, path: Path, *, is_cells: bool) -> None:
        table = segments.read_segment(path)
        wanted = segments.CELL_COLUMNS if is_cells else segments.SCORE_COLUMNS
        if table is None or not set(wanted) <= set(table.column_names):
            loss = "its cells will be generated again" if is_cells else "its rewards must be computed again (rescore)"
            segments.set_aside(path, loss, writable=self.writable)
            return
        names = ["cell", "reward", "reason", "scorer", *(("tokens", "seconds", "error") if is_cells else ())]
        self._register({name: table.column(name).to_pylist() for name in names}, path, is_cells=is_cells)

    def _register(self, columns: Mapping[str, Sequence[Any]], path: Path, *, is_cells: bool) -> None:
        """Take the records of a segment into the index."""
        keys = columns["cell"]
        if is_cells:
            self._starts.append((path, len(self.cells)))
            failed = [error is not None for error in columns["error"]]
            self.cells.add(keys, {**columns, "failed": failed})
            # Rewards that were computed from a text which was lost or failed are not those of the new text.
            for records in self.scores.values():
                records.forget(keys)
        names = np.array(columns["scorer"], dtype=object)
        for name in dict.fromkeys(columns["scorer"]):
            if name is None:  # generated, and to be scored later
                continue
            mine = np.flatnonzero(names == name).tolist()
            rows = {column: [columns[column][i] for i in mine] for column in ("reward", "reason")}
            self.scores.setdefault(name, Records(("reward",), ("reason",))).add([keys[i] for i in mine], rows)

    def add_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Store the prompts that are not stored yet."""
        new = {prompt.digest: prompt for prompt in prompts if prompt.digest not in self.prompts}
        if new:
            lines = "".join(json.dumps(prompt.to_dict()) + "\n" for prompt in new.values())
            segments.write_whole(self._next("prompts", ".jsonl"), lines.encode("ascii"))
            self.prompts |= new

    def add_plan(self, plan: Plan) -> None:
        """Store a plan, before its first token; one that repeats the latest plan adds nothing."""
        if not plan.units and self.plans and self.plans[-1].view == plan.view:
            return
        self.add_prompts(plan.view.prompts)
        path = self._next("plans", f"-{plan.digest[:12]}.json")
        segments.write_whole(path, json.dumps(plan.to_json()).encode("ascii"))
        self.plans.append(plan)

    def new_segment(self) -> Path:
        """The name of the next segment of cells; the same until it is written."""
        return self._next("cells", ".parquet")

    def add_cells(self, path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
        """Store generated cells as the segment `path` (of `new_segment`): the columns of `segments.CELL_COLUMNS`."""
        segments.write_segment(path, columns, segments.CELL_COLUMNS)
        self._register(columns, path, is_cells=True)

    def add_scores(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Store rewards of stored cells as one segment: the columns of `segments.SCORE_COLUMNS`."""
        path = self._next("rewards", ".parquet")
        segments.write_segment(path, columns, segments.SCORE_COLUMNS)
        self._register(columns, path, is_cells=False)

    def completions(self, wanted: Collection[str]) -> Iterator[list[tuple[str, Completion]]]:
        """Stored completions of some cells, one list a segment: (key, completion)."""
        for path, start in self._starts:
            table = segments.read_segment(path)
            if table is None:
                raise StoreError(f"{path} was readable and is not any more. Open the folder again.")
            keys = table.column("cell").to_pylist()
            mine = [i for i, key in enumerate(keys) if key in wanted and self.cells.rows[key] == start + i]
            if mine:
                rows = table.take(mine).to_pylist()
                yield [(row["cell"], _completion(row)) for row in rows]

    def _next(self, folder: str, ending: str) -> Path:
        try:
            together = ("cells", "rewards") if folder in ("cells", "rewards") else (folder,)
            number = max(segments.next_number(self.path / name) for name in together)
        except OSError as error:
            raise StoreError(f"the sweep folder {self.path} cannot be read: {error}") from error
        return self.path / folder / f"{number:06d}{ending}"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        # A kill right after the start leaves no more than these, so only they may be there without sweep.json.
        known = {"lock", "sweep.json.tmp", *_FOLDERS}
        foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in known)
        if foreign and "sweep.json" not in foreign:
            raise InvalidInput("out", "a sweep folder, a new or an empty one", f"{path}, which holds {foreign[:3]}")
        for name in _FOLDERS:
            (path / name).mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the sweep folder {path}: {error}") from error


def _completion(row: Mapping[str, Any]) -> Completion:
    fields = {name: row[name] for name in ("text", "tokens", "prompt_tokens", "seconds", "finish", "error")}
    return Completion(**fields, receipt=json.loads(row["receipt"]))
