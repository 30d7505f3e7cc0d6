"""Reading the files of a sweep folder: what is damaged or another engine's is left out, and the rest goes on.

A file is damaged when it was read twice, alike, and is not what was written. What cannot be read at all is an error
and no damage. Only the holder of the lock renames anything, after everything was read (`set_aside`), and nothing where
so much disagrees that the fault is more likely elsewhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from hagpolicy._checks import is_whole
from hagpolicy._digest import digest
from hagpolicy._files import parse_json
from hagpolicy.data.parquet_digest import DamagedFile
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store import segments
from hagpolicy.data.store.cells import PLAN_FORMAT, Plan
from hagpolicy.data.store.digests import check_name, read_digest
from hagpolicy.data.store.place import Files
from hagpolicy.data.store.records import CellRecord, ScoreRecord
from hagpolicy.errors import StoreError

logger = logging.getLogger(__name__)
T = TypeVar("T")

FORMAT = 1
# So many files, or this share of all, may be set aside at once.
FEW_FILES, SMALL_SHARE = 3, 0.25
# Numbers, marks, ending: what else lies in a folder is not the sweep's.
_NAME = re.compile(r"[0-9]{1,12}(-[0-9A-Za-z]+)*\.[a-z]+")
_UNTOUCHED = "Nothing was changed."


class Refused(NamedTuple):
    """Why a file is left out: what is wrong with it, what is missing without it, what its name gets."""

    why: str
    loss: str
    ending: str = "torn"


class NewerFormat(StoreError):
    """A file was written by a later version."""

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(f"{what} has format {found}, this version reads up to {known}. Update hagpolicy.")


class Reader:
    """Reads the files of a sweep folder.

    Args:
        files: the folder's files.
        fingerprint: of the engine whose cells it holds.
        may_rename: files that cannot be used are to be set aside, and are told of then; else they are told of at once.

    Attributes:
        engine_digest: digest of the fingerprint, which every file bears.
        refused: files that are left out.
    """

    def __init__(self, files: Files, fingerprint: Mapping[str, str], *, may_rename: bool) -> None:
        self._files, self._fingerprint, self._may_rename = files, fingerprint, may_rename
        self.engine_digest = digest(dict(fingerprint))
        self.refused: dict[str, Refused] = {}
        self._engines: dict[str, str | None] = {}
        self._strange: set[str] = set()

    def begin(self) -> None:
        """Forget what was read so far: all of it is read again."""
        self.refused, self._engines = {}, {}

    def names(self, folder: str, ending: str) -> list[str]:
        """Names of the files of a folder that end so, in the order of their numbers. Raises OSError."""
        ours = [name for name in self._files.sizes(folder) if name.endswith(ending)]
        strange = [name for name in ours if not _NAME.fullmatch(name)]
        if strange and folder not in self._strange:
            self._strange.add(folder)
            words = "%d files of %s are named as none of a sweep and are left alone: %r first"
            logger.warning(words, len(strange), self._files.at(folder), strange[0])
        return [f"{folder}/{name}" for name in sorted(set(ours) - set(strange), key=_order)]

    def segment_names(self) -> list[str]:
        """Names of all segments, of cells and of rewards, in the order in which they count. Raises OSError."""
        names = self.names("cells", ".parquet") + self.names("rewards", ".parquet")
        return sorted(names, key=lambda name: _order(name.rpartition("/")[2]))

    def prompts(self, name: str) -> dict[str, Prompt]:
        """The prompts of a file by digest; none where it is damaged. Raises OSError, StoreError."""
        read = self._read(name, lambda data: _parse_prompts(name, data))
        if read is None:
            self._refuse(name, Refused("is damaged", "its prompts are stored again by the next sweep"))
        return read or {}

    def plan(self, name: str, prompts: Mapping[str, Prompt]) -> Plan | None:
        """A plan; None for one that is damaged or another engine's, or lacks its prompts.

        Args:
            name: the file.
            prompts: the stored prompts by digest.

        Raises:
            StoreError: written by a newer version, or the file cannot be read.
            OSError: the file is not there any more.
        """
        loss = "the next sweep makes a new plan"
        values = self._read(name, lambda data: _parse_plan(name, data, self.engine_digest))
        if values is not None and values.get("engine", self.engine_digest) != self.engine_digest:
            self._refuse(name, Refused("was made for another engine", loss, "foreign"))
            return None
        try:
            if values is not None:
                return Plan.from_json(values, prompts)
        except StoreError as error:
            logger.warning("%s: %s", self._files.at(name), error)
            return None
        except Exception as error:  # whatever values that are no plan lead to
            logger.debug("%s: %r", self._files.at(name), error)
        self._refuse(name, Refused("is damaged", loss))
        return None

    def segment(self, name: str) -> Any:
        """A segment as an Arrow table; None for one that is damaged, another engine's or not of this name.

        Raises:
            StoreError: the file cannot be read.
            OSError: it is not there any more.
        """
        if name in self.refused:
            return None
        is_cells = name.startswith("cells/")
        kind = CellRecord if is_cells else ScoreRecord
        table = self._read(name, lambda data: _parse_segment(kind, data))
        if table is None:
            loss = "its cells will be generated again" if is_cells else "its rewards must be computed again (rescore)"
            self._refuse(name, Refused("is damaged", loss))
            return None
        engine, stored = segments.read_engine(table), segments.read_name(table)
        self._engines[name] = engine
        if engine not in (None, self.engine_digest):
            why = f"holds cells of another engine than {self._fingerprint.get('model', 'this')}"
            loss = "this folder does not need it: it belongs where it came from"
            self._refuse(name, Refused(why, loss, "foreign"))
            return None
        if stored not in (None, name):
            loss = "where no file has that name, give it this one its name back"
            self._refuse(name, Refused(f"was stored as {stored}", loss, "foreign"))
            return None
        return table

    def about(self) -> dict[str, Any]:
        """What `sweep.json` says: `format_version`, `engine`, `fingerprint`.

        Raises:
            StoreError: it cannot be read, is damaged, or was written by a newer version.
            OSError: it is not there.
        """
        name = "sweep.json"
        values = self._read(name, lambda data: _parse_about(self._files.place, data))
        if values is None:
            raise StoreError(
                f"{self._files.at(name)} cannot be read: it is damaged. {_UNTOUCHED} Restore it; or remove it and run "
                "the same sweep again, which writes it anew and keeps the cells that this engine generated."
            )
        return values

    def check_engines(self) -> None:
        """Check that most segments that were read agree with `sweep.json` on the engine.

        Raises:
            StoreError: more of them are another engine's than this one's: it is `sweep.json` that disagrees.
        """
        others = [name for name, engine in self._engines.items() if engine not in (None, self.engine_digest)]
        if 2 * len(others) > len(self._engines):
            raise StoreError(
                f"{self._files.at('sweep.json')} names an engine, {self._fingerprint}, whose cells are not here: "
                f"{len(others)} of {len(self._engines)} segments were filled by another, {others[0]} first. "
                f"{_UNTOUCHED} Restore sweep.json, or give the engine that filled them."
            )

    def set_aside(self) -> None:
        """Rename what was left out, so that it is not read again, with a warning each.

        Raises:
            StoreError: that would be more than a few, or one cannot be renamed.
        """
        n_files = len(self.refused) and sum(len(self._files.sizes(name)) for name in _ENDINGS)
        if len(self.refused) > max(FEW_FILES, SMALL_SHARE * n_files):
            first = next(iter(self.refused))
            raise StoreError(
                f"{len(self.refused)} of the {n_files} files of {self._files.place} cannot be used: {first} "
                f"{self.refused[first].why}, and so on. {_UNTOUCHED} Is its disk failing, or was it copied in part? "
                "Restore them; or move them out of the folder, and what is lost with them is generated again."
            )
        for name, (why, loss, ending) in self.refused.items():
            folder, _, base = name.rpartition("/")
            there, aside = self._files.sizes(folder), f"{base}.{ending}"
            for number in range(2, len(there) + 3):
                if aside not in there:
                    break
                aside = f"{base}.{number}.{ending}"
            path = self._files.at(name)
            try:
                self._files.rename(name, f"{folder}/{aside}")
            except OSError as error:
                raise StoreError(f"{path} {why} and cannot be set aside as {aside}: {error}") from error
            logger.warning("%s %s: set aside as %s; %s", path, why, aside, loss)
        self.begin()

    def _refuse(self, name: str, refused: Refused) -> None:
        self.refused[name] = refused
        if not self._may_rename:
            logger.warning("%s %s and left out; %s", self._files.at(name), refused.why, refused.loss)

    def _read(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        """What `parse` makes of a file; None where it is damaged: read twice, alike, and refused by `parse`.

        Raises:
            StoreError: it cannot be read; or it is read differently each time.
            OSError: it is not there any more.
        """
        before: bytes | None = None
        for _ in range(3):
            try:
                data = self._files.read(name)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise StoreError(
                    f"{self._files.at(name)} cannot be read: {error}. {_UNTOUCHED} Where it stays so, move it out of "
                    "the folder: what is lost with it is generated again."
                ) from error
            if data == before:
                return None
            try:
                return parse(data)
            except DamagedFile:
                before = data
        raise StoreError(f"{self._files.at(name)} is read differently each time: its disk or network fails.")


_ENDINGS = {"prompts": ".jsonl", "plans": ".json", "cells": ".parquet", "rewards": ".parquet"}


def _order(base: str) -> tuple[int, str]:
    """The place of a file, by its name within its folder, among the others."""
    stem = base.partition(".")[0]
    return int(stem.partition("-")[0]), stem


def _parse_prompts(name: str, data: bytes) -> dict[str, Prompt]:
    check_name(name, data)
    try:
        read = [Prompt.from_dict(parse_json(line)) for line in data.decode("utf-8").split("\n") if line.strip()]
    except Exception as error:  # whatever values that are no prompt lead to
        raise DamagedFile(repr(error)) from error
    return {prompt.digest: prompt for prompt in read}


def _parse_plan(name: str, data: bytes, engine: str) -> dict[str, Any]:
    """The values of a plan, or of another engine's. Raises NewerFormat, DamagedFile."""
    values = _parse_mapping(data)
    version = values.get("format_version")
    if is_whole(version, PLAN_FORMAT + 1):
        raise NewerFormat(f"{name}: the plan", version, PLAN_FORMAT)
    check_name(name, data)
    if read_digest(name) is None and values.get("engine", engine) == engine:
        # The name of one of before bears the digest of its values.
        own = {key: value for key, value in values.items() if key != "engine"}
        if not name.endswith(f"-{_digest_values(own)[:12]}.json"):
            raise DamagedFile("the digest in its name is not that of its values")
    return values


def _parse_about(place: str, data: bytes) -> dict[str, Any]:
    """The values of `sweep.json`. Raises NewerFormat, DamagedFile."""
    values = _parse_mapping(data)
    version, fingerprint = values.get("format_version"), values.get("fingerprint")
    if is_whole(version, FORMAT + 1):
        raise NewerFormat(place, version, FORMAT)
    own = {key: value for key, value in values.items() if key != "digest"}
    if "digest" in values and values["digest"] != _digest_values(own):
        raise DamagedFile("its digest is not that of its values")
    told = isinstance(fingerprint, dict) and all(isinstance(value, str) for value in fingerprint.values())
    if version != FORMAT or not told or own.keys() != {"format_version", "engine", "fingerprint"}:
        raise DamagedFile("it is not what a sweep writes")
    return values


def _digest_values(values: dict[str, Any]) -> str:
    try:
        return digest(values)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(repr(error)) from error


def _parse_mapping(data: bytes) -> dict[str, Any]:
    try:
        values = parse_json(data.decode("utf-8"))
    except ValueError as error:
        raise DamagedFile(str(error)) from error
    if not isinstance(values, dict):
        raise DamagedFile("it is no JSON object")
    return values


def _parse_segment(kind: type[CellRecord] | type[ScoreRecord], data: bytes) -> Any:
    table = segments.decode_segment(data)
    if table is None or not segments.list_required_columns(kind) <= set(table.column_names):
        raise DamagedFile("it cannot be decoded, or has other columns")
    bad = segments.find_bad_values(table)
    if bad is not None:
        raise DamagedFile(f"it holds {bad}")
    return table
