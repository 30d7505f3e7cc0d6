"""Rows of prompts as other packages hold them: data frames, tables, data sets, arrays; and what JSON can hold of them.

No package is imported for it: a frame is known by its methods.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import io
import math
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from hagpolicy._digest import canonical_json
from hagpolicy._text import replace_surrogates
from hagpolicy.errors import InvalidInput

__all__ = ["FIELDS", "check_columns", "is_missing", "keep_json_columns", "list_rows", "to_json_value"]

FIELDS = ("reference", "task", "group", "id", "constraint", "metadata")
"""What is read of a row beside its `prompt` or `messages`."""

_EXPECTED = "a list of prompts, or a data frame or data set with a row a prompt"
_WRITTEN = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, os.PathLike)
# A value that pandas has in place of a missing one and that is no number.
_MISSING_TYPES = ("NAType", "NaTType")
_LONGEST_NUMBER = 14_000  # bits; Python writes no number of more than 4,300 digits


def list_rows(source: Any, name: str = "prompts") -> Sequence[Any]:
    """What a collection holds, in its order; rows of a data frame or table are mappings.

    Args:
        source: a list, tuple, array, iterator, pandas or polars frame, Arrow table, `datasets.Dataset` of any format.
        name: of the argument, for messages.

    Raises:
        InvalidInput: one text, bytes, an open file, or a mapping (of splits, of columns, one prompt), none of which
            is a list of prompts, whatever iterating over it gives.
    """
    if isinstance(source, (list, tuple)):
        return source
    if isinstance(source, (str, bytes, bytearray, memoryview, os.PathLike)):
        raise InvalidInput(name, _EXPECTED, source, "For one prompt, give a list of one.")
    if isinstance(source, io.IOBase) or hasattr(source, "readline"):
        raise InvalidInput(name, _EXPECTED, "an open file", "Give its path.")
    source = source if isinstance(source, Mapping) else _to_plain_rows(source)
    if callable(getattr(source, "to_pylist", None)):  # Arrow
        check_columns(source.schema.names if hasattr(source, "schema") else (), name)
        return list(source.to_pylist())
    if callable(getattr(source, "to_dicts", None)):  # polars
        return list(source.to_dicts())
    if hasattr(source, "columns") and callable(getattr(source, "to_dict", None)):  # pandas and its likes
        return _list_frame(source, name)
    if isinstance(source, Mapping) or (callable(getattr(source, "keys", None)) and not hasattr(source, "tolist")):
        raise InvalidInput(name, _EXPECTED, f"a mapping of {_list_keys(source)}", _advise(source))
    if hasattr(source, "columns") or not isinstance(source, Iterable) or getattr(source, "shape", None) == ():
        raise InvalidInput(name, _EXPECTED, f"a {type(source).__name__}")
    return list(source)


def check_columns(columns: Iterable[Any], name: str) -> None:
    """Refuse columns of which one that is read stands there twice. Raises InvalidInput."""
    counts = Counter(columns)
    for column in ("prompt", "messages", *FIELDS):
        if counts[column] > 1:
            raise InvalidInput(name, f"one column {column!r}", f"{counts[column]}", "Rename all but one.")


def _to_plain_rows(source: Any) -> Any:
    """The source; one that only says how rows are made or shown, as what has the rows themselves."""
    if callable(getattr(source, "with_format", None)):  # a data set that may give its rows as frames or tensors
        shown = getattr(source, "format", None) or {}
        if shown.get("type") == "custom":  # a function of the user's own
            return source
        return source.with_format(None, columns=shown["columns"]) if shown else source.with_format(None)
    for method in ("collect", "read_all"):  # polars' lazy frame, Arrow's reader of batches
        if callable(getattr(source, method, None)):
            return getattr(source, method)()
    return source


def _list_frame(frame: Any, name: str) -> list[Any]:
    """Rows of a frame of pandas; levels of its index that have names are columns as well."""
    check_columns(frame.columns, name)
    frame = frame.loc[:, ~frame.columns.duplicated()]
    levels = [level for level in frame.index.names if level is not None and level not in frame.columns]
    return list((frame.reset_index(levels) if levels else frame).to_dict("records"))


def is_missing(value: Any) -> bool:
    """True for None and for what frames hold in its place: NaN, NA, NaT."""
    return value is None or (isinstance(value, Real) and value != value) or type(value).__name__ in _MISSING_TYPES


def keep_json_columns(columns: Mapping[Any, Any]) -> dict[str, Any]:
    """What JSON can hold of columns that nothing reads: missing values are None, dates are text, and a column that
    JSON cannot hold at all (a picture) is left out."""
    kept: dict[str, Any] = {}
    for name, value in columns.items():
        try:
            canonical_json(value)
            kept[str(name)] = value
        except (TypeError, ValueError, RecursionError):
            try:
                kept[str(name)] = to_json_value(value, missing=True)
            except (TypeError, ValueError, RecursionError):
                continue
    return kept


def to_json_value(value: Any, *, missing: bool = False) -> Any:
    """The value as JSON holds it: arrays are lists, numpy's numbers plain ones, dates text; half a surrogate is "?".

    Args:
        value: any.
        missing: NaN and infinities become None, else they are refused.

    Raises:
        TypeError: JSON has nothing for it.
        ValueError: NaN or an infinity, or a number that is too long.
        RecursionError: it is nested too deeply, or holds itself.
    """
    if isinstance(value, str):
        return replace_surrogates(str.__str__(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return to_json_value(value.value, missing=missing)
    if isinstance(value, Integral):
        if int(value).bit_length() > _LONGEST_NUMBER:
            raise ValueError("a number of more than 4,000 digits")
        return int(value)
    if is_missing(value) or (isinstance(value, Real) and math.isinf(value)):
        if missing or not isinstance(value, Real):
            return None
        raise ValueError(f"{value} is no number that JSON can hold")
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        return {to_json_value(str(key)): to_json_value(part, missing=missing) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(part, missing=missing) for part in value]
    if isinstance(value, _WRITTEN):
        return replace_surrogates(value.isoformat() if hasattr(value, "isoformat") else str(value))
    if hasattr(value, "tolist"):  # an array, numpy's bool
        return to_json_value(value.tolist(), missing=missing)
    raise TypeError(f"{type(value).__name__} is nothing that JSON can hold")


def _list_keys(source: Mapping[Any, Any]) -> str:
    names = [repr(key) for key in list(source)[:5]]
    return ", ".join(names) + (", …" if len(source) > 5 else "") if names else "nothing"


def _advise(source: Mapping[Any, Any]) -> str:
    if "prompt" in source or "messages" in source:
        return "For one prompt, give a list of one; for columns, a list of rows or a data frame."
    first = next(iter(source), None)
    return "" if first is None else f"For splits, give one of them, such as the value of {first!r}."
