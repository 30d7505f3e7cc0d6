"""Digests of whole files: a bit that flips anywhere in what a sweep folder stores is noticed when the file is read.

A segment bears its digest within (`data.parquet_digest`); prompts and plans
bear it in their names; `sweep.json` bears that of its values as a key. So a file and its digest are written, and
read, as one.
Files of before bear none and are checked by what they have.
"""

from __future__ import annotations

import re

from hagpolicy._digest import digest_bytes
from hagpolicy.data.parquet_digest import DamagedFile

_NAME = re.compile(r".*-([0-9a-f]{32})\.[a-z]+")


def name_file(start: str, ending: str, data: bytes) -> str:
    """The name of a file that bears the digest of its bytes and of the start of its name, so none stands for another.

    Args:
        start: folder, number and the writer's mark, such as "plans/000001".
        ending: such as ".json".
        data: the bytes.
    """
    return f"{start}-{_digest_named(start, data)}{ending}"


def read_digest(name: str) -> str | None:
    """The digest that a name bears; None where it bears none."""
    found = _NAME.fullmatch(name)
    return None if found is None else found[1]


def check_name(name: str, data: bytes) -> None:
    """Check the bytes of a file against the digest that its name bears, where it bears one.

    Raises:
        DamagedFile: it is not theirs.
    """
    borne = read_digest(name)
    if borne is not None and _digest_named(name[: name.rindex(f"-{borne}")], data) != borne:
        raise DamagedFile("the digest in its name is not that of its bytes")


def _digest_named(start: str, data: bytes) -> str:
    return digest_bytes(start.encode() + b"\n" + data)
