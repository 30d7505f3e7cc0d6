"""Adapters of a server: what each is called there, and how a request names it.

vLLM, SGLang and most others serve an adapter as a model of its own name: "Serving LoRA adapters" in their
documentation. llama.cpp's server takes a list of its adapters' numbers with a scale each (`lora`, in its README); one
that is not listed has whatever scale the server was started with or the list's default, so all are listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hagpolicy.config.fields import SPECS, split_pin
from hagpolicy.errors import InvalidInput

if TYPE_CHECKING:
    from hagpolicy.config.space import DecodingSpace

__all__ = ["ServedAdapters", "check_adapters"]

_BY_NUMBER = "llama_cpp"


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
        space: of the policy, whose configs name versions of them.

    Attributes:
        key: of a request's body by which an adapter is named.
    """

    def __init__(self, names: Mapping[str, str], server: str, space: DecodingSpace) -> None:
        self._names, self._numbered = dict(names), server == _BY_NUMBER
        self.key = "lora" if self._numbered else "model"
        self._values = {split_pin(config.adapter)[0]: config.adapter for config in space}

    def has(self, adapter: str) -> bool:
        """Whether the server has the adapter that a config names."""
        return not adapter or split_pin(adapter)[0] in self._names

    def is_named(self, body: Mapping[str, Any]) -> bool:
        """Whether a client says itself which adapter answers. A model that is no adapter's says nothing of them."""
        return self.key in body and (self._numbered or body[self.key] in self._names.values())

    def read(self, body: Mapping[str, Any]) -> str | None:
        """The adapter that a client named, as configs of the space name it; None where none of them does."""
        if self._numbered:
            return None
        served = {there: name for name, there in self._names.items()}
        return self._values.get(served[body[self.key]])

    def write(self, adapter: str) -> dict[str, Any]:
        """What a request is sent for a config's adapter; nothing where the model that it names answers as it is."""
        name = split_pin(adapter)[0]
        if self._numbered:
            scales = {there: float(own == name) for own, there in self._names.items()}
            return {"lora": [{"id": int(there), "scale": scale} for there, scale in scales.items()]} if scales else {}
        return {"model": self._names[name]} if name else {}
