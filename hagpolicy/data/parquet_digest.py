"""Parquet files that bear a digest of all their bytes: a bit that flips anywhere is noticed before anything is decoded.

The digest stands between the file's pages and its footer, where a reader of Parquet never looks, so a file and its
digest are written, and read, as one.
"""

from __future__ import annotations

from hagpolicy._digest import digest_bytes

# Before the footer: this, then the digest of all other bytes of the file in hex.
_LABEL = b"hagpolicy digest"
_BLOCK = len(_LABEL) + 32
# A Parquet file ends in its footer, the length of that in four bytes, and "PAR1".
_TAIL = 8

# What a file may take in memory: so much, and so many bytes for each of its own. Texts that repeat themselves pack
# well; a file that claims more was made to fill the memory.
SLACK_BYTES, BYTES_A_BYTE = 256 << 20, 1000


class DamagedFile(ValueError):
    """A file is not what was written; the message says how that shows."""


def limit_unpacked(size: int) -> int:
    """Bytes of memory that a file of `size` bytes may unpack to."""
    return SLACK_BYTES + BYTES_A_BYTE * size


def add_digest(data: bytes) -> bytes:
    """A Parquet file with the digest of all its bytes before its footer."""
    end = _find_footer(data)
    return data[:end] + _LABEL + digest_bytes(data).encode() + data[end:]


def check_digest(data: bytes) -> bool:
    """Whether a Parquet file bears a digest, which is then right.

    Raises:
        DamagedFile: it is not that of the bytes.
    """
    end = _find_footer(data) - _BLOCK
    if end < 0 or data[end : end + len(_LABEL)] != _LABEL:
        return False
    if digest_bytes(data[:end] + data[end + _BLOCK :]).encode() != data[end + len(_LABEL) : end + _BLOCK]:
        raise DamagedFile("its digest is not that of its bytes")
    return True


def _find_footer(data: bytes) -> int:
    return max(len(data) - _TAIL - int.from_bytes(data[-_TAIL:-4], "little"), 0)
