"""Which server of the OpenAI-compatible API answers, and what it tells of itself.

A few short GET requests, no generation. The servers are told apart by what only they have:
`owned_by` in /v1/models (vLLM, SGLang, llama.cpp), /api/version (Ollama), and the title and routes
in /openapi.json (llama-cpp-python, `transformers serve`). Anything else is "compatible", spoken to in
the words that all of them know.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, NamedTuple

from hagpolicy.config.servers import SERVERS
from hagpolicy.errors import EngineError, InvalidInput

__all__ = ["ServerProbe", "probe"]

SECONDS = 5.0
OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama_cpp"}
LLAMA_CPP_PYTHON = "llama.cpp Python API"
# Routes that `transformers serve` has under these names, and no other server has together.
TRANSFORMERS_SERVE = {"/load_model", "/reset", "/v1/chat/completions"}
LARGEST = 8_000_000
MODELS = "/v1/models"
# A question is asked up to so often, with so many seconds more between, where it met a fault on the way.
TRIES, PAUSE = 4, 0.2
AGAIN = {408, 429, 500, 502, 503, 504}


class ServerProbe(NamedTuple):
    """A server that answered.

    Attributes:
        server: a name in `config.servers.SERVERS`.
        version: as the server tells it; "" where it does not.
        facts: "models", names that requests may use; "context", the greatest number of tokens of
            prompt and answer, or None; "defaults", our fields as the server sets them where a
            request does not, as far as it tells.
    """

    server: str
    version: str
    facts: dict[str, Any]


def probe(base_url: str, headers: Mapping[str, str] | None = None, *, timeout: float = SECONDS) -> ServerProbe:
    """Ask a server what it is.

    Args:
        base_url: the API's root, such as "http://localhost:8000/v1".
        headers: sent along, such as an Authorization; never shown, and not sent on to another host.
        timeout: seconds for each request.

    Raises:
        InvalidInput: not a plain URL of http or https, or headers that HTTP cannot carry.
        EngineError: nothing listens there, it does not answer in time, or it asks for another key.
    """
    parts = urllib.parse.urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidInput("base_url", "a URL of http or https, such as http://localhost:8000/v1", base_url)
    if "@" in parts.netloc or parts.query:
        # Such parts hold keys: not shown.
        raise InvalidInput("base_url", "a URL without a user, password or query", "one with them")
    if any("\n" in text or "\r" in text for pair in (headers or {}).items() for text in pair):
        raise InvalidInput("headers", "values of one line", "one with a line break", "Is there one in the key?")
    ask = _Asker(base_url, dict(headers or {}), timeout)
    cards = _cards(ask(MODELS))
    owners = {str(card.get("owned_by", "")) for card in cards}
    facts: dict[str, Any] = {
        "models": [str(card["id"]) for card in cards if "id" in card],
        "context": next((card["max_model_len"] for card in cards if card.get("max_model_len")), None),
        "defaults": {},
    }
    named = next((OWNERS[owner] for owner in owners if owner in OWNERS), None)
    if named == "vllm":
        return ServerProbe(named, _text(ask("/version"), "version"), facts)
    if named == "sglang":
        return ServerProbe(named, _text(ask("/server_info") or ask("/get_server_info"), "version"), facts)
    props = ask("/props")
    if named == "llama_cpp" or "default_generation_settings" in props:
        return _llama_cpp(props, cards, facts)
    if version := _text(ask("/api/version"), "version"):
        return ServerProbe("ollama", version, facts)
    schema = ask("/openapi.json")
    if LLAMA_CPP_PYTHON in _text(_inner(schema, "info"), "title"):
        fields = _inner(schema, "components", "schemas", "CreateChatCompletionRequest", "properties")
        defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
        facts["defaults"] = _in_our_words("llama_cpp_python", defaults)
        return ServerProbe("llama_cpp_python", _text(_inner(schema, "info"), "version"), facts)
    if set(_inner(schema, "paths")) >= TRANSFORMERS_SERVE:
        # Its list is of the hub's cache, not of the folder it was started with.
        facts["models"] = _pinned(ask) or facts["models"]
        return ServerProbe("transformers_serve", "", facts)
    return ServerProbe("compatible", "", facts)


def _llama_cpp(props: dict[str, Any], cards: list[dict[str, Any]], facts: dict[str, Any]) -> ServerProbe:
    settings = _inner(props, "default_generation_settings")
    meta = _inner(cards[0], "meta") if cards else {}
    facts["context"] = settings.get("n_ctx") or meta.get("n_ctx")
    facts["defaults"] = _in_our_words("llama_cpp", _inner(settings, "params") or settings)
    return ServerProbe("llama_cpp", _text(props, "build_info"), facts)


def _in_our_words(server: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """The server's own defaults under our names; the limit on tokens is the caller's anyway."""
    settings = SERVERS[server].dialect.settings
    return {
        name: told[setting.key]
        for name, setting in settings.items()
        if name != "max_tokens" and isinstance(told.get(setting.key), int | float)
    }


def _pinned(ask: _Asker) -> list[str]:
    """The one model of a server that serves no other: it names it when asked for a name that cannot be."""
    detail = _text(ask("/v1/completions", {"model": "//", "prompt": ""}), "detail")
    _, marked, rest = detail.partition("pinned to '")
    return [rest.partition("'; requested")[0]] if marked else []


class _Asker:
    """Requests to one server; what is not a JSON object counts as an empty one."""

    def __init__(self, base_url: str, headers: dict[str, str], timeout: float) -> None:
        self.root = base_url.rstrip("/").removesuffix("/v1")
        self.headers = {**headers, "Accept": "application/json"}
        self.timeout = timeout
        # A redirect could lead to another host, and the key must not go there.
        self.opener = urllib.request.build_opener(_NoRedirect)

    def __call__(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer. A fault on the way is no answer, and taken for one it could name the wrong server."""
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            time.sleep(PAUSE * attempt)
            try:
                status, told = self._once(path, body)
            except (OSError, HTTPException) as error:
                if last:
                    raise EngineError(self._silent(error)) from error
                continue
            if last or (status not in AGAIN and told is not None):
                return self._read(path, status, told)
        raise AssertionError("unreachable")

    def _once(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, Any]:
        """(status, what the body holds, None where it is JSON that is cut)."""
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers if body is None else {**self.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.root + path, data=data, headers=headers)
        try:
            with self.opener.open(request, timeout=self.timeout) as answer:
                status, said, kind = answer.status, answer.read(LARGEST), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            status, said, kind = error.code, error.read(LARGEST), error.headers.get_content_type()
        try:
            return status, json.loads(said)
        except ValueError:
            return status, None if kind == "application/json" else {}

    def _read(self, path: str, status: int, told: Any) -> dict[str, Any]:
        if status in (401, 403) and path == MODELS:
            do = "Put the one it asks for into the environment: OPENAI_API_KEY, or the variable that key_env names."
            raise EngineError(f"{self.root} answers {status}: no entry with this key. {do}")
        return told if isinstance(told, dict) else {}

    def _silent(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ConnectionRefusedError):
            what = "nothing listens there"
        elif isinstance(reason, TimeoutError):
            what = f"it did not answer within {self.timeout:g} s"
        else:
            what = f"{type(reason).__name__}: {reason}"
        return f"no server at {self.root}: {what}. Check the address, and that the server is up."


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _cards(listed: dict[str, Any]) -> list[dict[str, Any]]:
    data = listed.get("data")
    return [card for card in data if isinstance(card, dict)] if isinstance(data, list) else []


def _inner(value: Any, *names: str) -> dict[str, Any]:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name, "")
    return found if isinstance(found, str) else ""
