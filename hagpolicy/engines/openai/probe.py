"""Find out which server of the OpenAI-compatible API answers, and its version, models and defaults.

A few short GET requests, no generation. The servers are distinguished by what only they have:
`owned_by` in /v1/models (vLLM, SGLang, llama.cpp), /api/version (Ollama), and the title and routes
in /openapi.json (llama-cpp-python, `transformers serve`). Anything else is "compatible": it gets
only the fields that all of them take.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from hagpolicy.config.servers import SERVERS
from hagpolicy.engines.openai.client import check_url
from hagpolicy.engines.openai.retry import Backoff, RequestFailed, RetryPolicy, classify_status
from hagpolicy.errors import EngineError, InvalidInput

__all__ = ["ServerInfo", "probe"]

SECONDS = 5.0
OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama_cpp"}
LLAMA_CPP_PYTHON = "llama.cpp Python API"
# Routes that `transformers serve` has under these names, and no other server has together.
TRANSFORMERS_SERVE = {"/load_model", "/reset", "/v1/chat/completions"}
LARGEST = 8_000_000
MODELS = "/v1/models"
# A packed answer could be larger than it looks.
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
# How often a request is tried that met a fault on the way.
POLICY = RetryPolicy(max_attempts=4, initial_delay=0.2, max_delay=0.8, max_elapsed=30.0)


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
    texts = [text for pair in (headers or {}).items() for text in pair]
    if any("\n" in text or "\r" in text for text in texts):
        raise InvalidInput("headers", "values of one line", "one with a line break", "Is there one in the key?")
    if not all(text.isascii() for text in texts):
        raise InvalidInput("headers", "ASCII characters", "others", "Is there one in the key?")
    with httpx2.Client(headers={**(headers or {}), **HEADERS}, timeout=timeout, follow_redirects=False) as client:
        return _identify(_Requester(client, base_url, timeout))


def _identify(get: _Requester) -> ServerInfo:
    """What a server is, by its answers to a few requests."""
    cards = _get_cards(get(MODELS))
    owners = {str(card.get("owned_by", "")) for card in cards}
    models = [str(card["id"]) for card in cards if "id" in card]
    context = next((card["max_model_len"] for card in cards if card.get("max_model_len")), None)
    named = next((OWNERS[owner] for owner in owners if owner in OWNERS), None)
    if named == "vllm":
        return ServerInfo(named, _get_text(get("/version"), "version"), models, context)
    if named == "sglang":
        info = get("/server_info") or get("/get_server_info")
        return ServerInfo(named, _get_text(info, "version"), models, context)
    props = get("/props")
    if named == "llama_cpp" or "default_generation_settings" in props:
        return _read_llama_cpp(props, cards, models)
    if version := _get_text(get("/api/version"), "version"):
        return ServerInfo("ollama", version, models, context)
    schema = get("/openapi.json")
    if LLAMA_CPP_PYTHON in _get_text(_get_nested(schema, "info"), "title"):
        fields = _get_nested(schema, "components", "schemas", "CreateChatCompletionRequest", "properties")
        defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
        version = _get_text(_get_nested(schema, "info"), "version")
        server = "llama_cpp_python"
        return ServerInfo(server, version, models, context, _translate_defaults(server, defaults))
    if set(_get_nested(schema, "paths")) >= TRANSFORMERS_SERVE:
        # Its list is of the hub's cache, not of the folder it was started with.
        return ServerInfo("transformers_serve", "", _read_pinned_model(get) or models, context)
    return ServerInfo("compatible", "", models, context)


def _read_llama_cpp(props: dict[str, Any], cards: list[dict[str, Any]], models: list[str]) -> ServerInfo:
    settings = _get_nested(props, "default_generation_settings")
    meta = _get_nested(cards[0], "meta") if cards else {}
    defaults = _translate_defaults("llama_cpp", _get_nested(settings, "params") or settings)
    context = settings.get("n_ctx") or meta.get("n_ctx")
    return ServerInfo("llama_cpp", _get_text(props, "build_info"), models, context, defaults)


def _translate_defaults(server: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The server's own defaults under our names; the limit on tokens is the caller's anyway."""
    settings = SERVERS[server].dialect.settings
    return {
        name: stated[setting.key]
        for name, setting in settings.items()
        if name != "max_tokens" and isinstance(stated.get(setting.key), int | float)
    }


def _read_pinned_model(get: _Requester) -> list[str]:
    """The one model of a server that serves no other: it names it when asked for a name that cannot be."""
    detail = _get_text(get("/v1/completions", {"model": "//", "prompt": ""}), "detail")
    _, marked, rest = detail.partition("pinned to '")
    return [rest.partition("'; requested")[0]] if marked else []


class _Requester:
    """Requests to one server; what is not a JSON object counts as an empty one.

    Args:
        client: sends the key along. It follows no redirect, which could lead to another host.
        base_url: the API's root.
        timeout: seconds for each request from sending to the last byte.
    """

    def __init__(self, client: httpx2.Client, base_url: str, timeout: float) -> None:
        self.root = base_url.removesuffix("/v1")
        self._client, self._timeout = client, timeout
        self._backoff = Backoff(POLICY)

    def __call__(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer. A fault on the way is no answer, and taken for one it could name the wrong server.

        Raises:
            EngineError: there is none, or it refuses the key.
        """
        begun, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            status, content, problem = 0, None, ""
            try:
                status, content, failure = self._send(path, body)
            except (httpx2.RequestError, httpx2.InvalidURL) as error:
                problem = self._describe(error)
                failure = RequestFailed("unreachable", problem)
            wait = None if failure is None else self._backoff.choose_delay(attempt, failure, time.monotonic() - begun)
            if wait is not None:
                time.sleep(wait)
            elif problem:
                raise EngineError(f"no server at {self.root}: {problem}. Check the address, and that the server is up.")
            else:
                return self._read(path, status, content)

    def _send(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, Any, RequestFailed | None]:
        """(status, what the body holds, what went wrong on the way)."""
        method = "GET" if body is None else "POST"
        with self._client.stream(method, self.root + path, json=body) as response:
            data = bytearray()
            for part in self._limit(response.iter_bytes()):
                data += part
        status, kind = response.status_code, response.headers.get("Content-Type", "").partition(";")[0].strip()
        failure = classify_status(status, "", "", response.headers, proven=True) if status >= 400 else None
        try:
            return status, json.loads(data), failure
        except (ValueError, RecursionError):
            cut = RequestFailed("faulty", "the answer is cut") if kind.lower() == "application/json" else None
            return status, {}, failure or cut

    def _limit(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """Parts of a body up to a size, and up to a time, whatever the time between two of them."""
        end, size = time.monotonic() + self._timeout, 0
        for part in parts:
            yield part
            size += len(part)
            if size >= LARGEST:
                return
            if time.monotonic() > end:
                raise httpx2.ReadTimeout("the body takes too long")

    def _read(self, path: str, status: int, content: Any) -> dict[str, Any]:
        if status in (401, 403) and path == MODELS:
            do = "Put the one it asks for into the environment: OPENAI_API_KEY, or the variable that key_env names."
            raise EngineError(f"{self.root} answers {status}: no entry with this key. {do}")
        return content if isinstance(content, dict) else {}

    def _describe(self, error: Exception) -> str:
        if isinstance(error, httpx2.TimeoutException):
            return f"it did not answer within {self._timeout:g} s"
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ConnectionRefusedError):
                return "nothing listens there"
            cause = cause.__cause__ or cause.__context__
        return f"{type(error).__name__}: {error}"


def _get_cards(listed: dict[str, Any]) -> list[dict[str, Any]]:
    data = listed.get("data")
    return [card for card in data if isinstance(card, dict)] if isinstance(data, list) else []


def _get_nested(value: Any, *names: str) -> dict[str, Any]:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _get_text(value: dict[str, Any], name: str) -> str:
    found = value.get(name, "")
    return found if isinstance(found, str) else ""
