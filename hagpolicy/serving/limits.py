"""`LimitedApp`: what a proxy accepts, and from whom."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass

from hagpolicy.errors import InvalidInput
from hagpolicy.serving.messages import App, Message, Receive, Scope, Send, refuse

__all__ = ["LimitedApp", "ProxyLimits"]

KEY_HEADER = b"x-hag-key"
# Probes of a platform carry no key and come when it is busiest. They read: what else is sent there is as any request.
PROBES = frozenset({"GET", "HEAD"})
OPEN_PATHS = frozenset({"/health", "/ready", "/hag/health", "/hag/ready"})


@dataclass(frozen=True)
class ProxyLimits:
    """The most that one client, and all of them, may ask of a proxy.

    Attributes:
        body_bytes: of a request; a larger one is refused with 413.
        header_bytes: of names and values of a request's headers together; 431.
        requests: under way at once; 503 with `Retry-After`.
        body_seconds: from the beginning of a request until its body is whole; 408.

    Raises:
        InvalidInput: a limit that is not above 0.
    """

    body_bytes: int = 64 << 20
    header_bytes: int = 64 << 10
    requests: int = 2_000
    body_seconds: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InvalidInput(name, "a limit above 0", value)


class LimitedApp:
    """An ASGI application that refuses what is beyond its limits, in the form of the API's own errors.

    Args:
        app: takes the other requests.
        limits: of requests.
        key: that requests must carry as `Authorization: Bearer KEY` or in `x-hag-key`; "" for none. It is taken off.
        upstream_key: put in the place of a client's own where the client's was the proxy's; "" for none.
    """

    def __init__(self, app: App, limits: ProxyLimits, key: str = "", upstream_key: str = "") -> None:
        self.app, self.limits = app, limits
        self._key, self._upstream_key = key.encode(), upstream_key.encode()
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request, or the life of the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        probes = scope["method"] in PROBES and scope["path"] in OPEN_PATHS
        admitted = self._admit(scope) if self._key or self._upstream_key else scope
        if admitted is None and not probes:
            await _refuse(send, 401, "this proxy asks for its own key", "invalid_api_key")
        elif sum(len(name) + len(value) for name, value in scope["headers"]) > self.limits.header_bytes:
            await _refuse(send, 431, f"headers of over {self.limits.header_bytes} bytes", "invalid_request_error")
        elif _read_length(scope) > self.limits.body_bytes:
            await self._refuse_body(send)
        elif self._under_way >= self.limits.requests and not probes:
            words = f"{self.limits.requests} requests are under way"
            await _refuse(send, 503, words, "overloaded", [(b"retry-after", b"1")])
        else:
            await self._pass(admitted or scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive, self.limits)
        begun = False

        async def begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        self._under_way += 1
        try:
            await self.app(scope, body.receive, begin)
        except Exception:
            if begun or not body.refused:
                raise
        finally:
            self._under_way -= 1
        if begun or not body.refused:
            return
        if body.refused == 413:
            await self._refuse_body(send)
        else:
            await _refuse(send, 408, f"no whole body in {self.limits.body_seconds:g} s", "timeout")

    async def _refuse_body(self, send: Send) -> None:
        # What the client still sends is not read, so the connection cannot serve another request.
        words = f"a body of over {self.limits.body_bytes} bytes"
        await _refuse(send, 413, words, "invalid_request_error", [(b"connection", b"close")])

    def _admit(self, scope: Scope) -> Scope | None:
        """The request for the server, or None where it has not the key."""
        headers = scope["headers"]
        given = [value for name, value in headers if name == KEY_HEADER]
        bearer = [_read_bearer(value) for name, value in headers if name == b"authorization"]
        own = bool(self._key) and any(hmac.compare_digest(one, self._key) for one in bearer)
        if self._key and not own and not any(hmac.compare_digest(one, self._key) for one in given):
            return None
        dropped = {KEY_HEADER} | ({b"authorization"} if own or not bearer else set())
        kept = [pair for pair in headers if pair[0] not in dropped]
        if self._upstream_key and b"authorization" in dropped:
            kept.append((b"authorization", b"Bearer " + self._upstream_key))
        return {**scope, "headers": kept}


class _Body:
    """The body of a request as it comes, until it is beyond a limit."""

    def __init__(self, receive: Receive, limits: ProxyLimits) -> None:
        self._receive, self._limits = receive, limits
        self._bytes, self._whole = 0, False
        self._until = asyncio.get_running_loop().time() + limits.body_seconds
        self.refused = 0

    async def receive(self) -> Message:
        """What comes next."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.refused = 408
            raise _Refused from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._bytes > self._limits.body_bytes:
                self.refused = 413
                raise _Refused
        return message


class _Refused(Exception):
    """A body that is beyond a limit."""


async def _refuse(
    send: Send, status: int, message: str, kind: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Refuse a request, and say that it was the proxy and not the server that did."""
    await refuse(send, status, message, kind, [(b"x-hag-reason", b"refused"), *(headers or [])])


def _read_bearer(value: bytes) -> bytes:
    """The token in an `Authorization` header, whose scheme is written in any case (RFC 9110, 11.1)."""
    scheme, _, token = value.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else value


def _read_length(scope: Scope) -> int:
    """The bytes of a body as its request states them; 0 where it does not."""
    stated = [value for name, value in scope["headers"] if name == b"content-length" and value.isdigit()]
    return max(map(int, stated), default=0)
