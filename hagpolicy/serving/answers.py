"""What an answer says of itself: which model gave it, and what settings it applied; and how it is read where it comes
compressed."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from typing import Any

__all__ = ["READ_BYTES", "AnswerFindings", "AnswerReader", "find_applied", "find_model", "is_same_model"]

READ_BYTES = 16 << 10
"""Of the beginning of an answer, which is looked at."""

# Of a compressed answer, after decoding: what is larger is not read to its end.
MOST_DECODED = 64 << 20
# Window bits of zlib by content encoding (RFC 9110, 8.4.1).
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
# Within the text of an answer the quotes would be escaped.
_APPLIED = re.compile(r'(?<!\\)"generation_settings"\s*:\s*(?=\{)')
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,300})"')


def find_model(begin: bytes) -> str | None:
    """The model that an answer, or the first event of its stream, says it is of; None where it says none."""
    found = _MODEL.search(begin[:READ_BYTES])
    return None if found is None else found[1].decode("utf-8", "replace")


@dataclass(frozen=True)
class AnswerFindings:
    """What an answer tells of how its request fared.

    Attributes:
        other_model: it is of another model than the one that the policy was fitted on.
        not_honoured: fields that the policy set and the server says it applied with another value.
        unread: it came in an encoding that is not read, or damaged, so that nothing of this is known.
    """

    other_model: bool = False
    not_honoured: tuple[str, ...] = ()
    unread: bool = False


class AnswerReader:
    """The parts of an answer as text, whatever they are sent as; what is sent stays as it is.

    Args:
        encoding: its `content-encoding`; "" without one.

    Attributes:
        unread: nothing more of it can be read.
    """

    def __init__(self, encoding: str) -> None:
        known = encoding.strip().lower()
        self._zlib = zlib.decompressobj(_WINDOWS[known]) if known in _WINDOWS else None
        self.unread = self._zlib is None and known not in ("", "identity")
        self._left = MOST_DECODED

    def read(self, part: bytes) -> bytes:
        """A part decoded; empty where it cannot be."""
        if self.unread or self._zlib is None:
            return b"" if self.unread else part
        try:
            decoded = self._zlib.decompress(part, self._left)
        except zlib.error:
            self.unread = True
            return b""
        self._left -= len(decoded)
        self.unread = self._left <= 0
        return decoded


def find_applied(begin: bytes) -> dict[str, Any]:
    """The settings that an answer says were applied, such as llama-server's; empty where it says none, or only beyond
    what is looked at."""
    text = begin[:READ_BYTES].decode("utf-8", "replace")
    found = _APPLIED.search(text)
    if found is None:
        return {}
    try:
        said, _ = json.JSONDecoder().raw_decode(text, found.end())
    except (ValueError, RecursionError):
        return {}
    return dict(said)


def is_same_model(first: str, second: str) -> bool:
    """Whether two names may mean one model: folders and case apart, one may be the other with a date or a format."""
    one, other = (name.rstrip("/").rpartition("/")[2].casefold() for name in (first, second))
    return one.startswith(other) or other.startswith(one)
