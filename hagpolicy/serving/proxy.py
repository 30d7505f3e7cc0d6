"""`make_proxy`: a policy before a server, as an application of its own, and `run_proxy`, which serves it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from typing import Any

from hagpolicy._extras import require
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.asgi import PolicyMiddleware
from hagpolicy.serving.handler import RequestHandler
from hagpolicy.serving.limits import LimitedApp, ProxyLimits
from hagpolicy.serving.messages import App, Message, Receive, Scope, Send, refuse
from hagpolicy.serving.own_paths import ANSWERS

__all__ = ["ForwardingApp", "make_proxy", "parse_upstream", "run_proxy"]

logger = logging.getLogger(__name__)

# Of one connection alone (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
CONNECT_SECONDS, READ_SECONDS = 10.0, 600.0
MOST_CONNECTIONS = 1000
# A connection is not used again after so many idle seconds: servers of uvicorn, such as vLLM's, end theirs after 5, and
# a request that is on its way at that moment is lost. Our own clients' are kept for longer than clients keep theirs.
IDLE_SECONDS, CLIENT_IDLE_SECONDS = 2.0, 75


class ForwardingApp:
    """Hands requests to a server: method, path, query, headers and body as they are, and the answer back as it comes.

    Redirects are not followed, so that no key goes where it was not meant to, and no proxy of the environment is used.

    Args:
        upstream: the server's address without a path, such as "http://127.0.0.1:8000".
        read_seconds: the longest silence of the server, above 0.

    Raises:
        InvalidInput: no such address.
        MissingExtra: httpx2 is not installed.
    """

    def __init__(self, upstream: str, read_seconds: float = READ_SECONDS) -> None:
        self._httpx, self._base = require("httpx2", "serve", "a proxy"), parse_upstream(upstream)
        self._timeout = self._httpx.Timeout(read_seconds, connect=CONNECT_SECONDS)
        self._transport: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or open and close the connections with the application's life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and not _read_path(scope).startswith("/"):
            # "@elsewhere/" behind the server's address would be another server's, which then had the client's key.
            await refuse(send, 400, "the target of the request is no path", "invalid_request_error")
        elif scope["type"] == "http":
            await self._forward(scope, receive, send)
        else:
            raise NotImplementedError(f"a proxy of HTTP alone, not of {scope['type']}")

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            self._open()
            await send({"type": "lifespan.startup.complete"})
        if self._transport is not None:
            await self._transport.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    def _open(self) -> Any:
        if self._transport is None:
            limits = self._httpx.Limits(
                max_connections=MOST_CONNECTIONS,
                max_keepalive_connections=MOST_CONNECTIONS,
                keepalive_expiry=IDLE_SECONDS,
            )
            # No client: it would keep the cookies of one caller for the next, and log addresses with what they hold.
            self._transport = self._httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        return self._transport

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; where its client goes away, the server's answer is given up at once."""
        whole = asyncio.Event()
        answering = asyncio.create_task(self._answer(scope, _read_body(receive, whole), send))
        watching = asyncio.create_task(_wait_for_end(receive, whole))
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done() and not answering.cancelled():
                answering.result()
        finally:
            for task in (answering, watching):
                task.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)

    async def _answer(self, scope: Scope, body: AsyncIterator[bytes], send: Send) -> None:
        begun = False
        try:
            response = await self._open().handle_async_request(self._make_request(scope, body))
            try:
                kept = [pair for pair in response.headers.raw if _passes(pair[0])]
                await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
                begun = True
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                await response.aclose()
        except self._httpx.InvalidURL:
            await refuse(
                send, 400, "the path of the request is too long or holds what no path does", "invalid_request_error"
            )
        except self._httpx.TransportError as error:
            logger.warning("%s: %s", self._base, type(error).__name__)
            if not begun:
                await _refuse(send, error, slow=isinstance(error, self._httpx.TimeoutException))
            # Else the answer stays without its end: the server closes the connection, and the client sees the cut.

    def _make_request(self, scope: Scope, body: AsyncIterator[bytes]) -> Any:
        """The request for the server: what its client said and nothing else, but for what belongs to a connection."""
        query = f"?{scope['query_string'].decode('latin-1')}" if scope.get("query_string") else ""
        headers = [pair for pair in scope["headers"] if _passes(pair[0]) and pair[0] != b"host"]
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        content = body if has_body else None
        request = self._httpx.Request(
            scope["method"],
            self._base + _read_path(scope) + query,
            headers=headers,
            content=content,
            extensions={"timeout": self._timeout.as_dict()},
        )
        said = {name.decode("latin-1").lower() for name, _ in headers} | {"host", "transfer-encoding"}
        for name in {name.lower() for name in request.headers} - said:
            del request.headers[name]
        return request


def _read_path(scope: Scope) -> str:
    """The path of a request as it came, without its query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1").partition("?")[0]


def _passes(name: bytes) -> bool:
    return name.decode("latin-1").lower() not in HOP_BY_HOP


async def _read_body(receive: Receive, whole: asyncio.Event) -> AsyncIterator[bytes]:
    """The parts of a request's body as they come."""
    while not whole.is_set():
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        if not message.get("more_body", False):
            whole.set()
        if message.get("body"):
            yield message["body"]


async def _wait_for_end(receive: Receive, whole: asyncio.Event) -> None:
    """Returns when the client has gone. Until its request is whole, that is for the one who reads it to see."""
    await whole.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, error: Exception, *, slow: bool) -> None:
    """An answer in the API's own form where the server gave none."""
    message = f"the server behind this proxy {'did not answer in time' if slow else 'cannot be reached'}"
    await refuse(send, 504 if slow else 502, message, type(error).__name__)


def parse_upstream(upstream: str) -> str:
    """The address of a server, without the "/v1" that paths of requests begin with.

    Raises:
        InvalidInput: it is no address, or one with a name, a password or a query.
        MissingExtra: httpx2 is not installed.
    """
    httpx = require("httpx2", "serve", "a proxy")
    try:
        url = httpx.URL(upstream)
        good = url.scheme in ("http", "https") and url.host and not url.userinfo and not url.query
    except Exception as error:  # the library's own error has no stable name
        raise InvalidInput("upstream", "an address such as http://127.0.0.1:8000", upstream) from error
    if not good:
        raise InvalidInput("upstream", "an address such as http://127.0.0.1:8000", upstream)
    return str(url).rstrip("/").removesuffix("/v1")


def make_proxy(
    handler: RequestHandler,
    upstream: str,
    *,
    limits: ProxyLimits | None = None,
    answers: Collection[str] = ANSWERS,
    key: str = "",
    upstream_key: str = "",
    read_seconds: float = READ_SECONDS,
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

    Raises:
        MissingExtra: httpx2 is not installed.
        InvalidInput: no such address, or a limit that is none.
    """
    inner = PolicyMiddleware(ForwardingApp(upstream, read_seconds), handler, answers=answers)
    return LimitedApp(inner, limits or ProxyLimits(), key, upstream_key)


def run_proxy(app: App, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve until SIGINT or SIGTERM; answers that have begun are ended first.

    Args:
        app: see `make_proxy`.
        host: to listen on; the default is reached from this machine alone.
        port: to listen on; 0: a free one, which the log names.

    Raises:
        MissingExtra: uvicorn is not installed.
    """
    uvicorn = require("uvicorn", "serve", "a proxy")
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        ws="none",
        timeout_keep_alive=CLIENT_IDLE_SECONDS,
        timeout_graceful_shutdown=30,
    )
