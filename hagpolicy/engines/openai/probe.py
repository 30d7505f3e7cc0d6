"""Find out which server of the OpenAI-compatible API answers, and its version, models and defaults.

A few short GET requests, no generation. The servers are distinguished by what only they have:
`owned_by` in /v1/models (vLLM, SGLang, llama.cpp), /api/version (Ollama), and the title and routes
in /openapi.json (llama-cpp-python, `transformers serve`). Anything else is "compatible": it gets
only the fields that all of them take.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.config.servers import SERVERS
from hagpolicy.engines.openai.client import check_url, list_secrets
from hagpolicy.engines.openai.redaction import Redactor
from hagpolicy.engines.openai.retry import Backoff, RequestFailed, RetryPolicy, classify_status
from hagpolicy.engines.openai.stream import EventLoopThread
from hagpolicy.engines.openai.transport import Transport, UnreadableAnswer
from hagpolicy.errors import EngineError

__all__ = ["ServerInfo", "probe"]

SECONDS = 5.0
ALL_SECONDS = 25.0
"""For all requests together, with the waits between them."""
OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama_cpp"}
LLAMA_CPP_PYTHON = "llama.cpp Python API"
# Routes that `transformers serve` has under these names, and no other server has together.
TRANSFORMERS_SERVE = {"/load_model", "/reset", "/v1/chat/completions"}
MODELS = "/v1/models"
# A name is stored with every sweep and shown.
LONGEST_NAME, MOST_MODELS = 300, 10_000
LARGEST = 2.0**63
"""Settings beyond it are none."""
# How often a request is tried that met a fault on the way.
POLICY = RetryPolicy(max_attempts=4, initial_delay=0.2, max_delay=0.8, max_elapsed=20.0)


@dataclass(frozen=True)
class ServerInfo:
    """What a server is.

    Attributes:
        server: a name in `config.servers.SERVERS`.
        version: as the server states it; "" where it does not.
        models: names that requests may use.
        context: the greatest number of tokens of prompt and answer together; None where it does not state it.
        defaults: our fields as the server sets them where a request does not, as far as it states them.
    """

    server: str
    version: str = ""
    models: list[str] = field(default_factory=list)
    context: int | None = None
    defaults: dict[str, Any] = field(default_factory=dict)


def probe(base_url: str, headers: Mapping[str, str] | None = None, *, timeout: float = SECONDS) -> ServerInfo:
    """What a server is: its kind, version, models and defaults, found out by a few requests.

    Args:
        base_url: the API's root, such as "http://localhost:8000/v1".
        headers: sent along, such as an Authorization; never shown, and not sent on to another host.
        timeout: seconds for each request.

    Raises:
        InvalidInput: an address that `check_url` refuses, or headers that HTTP cannot carry.
        EngineError: nothing listens there, it does not answer in time, or it asks for another key.
    """
    base_url = check_url(base_url)
    thread = EventLoopThread()
    requester = _Requester(base_url, headers or {}, timeout)
    try:
        return thread.run(_identify(requester))
    finally:
        thread.stop(requester.close)


async def _identify(get: _Requester) -> ServerInfo:
    """What a server is, by its answers to a few requests."""
    cards = _get_cards(await get(MODELS))
    owners = {str(card.get("owned_by", "")) for card in cards}
    models = [name for card in cards if (name := get.clean(card.get("id")))]
    context = next((size for card in cards if is_whole(size := card.get("max_model_len"), 1)), None)
    named = next((OWNERS[owner] for owner in owners if owner in OWNERS), None)
    if named == "vllm":
        return ServerInfo(named, get.clean((await get("/version")).get("version")), models, context)
    if named == "sglang":
        info = await get("/server_info") or await get("/get_server_info")
        return ServerInfo(named, get.clean(info.get("version")), models, context)
    props = await get("/props")
    if named == "llama_cpp" or "default_generation_settings" in props:
        return _read_llama_cpp(get, props, cards, models)
    if version := get.clean((await get("/api/version")).get("version")):
        return ServerInfo("ollama", version, models, context)
    schema = await get("/openapi.json")
    info = _get_nested(schema, "info")
    if LLAMA_CPP_PYTHON in get.clean(info.get("title")):
        fields = _get_nested(schema, "components", "schemas", "CreateChatCompletionRequest", "properties")
        defaults = {name: field["default"] for name, field in fields.items() if "default" in _get_nested(field)}
        server = "llama_cpp_python"
        return ServerInfo(
            server, get.clean(info.get("version")), models, context, _translate_defaults(server, defaults)
        )
    if set(_get_nested(schema, "paths")) >= TRANSFORMERS_SERVE:
        # Its list is of the hub's cache, not of the folder it was started with.
        return ServerInfo("transformers_serve", "", await _read_pinned_model(get) or models, context)
    return ServerInfo("compatible", "", models, context)


def _read_llama_cpp(
    get: _Requester, props: dict[str, Any], cards: list[dict[str, Any]], models: list[str]
) -> ServerInfo:
    settings = _get_nested(props, "default_generation_settings")
    meta = _get_nested(cards[0], "meta") if cards else {}
    defaults = _translate_defaults("llama_cpp", _get_nested(settings, "params") or settings)
    context = next((size for said in (settings, meta) if is_whole(size := said.get("n_ctx"), 1)), None)
    return ServerInfo("llama_cpp", get.clean(props.get("build_info")), models, context, defaults)


def _translate_defaults(server: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The server's own defaults under our names; the limit on tokens is the caller's anyway."""
    settings = SERVERS[server].dialect.settings
    return {
        name: value
        for name, setting in settings.items()
        if name != "max_tokens" and isinstance(value := stated.get(setting.key), int | float) and abs(value) < LARGEST
    }


async def _read_pinned_model(get: _Requester) -> list[str]:
    """The one model of a server that serves no other: it names it when asked for a name that cannot be."""
    detail = (await get("/v1/completions", {"model": "//", "prompt": ""})).get("detail")
    _, marked, rest = (detail if isinstance(detail, str) else "").partition("pinned to '")
    name = get.clean(rest.partition("'; requested")[0])
    return [name] if marked and name else []


class _Requester:
    """Requests to one server; what is not a JSON object counts as an empty one.

    Args:
        base_url: the API's root.
        headers: sent along; shown nowhere.
        timeout: seconds for each request from sending to the last byte.

    Raises:
        InvalidInput: headers that HTTP cannot carry.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout: float) -> None:
        self.root = base_url.removesuffix("/v1")
        self._transport = Transport(self.root, headers, connections=1)
        self._redactor = Redactor(list_secrets(headers))
        self._timeout, self._end = timeout, math.nan
        self._backoff = Backoff(POLICY)

    async def __call__(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer. A fault on the way is no answer, and taken for one it could name the wrong server.

        Raises:
            EngineError: there is none, or it refuses the key.
        """
        now = asyncio.get_running_loop().time
        if math.isnan(self._end):
            self._end = now() + max(ALL_SECONDS, self._timeout)
        begun, attempt = now(), 0
        while True:
            attempt += 1
            status, content, failure = await self._send(path, body, min(self._timeout, max(self._end - now(), 0.0)))
            wait = None if failure is None else self._backoff.choose_delay(attempt, failure, now() - begun)
            if wait is None or now() + wait >= self._end:
                break
            await asyncio.sleep(wait)
        if status or failure is None or failure.kind == "fatal" or isinstance(failure, UnreadableAnswer):
            return self._read(path, status, content)
        why = self._redactor.clean(failure.reason.removeprefix("no connection: "))
        if failure.kind == "slow":
            why = f"it did not answer within {self._timeout:g} s"
        raise EngineError(f"no server at {self.root}: {why}. Check the address, and that the server is up.")

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    def clean(self, name: Any) -> str:
        """A server's word for a model or version, as it is sent and stored; "" for one that cannot be such."""
        usable = isinstance(name, str) and len(name) <= LONGEST_NAME and name.isprintable()
        return name if usable and self._redactor.remove_whole(name) == name else ""

    async def _send(
        self, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> tuple[int, Any, RequestFailed | None]:
        """(status, or 0 where none came; what the body holds; what went wrong on the way)."""
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = await self._transport.send("GET" if body is None else "POST", path, data, seconds=seconds)
        except RequestFailed as failure:
            return 0, {}, failure
        faulty = classify_status(answer.status, "", "", answer.headers, proven=True) if answer.status >= 400 else None
        try:
            return answer.status, json.loads(answer.body), faulty
        except (ValueError, RecursionError):
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            cut = RequestFailed("faulty", "the answer is cut") if kind == "application/json" else None
            return answer.status, {}, faulty or cut

    def _read(self, path: str, status: int, content: Any) -> dict[str, Any]:
        if status in (401, 403) and path == MODELS:
            do = "Put the one it asks for into the environment: OPENAI_API_KEY, or the variable that key_env names, "
            do += "without which OPENAI_API_KEY goes to the official server, this machine and OPENAI_BASE_URL alone."
            raise EngineError(f"{self.root} answers {status}: no entry with this key. {do}")
        return content if isinstance(content, dict) else {}


def _get_cards(listed: dict[str, Any]) -> list[dict[str, Any]]:
    data = listed.get("data")
    return [card for card in data[:MOST_MODELS] if isinstance(card, dict)] if isinstance(data, list) else []


def _get_nested(value: Any, *names: str) -> dict[str, Any]:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
