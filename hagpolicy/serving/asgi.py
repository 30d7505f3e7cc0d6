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
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from hagpolicy.config.endpoints import EndpointAddress
from hagpolicy.errors import HagError, InvalidInput, MissingExtra
from hagpolicy.policy.session import parse_providers
from hagpolicy.serving.answer_watch import AnswerWatch
from hagpolicy.serving.checked_app import answer_checked
from hagpolicy.serving.forwarding import READ_SECONDS, ForwardingApp
from hagpolicy.serving.handler import ANY_MODEL, HandledRequest, RequestHandler
from hagpolicy.serving.headers import PREFIX
from hagpolicy.serving.live import LiveSettings, make_live
from hagpolicy.serving.messages import App, Message, Receive, Scope, Send, refuse
from hagpolicy.serving.own_paths import OwnPaths
from hagpolicy.serving.reload import SECONDS, BundleWatcher, stamp_folders
from hagpolicy.serving.routing import choose_headers, choose_query, list_withheld, make_path
from hagpolicy.serving.settings import RULES, make_rules
from hagpolicy.serving.tracing import RequestTracer

if TYPE_CHECKING:
    from hagpolicy.policy.session import Providers

__all__ = ["PolicyMiddleware", "read_environment"]

logger = logging.getLogger(__name__)

# A body that is larger goes on as it comes, unread: 32 MiB hold 8 million tokens.
MOST_BYTES = 32 << 20
# Where the application is that a middleware stands in.
THIS_MACHINE = "http://127.0.0.1"
# A bundle that could not be loaded is tried again with the first request after so many seconds.
RETRY_SECONDS = 5.0
_PREFIX = PREFIX.encode()


class PolicyMiddleware:
    """An ASGI application that rewrites the requests of another by a policy.

    Below `/hag/` it answers itself: `/hag/health` (200 while it runs), `/hag/ready` (503 until its policies are
    loaded), `/hag/counts` (what became of the requests, as JSON), `/hag/metrics` (for Prometheus) and, where traffic is
    logged, `POST /hag/reward`; `POST /hag/explain` with `explain`. Every other path is the application's.

    Args:
        app: the application behind it.
        handler: rewrites; None: made by `read_environment` when the application starts, or with its first request.
        most_bytes: larger bodies go on unread and unchanged.
        answers: names of "health", "ready" and "metrics" that it answers without `/hag` as well.
        registry: of prometheus-client, for its metrics; None: the default one, which a server shows with its own.
        explain: whoever can send requests may ask why a prompt gets its config, and is told ids and mean values of like
            training prompts; never their texts. Of policies that were saved with `explain=True`.

    Raises:
        MissingExtra: the handler's rules name endpoints, and aiohttp is not installed.
    """

    def __init__(
        self,
        app: App,
        handler: RequestHandler | None = None,
        *,
        most_bytes: int = MOST_BYTES,
        answers: Collection[str] = (),
        registry: Any = None,
        explain: bool = False,
    ) -> None:
        self.app, self.handler, self.most_bytes = app, handler, most_bytes
        self.own = OwnPaths(answers, registry, explains=explain)
        self._beside: dict[str, ForwardingApp] = {}
        self._loading: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        try:
            self._tracer: RequestTracer | None = RequestTracer()
        except MissingExtra:
            self._tracer = None
        if handler is not None:
            self._open_beside(handler)
            self.own.observe(handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request, or the life of the application."""
        if scope["type"] == "lifespan" and self.handler is None:
            self._begin_loading()
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            if scope["type"] == "lifespan" and self.handler is not None:
                await asyncio.to_thread(self.handler.flush)
                for beside in self._beside.values():
                    await beside.close()
        elif self.own.has(scope["path"]):
            await self.own.answer(scope, receive, send)
        elif scope["method"] != "POST" or not await self._is_ours(scope):
            await self.app(_strip(scope), receive, send)
        else:
            await self._rewrite(scope, receive, send)

    async def _is_ours(self, scope: Scope) -> bool:
        if self.handler is None:
            self._begin_loading()
            assert self._loading is not None
            await asyncio.shield(self._loading)
        return self.handler is not None and self.handler.handles(scope["path"])

    def _begin_loading(self) -> None:
        loop = asyncio.get_running_loop()
        failed = self._loading is not None and self._loading.done() and self.handler is None
        if self._loading is None or (failed and loop.time() >= self._retry_at):
            self._loading = loop.create_task(self._load())

    async def _load(self) -> None:
        try:
            environment = dict(os.environ)
            folders, seconds = read_folders(environment), _read_number(environment, "RELOAD", SECONDS)
            seen = stamp_folders(folders)
            handler = await asyncio.to_thread(read_environment, environment)
            self._open_beside(handler)
            self.own.explains |= _read_switch(environment, "EXPLAIN")
            self.own.observe(handler)
            if seconds:
                providers = read_providers(environment)
                BundleWatcher(handler, folders, seconds, self.own.metrics, seen, providers).start()
            self.handler = handler
        except Exception as error:
            # Requests then go on without a policy: a server with a bad bundle is better than none.
            said = str(error) if isinstance(error, HagError) else type(error).__name__
            if said != self.own.broken:
                logger.error("no policy is in front of this application: %s", said)
            self.own.broken, self._retry_at = said, asyncio.get_running_loop().time() + RETRY_SECONDS

    async def _rewrite(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.handler is not None
        content, messages = await self._read(receive)
        if messages[-1]["type"] != "http.request":  # the client has gone
            await self.app(_strip(scope), _replay(messages, receive), send)
            return
        begun = time.perf_counter()
        sent = _strip(scope)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        if content is None:
            handled = self.handler.handle_unread(scope["path"], headers)
        else:
            handled = await self.handler.handle_async(scope["path"], headers, content)
            kept = [pair for pair in sent["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]
            sent = {**sent, "headers": [*kept, (b"content-length", str(len(handled.content)).encode())]}
            messages = [{"type": "http.request", "body": handled.content, "more_body": False}]
        if handled.refusal:
            await self._refuse(handled, send)
            return
        withheld = list_withheld(handled.receipt.endpoint, self._near)
        answer = _Answer(AnswerWatch(self.handler, handled), send, begun, withheld)
        ended = False
        try:
            await self._pass(answer, sent, _replay(messages, receive))
            ended = answer.watch.whole
        finally:
            self._count(answer, ended=ended)

    @property
    def _near(self) -> str:
        """The address of the application behind."""
        base: str = getattr(self.app, "base", THIS_MACHINE)
        return base

    def _route(self, scope: Scope, endpoint: EndpointAddress) -> Scope:
        """A request as it goes to the server that a config names."""
        near = self._near
        given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in choose_headers(given, endpoint, near)]
        path, query = make_path(scope["path"]), choose_query(scope.get("query_string", b""), endpoint, near)
        return {**scope, "headers": headers, "path": path, "raw_path": path.encode(), "query_string": query}

    def _open_beside(self, handler: RequestHandler) -> None:
        """Make what hands requests to the servers that configs may name, so that what is amiss is said at once."""
        for rules in handler.rules.values():
            for endpoint in rules.endpoints.values():
                self._find_app(endpoint)

    def _find_app(self, endpoint: EndpointAddress | None) -> App:
        """What answers a request: the application behind, or what hands it to the server that a config names."""
        if endpoint is None:
            return self.app
        if endpoint.base not in self._beside:
            seconds = getattr(self.app, "read_seconds", READ_SECONDS)
            self._beside[endpoint.base] = ForwardingApp(endpoint.base, seconds)
        return self._beside[endpoint.base]

    async def _pass(self, answer: _Answer, scope: Scope, receive: Receive) -> None:
        """Hand a request to the application, in a span of its own where spans are collected."""
        if self._tracer is None or not self._tracer.collects:
            await self._answer(answer, scope, receive)
            return
        with self._tracer.open(answer.watch.handled, scope["headers"]) as headers:
            await self._answer(answer, {**scope, "headers": headers}, receive)
            self._tracer.close(answer.watch.status)

    async def _answer(self, answer: _Answer, scope: Scope, receive: Receive) -> None:
        """Have the application answer, again where the answer is to meet a constraint and does not."""
        handled, handler = answer.watch.handled, self.handler
        app = self._find_app(handled.receipt.endpoint)
        if handled.receipt.endpoint is not None:  # last: tracing adds headers too, such as baggage, which may hold keys
            scope = self._route(scope, handled.receipt.endpoint)
        if handled.attempts is None or handler is None:
            await app(scope, receive, answer.send)
            return

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.watch.handled = handler.conclude(handled)
            await answer.send(message)

        await receive()  # the body, which is sent once an attempt
        read = partial(handler.read_async, handled)
        await answer_checked(app, scope, handled.content, receive, send, handled.attempts, read)

    async def _refuse(self, handled: HandledRequest, send: Send) -> None:
        """Answer a request that cannot be answered as it asks."""
        handler = self.handler
        assert handler is not None
        answer = _Answer(AnswerWatch(handler, handled), send, time.perf_counter())
        await refuse(answer.send, 400, handled.refusal, "invalid_request_error")
        self._count(answer, ended=True)

    def _count(self, answer: _Answer, *, ended: bool) -> None:
        watch = answer.watch
        found = watch.end()
        if self.own.metrics is not None:
            error = "cut" if not ended else "" if watch.status < 400 else str(watch.status)
            seconds = time.perf_counter() - answer.begun
            self.own.metrics.count_answer(watch.handled, seconds, answer.first, error, found)

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


def _replay(messages: list[Message], receive: Receive) -> Receive:
    """What was received already, then what comes."""
    left = list(messages)

    async def replayed() -> Message:
        return left.pop(0) if left else await receive()

    return replayed


class _Answer:
    """The answer to a rewritten request on its way to the client: its receipt is added and its times are taken."""

    def __init__(self, watch: AnswerWatch, send: Send, begun: float, withheld: Collection[str] = ()) -> None:
        self.watch, self.begun = watch, begun
        self._withheld = (_PREFIX, *(name.encode() for name in withheld))
        self.first: float | None = None
        self._send, self._streams = send, False

    async def send(self, message: Message) -> None:
        """Hand a part of the answer on."""
        if message["type"] == "http.response.start":
            message = self._start(message)
        else:
            body = message.get("body", b"")
            if self._streams and body and self.first is None:
                self.first = time.perf_counter() - self.begun
            self.watch.read(body, whole=not message.get("more_body", False))
        await self._send(message)

    def _start(self, message: Message) -> Message:
        own = [(name.encode(), value.encode("latin-1")) for name, value in self.watch.handled.headers.items()]
        # Those of another policy behind this one would be taken for ours.
        theirs = [pair for pair in message.get("headers", ()) if not pair[0].lower().startswith(self._withheld)]
        encodings = [value.decode("latin-1") for name, value in theirs if name.lower() == b"content-encoding"]
        self.watch.start(message["status"], ", ".join(encodings))
        self._streams = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in theirs
        )
        return {**message, "headers": [*theirs, *own]}


def _strip(scope: Scope) -> Scope:
    """The request without the headers that are meant for the policy."""
    headers = scope["headers"]
    kept = [pair for pair in headers if not pair[0].startswith(_PREFIX)]
    return scope if len(kept) == len(headers) else {**scope, "headers": kept}


def read_environment(environment: Mapping[str, str]) -> RequestHandler:
    """The handler that environment variables ask for.

    `HAGPOLICY_POLICY`: the folder of a bundle, or a JSON object of folders by model. `HAGPOLICY_SERVER`: the server,
    as in `RewriteRules`; without it the one that was swept. `HAGPOLICY_OVERRULE`, `HAGPOLICY_LACKS`: fields, separated
    by commas; `HAGPOLICY_NOT_TOGETHER`: pairs, such as "temperature+top_p"; `HAGPOLICY_ADAPTERS`: adapters with what
    the server calls each, such as "sql:sql-lora"; each of the four for all models, or a JSON object of them by model,
    see `make_rules`. `HAGPOLICY_ENDPOINTS`: a JSON object of the servers that configs name as their endpoint, see
    `RewriteRules`. `HAGPOLICY_HINTS`: 0 forbids them.
    `HAGPOLICY_PROVIDER`: of onnxruntime, "auto" or names separated by commas, see `load`.
    `HAGPOLICY_PRICE`, `HAGPOLICY_TASK`: of requests that say none.
    `HAGPOLICY_LOG`: the decision log; `HAGPOLICY_LOG_TEXT`: 1 keeps prompts in it; `HAGPOLICY_EXPLORE`,
    `HAGPOLICY_EXPERIMENT`: shares, see `LiveSettings`.
    `HAGPOLICY_RELOAD`, which `PolicyMiddleware` reads: seconds between looks for changed bundles, 5 without it; 0 for
    never. `HAGPOLICY_EXPLAIN`, which it reads too: 1 answers `POST /hag/explain`.

    Raises:
        InvalidInput: a variable that is missing or cannot be read.
        StoreError: the decision log cannot be written or is none.
        BundleError: no bundle there, or a damaged one.
    """
    from hagpolicy.policy.policy import load

    providers = read_providers(environment)
    policies = {model: load(folder, providers=providers) for model, folder in read_folders(environment).items()}
    said = {name: _read_by_model(environment, name.upper()) for name in RULES}
    server, hints = environment.get("HAGPOLICY_SERVER"), _read_switch(environment, "HINTS", default=True)
    endpoints = _read_endpoints(environment)
    rules = make_rules(policies, said, server=server or None, hints=hints, endpoints=endpoints)
    price = _read_number(environment, "PRICE")
    task, live = environment.get("HAGPOLICY_TASK") or None, _read_live(environment)
    return RequestHandler(policies, rules, price=price, task=task, live=live)


def _read_live(environment: Mapping[str, str]) -> LiveSettings | None:
    shares = {name: _read_number(environment, name.upper()) for name in ("explore", "experiment")}
    text = _read_switch(environment, "LOG_TEXT")
    return make_live(environment.get("HAGPOLICY_LOG") or None, text=text, **shares)


def read_folders(environment: Mapping[str, str]) -> dict[str, str]:
    """Folders of bundles that `HAGPOLICY_POLICY` names, by model; "*" for all.

    Raises:
        InvalidInput: it is missing or cannot be read.
    """
    folders = _read_by_model(environment, "POLICY")
    if not folders:
        raise InvalidInput("HAGPOLICY_POLICY", "the folder of a policy, or a JSON object of them by model", None)
    return folders


def read_providers(environment: Mapping[str, str]) -> Providers:
    """The providers of onnxruntime that `HAGPOLICY_PROVIDER` names; None where it names none."""
    return parse_providers(environment.get("HAGPOLICY_PROVIDER", "").split(","))


def _read_by_model(environment: Mapping[str, str], name: str) -> dict[str, str]:
    """What a variable says by model; "*" for all where it is no JSON object, and nothing where it says nothing."""
    given = environment.get(f"HAGPOLICY_{name}", "").strip()
    if not given.startswith("{"):
        return {ANY_MODEL: given} if given else {}
    try:
        said = dict(json.loads(given))
    except ValueError:
        said = {"": None}
    if not all(isinstance(words, str) for words in said.values()):
        raise InvalidInput(f"HAGPOLICY_{name}", "a JSON object of words by model", given)
    return said


def _read_endpoints(environment: Mapping[str, str]) -> Any:
    given = environment.get("HAGPOLICY_ENDPOINTS", "").strip()
    try:
        return json.loads(given) if given else {}
    except ValueError:
        form = 'a JSON object such as {"drafted": "http://127.0.0.1:8001"}'
        raise InvalidInput("HAGPOLICY_ENDPOINTS", form, "another form") from None


def _read_switch(environment: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Whether a variable says 1. Any other word is refused: some of these switches let texts out."""
    given = environment.get(f"HAGPOLICY_{name}", "").strip()
    if given not in ("", "0", "1"):
        raise InvalidInput(f"HAGPOLICY_{name}", "0 or 1", given)
    return given == "1" if given else default


def _read_number(environment: Mapping[str, str], name: str, default: float | None = None) -> float | None:
    given = environment.get(f"HAGPOLICY_{name}", "").strip()
    try:
        number = float(given) if given else default
    except ValueError:
        number = -1.0
    if number is not None and not 0.0 <= number < float("inf"):
        raise InvalidInput(f"HAGPOLICY_{name}", "a number of at least 0", given)
    return number
