"""Transports for `httpx` and `httpx2`: a policy between a client and its connection.

Bytes in, bytes out: streaming, raw responses, retries and types stay the client's own, since nothing of it is replaced
but what its requests go through. Neither library is imported here: their requests have the same parts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any

from hagpolicy.serving.answer_watch import AnswerWatch
from hagpolicy.serving.handler import HandledRequest, RequestHandler
from hagpolicy.serving.headers import PREFIX

__all__ = ["AsyncPolicyTransport", "PolicyTransport", "wrap_http_client"]


class PolicyTransport:
    """A transport that rewrites the requests of a synchronous client and hands them to another transport.

    Args:
        handler: rewrites.
        inner: takes the requests, such as `httpx.HTTPTransport()`.
    """

    def __init__(self, handler: RequestHandler, inner: Any) -> None:
        self.handler, self.inner = handler, inner

    def handle_request(self, request: Any) -> Any:
        """The response of the inner transport to the rewritten request, with the receipt in its headers."""
        if request.method != "POST" or not self.handler.handles(request.url.path):
            return self.inner.handle_request(request)
        handled = self.handler.handle(request.url.path, _list_headers(request), request.read())
        with _watch(self.handler, handled) as watch:
            return _add_receipt(self.inner.handle_request(_remake(request, handled)), watch, _WatchedStream)

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
    """

    def __init__(self, handler: RequestHandler, inner: Any) -> None:
        self.handler, self.inner = handler, inner

    async def handle_async_request(self, request: Any) -> Any:
        """The response of the inner transport to the rewritten request, with the receipt in its headers."""
        if request.method != "POST" or not self.handler.handles(request.url.path):
            return await self.inner.handle_async_request(request)
        content = await request.aread()
        handled = await self.handler.handle_async(request.url.path, _list_headers(request), content)
        with _watch(self.handler, handled) as watch:
            response = await self.inner.handle_async_request(_remake(request, handled))
            return _add_receipt(response, watch, _WatchedAsyncStream)

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
    mounts = {at.pattern: inner and kind(handler, inner) for at, inner in http_client._mounts.items()}
    made = plain(
        transport=kind(handler, http_client._transport),
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


def _remake(request: Any, handled: HandledRequest) -> Any:
    """The request with the handled body, without the headers that were for the policy."""
    dropped = (PREFIX, "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in _list_headers(request) if not name.lower().startswith(dropped)]
    extensions = request.extensions
    return type(request)(request.method, request.url, headers=headers, content=handled.content, extensions=extensions)


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
