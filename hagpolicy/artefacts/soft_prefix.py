"""The files of a soft prefix: embeddings in safetensors, and JSON that says how many there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hagpolicy._extras import require
from hagpolicy._files import format_json, parse_json, read_regular, write_bytes, write_text
from hagpolicy.artefacts.folder import KINDS
from hagpolicy.errors import InvalidInput

__all__ = ["read_soft_prefix", "write_soft_prefix"]

FORMAT = 1
_HEAD, _ROWS = KINDS["soft_prefix"]
_LARGEST_HEAD, _LARGEST_ROWS = 1 << 20, 1 << 30
_TENSOR = "rows"


def write_soft_prefix(folder: Path, rows: np.ndarray) -> None:
    """Write the embeddings of a soft prefix into its folder.

    Args:
        folder: the artefact's.
        rows: float32 (tokens, width of the model's input embedding).
    """
    numpy = require("safetensors.numpy", "sweep", "a soft prefix")
    tokens, width = rows.shape
    write_bytes(folder / _ROWS, numpy.save({_TENSOR: np.ascontiguousarray(rows, dtype=np.float32)}))
    write_text(folder / _HEAD, format_json({"format_version": FORMAT, "tokens": tokens, "width": width}))


def read_soft_prefix(folder: Path) -> np.ndarray:
    """float32 (tokens, width): the embeddings of a soft prefix.

    Args:
        folder: the artefact's.

    Raises:
        InvalidInput: files that are none of this format, or that do not agree.
    """
    numpy = require("safetensors.numpy", "sweep", "a soft prefix")
    try:
        head = parse_json(read_regular(folder / _HEAD, _LARGEST_HEAD))
        if head["format_version"] != FORMAT:
            raise ValueError(f"format {head['format_version']!r}")
        rows: np.ndarray = numpy.load(read_regular(folder / _ROWS, _LARGEST_ROWS))[_TENSOR]
        if rows.dtype != np.float32 or rows.shape != (head["tokens"], head["width"]) or not rows.size:
            raise ValueError(f"{rows.dtype} {rows.shape} beside {head['tokens']!r} tokens of {head['width']!r}")
        if not np.isfinite(rows).all():
            raise ValueError("values that are not finite")
    except Exception as error:  # safetensors has error types of its own
        got = f"{folder}: {type(error).__name__}: {error}"
        raise InvalidInput("soft prefix", f"{_HEAD} and {_ROWS} of format {FORMAT}", got) from error
    return rows
