"""The exception tree.

    HagError
    ├── InvalidInput        (ValueError)  a value the caller gave is not usable
    │   └── UnsupportedSetting            an engine cannot honour a setting
    ├── MissingExtra        (ImportError) an optional package is not installed
    ├── BundleError                       a saved policy cannot be read
    ├── StoreError                        a sweep folder or a saved table cannot be read or written
    │   ├── ForeignSweep                  it holds the cells of another engine
    │   └── SweepLocked                   another process is writing to it
    └── EngineError                       an engine failed as a whole

Every message says what was wrong, what was expected, what was found and what to do.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BundleError",
    "EngineError",
    "ForeignSweep",
    "HagError",
    "InvalidInput",
    "MissingExtra",
    "ScorerError",
    "StoreError",
    "SweepLocked",
    "UnsupportedSetting",
]


class HagError(Exception):
    """Base of every error this library raises on purpose."""


class InvalidInput(HagError, ValueError):
    """A value is not usable: names the field, what was expected, what was found.

    Args:
        field: the argument or key; an attribute, as are the next three.
        expected: what it has to be, in words.
        got: what was found.
        do: what can be done about it, for the message; "": nothing more to say.
    """

    def __init__(self, field: str, expected: str, got: object, do: str = "") -> None:
        self.field = field
        self.expected = expected
        self.got = got
        self.do = do
        try:
            shown = got if isinstance(got, str) else repr(got)
        except (ValueError, RecursionError):  # a number of more digits than Python writes; what holds itself
            shown = f"a {type(got).__name__} that cannot be shown"
        if len(shown) > 200:
            shown = shown[:200] + " …"
        super().__init__(f"{field}: expected {expected}, got {shown}." + (f" {do}" if do else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        # An error must survive the way back from a worker process, whatever it names.
        return _rebuilt, (type(self), self.field, self.expected, self.args[0])


def _rebuilt(kind: type[InvalidInput], field: str, expected: str, message: str) -> InvalidInput:
    error = kind.__new__(kind, message)
    error.field, error.expected, error.got, error.do = field, expected, None, ""
    error.args = (message,)
    return error


class UnsupportedSetting(InvalidInput):
    """An engine cannot honour a setting of a decoding configuration; what it tells is that of `InvalidInput`."""


class MissingExtra(HagError, ImportError):
    """An optional package is not installed; the message gives the install command."""


class BundleError(HagError):
    """A saved policy is damaged, foreign or written by a newer version."""


class StoreError(HagError):
    """A sweep folder or a saved table cannot be read or written; what was stored before is intact."""


class ForeignSweep(StoreError):
    """A sweep folder holds the cells of another engine."""


class SweepLocked(StoreError):
    """Another process is writing to the sweep folder."""


class ScorerError(HagError):
    """The scorer of a sweep gives its first cells no reward; what was generated is stored."""


class EngineError(HagError):
    """An engine failed as a whole; the failure of one cell is a mark on that cell instead."""
