"""Keeping a folder small: many small segments become a few, what later files replace goes.

A kill at any point loses nothing: a merged segment is whole before the first of its sources is
removed, and counts as later than they do. Sources that a kill left behind hold no record that
counts; the next writer finds them so and removes them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from hagpolicy._digest import digest_bytes
from hagpolicy._extras import require
from hagpolicy.data.store.cells import Plan
from hagpolicy.data.store.index import Index
from hagpolicy.data.store.place import Files
from hagpolicy.data.store.reader import Reader
from hagpolicy.errors import StoreError, SweepLocked

logger = logging.getLogger(__name__)

# Segments below the first size, in bytes, are merged into ones of about the second, once there are so many of them.
SMALL_BYTES = 4 << 20
MERGED_BYTES = 16 << 20
MANY_SEGMENTS = 32
# And no more than so much at once in memory: texts that repeat themselves pack well.
UNPACKED_BYTES = 256 << 20
MANY_PLANS = 32


def merge_small(files: Files, reader: Reader, put: Callable[[str, Any], None], index: Index) -> None:
    """Merge neighbouring small segments of cells where there are many. A failure is a warning: nothing depends on it.

    Only neighbours in the order of all segments are merged, so no record passes one of another
    segment that replaces it or that it replaces.

    Args:
        files: the folder's files.
        reader: reads them.
        put: writes a segment: its name, its Arrow table.
        index: what all segments hold, which is told of the new ones.
    """
    try:
        sizes = {f"cells/{name}": size for name, size in files.sizes("cells").items()}
        for group in _group_small(reader.segment_names(), sizes):
            _merge(files, reader, put, index, group)
    except SweepLocked:
        raise
    except (StoreError, OSError) as error:
        logger.warning("the small segments of %s are not merged: %s", files.place, error)


def remove_outdated(files: Files, index: Index) -> None:
    """Remove the segments of cells of which every record is replaced by a later one."""
    for name in index.drop_outdated():
        _remove(files, name)


def drop_plans(files: Files, plans: Sequence[tuple[str, Plan]], stored: Collection[str]) -> None:
    """Remove plans that have nothing left to be run and nothing to tell that a later one of the same cells has not.

    Args:
        files: the folder's files.
        plans: stored plans with the names of their files, in the order they were made. Equal views are one object.
        stored: keys of the cells that are generated.
    """
    if len(plans) <= MANY_PLANS:
        return
    later: dict[int, list[Mapping[str, Any]]] = {}
    for name, plan in reversed(plans):
        notes = later.setdefault(id(plan.view), [])
        if notes and (not plan.notes or plan.notes in notes):
            begun = (any(key in stored for key in plan.keys(unit)) for unit in range(len(plan.units)))
            if all(begun):
                _remove(files, name)
        notes.append(plan.notes)


def _group_small(names: Sequence[str], sizes: Mapping[str, int]) -> list[list[str]]:
    """Groups of two and more segments to be merged: small neighbours, in order.

    Args:
        names: of all segments, in the order in which they count.
        sizes: bytes of those that hold cells.
    """
    groups: list[list[str]] = [[]]
    total, n_small = 0, 0
    for name in names:
        small = sizes.get(name, SMALL_BYTES) < SMALL_BYTES
        n_small += small
        if not small or total + sizes[name] > MERGED_BYTES:
            groups.append([])
            total = 0
        if small:
            groups[-1].append(name)
            total += sizes[name]
    return [group for group in groups if len(group) > 1] if n_small > MANY_SEGMENTS else []


def _merge(files: Files, reader: Reader, put: Callable[[str, Any], None], index: Index, names: Sequence[str]) -> None:
    """Write the latest records of some segments as one, then remove them."""
    arrow = require("pyarrow", "sweep", "a sweep folder")
    read = [(name, table) for name in names if (table := reader.segment(name)) is not None]
    sizes = np.cumsum([table.nbytes for _, table in read])
    whole = read[: int(np.searchsorted(sizes, UNPACKED_BYTES, side="right"))]
    if len(whole) < 2:
        return
    # A later version may have added columns.
    table = arrow.concat_tables([table.replace_schema_metadata() for _, table in whole], promote_options="default")
    keys = table.column("cell").to_pylist()
    last = {key: row for row, key in enumerate(keys)}
    table = table.take(sorted(last.values())) if len(last) < len(keys) else table
    # After the last of its sources and before the next segment, in the order of names.
    name = f"{whole[-1][0].removesuffix('.parquet')}-{_mark(table)}.parquet"
    put(name, table)
    sources = [source for source, _ in whole]
    index.replace(sources, name, table)
    for source in sources:
        files.remove(source)
    logger.debug("%s: %d segments merged into %s", files.place, len(whole), name)


def _remove(files: Files, name: str) -> None:
    try:
        files.remove(name)
    except OSError as error:
        logger.warning("%s is of no use any more and cannot be removed: %s", files.at(name), error)


def _mark(table: Any) -> str:
    """A few digits that two different merges of one segment do not share."""
    return digest_bytes("".join(table.column("cell").to_pylist()).encode())[:8]
