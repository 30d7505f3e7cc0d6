"""One server: its address, its key, one request at a time, and what its answers or their lack mean.

The key comes from the environment and stays in here. Whatever a server says leaves through
`Redactor.clean`, without key and prompt.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from hagpolicy.data.completion import Completion
from hagpolicy.engines.openai.redaction import Redactor, collect_texts
from hagpolicy.engines.openai.refusals import find_names
from hagpolicy.engines.openai.response import read_error, read_models
from hagpolicy.engines.openai.retry import RequestFailed, classify_status
from hagpolicy.engines.openai.stream import EventLoopThread
from hagpolicy.engines.openai.transport import Answer, Transport
from hagpolicy.errors import InvalidInput

__all__ = ["OFFICIAL", "Client", "Key", "check_url", "is_official", "join_headers", "list_secrets"]

T = TypeVar("T")
OFFICIAL_HOST = "api.openai.com"
OFFICIAL = f"https://{OFFICIAL_HOST}/v1"
# Some servers without keys insist on one, and take any.
PLACEHOLDER = "none-needed"
ALIVE_SECONDS = 5.0
# So many bytes of an error's body are looked through for what it names.
LONGEST_WORDS = 20_000
# Headers that only the official server is sent, by the variables that its own client reads.
ACCOUNT = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}


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


def list_secrets(headers: Mapping[str, str]) -> list[str]:
    """What no text may hold: values of headers, with and without their scheme, users and passwords of proxies."""
    found = [part for value in headers.values() for part in dict.fromkeys((value.split(" ", 1)[-1], value))]
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy"):
            user, mark, _ = value.rpartition("//")[2].rpartition("@")
            found += [unquote(part) for part in user.split(":", 1)] if mark else []
    return [one.strip() for one in found if one.strip().removeprefix("Bearer ") != PLACEHOLDER]


def join_headers(ours: Mapping[str, str], further: Mapping[str, str]) -> dict[str, str]:
    """Both, of which the further ones win, in whichever case their names are written."""
    named = {name.lower() for name in further}
    return {**{name: value for name, value in ours.items() if name.lower() not in named}, **further}


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
        timeout: seconds for one attempt, from looking up the name to the last byte.
        connections: most of them open at once.
        headers: further ones; nothing prints them.
        thread: whose loop it shares with other clients; None: one of its own.

    Raises:
        InvalidInput: a key that no header can carry, or an unusable proxy in the environment.
    """

    def __init__(
        self,
        base_url: str,
        key: Key,
        *,
        timeout: float,
        connections: int,
        headers: Mapping[str, str] | None = None,
        thread: EventLoopThread | None = None,
    ) -> None:
        self.base_url, self.timeout, self.connections = base_url, timeout, connections
        self.proven = False
        self.thread = EventLoopThread() if thread is None else thread
        self._key = key
        sent = {"Authorization": f"Bearer {key.reveal()}"}
        if is_official(base_url):
            sent |= {name: value for var, name in ACCOUNT.items() if (value := os.environ.get(var, "").strip())}
        sent = join_headers(sent, headers or {})
        self._redactor = Redactor(list_secrets(sent))
        self._transport = Transport(base_url, sent, connections=connections)

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    @property
    def heard(self) -> float:
        """When the server last sent a status, whichever, by the loop's clock; -inf: never."""
        return self._transport.heard

    async def complete(self, read: Callable[[bytes], T], *, chat: bool, arguments: Mapping[str, Any]) -> T:
        """What `read` makes of the answer of /chat/completions or /completions.

        Raises:
            RequestFailed: there is no answer, or it cannot be read.
        """
        private = collect_texts(arguments["messages" if chat else "prompt"])
        try:
            body = json.dumps(arguments, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            # Half a character, say, which no JSON can hold.
            failure = RequestFailed("cell", f"the request cannot be sent: {type(error).__name__}")
        else:
            path = "/chat/completions" if chat else "/completions"
            return await self._ask(read, "POST", path, body, private, self.timeout, arguments)
        raise failure

    async def list_models(self, seconds: float | None = None) -> list[str]:
        """Names of the server's models.

        Args:
            seconds: for the answer; None: as for any other.

        Raises:
            RequestFailed: it does not list them.
        """
        return await self._ask(read_models, "GET", "/models", None, (), seconds or self.timeout)

    async def is_alive(self) -> bool:
        """Whether the server answers a request that generates nothing."""
        try:
            await self.list_models(ALIVE_SECONDS)
        except RequestFailed as failure:
            return failure.kind in ("cell", "fatal")  # it need not have a list of models
        return True

    def redact(self, completion: Completion, arguments: Mapping[str, Any]) -> Completion:
        """A completion without the key: in all that the server says beside the text, without the prompt as well."""
        private = collect_texts(arguments.get("messages", arguments.get("prompt")))
        error = completion.error and self._redactor.clean(str(completion.error), private)
        receipt = {
            name: self._redactor.clean(value, private) if isinstance(value, str) else value
            for name, value in completion.receipt.items()
        }
        text, thought = (self._redactor.remove_whole(said) for said in (completion.text, completion.reasoning))
        return dataclasses.replace(completion, text=text, reasoning=thought, error=error, receipt=receipt)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _ask(
        self,
        read: Callable[[bytes], T],
        method: str,
        path: str,
        body: bytes | None,
        private: Iterable[str],
        seconds: float,
        sent: Collection[str] = (),
    ) -> T:
        """What `read` makes of the answer to one attempt. Whatever goes wrong with it is a `RequestFailed`, without
        its cause, which holds the request and what the server said."""
        try:
            answer = await self._transport.send(method, path, body, seconds=seconds)
            if answer.status >= 300:
                raise self._classify(answer, sent)
            found = read(answer.body)
        except RequestFailed as error:
            failure = error
        except Exception as error:  # there are as many ways to be wrong as there are servers
            failure = RequestFailed("faulty", f"the answer cannot be read: {type(error).__name__}")
        else:
            self.proven = True
            return found
        reason = self._redactor.clean(failure.reason, private)
        raise RequestFailed(failure.kind, reason, failure.wait, failure.named, counted=failure.counted)

    def _classify(self, answer: Answer, sent: Collection[str]) -> RequestFailed:
        """The failure that an answer with an error's status is, with those of the names in `sent` that it holds."""
        if answer.status in (401, 407):
            # Not in the server's words, which may repeat parts of the key.
            have = "does not accept the key of" if self._key.headers else "wants a key, and none is in"
            where = f"the environment variable {self._key.variable}" if self._key.variable else "key_env"
            words = f"HTTP {answer.status}: the server {have} {where}"
            return RequestFailed("fatal", words)
        message, code = read_error(answer.body)
        failure = classify_status(answer.status, message, code, answer.headers, proven=self.proven)
        # Before it is cleaned: a prompt may hold a setting's name too.
        failure.named = find_names(message, sent)
        if not failure.named:
            # Gateways wrap up what their upstream said; what repeats the whole request says nothing.
            named = find_names(answer.body[:LONGEST_WORDS].decode("utf-8", "replace"), sent)
            failure.named = named if named.isdisjoint(("messages", "prompt")) else ()
        return failure
