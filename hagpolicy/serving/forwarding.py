"""`ForwardingApp`: requests handed on to a server, as an application of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from hagpolicy._extras import require
from hagpolicy.config.endpoints import is_address
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.messages import Message, Receive, Scope, Send, refuse

__all__ = ["READ_SECONDS", "ForwardingApp", "parse_upstream"]

logger = logging.getLogger(__name__)

# Of one connection alone (RFC 9110, 7.6.1). "expect" too: the client was told to go on when its body was asked for, and
# a server that takes no notice of it would be waited for.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
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
# Of a status line or a header of the server; and how many of these.
MOST_LINE, MOST_HEADERS = 64 << 10, 1_000
# What the client library would say of itself.
_OWN_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# A connection is not used again after so many idle seconds: servers of uvicorn, such as vLLM's, end theirs after 5, and
# a request that is on its way at that moment is lost.
IDLE_SECONDS = 2.0


class ForwardingApp:
    """Hands requests to a server: method, path, query, headers and body as they are, and the answer back as it comes.

    Redirects are not followed, so that no key goes where it was not meant to, and no proxy of the environment is used.

    Args:
        upstream: the server's address without a path, such as "http://127.0.0.1:8000".
        read_seconds: the longest silence of the server, above 0.

    Raises:
        InvalidInput: no such address.
        MissingExtra: aiohttp is not installed.

    Attributes:
        base: the server's address, without the "/v1" that paths of requests begin with.
        read_seconds: see above.
    """

    def __init__(self, upstream: str, read_seconds: float = READ_SECONDS) -> None:
        self._aiohttp, self._yarl = require("aiohttp", "serve", "a proxy"), require("yarl", "serve", "a proxy")
        self.base, self.read_seconds = parse_upstream(upstream), read_seconds
        self._timeout = self._aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=read_seconds)
        self._session: Any = None

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
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> Any:
        if self._session is None:
            self._session = self._aiohttp.ClientSession(
                connector=self._aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
                timeout=self._timeout,
                # Of one caller for the next.
                cookie_jar=self._aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_OWN_HEADERS,
                trust_env=False,
                max_line_size=MOST_LINE,
                max_field_size=MOST_LINE,
                max_headers=MOST_HEADERS,
            )
        return self._session

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; where its client goes away, the server's answer is given up at once."""
        body = _Body(receive)
        answering = asyncio.create_task(self._answer(scope, body, send))
        watching = asyncio.create_task(body.wait_for_end())
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done() and not answering.cancelled():
                answering.result()
        finally:
            for task in (answering, watching):
                task.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)

    async def _answer(self, scope: Scope, body: _Body, send: Send) -> None:
        begun = False
        try:
            async with self._request(scope, body) as response:
                kept = [pair for pair in response.raw_headers if _passes(pair[0])]
                await send({"type": "http.response.start", "status": response.status, "headers": kept})
                begun = True
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except (self._aiohttp.ClientError, TimeoutError) as error:
            if body.error is not None:
                raise body.error from None
            logger.warning("%s: %s", self.base, type(error).__name__)
            if not begun:
                await _refuse(send, error)
            # Else the answer stays without its end: the server closes the connection, and the client sees the cut.

    def _request(self, scope: Scope, body: _Body) -> Any:
        """The request for the server: what its client said and nothing else, but for what belongs to a connection."""
        query = f"?{_decode(scope['query_string'])}" if scope.get("query_string") else ""
        headers = [
            (_decode(name), _decode(value)) for name, value in scope["headers"] if _passes(name) and name != b"host"
        ]
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        if not has_body:
            body.skip()
        # As it came: encoded anew it might be another.
        url = self._yarl.URL(self.base + _read_path(scope) + query, encoded=True)
        return self._open().request(
            scope["method"], url, headers=headers, data=body.read() if has_body else None, allow_redirects=False
        )


def _read_path(scope: Scope) -> str:
    """The path of a request as it came, without its query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return _decode(raw).partition("?")[0]


def _decode(data: bytes) -> str:
    """A part of a request's head, which is sent on as UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _passes(name: bytes) -> bool:
    return name.decode("latin-1").lower() not in HOP_BY_HOP


class _Body:
    """The body of a request as it comes.

    Attributes:
        error: what ended it before its end, which the client library tells in words of its own.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self._ended = receive, asyncio.Event()
        self._gone = False
        self.error: Exception | None = None

    async def read(self) -> AsyncIterator[bytes]:
        """Its parts."""
        while not self._ended.is_set():
            try:
                message: Message = await self._receive()
            except Exception as error:
                self.error = error
                raise
            self._gone = message["type"] == "http.disconnect"
            if self._gone or not message.get("more_body", False):
                self._ended.set()
            if self._gone:
                raise ConnectionResetError("the client has gone")
            if message.get("body"):
                yield message["body"]

    def skip(self) -> None:
        """There is none."""
        self._ended.set()

    async def wait_for_end(self) -> None:
        """Returns when the client has gone. Until its request is whole, that is for the one who reads it to see."""
        await self._ended.wait()
        while not self._gone and (await self._receive())["type"] != "http.disconnect":
            pass


async def _refuse(send: Send, error: Exception) -> None:
    """An answer in the API's own form where the server gave none."""
    slow = isinstance(error, TimeoutError)
    message = f"the server behind this proxy {'did not answer in time' if slow else 'cannot be reached'}"
    await refuse(send, 504 if slow else 502, message, type(error).__name__)


def parse_upstream(upstream: str) -> str:
    """The address of a server, without the "/v1" that paths of requests begin with.

    Raises:
        InvalidInput: it is no address, or one with a name, a password or a query.
    """
    if not is_address(upstream) or "#" in upstream:
        # It is not repeated: it may hold a key.
        raise InvalidInput("upstream", "an address such as http://127.0.0.1:8000", "another form")
    return upstream.rstrip("/").removesuffix("/v1")
