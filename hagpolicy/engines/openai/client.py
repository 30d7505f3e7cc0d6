"""The official client towards one server: its address, its key, and one request at a time.

The key comes from the environment and stays in here. Whatever a server says is scrubbed of it before
anyone sees it, in part as well: some servers repeat the first and last characters of a refused key.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from hagpolicy.engines.openai.response import read_error, read_models
from hagpolicy.engines.openai.retry import RequestFailed, classify_status
from hagpolicy.engines.openai.stream import EventLoopThread
from hagpolicy.errors import InvalidInput

__all__ = ["OFFICIAL", "Client", "Key", "check_url", "is_official"]

OFFICIAL_HOST = "api.openai.com"
OFFICIAL = f"https://{OFFICIAL_HOST}/v1"
# A server without keys takes any; the client insists on one.
PLACEHOLDER = "none-needed"
CONNECT_SECONDS = 10.0
LEAST_PART = 6
_KEY_LIKE = re.compile(r"\b(?:sk|key|hf|gsk|Bearer)[-_ ][\w*.\-]{6,}", re.IGNORECASE)


class Key:
    """A key of an environment variable, which nothing prints.

    Args:
        variable: name of the variable; the official server's must be set.
        needed: whether to insist on it.

    Raises:
        InvalidInput: it is needed and not set.
    """

    def __init__(self, variable: str, *, needed: bool) -> None:
        self.variable = variable
        self._value = os.environ.get(variable, "").strip()
        if needed and not self._value:
            do = "Set it; or, for a server of your own, give its address: openai:http://host:port/v1#MODEL."
            raise InvalidInput(f"environment variable {variable}", f"the key of {OFFICIAL}", "nothing", do)

    def __repr__(self) -> str:
        return f"Key({self.variable!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a key is not written anywhere; build the engine anew where it is needed")

    @property
    def headers(self) -> dict[str, str]:
        """The header that shows the key to the server; none without a key."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def reveal(self) -> str:
        """The key itself, for the client alone."""
        return self._value or PLACEHOLDER

    def scrub(self, text: str) -> str:
        """`text` without the key, any part of it of six and more characters, and what looks like one."""
        key, kept, at = self._value, [], 0
        if key and len(key) < LEAST_PART:
            text = text.replace(key, "***")
        while at < len(text):
            end = at + LEAST_PART
            if end <= len(text) and text[at:end] in key:
                while end < len(text) and text[at : end + 1] in key:
                    end += 1
                kept.append("***")
                at = end
            else:
                kept.append(text[at])
                at += 1
        return _KEY_LIKE.sub("***", "".join(kept))


def check_url(url: str) -> str:
    """`url` without a slash at its end.

    Raises:
        InvalidInput: no http(s) address with a host, or one with a user, a query or a fragment in it: what
            is in an address gets into logs, so no key may be.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    # The address is not repeated: it may hold a key.
    if not usable:
        raise InvalidInput("base_url", "an address such as http://localhost:8000/v1", "another form")
    if parts.username is not None or parts.query or parts.fragment:
        do = "Put the key into an environment variable and name that as key_env."
        raise InvalidInput("base_url", "an address without user, query and fragment", "one with them", do)
    url = url.rstrip("/")
    for call in ("/chat/completions", "/completions"):
        if url.endswith(call):
            raise InvalidInput("base_url", "the root of the API", "the address of one call", f"Leave {call} away.")
    return url


def is_official(url: str) -> bool:
    """Whether an address is the API's own, in whichever region, and not one that speaks it as well."""
    host = urlsplit(url).hostname or ""
    return host == OFFICIAL_HOST or host.endswith("." + OFFICIAL_HOST)


class Client:
    """Requests to one server; its coroutines run in the loop of `thread`.

    Attributes:
        proven: whether the server has answered a request yet.

    Args:
        base_url: as `check_url` gives it.
        key: of the server.
        timeout: seconds for one attempt from sending to the last byte.
        connections: most of them open at once.
    """

    def __init__(self, base_url: str, key: Key, *, timeout: float, connections: int) -> None:
        self.base_url, self.timeout, self.connections = base_url, timeout, connections
        self.proven = False
        self.thread = EventLoopThread()
        self._key = key
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        phases = httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        self._client = openai.AsyncOpenAI(
            api_key=key.reveal(),
            base_url=base_url,
            max_retries=0,  # its own know nothing of the others in flight
            timeout=phases,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=phases),
        )

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    async def complete(self, *, chat: bool, **arguments: Any) -> bytes:
        """Body of the answer of /chat/completions or /completions.

        Raises:
            RequestFailed: there is none.
        """
        endpoint: Any = self._client.chat.completions if chat else self._client.completions
        turns = arguments["messages"] if chat else [{"content": arguments["prompt"]}]
        return await self._send(endpoint.with_raw_response.create, [turn["content"] for turn in turns], arguments)

    async def list_models(self) -> list[str]:
        """Names of the server's models.

        Raises:
            RequestFailed: it does not list them.
        """
        return read_models(await self._send(self._client.models.with_raw_response.list, [], {}))

    async def is_alive(self) -> bool:
        """Whether the server answers a request that generates nothing."""
        try:
            await asyncio.wait_for(self.list_models(), CONNECT_SECONDS)
        except TimeoutError:
            return False
        except RequestFailed as failure:
            return failure.kind in ("cell", "fatal")  # it need not have a list of models
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _send(
        self, call: Callable[..., Awaitable[Any]], private: Sequence[Any], arguments: Mapping[str, Any]
    ) -> bytes:
        """One attempt. Failures are raised without their cause, which holds the request and its headers."""
        try:
            async with asyncio.timeout(self.timeout):
                body: bytes = (await call(**arguments)).content
        except TimeoutError:
            failure = RequestFailed("slow", f"no answer within {self.timeout:g} s")
        except openai.APIError as error:
            failure = self._classify(error, private)
        except openai.OpenAIError as error:
            failure = RequestFailed("cell", f"the client refused the request: {type(error).__name__}")
        except (TypeError, ValueError) as error:
            # Half a character, say, which no JSON can hold.
            failure = RequestFailed("cell", f"the request cannot be sent: {type(error).__name__}")
        else:
            self.proven = True
            return body
        raise failure from None

    def _classify(self, error: openai.APIError, private: Sequence[Any]) -> RequestFailed:
        if isinstance(error, openai.APIStatusError):
            if error.status_code in (401, 407):
                # Not in the server's words, which may repeat parts of the key.
                have = "does not accept the key of" if self._key.headers else "wants a key, and none is in"
                words = f"HTTP {error.status_code}: the server {have} the environment variable {self._key.variable}"
                return RequestFailed("fatal", words)
            message, code = read_error(error.response.content)
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            message = _remove_prompt(self._key.scrub(message), private)
            return classify_status(error.status_code, message, code, headers, proven=self.proven)
        if isinstance(error, openai.APITimeoutError):
            connecting = isinstance(error.__cause__, httpx2.ConnectTimeout)
            return RequestFailed("unreachable" if connecting else "slow", "the connection timed out")
        if isinstance(error.__cause__, httpx2.ConnectError):
            return RequestFailed("unreachable", f"no connection: {self._key.scrub(str(error.__cause__))}")
        return RequestFailed("faulty", f"the connection broke: {type(error.__cause__ or error).__name__}")


def _remove_prompt(message: str, private: Sequence[Any]) -> str:
    """A server's message without the prompt, which some repeat in full."""
    for text in private:
        for form in {str(text), repr(text)[1:-1], json.dumps(text)[1:-1]}:
            message = message.replace(form, "…") if len(form) >= LEAST_PART else message
    return message
