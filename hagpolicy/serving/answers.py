"""What an answer says of itself: which model gave it, and what settings it applied."""

from __future__ import annotations

import re

__all__ = ["READ_BYTES", "find_model", "is_same_model"]

READ_BYTES = 16 << 10
"""Of the beginning of an answer, which is looked at."""

# Within the text of an answer the quotes would be escaped.
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,300})"')


def find_model(begin: bytes) -> str | None:
    """The model that an answer, or the first event of its stream, says it is of; None where it says none."""
    found = _MODEL.search(begin[:READ_BYTES])
    return None if found is None else found[1].decode("utf-8", "replace")


def is_same_model(first: str, second: str) -> bool:
    """Whether two names may mean one model: folders and case apart, one may be the other with a date or a format."""
    one, other = (name.rstrip("/").rpartition("/")[2].casefold() for name in (first, second))
    return one.startswith(other) or other.startswith(one)
