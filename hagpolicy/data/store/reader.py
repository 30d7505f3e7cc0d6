"""Reading the files of a sweep folder: what is damaged or another engine's is set aside, and the rest goes on."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Mapping
from typing import Any

from hagpolicy._digest import digest
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store import segments
from hagpolicy.data.store.cells import Plan
from hagpolicy.data.store.place import Files
from hagpolicy.data.store.records import CellRecord, ScoreRecord
from hagpolicy.errors import StoreError

logger = logging.getLogger(__name__)


class Reader:
    """Reads the files of a sweep folder.

    Args:
        files: the folder's files.
        fingerprint: of the engine whose cells it holds.
        may_rename: rename files that cannot be used, so that they are not read again; else only warn.

    Attributes:
        engine_digest: digest of the fingerprint, which every file bears.
    """

    def __init__(self, files: Files, fingerprint: Mapping[str, str], *, may_rename: bool) -> None:
        self._files, self._fingerprint, self._may_rename = files, fingerprint, may_rename
        self.engine_digest = digest(dict(fingerprint))

    def names(self, folder: str, ending: str) -> list[str]:
        """Names of the files of a folder that end so, sorted. Raises OSError."""
        return [f"{folder}/{name}" for name in self._files.sizes(folder) if name.endswith(ending)]

    def segment_names(self) -> list[str]:
        """Names of all segments, of cells and of rewards, in the order in which they count. Raises OSError."""
        names = self.names("cells", ".parquet") + self.names("rewards", ".parquet")
        return sorted(names, key=lambda name: name.rpartition("/")[2].removesuffix(".parquet"))

    def prompts(self, name: str) -> dict[str, Prompt]:
        """The prompts of a file by digest; none where it is damaged, after it was set aside. Raises OSError."""
        try:
            lines = self._files.read(name).decode("utf-8").splitlines()
            read = [Prompt.from_dict(json.loads(line)) for line in lines]
        except (ValueError, TypeError):
            self._set_aside(name, "is damaged", "its prompts are stored again by the next sweep")
            return {}
        return {prompt.digest: prompt for prompt in read}

    def plan(self, name: str, prompts: Mapping[str, Prompt]) -> Plan | None:
        """A plan; None for one that is damaged or another engine's, after it was set aside, or lacks its prompts.

        Args:
            name: the file.
            prompts: the stored prompts by digest.

        Raises:
            StoreError: written by a newer version.
            OSError: the file cannot be read for now.
        """
        loss = "the next sweep makes a new plan"
        try:
            values = json.loads(self._files.read(name))
            if values.get("engine", self.engine_digest) != self.engine_digest:
                self._set_aside(name, "was made for another engine", loss, "foreign")
                return None
            return Plan.from_json(values, prompts)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._set_aside(name, "is damaged", loss)
        except StoreError as error:
            if "format" in str(error):
                raise
            logger.warning("%s: %s", self._files.at(name), error)
        return None

    def segment(self, name: str) -> Any:
        """A segment as an Arrow table; None for one that is damaged or another engine's, after it was set aside.

        Raises:
            OSError: the file cannot be read for now.
        """
        is_cells = name.startswith("cells/")
        wanted = segments.list_required_columns(CellRecord if is_cells else ScoreRecord)
        loss = "its cells will be generated again" if is_cells else "its rewards must be computed again (rescore)"
        try:
            table = segments.decode_segment(self._files.read(name))
        except OSError as error:
            # A bad block is damage; a lack of rights or of a network is not.
            if error.errno != errno.EIO:
                raise
            table = None
        if table is None or not wanted <= set(table.column_names):
            self._set_aside(name, "is damaged", loss)
            return None
        if segments.read_engine(table) not in (None, self.engine_digest):
            why = f"holds cells of another engine than {self._fingerprint.get('model', 'this')}"
            self._set_aside(name, why, "this folder does not need it: it belongs where it came from", "foreign")
            return None
        return table

    def _set_aside(self, name: str, why: str, loss: str, ending: str = "torn") -> None:
        """Rename a file that cannot be used and warn; where nothing may be renamed, only warn.

        Args:
            name: the file.
            why: what is wrong with it, such as "is damaged".
            loss: what is missing without it and what becomes of it.
            ending: what its name gets.
        """
        path = self._files.at(name)
        if not self._may_rename:
            logger.warning("%s %s and left out; %s", path, why, loss)
            return
        aside = f"{name.rpartition('/')[2]}.{ending}"
        try:
            self._files.rename(name, f"{name}.{ending}")
        except OSError as error:
            raise StoreError(f"{path} {why} and cannot be set aside as {aside}: {error}") from error
        logger.warning("%s %s: set aside as %s; %s", path, why, aside, loss)
