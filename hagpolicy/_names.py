"""Names for things that are loaded late: one registry class for every kind of plug-in."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from hagpolicy.errors import InvalidInput

__all__ = ["Registry", "suggest"]

T = TypeVar("T")


def suggest(name: object, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> str:
    """The sentence "Did you mean …?" with the known names nearest to `name`; "" where none is near.

    Args:
        name: what was given.
        known: names that would have been right.
        most: this many at most are suggested.
        cutoff: likeness that a suggestion needs, [0, 1], as in `difflib.get_close_matches`.
    """
    near = difflib.get_close_matches(str(name), list(known), n=most, cutoff=cutoff)
    return f"Did you mean {' or '.join(map(repr, near) if most == 1 else near)}?" if near else ""


class Registry(Mapping[str, T], Generic[T]):
    """The things of one kind by name, in the order of their registration. Reading a name loads it.

    A mapping, but for one thing: reading an unknown name raises `InvalidInput`, which names the kind, the known
    names and the nearest of them; so callers need no check of their own. Iterating, `in` and `len` load nothing.

    Args:
        kind: what the things are, for messages: "learner".
        entries: each thing by its name, or where it is defined, "package.module:Name", loaded when it is
            first read.
        expected: what a caller may give, for messages; "{names}" stands for the known names.
        also: words that a caller may give besides the names ("auto"): suggested, and in no other way known.
        most: names suggested at most for an unknown one.
        cutoff: likeness that a suggestion needs, [0, 1].
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T | str],
        *,
        expected: str = "one of {names}",
        also: Iterable[str] = (),
        most: int = 1,
        cutoff: float = 0.6,
    ) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries)
        self._expected = expected
        self._also = tuple(also)
        self._most, self._cutoff = most, cutoff

    @property
    def choices(self) -> tuple[str, ...]:
        """Every word that a caller may give: those of `also`, then the names."""
        return (*self._also, *self._entries)

    def register(self, name: str, thing: T | str) -> None:
        """Add a thing of one's own under a name that is not taken.

        Args:
            name: by which it is asked for from now on, in this process.
            thing: the thing, or where it is defined, "package.module:Name".

        Raises:
            InvalidInput: an empty or known name, or a string that is no "package.module:Name".
        """
        if not isinstance(name, str) or not name or name in self.choices:
            raise InvalidInput(f"name of a {self.kind}", f"a new one beside {', '.join(self.choices)}", name)
        if isinstance(thing, str) and thing.count(":") != 1:
            raise InvalidInput(f"{self.kind} {name}", 'the thing or "package.module:Name"', thing)
        self._entries[name] = thing

    def unknown(self, name: object, *, expected: str = "", do: str = "") -> InvalidInput:
        """The error about an unknown name, to raise; the nearest names are suggested.

        Args:
            name: what was given.
            expected: in place of what the registry says callers may give.
            do: what to do where no name is near.
        """
        near = suggest(name, self.choices, most=self._most, cutoff=self._cutoff)
        return InvalidInput(self.kind, expected or self._expected.format(names=", ".join(self)), name, near or do)

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise self.unknown(name)
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        found: T = entry
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """The thing of that name, or `default` where the name is unknown."""
        if name not in self:
            return default
        return self[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.kind}: {', '.join(self)})"
