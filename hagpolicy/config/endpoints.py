"""The servers that configs name as their `endpoint`: where each is, and which key it is sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hagpolicy._names import suggest
from hagpolicy.config.fields import SPECS
from hagpolicy.errors import InvalidInput

__all__ = ["EndpointAddress", "is_address", "is_same_host", "parse_endpoints"]

_FORM = "a mapping of names to addresses, such as {'drafted': 'http://127.0.0.1:8001/v1#MODEL'}"


@dataclass(frozen=True)
class EndpointAddress:
    """Where one endpoint is.

    Attributes:
        url: of its server.
        model: its name of the model; "": the only one that it lists, or the one that a request names.
        options: what else was said of it, by name.
    """

    url: str
    model: str
    options: Mapping[str, Any]

    @property
    def base(self) -> str:
        """The address without the "/v1" that paths of requests begin with."""
        return self.url.rstrip("/").removesuffix("/v1")


def parse_endpoints(given: Any, takes: Collection[str]) -> dict[str, EndpointAddress]:
    """The endpoints by the names that configs have for them.

    Args:
        given: addresses by name, each "URL", "URL#MODEL", a mapping {"url": one of these} with further options, or
            an `EndpointAddress`; None: none.
        takes: names of the further options.

    Raises:
        InvalidInput: another form, a bad name, or an unknown option. Addresses are not repeated: they may hold keys.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidInput("endpoints", _FORM, type(given).__name__)
    found = {}
    for name, said in given.items():
        if isinstance(said, EndpointAddress):
            found[name] = said
            continue
        where = f"endpoints[{name!r}]"
        if not name or "@" in str(SPECS["endpoint"].check("endpoints", name)):
            raise InvalidInput("endpoints", _FORM, name)
        options = dict(said) if isinstance(said, Mapping) else {"url": said}
        if unknown := [option for option in options if option not in ("url", *takes)]:
            raise InvalidInput(where, f"url, {', '.join(takes)}", unknown[0], suggest(str(unknown[0]), tuple(takes)))
        source = options.pop("url", None)
        url, mark, model = source.partition("#") if isinstance(source, str) else ("", "", "")
        if not is_address(url) or (mark and not model):
            raise InvalidInput(where, "an address such as http://127.0.0.1:8001/v1#MODEL", "another form")
        found[name] = EndpointAddress(url, model, options)
    return found


def is_address(url: str) -> bool:
    """Whether a text is an address of a server, with nothing in it that may be a key."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    plain = url.isprintable() and not {" ", "?"} & set(url)
    return usable and plain and parts.username is None


def is_same_host(url: str, other: str) -> bool:
    """Whether two addresses are of one machine by its name, and neither is reached less safely than the other."""
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.hostname) == (two.scheme, two.hostname)
