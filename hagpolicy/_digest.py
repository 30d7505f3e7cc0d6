"""Canonical JSON and digests: the one definition of identity.

Two values are the same thing to hagpolicy when their canonical JSON is the same: keys sorted, no
spaces, floats as Python's shortest repr, non-ASCII characters as they are.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_BYTES = 16


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values. NaN and infinities are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_bytes(data: bytes) -> str:
    """BLAKE2b of `data`, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest(value: Any) -> str:
    """Digest of a JSON-able value: of its canonical JSON, 32 hex digits."""
    return digest_bytes(canonical_json(value).encode("utf-8", "surrogatepass"))


def digest_file(path: Path) -> str:
    """Digest of a file's bytes, 32 hex digits."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
