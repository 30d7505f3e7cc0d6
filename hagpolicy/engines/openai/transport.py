"""HTTP towards one server: everything that it says comes in here, whatever asks.

One deadline holds for a whole question, from looking up the name to the last byte, so that bytes that
drip in do not keep it open. An answer is bounded in bytes, as it comes and unpacked. Redirects are not
followed: the key would go along. Servers on this machine are never asked through a proxy.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import socket
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

from hagpolicy.engines.openai.retry import RequestFailed
from hagpolicy.engines.openai.stream import THREAD_NAME
from hagpolicy.errors import InvalidInput

__all__ = ["LARGEST", "Answer", "Transport", "UnreadableAnswer", "is_loopback"]

LARGEST = 16_000_000
"""Most bytes of an answer, as it comes and unpacked."""
MOST_VALUES = 500_000
"""Most brackets that open in an answer: what JSON makes of them takes a hundred times their memory, and seconds."""
CONNECT_SECONDS = 5.0
_LOOPBACK_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
# Nothing is asked for packed; some servers pack all the same.
SENT = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "hagpolicy"}
_LOGGERS = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))


def _is_foreign(record: logging.LogRecord) -> bool:
    """False for what the libraries write about our requests: it repeats headers in the server's words."""
    return threading.current_thread().name != THREAD_NAME


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_is_foreign)


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
        status: 100 to 999.
        headers: names in lower case.
        body: unpacked, at most `LARGEST` bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class UnreadableAnswer(RequestFailed):
    """An answer whose body is too large, or comes in a form that was not asked for."""


class Transport:
    """Requests to one server, each one attempt; used inside one event loop.

    Attributes:
        heard: when a status last came from the server, by the loop's clock; -inf: never.

    Args:
        base_url: the root that paths are added to.
        headers: sent along, such as the key; shown nowhere.
        connections: most of them open at once.

    Raises:
        InvalidInput: headers that HTTP cannot carry, or a proxy in the environment that cannot be used.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], *, connections: int) -> None:
        _check_headers(headers)
        self.base_url = base_url
        self.heard = -math.inf
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        try:
            self._client = httpx2.AsyncClient(
                headers={**SENT, **headers},
                limits=limits,
                timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
                follow_redirects=False,
                trust_env=not is_loopback(base_url),
                verify=httpx2.create_ssl_context(),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        except (ValueError, ImportError, httpx2.InvalidURL):
            got, do = "one that cannot be used", "See HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; NO_PROXY names exceptions."
            raise InvalidInput("proxy", "an address such as http://host:port in the environment", got, do) from None

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def __reduce__(self) -> Any:
        raise TypeError("connections are not written anywhere; build the engine anew where it is needed")

    async def send(self, method: str, path: str, body: bytes | None = None, *, seconds: float) -> Answer:
        """The answer to one request, whatever its status but a redirect's.

        Args:
            method: of HTTP.
            path: after the root.
            body: JSON.
            seconds: for all of it.

        Raises:
            RequestFailed: there is none; its reason may hold the server's words.
        """
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream(method, self.base_url + path, content=body, headers=headers) as response,
            ):
                self.heard = asyncio.get_running_loop().time()
                if 300 <= response.status_code < 400:
                    raise _refuse_redirect(response.status_code, response.headers.get("location", ""))
                return Answer(response.status_code, _lower(response.headers), await _read_body(response))
        except RequestFailed as found:
            failure = found
        except TimeoutError:
            failure = RequestFailed("slow", f"no answer within {seconds:g} s")
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.InvalidURL) as error:
            failure = RequestFailed("unreachable", f"no connection: {_describe(error)}")
        except Exception as error:  # whatever comes of what the server sent is a fault of its answer
            if "Invalid URL in location" in str(error):
                failure = _refuse_redirect(300, "")
            else:
                failure = RequestFailed("faulty", f"the connection broke: {type(error).__name__}")
        # Not from within a handler: the errors of the library hold the request and its headers.
        raise failure

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own by its form: "localhost", 127.0.0.0/8, ::1, or these in IPv6."""
    host = (urlsplit(url).hostname or "").rstrip(".").partition("%")[0]
    if host in _LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        # Short forms and numbers as well: 127.1 and 2130706433 are taken for 127.0.0.1.
        address: Any = ipaddress.ip_address(host if ":" in host else socket.inet_aton(host))
    except (ValueError, OSError):
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _check_headers(headers: Mapping[str, str]) -> None:
    texts = [text for pair in headers.items() for text in pair]
    if any("\n" in text or "\r" in text for text in texts):
        raise InvalidInput("headers", "values of one line", "one with a line break", "Is there one in the key?")
    if not all(text.isascii() and text.isprintable() for text in texts):
        raise InvalidInput("headers", "ASCII characters", "others", "Is there one in the key?")


def _lower(headers: httpx2.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _refuse_redirect(status: int, location: str) -> RequestFailed:
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = None
    where = f"the host {host[:100]}" if host else "another path"
    words = (
        f"HTTP {status}: the server redirects to {where}, which is not followed; give the address that it stands for"
    )
    return RequestFailed("fatal", words)


def _describe(error: BaseException) -> str:
    """Why there is no connection, for people."""
    if isinstance(error, httpx2.TimeoutException):
        return f"not within {CONNECT_SECONDS:g} s"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there"
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {error}"


async def _read_body(response: httpx2.Response) -> bytes:
    """The body, unpacked.

    Raises:
        UnreadableAnswer: it is too large, a stream of events, or packed in a way that was not asked for.
    """
    if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        raise UnreadableAnswer("faulty", "the answer is a stream of events, which was not asked for")
    unpack = _choose_unpacking(response.headers.get("content-encoding", ""))
    data, came = bytearray(), 0
    async for part in response.aiter_raw():
        came += len(part)
        data += unpack(part, LARGEST + 1 - len(data))
        if max(came, len(data)) > LARGEST:
            raise UnreadableAnswer("faulty", f"the answer is larger than {LARGEST:,} bytes")
    if data.count(b"[") + data.count(b"{") > MOST_VALUES:
        raise UnreadableAnswer("faulty", f"the answer has more than {MOST_VALUES:,} lists and objects")
    return bytes(data)


class _Unpack(Protocol):
    def __call__(self, data: bytes, most: int, /) -> bytes: ...


def _choose_unpacking(encoding: str) -> _Unpack:
    """What makes plain bytes of the parts of a body, at most so many of each."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda data, most: data
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise UnreadableAnswer("faulty", "the answer is packed in a way that was not asked for")
    # Some servers leave out the frame that the standard asks for around "deflate".
    states = [zlib.decompressobj(zlib.MAX_WBITS | 32)] + [zlib.decompressobj(-zlib.MAX_WBITS)] * (encoding == "deflate")

    def unpack(data: bytes, most: int) -> bytes:
        while True:
            try:
                plain = states[0].decompress(data, most)
            except zlib.error:
                del states[0]
                if not states:
                    raise UnreadableAnswer("faulty", "the answer cannot be unpacked") from None
            else:
                del states[1:]
                return plain

    return unpack
