"""The adapters of a server, as an engine is given them: what each is called there, and folders for what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hagpolicy._digest import digest
from hagpolicy._names import suggest
from hagpolicy.artefacts.folder import Artefact, load_artefacts
from hagpolicy.config.adapters import ServedAdapters, check_adapters
from hagpolicy.errors import InvalidInput

__all__ = ["check_listed", "leave_out_adapters", "open_adapters"]

_KIND = "adapter"


def open_adapters(
    artifacts: Mapping[str, Mapping[str, Any]] | None, adapters: Mapping[str, str] | None, server: str
) -> tuple[dict[str, Artefact], ServedAdapters]:
    """The adapters by the names that configs have for them, and as requests name them.

    One without a folder is known by what the server calls it: its digest is that name's, and what it was made from is
    not known.

    Args:
        artifacts: folders by field and name, of adapters alone; None: none.
        adapters: what the server calls each; None, or one that is not named here: as configs do.
        server: a name in `SERVERS`.

    Raises:
        InvalidInput: artefacts of another field, a folder that holds no adapter, or names that are none.
    """
    given = load_artefacts(artifacts)
    if other := [kind for kind in given if kind != _KIND]:
        expected, do = (
            "those of the field adapter, which a server can be told",
            "Leave it out, or sweep the model here.",
        )
        raise InvalidInput("artifacts", expected, other[0], do)
    found = given.get(_KIND, {})
    names = {name: name for name in found} | (check_adapters(adapters, server) if adapters is not None else {})
    served = ServedAdapters(check_adapters(names, server), server)
    for name, there in served.names.items():
        if name not in found:
            found[name] = Artefact(_KIND, name, None, digest({"served": there}))
    return found, served


def check_listed(served: ServedAdapters, models: Sequence[str], address: str) -> None:
    """Refuse an adapter that a server whose list is complete does not list.

    Args:
        served: of that server.
        models: that it lists.
        address: of it, for the message.

    Raises:
        InvalidInput: naming the adapter, and those that it lists.
    """
    for name, there in served.names.items():
        if there not in models:
            listed = f"a model that {address} lists: {', '.join(models[:20])}"
            do = suggest(there, models) or "Say what the server calls it: adapters={'NAME': 'SERVED'}."
            raise InvalidInput(f"adapters[{name!r}]", listed, there, do)


def leave_out_adapters(models: Sequence[str], artifacts: Any, adapters: Any) -> list[str]:
    """The models of a server's list that are no adapter of those that are given, whether these are well formed or not.

    Args:
        models: that it lists.
        artifacts, adapters: see `open_adapters`.
    """
    folders = artifacts.get(_KIND) if isinstance(artifacts, Mapping) else None
    named = adapters if isinstance(adapters, Mapping) else {}
    served = {str(named.get(name, name)) for name in [*(folders if isinstance(folders, Mapping) else ()), *named]}
    return [model for model in models if model not in served]
