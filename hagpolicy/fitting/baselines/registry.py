"""Rivals: other ways to choose a config for each prompt, behind one interface and in one table."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from hagpolicy._names import suggest
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Chosen, Rival, crossfit_rival

__all__ = ["RIVALS", "Chosen", "Rival", "crossfit_rival", "get_rival", "get_rivals"]

RIVALS: dict[str, tuple[str, str]] = {
    "generation_config": ("hagpolicy.fitting.baselines.fixed", "GenerationConfig"),
    "task_lookup": ("hagpolicy.fitting.baselines.tasks", "TaskLookup"),
    "nearest": ("hagpolicy.fitting.baselines.neighbours", "Nearest"),
    "argmax": ("hagpolicy.fitting.baselines.neighbours", "Argmax"),
}


def get_rival(spec: str | Rival) -> Rival:
    """A rival by its name, or the one given.

    Raises:
        InvalidInput: an unknown name, with the nearest known one.
        MissingExtra: the rival's package is not installed.
    """
    if isinstance(spec, Rival):
        return spec
    if spec not in RIVALS:
        raise InvalidInput("rival", f"a Rival, or a name of {', '.join(RIVALS)}", spec, suggest(spec, RIVALS))
    module, name = RIVALS[spec]
    rival: Rival = getattr(importlib.import_module(module), name)()
    return rival


def get_rivals(specs: Sequence[str | Rival]) -> list[Rival]:
    """Rivals by their names or as they are, in their order.

    Raises:
        InvalidInput: see `get_rival`; or two of one name, which one table could not tell apart.
    """
    if isinstance(specs, (str, Rival)):
        raise InvalidInput("rivals", "a list of rivals", specs, "Put it in a list.")
    rivals = [get_rival(spec) for spec in specs]
    names = [rival.name for rival in rivals]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidInput("rivals", "names that differ", f"{twice[0]!r} {names.count(twice[0])} times")
    return rivals
