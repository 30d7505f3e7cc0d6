"""Transports for `httpx` and `httpx2`: a policy between a client and its connection.

Bytes in, bytes out: streaming, raw responses, retries and types stay the client's own, since nothing of it is replaced
but what its requests go through. Neither library is imported here: their requests have the same parts.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any

from hagpolicy.serving.answer_watch import AnswerWatch
from hagpolicy.serving.attempts import adapt_headers
from hagpolicy.serving.handler import HandledRequest, RequestHandler
from hagpolicy.serving.headers import PREFIX
from hagpolicy.serving.routing import choose_extensions, choose_headers, choose_query, list_withheld, make_path

__all__ = ["AsyncPolicyTransport", "PolicyTransport", "wrap_http_client"]

FindInner = Callable[[Any], Any]


class PolicyTransport:
    """A transport that rewrites the requests of a synchronous client and hands them to another transport.

    Args:
        handler: rewrites.
        inner: takes the requests, such as `httpx.HTTPTransport()`.
        find_inner: takes those for an address that a config names, by that address; None: `inner` takes them too.
    """

    def __init__(self, handler: RequestHandler, inner: Any, find_inner: FindInner | None = None) -> None:
        self.handler, self.inner, self._find_inner = handler, inner, find_inner

    def handle_request(self, request: Any) -> Any:
        """The response of the inner transport to the rewritten request, with the receipt in its headers."""
        if request.method != "POST" or not self.handler.handles(request.url.path):
            return self.inner.handle_request(request)
        handled = self.handler.handle(request.url.path, _list_headers(request), request.read())
        with _watch(self.handler, handled) as watch:
            response = self._answer(request, handled, watch)
            return _add_receipt(response, watch, _WatchedStream)

    def _answer(self, request: Any, handled: HandledRequest, watch: AnswerWatch) -> Any:
        """The response, that of a later attempt where it is to meet a constraint and does not."""
        if handled.refusal:
            return _refuse(request, handled)
        sent = _remake(request, handled)
        inner = _choose_inner(self.inner, self._find_inner, sent, handled)
        response = _withhold(inner.handle_request(sent), request, handled)
        if handled.attempts is None:
            return response
        kept = _KeptResponses(self.handler, handled, watch)
        if not kept.takes(response):
            return response
        again = handled.attempts.read(*kept.add(response, _read_whole(response)))
        while again is not None:
            try:
                sent = _remake(request, handled, again, kept.count)
                response = _withhold(inner.handle_request(sent), request, handled)
                whole = handled.attempts.takes(response.status_code, response.headers.get("content-type", ""))
                content = _read_whole(response)
            except Exception:  # the first answer stands, whatever becomes of others
                whole = False
            if not whole:
                handled.attempts.fail()
                break
            again = handled.attempts.read(*kept.add(response, content))
        return kept.choose()

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()

    def __enter__(self) -> PolicyTransport:
        self.inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.inner.__exit__(kind, error, trace)


class AsyncPolicyTransport:
    """A transport that rewrites the requests of an asynchronous client; see `PolicyTransport`.

    Args:
        handler: rewrites.
        inner: takes the requests, such as `httpx.AsyncHTTPTransport()`.
        find_inner: see `PolicyTransport`.
    """

    def __init__(self, handler: RequestHandler, inner: Any, find_inner: FindInner | None = None) -> None:
        self.handler, self.inner, self._find_inner = handler, inner, find_inner

    async def handle_async_request(self, request: Any) -> Any:
        """The response of the inner transport to the rewritten request, with the receipt in its headers."""
        if request.method != "POST" or not self.handler.handles(request.url.path):
            return await self.inner.handle_async_request(request)
        content = await request.aread()
        handled = await self.handler.handle_async(request.url.path, _list_headers(request), content)
        with _watch(self.handler, handled) as watch:
            response = await self._answer(request, handled, watch)
            return _add_receipt(response, watch, _WatchedAsyncStream)

    async def _answer(self, request: Any, handled: HandledRequest, watch: AnswerWatch) -> Any:
        """The response, that of a later attempt where it is to meet a constraint and does not."""
        if handled.refusal:
            return _refuse(request, handled)
        sent = _remake(request, handled)
        inner = _choose_inner(self.inner, self._find_inner, sent, handled)
        response = _withhold(await inner.handle_async_request(sent), request, handled)
        if handled.attempts is None:
            return response
        kept = _KeptResponses(self.handler, handled, watch)
        if not kept.takes(response):
            return response
        again = await self.handler.read_async(handled, *kept.add(response, await _read_whole_async(response)))
        while again is not None:
            try:
                sent = _remake(request, handled, again, kept.count)
                response = _withhold(await inner.handle_async_request(sent), request, handled)
                whole = handled.attempts.takes(response.status_code, response.headers.get("content-type", ""))
                content = await _read_whole_async(response)
            except Exception:  # the first answer stands, whatever becomes of others
                whole = False
            if not whole:
                handled.attempts.fail()
                break
            again = await self.handler.read_async(handled, *kept.add(response, content))
        return kept.choose()

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

    async def __aenter__(self) -> AsyncPolicyTransport:
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.inner.__aexit__(kind, error, trace)


def wrap_http_client(http_client: Any, handler: RequestHandler) -> Any:
    """A client of the same library with the same settings, whose requests are rewritten and go through the connections
    of the one given, which it keeps alive.

    Args:
        http_client: `httpx.Client`, `httpx.AsyncClient`, or those of `httpx2`.
        handler: rewrites.
    """
    asynchronous = hasattr(http_client, "aclose")
    kind = AsyncPolicyTransport if asynchronous else PolicyTransport
    # A plain client: some libraries close theirs when it is no longer referred to, and its connections are shared.
    name = "AsyncClient" if asynchronous else "Client"
    plain = next(one for one in type(http_client).__mro__ if one.__name__ == name and one.__module__ != __name__)
    # Neither library tells a client's transports publicly; their names are the same in all versions of both.
    find = http_client._transport_for_url
    mounts = {at.pattern: inner and kind(handler, inner, find) for at, inner in http_client._mounts.items()}
    made = plain(
        transport=kind(handler, http_client._transport, find),
        mounts=mounts,
        auth=http_client.auth,
        params=http_client.params,
        headers=http_client.headers,
        cookies=http_client.cookies,
        timeout=http_client.timeout,
        follow_redirects=http_client.follow_redirects,
        max_redirects=http_client.max_redirects,
        event_hooks=http_client.event_hooks,
        base_url=http_client.base_url,
        trust_env=http_client.trust_env,
    )
    made._hagpolicy_shares = http_client
    return made


def _list_headers(request: Any) -> list[tuple[str, str]]:
    return list(request.headers.multi_items())


def _remake(request: Any, handled: HandledRequest, again: bytes | None = None, number: int = 0) -> Any:
    """The request with the handled body, or that of a later attempt, without the headers that were for the policy."""
    dropped = (PREFIX, "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in _list_headers(request) if not name.lower().startswith(dropped)]
    headers = headers if handled.attempts is None else adapt_headers(headers, number)
    content, extensions = handled.content if again is None else again, request.extensions
    url = request.url
    if (endpoint := handled.receipt.endpoint) is not None:
        headers = choose_headers(headers, endpoint, str(url))
        extensions = choose_extensions(extensions)
        query = choose_query(url.query, endpoint, str(url)).decode()
        url = endpoint.base + make_path(url.path) + (f"?{query}" if query else "")
    return type(request)(request.method, url, headers=headers, content=content, extensions=extensions)


def _choose_inner(inner: Any, find_inner: FindInner | None, sent: Any, handled: HandledRequest) -> Any:
    """What takes a request: of one that goes elsewhere what the client has for that address, with its own proxy."""
    return inner if find_inner is None or handled.receipt.endpoint is None else find_inner(sent.url)


def _withhold(response: Any, request: Any, handled: HandledRequest) -> Any:
    """The response to a request, without the headers that are not handed on."""
    for name in list_withheld(handled.receipt.endpoint, str(request.url)):
        if name in response.headers:
            del response.headers[name]
    return response


def _find_library(message: Any) -> Any:
    """The library that a request or response is of."""
    return sys.modules[type(message).__module__.partition(".")[0]]


def _refuse(request: Any, handled: HandledRequest) -> Any:
    """The response to a request that is not sent, in the form of the API's errors."""
    error = {"message": handled.refusal, "type": "invalid_request_error", "code": 400}
    return _find_library(request).Response(400, json={"error": error})


def _read_whole(response: Any) -> bytes | None:
    """The body of a response as it came, which is closed then; None where it was so before, and is decoded."""
    if response.is_closed:
        return None
    try:
        return b"".join(response.stream)
    finally:
        response.close()


async def _read_whole_async(response: Any) -> bytes | None:
    """What `_read_whole` returns."""
    if response.is_closed:
        return None
    try:
        return b"".join([chunk async for chunk in response.stream])
    finally:
        await response.aclose()


class _KeptResponses:
    """The responses to the attempts of one request, one of which is handed on."""

    def __init__(self, handler: RequestHandler, handled: HandledRequest, watch: AnswerWatch) -> None:
        assert handled.attempts is not None
        self._handler, self._handled, self._watch, self._attempts = handler, handled, watch, handled.attempts
        self._kept: list[tuple[Any, bytes | None]] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._kept)

    def takes(self, response: Any) -> bool:
        """Whether the first response is to be checked; one that is not is concluded here."""
        taken = self._attempts.takes(response.status_code, response.headers.get("content-type", ""))
        if not taken:
            self._watch.handled = self._handler.conclude(self._handled)
        return taken

    def add(self, response: Any, content: bytes | None) -> tuple[bytes, str]:
        """The body of a response, and how it is encoded; `content` as `_read_whole` gives it."""
        self._kept.append((response, content))
        if content is None:
            return response.content, ""
        return content, response.headers.get("content-encoding", "")

    def choose(self) -> Any:
        """The response to hand on."""
        number, joined = self._attempts.join()
        self._watch.handled = self._handler.conclude(self._handled)
        response, content = self._kept[number]
        if joined is None and content is None:
            return response
        dropped = () if joined is None else ("content-length", "content-encoding", "transfer-encoding")
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in dropped]
        body = content if joined is None else joined
        headers += [] if joined is None else [("content-length", str(len(joined)))]
        stream = _find_library(response).ByteStream(body)
        return type(response)(response.status_code, headers=headers, stream=stream, extensions=response.extensions)


def _add_receipt(response: Any, watch: AnswerWatch, kind: Any) -> Any:
    for name in [name for name in response.headers if name.lower().startswith(PREFIX)]:
        del response.headers[name]  # of another policy behind this one
    response.headers.update(watch.handled.headers)
    whole = response.is_closed  # it came so, from a cache or in a test, and is decoded
    watch.start(response.status_code, "" if whole else response.headers.get("content-encoding", ""))
    if whole:
        watch.read(response.content, whole=True)
        watch.end()
    else:
        library: Any = type(response.stream)
        response.stream = _make_watched(kind, library)(response.stream, watch)
    return response


@contextmanager
def _watch(handler: RequestHandler, handled: HandledRequest) -> Iterator[AnswerWatch]:
    """A call whose answer did not come has ended."""
    watch = AnswerWatch(handler, handled)
    try:
        yield watch
    except BaseException:
        watch.end()
        raise


@cache
def _make_watched(kind: Any, stream: Any) -> Any:
    """The kind as a class of the library that a stream is of, which takes no others."""
    base = next(one for one in stream.__mro__ if one.__name__ == kind.base)
    return type(kind.__name__, (kind, base), {})


class _Watched:
    """A stream that gives what another gives, and shows it."""

    base = ""

    def __init__(self, stream: Any, watch: AnswerWatch) -> None:
        self._stream, self._watch = stream, watch


class _WatchedStream(_Watched):
    base = "SyncByteStream"

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._watch.read(chunk)
            yield chunk
        self._watch.read(b"", whole=True)

    def close(self) -> None:
        self._stream.close()
        self._watch.end()


class _WatchedAsyncStream(_Watched):
    base = "AsyncByteStream"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._watch.read(chunk)
            yield chunk
        self._watch.read(b"", whole=True)

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._watch.end()
