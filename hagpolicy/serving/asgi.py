"""`PolicyMiddleware`: a policy in any ASGI application, such as vLLM's server, without a further hop.

    HAGPOLICY_POLICY=policies/mine vllm serve MODEL --middleware hagpolicy.serving.asgi.PolicyMiddleware

Pure ASGI: it needs no framework. Bodies of requests are rewritten, responses pass untouched, chunk by chunk, but for
the headers that say what was decided.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from hagpolicy.errors import HagError, InvalidInput
from hagpolicy.serving.handler import ANY_MODEL, HandledRequest, RequestHandler
from hagpolicy.serving.headers import PREFIX
from hagpolicy.serving.live import LiveCall, LiveSettings, make_live
from hagpolicy.serving.reward_endpoint import REWARD_PATH, answer_reward
from hagpolicy.serving.rewrite import RewriteRules, find_server

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

__all__ = ["PolicyMiddleware", "make_rules", "read_environment"]

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# A body that is larger goes on as it comes, unread: 32 MiB hold 8 million tokens.
MOST_BYTES = 32 << 20
OWN_PATHS = "/hag/"


class PolicyMiddleware:
    """An ASGI application that rewrites the requests of another by a policy.

    Below `/hag/` it answers itself: `/hag/health` (200 while it runs), `/hag/ready` (503 until its policies are
    loaded), `/hag/counts` (what became of the requests, as JSON) and, where traffic is logged, `POST /hag/reward`.
    Every other path is the application's.

    Args:
        app: the application behind it.
        handler: rewrites; None: made by `read_environment` when the application starts, or with its first request.
        most_bytes: larger bodies go on unread and unchanged.
    """

    def __init__(self, app: App, handler: RequestHandler | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        self.app, self.handler, self.most_bytes = app, handler, most_bytes
        self._loading: asyncio.Task[None] | None = None
        self._broken = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request, or the life of the application."""
        if scope["type"] == "lifespan" and self.handler is None:
            self._begin_loading()
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            if scope["type"] == "lifespan" and self.handler is not None:
                await asyncio.to_thread(self.handler.flush)
        elif scope["path"] == REWARD_PATH:
            await answer_reward(scope, receive, send, None if self.handler is None else self.handler.traffic)
        elif scope["path"].startswith(OWN_PATHS):
            await self._answer(scope["path"], send)
        elif scope["method"] != "POST" or not await self._is_ours(scope):
            await self.app(scope, receive, send)
        else:
            await self._rewrite(scope, receive, send)

    async def _is_ours(self, scope: Scope) -> bool:
        if self.handler is None:
            self._begin_loading()
            assert self._loading is not None
            await asyncio.shield(self._loading)
        encoded = any(name == b"content-encoding" for name, _ in scope["headers"])
        return self.handler is not None and not encoded and self.handler.handles(scope["path"])

    def _begin_loading(self) -> None:
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load())

    async def _load(self) -> None:
        try:
            self.handler = await asyncio.to_thread(read_environment, dict(os.environ))
        except Exception as error:
            # Requests then go on without a policy: a server with a bad bundle is better than none.
            self._broken = str(error) if isinstance(error, HagError) else type(error).__name__
            logger.error("no policy is in front of this application: %s", self._broken)

    async def _rewrite(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.handler is not None
        content, messages = await self._read(receive)
        if content is None:
            await self.app(scope, _replay(messages, receive), send)
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        handled = await self.handler.handle_async(scope["path"], headers, content)
        kept = [
            (name, value)
            for name, value in scope["headers"]
            if not name.startswith((PREFIX.encode(), b"content-length"))
        ]
        kept = [pair for pair in kept if pair[0] != b"transfer-encoding"]
        kept.append((b"content-length", str(len(handled.content)).encode()))
        whole = {"type": "http.request", "body": handled.content, "more_body": False}
        try:
            await self.app({**scope, "headers": kept}, _replay([whole], receive), _add_receipt(handled, send))
        finally:
            if handled.call is not None:
                handled.call.end()

    async def _read(self, receive: Receive) -> tuple[bytes | None, list[Message]]:
        """The body of a request, or None and what has come of it where it is too large or the client has gone."""
        messages: list[Message] = []
        size = 0
        while True:
            message = await receive()
            messages.append(message)
            if message["type"] != "http.request":
                return None, messages
            size += len(message.get("body", b""))
            if size > self.most_bytes:
                return None, messages
            if not message.get("more_body", False):
                return b"".join(one.get("body", b"") for one in messages), messages

    async def _answer(self, path: str, send: Send) -> None:
        """Health, readiness and counts of the policy itself."""
        status, said = 404, {"error": f"nothing at {OWN_PATHS} but health, ready and counts"}
        if path == "/hag/health":
            status, said = 200, {"status": "ok"}
        elif path == "/hag/ready":
            ready = self.handler is not None
            status, said = (200, {"status": "ready"}) if ready else (503, {"status": self._broken or "loading"})
        elif path == "/hag/counts":
            counts, ignored = ({}, 0) if self.handler is None else (self.handler.counts, self.handler.ignored)
            status, said = 200, {"requests": counts, "ignored_headers": ignored}  # type: ignore[dict-item]
        content = json.dumps(said).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _replay(messages: list[Message], receive: Receive) -> Receive:
    """What was received already, then what comes."""
    left = list(messages)

    async def replayed() -> Message:
        return left.pop(0) if left else await receive()

    return replayed


def _add_receipt(handled: HandledRequest, send: Send) -> Send:
    """A `send` that adds the receipt to the headers of the response."""
    own = [(name.encode(), value.encode("latin-1")) for name, value in handled.headers.items()]

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            # Those of another policy behind this one would be taken for ours.
            theirs = [pair for pair in message.get("headers", ()) if not pair[0].lower().startswith(PREFIX.encode())]
            message = {**message, "headers": [*theirs, *own]}
        if handled.call is not None:
            _show(message, handled.call)
        await send(message)

    return told


def _show(message: Message, call: LiveCall) -> None:
    """Let a call see its answer."""
    if message["type"] == "http.response.start":
        call.status = message["status"]
    elif message["type"] == "http.response.body":
        call.read(message.get("body", b""))
        call.whole = not message.get("more_body", False)


def read_environment(environment: Mapping[str, str]) -> RequestHandler:
    """The handler that environment variables ask for.

    `HAGPOLICY_POLICY`: the folder of a bundle, or a JSON object of folders by model. `HAGPOLICY_SERVER`: the server,
    as in `RewriteRules`; without it the one that was swept. `HAGPOLICY_OVERRULE`, `HAGPOLICY_LACKS`: fields, separated
    by commas. `HAGPOLICY_HINTS`: 0 forbids them. `HAGPOLICY_PRICE`, `HAGPOLICY_TASK`: of requests that say none.
    `HAGPOLICY_LOG`: the decision log; `HAGPOLICY_LOG_TEXT`: 1 keeps prompts in it; `HAGPOLICY_EXPLORE`,
    `HAGPOLICY_EXPERIMENT`: shares, see `LiveSettings`.

    Raises:
        InvalidInput: a variable that is missing or cannot be read.
        StoreError: the decision log cannot be written or is none.
        BundleError: no bundle there, or a damaged one.
    """
    from hagpolicy.policy.policy import load

    given = environment.get("HAGPOLICY_POLICY", "").strip()
    if not given:
        raise InvalidInput("HAGPOLICY_POLICY", "the folder of a policy, or a JSON object of them by model", None)
    folders = {ANY_MODEL: given}
    if given.startswith("{"):
        try:
            folders = dict(json.loads(given))
        except ValueError as error:
            raise InvalidInput("HAGPOLICY_POLICY", "a JSON object of folders by model", given) from error
    policies = {model: load(folder) for model, folder in folders.items()}
    said = {name: environment.get(f"HAGPOLICY_{name.upper()}") for name in ("server", "overrule", "lacks")}
    hints = environment.get("HAGPOLICY_HINTS", "1").strip() != "0"
    rules = {model: make_rules(policy, **said, hints=hints) for model, policy in policies.items()}
    price = _read_number(environment, "HAGPOLICY_PRICE")
    task, live = environment.get("HAGPOLICY_TASK") or None, _read_live(environment)
    return RequestHandler(policies, rules, price=price, task=task, live=live)


def _read_live(environment: Mapping[str, str]) -> LiveSettings | None:
    shares = {name: _read_number(environment, f"HAGPOLICY_{name.upper()}") for name in ("explore", "experiment")}
    text = environment.get("HAGPOLICY_LOG_TEXT", "0").strip() != "0"
    return make_live(environment.get("HAGPOLICY_LOG") or None, text=text, **shares)


def _read_number(environment: Mapping[str, str], name: str) -> float | None:
    given = environment.get(name, "").strip()
    try:
        return float(given) if given else None
    except ValueError as error:
        raise InvalidInput(name, "a number of at least 0", given) from error


def make_rules(
    policy: Policy, *, server: str | None, overrule: str | None, lacks: str | None, hints: bool
) -> RewriteRules:
    """Rules of what was said in words: names of fields separated by commas; None or "" where nothing was."""
    return RewriteRules(server or find_server(policy), _split(overrule), _split(lacks), hints=hints)


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
