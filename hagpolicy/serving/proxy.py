"""`make_proxy`: a policy before a server, as an application of its own, and `run_proxy`, which serves it at what
`listen` opened."""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import suppress

from hagpolicy._extras import require
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.asgi import PolicyMiddleware
from hagpolicy.serving.forwarding import READ_SECONDS, ForwardingApp, parse_upstream
from hagpolicy.serving.handler import RequestHandler
from hagpolicy.serving.limits import LimitedApp, ProxyLimits
from hagpolicy.serving.messages import App
from hagpolicy.serving.own_paths import ANSWERS

__all__ = ["ForwardingApp", "listen", "make_proxy", "parse_upstream", "run_proxy"]

END_SECONDS = 30.0
# Of clients that have connected and are not served yet.
WAITING_CONNECTIONS = 2048
# Clients' connections are kept for longer than clients keep theirs.
CLIENT_IDLE_SECONDS = 75


def make_proxy(
    handler: RequestHandler,
    upstream: str,
    *,
    limits: ProxyLimits | None = None,
    answers: Collection[str] = ANSWERS,
    key: str = "",
    upstream_key: str = "",
    read_seconds: float = READ_SECONDS,
    explain: bool = False,
) -> App:
    """The ASGI application of a proxy, for any server of such.

    Args:
        handler: rewrites.
        upstream: see `ForwardingApp`.
        limits: of requests; None: `ProxyLimits()`.
        answers: paths that are its own, see `PolicyMiddleware`.
        key: see `LimitedApp`.
        upstream_key: see `LimitedApp`.
        read_seconds: the longest silence of the server, above 0.
        explain: see `PolicyMiddleware`.

    Raises:
        MissingExtra: aiohttp is not installed.
        InvalidInput: no such address, or a limit that is none.
    """
    inner = PolicyMiddleware(ForwardingApp(upstream, read_seconds), handler, answers=answers, explain=explain)
    return LimitedApp(inner, limits or ProxyLimits(), key, upstream_key)


def listen(host: str = "127.0.0.1", port: int = 8080) -> socket.socket:
    """A socket that clients can connect to from now on; its `getsockname()[1]` is the port.

    Args:
        host: an address of this machine, or a name of it; the default is reached from this machine alone.
        port: 0 to 65535; 0: a free one.

    Raises:
        InvalidInput: no such address or port, or another program listens there.
    """
    if not 0 <= port <= 65535:
        raise InvalidInput("port", "0 to 65535", port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=WAITING_CONNECTIONS)
    except OSError as error:
        got = f"{host}, port {port}: {error.strerror or error}"
        do = "Give another port (0: a free one), or end what listens there."
        raise InvalidInput("host and port", "an address of this machine at which nothing listens", got, do) from error


def run_proxy(app: App, listening: socket.socket, end_seconds: float = END_SECONDS) -> None:
    """Serve until SIGINT or SIGTERM; answers that have begun are ended first.

    Args:
        app: see `make_proxy`.
        listening: see `listen`; it is closed at the end.
        end_seconds: for answers that have begun to come to their end after the signal, at least 0; they are cut then.

    Raises:
        MissingExtra: uvicorn is not installed.
    """
    uvicorn = require("uvicorn", "serve", "a proxy")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws="none",
        # The server's own pass as they are: these would stand beside them.
        date_header=False,
        server_header=False,
        timeout_keep_alive=CLIENT_IDLE_SECONDS,
        timeout_graceful_shutdown=end_seconds,
    )
    with suppress(KeyboardInterrupt), listening:  # the signal, once more, when all has ended
        uvicorn.Server(config).run(sockets=[listening])
