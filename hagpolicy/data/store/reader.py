"""Reading the files of a sweep folder: what is damaged or another engine's is set aside, and the rest goes on."""

from __future__ import annotations

import errno
import json
import logging
from typing import TYPE_CHECKING, Any

from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store import segments
from hagpolicy.data.store.cells import Plan
from hagpolicy.errors import StoreError

if TYPE_CHECKING:
    from hagpolicy.data.store.folder import SweepStore

logger = logging.getLogger(__name__)


def read_prompts(store: SweepStore, name: str) -> dict[str, Prompt]:
    """The prompts of a file by digest; none where it is damaged, after it was set aside. Raises OSError."""
    try:
        lines = store.files.read(name).decode("utf-8").splitlines()
        read = [Prompt.from_dict(json.loads(line)) for line in lines]
    except (ValueError, TypeError):
        _set_aside(store, name, "is damaged", "its prompts are stored again by the next sweep")
        return {}
    return {prompt.digest: prompt for prompt in read}


def read_plan(store: SweepStore, name: str) -> Plan | None:
    """A plan; None for one that is damaged or another engine's, after it was set aside, or lacks its prompts.

    Raises:
        StoreError: written by a newer version.
        OSError: the file cannot be read for now.
    """
    loss = "the next sweep makes a new plan"
    try:
        values = json.loads(store.files.read(name))
        if values.get("engine", store.engine_digest) != store.engine_digest:
            _set_aside(store, name, "was made for another engine", loss, "foreign")
            return None
        return Plan.from_json(values, store.prompts)
    except (ValueError, TypeError, KeyError, AttributeError):
        _set_aside(store, name, "is damaged", loss)
    except StoreError as error:
        if "format" in str(error):
            raise
        logger.warning("%s: %s", store.files.at(name), error)
    return None


def read_segment(store: SweepStore, name: str) -> Any:
    """A segment as an Arrow table; None for one that is damaged or another engine's, after it was set aside.

    Raises OSError: the file cannot be read for now.
    """
    is_cells = name.startswith("cells/")
    wanted = segments.CELL_COLUMNS if is_cells else segments.SCORE_COLUMNS
    loss = "its cells will be generated again" if is_cells else "its rewards must be computed again (rescore)"
    try:
        table = segments.decode_segment(store.files.read(name))
    except OSError as error:
        # A bad block is damage; a lack of rights or of a network is not.
        if error.errno != errno.EIO:
            raise
        table = None
    if table is None or not set(wanted) - segments.OPTIONAL <= set(table.column_names):
        _set_aside(store, name, "is damaged", loss)
        return None
    if segments.engine_of(table) not in (None, store.engine_digest):
        why = f"holds cells of another engine than {store.fingerprint.get('model', 'this')}"
        _set_aside(store, name, why, "this folder does not need it: it belongs where it came from", "foreign")
        return None
    return table


def _set_aside(store: SweepStore, name: str, why: str, loss: str, ending: str = "torn") -> None:
    """Rename a file that cannot be used and warn; where nothing may be written, only warn.

    Args:
        store: the sweep folder.
        name: the file.
        why: what is wrong with it, such as "is damaged".
        loss: what is missing without it and what becomes of it.
        ending: what its name gets.
    """
    path = store.files.at(name)
    if not store.writable:
        logger.warning("%s %s and left out; %s", path, why, loss)
        return
    aside = f"{name.rpartition('/')[2]}.{ending}"
    try:
        store.files.rename(name, f"{name}.{ending}")
    except OSError as error:
        raise StoreError(f"{path} {why} and cannot be set aside as {aside}: {error}") from error
    logger.warning("%s %s: set aside as %s; %s", path, why, aside, loss)
