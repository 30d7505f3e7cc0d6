"""How encoders, learners and baselines are given to `fit`: by name, or as an object of one's own."""

from __future__ import annotations

from typing import TypeVar

from hagpolicy._names import Registry
from hagpolicy.errors import InvalidInput

T = TypeVar("T")


def get_plugin(registry: Registry[type[T]], base: type[T], given: str | T) -> T:
    """A plug-in made by its name, or the one given.

    Args:
        registry: classes by name; a name is made without arguments.
        base: what one of the caller's own must be an instance of.
        given: a name, or a plug-in.

    Raises:
        InvalidInput: an unknown name, with the nearest known one; or a plug-in without a name.
        MissingExtra: a package that the plug-in needs is not installed.
    """
    if isinstance(given, str) or not isinstance(given, base):
        return registry[given]()  # type: ignore[index]  # the registry refuses what is no string
    name = getattr(given, "name", None)
    if not isinstance(name, str) or not name:
        what = f"{type(given).__name__}.name"
        raise InvalidInput(what, f"the {registry.kind}'s name, a text", name, 'Set it in the class: name = "mine".')
    return given
