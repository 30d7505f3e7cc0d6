"""Requests to the server that a config names as its endpoint: their address, and what of their head goes along."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from hagpolicy.config.endpoints import EndpointAddress, is_same_host, parse_endpoints
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.endpoints import find_endpoint

__all__ = ["check_upstreams", "choose_extensions", "choose_headers", "choose_query", "list_withheld", "make_path"]

# All that another host than the client's is sent: any other header may hold a key, whatever it is called.
_OF_ANY_HOST = frozenset(
    {"accept", "accept-encoding", "content-type", "content-length", "user-agent", "traceparent", "tracestate"}
)
# Of what a client of httpx says beside a request: the others are of the server that it was for, such as a raw target,
# which stands in place of any address, with its query.
_OF_ANY_SERVER = frozenset({"timeout", "trace"})
_KEYS = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})


def check_upstreams(given: Any) -> dict[str, EndpointAddress]:
    """The servers by the names that configs have for them as their `endpoint`.

    Args:
        given: "URL" or "URL#MODEL" by name, or {"url": one of these, "key_env": variable with its key}.

    Raises:
        InvalidInput: another form, or a variable that is not set.
    """
    found = parse_endpoints(given, ("key_env",))
    for name, endpoint in found.items():
        variable = endpoint.options.get("key_env")
        if variable is not None and not (isinstance(variable, str) and os.environ.get(variable, "").strip()):
            # A key may have been given in place of a variable's name: it is not repeated.
            shown = variable if isinstance(variable, str) and variable.isidentifier() else "another form"
            raise InvalidInput(
                f"endpoints[{name!r}]", "the name of a variable with its key", f"{shown}, which is not set"
            )
    return found


def make_path(path: str) -> str:
    """The path of a request that is rewritten, at a server of its own, without what gateways put before it."""
    kind = find_endpoint(path)
    return path if kind is None else f"/v1{kind.path}"


def list_withheld(endpoint: EndpointAddress | None, near: str) -> tuple[str, ...]:
    """Names of the headers of an endpoint's answer that are not handed on.

    A client takes the answer for one of the server that it asked. It would follow a redirect with the headers that were
    for that server, and send it the cookies of another host.

    Args:
        endpoint: that answers; None: the server that was asked.
        near: address of the server that was asked.
    """
    if endpoint is None:
        return ()
    return ("location",) if is_same_host(endpoint.url, near) else ("location", "set-cookie")


def choose_query(query: bytes, endpoint: EndpointAddress, near: str) -> bytes:
    """The query of a request that goes to an endpoint: none on another host, since gateways take keys in it.

    Args:
        query: of the client's request, without its "?".
        endpoint: where it goes.
        near: address of the server that it was for.
    """
    return query if is_same_host(endpoint.url, near) else b""


def choose_extensions(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """What is said beside a request to an endpoint, of what its client said to the transport of httpx."""
    return {name: value for name, value in extensions.items() if name in _OF_ANY_SERVER}


def choose_headers(headers: Iterable[tuple[str, str]], endpoint: EndpointAddress, near: str) -> list[tuple[str, str]]:
    """The headers of a request that goes to an endpoint.

    On the host that the client's request was for anyway they are the client's, keys among them. Another host gets what
    HTTP needs alone. A key of the endpoint's own takes the place of any.

    Args:
        headers: of the client's request.
        endpoint: where it goes.
        near: address of the server that it was for.
    """
    key = os.environ.get(endpoint.options.get("key_env", ""), "").strip()
    same = is_same_host(endpoint.url, near)
    kept = [(name, value) for name, value in headers if name.lower() != "host"]
    kept = [
        pair for pair in kept if (pair[0].lower() not in _KEYS or not key if same else pair[0].lower() in _OF_ANY_HOST)
    ]
    return [*kept, ("authorization", f"Bearer {key}")] if key else kept
