"""Adapters of a server: what each is called there, and how a request names it.

vLLM and most others serve an adapter as a model of its own name ("LoRA Adapters" in vLLM's documentation), SGLang as
MODEL:NAME ("LoRA Serving" in its own), where a bare name would be taken for another name of the model. llama.cpp's
server takes a list of its adapters' numbers with a scale each (`lora`, in its README); one that is not listed has
whatever scale the server was started with or the list's default, so all are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hagpolicy.config.fields import SPECS, split_pin
from hagpolicy.errors import InvalidInput

if TYPE_CHECKING:
    from hagpolicy.config.config import DecodingConfig

__all__ = ["ServedAdapters", "check_adapters"]

_BY_NUMBER, _BEHIND_MODEL = "llama_cpp", "sglang"
# What SGLang calls the model of a request that names none.
_ANY_MODEL = "default"


def check_adapters(given: Any, server: str) -> dict[str, str]:
    """What a server calls each adapter, by the name that configs have for it.

    Raises:
        InvalidInput: no mapping of names, two of one name, or for llama.cpp's server what is no number.
    """
    form = "names of adapters with what the server calls each, such as {'sql': 'sql-lora'}"
    if not isinstance(given, Mapping):
        raise InvalidInput("adapters", form, given)
    for name, served in given.items():
        if (
            not name
            or "@" in str(SPECS["adapter"].check("adapters", name))
            or not isinstance(served, str)
            or not served
        ):
            raise InvalidInput("adapters", form, {name: served})
        if server == _BY_NUMBER and not served.isdecimal():
            raise InvalidInput("adapters", "numbers of the server's adapters, such as {'sql': '0'}", {name: served})
    if len(set(given.values())) < len(given):
        raise InvalidInput("adapters", "another name for each", dict(given))
    return dict(given)


class ServedAdapters:
    """The adapters of one server, as requests name them.

    Args:
        names: what the server calls each, by the name that configs have for it.
        server: a name in `SERVERS`.
        configs: which name versions of them, for `read`.

    Attributes:
        key: of a request's body by which an adapter is named.
    """

    def __init__(self, names: Mapping[str, str], server: str, configs: Iterable[DecodingConfig] = ()) -> None:
        self.names, self._server = dict(names), server
        self._numbered = server == _BY_NUMBER
        self.key = "lora" if self._numbered else "model"
        self._values = {split_pin(config.adapter)[0]: config.adapter for config in configs}

    def has(self, adapter: str) -> bool:
        """Whether the server has the adapter that a config names."""
        return not adapter or split_pin(adapter)[0] in self.names

    def is_named(self, body: Mapping[str, Any]) -> bool:
        """Whether a client says itself which adapter answers. A model that is no adapter's says nothing of them."""
        return self.key in body and (self._numbered or self.find(body[self.key]) is not None)

    def find(self, model: Any) -> str | None:
        """The adapter that a server calls so, by the name that configs have for it; None where it is none of them."""
        behind = model.partition(":")[2] if self._server == _BEHIND_MODEL and isinstance(model, str) else model
        return next((name for name, there in self.names.items() if there in (model, behind)), None)

    def read(self, body: Mapping[str, Any]) -> str | None:
        """The adapter that a client named, as the configs name it; None where none of them does."""
        name = None if self._numbered else self.find(body[self.key])
        return None if name is None else self._values.get(name)

    def write(self, adapter: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a request is sent for a config's adapter; nothing where the model that it names answers as it is.

        Args:
            adapter: as a config names it.
            body: of the request, which may name a model.
        """
        name = split_pin(adapter)[0]
        if self._numbered:
            scales = {there: float(own == name) for own, there in self.names.items()}
            return {"lora": [{"id": int(there), "scale": scale} for there, scale in scales.items()]} if scales else {}
        if not name:
            return {}
        there = self.names[name]
        return {"model": f"{body.get('model') or _ANY_MODEL}:{there}" if self._is_bare(there) else there}

    def _is_bare(self, there: str) -> bool:
        return self._server == _BEHIND_MODEL and ":" not in there
