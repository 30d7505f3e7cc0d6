"""What the servers of the OpenAI-compatible API take in a request, and the body of one.

The same tables as for the engines, under the names of the HTTP API. Read from the sources of vLLM
0.33, SGLang 0.5.23, llama.cpp (as of llama-cpp-python 0.3.36), llama-cpp-python 0.3.36, Ollama's
`openai` package and transformers 5.23 (November 2026).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from hagpolicy._checks import is_number
from hagpolicy._names import Registry
from hagpolicy.config import masks
from hagpolicy.config.constraints import Constraint
from hagpolicy.config.dialects import (
    EFFORTS,
    LLAMA_CPP,
    OF_CHATS,
    OPENAI,
    SGLANG,
    TRANSFORMERS,
    VLLM,
    Dialect,
    Setting,
)
from hagpolicy.config.fields import FIELDS
from hagpolicy.config.render import PromptLike, Receipt, Rendering, Unsupported, render_as
from hagpolicy.errors import InvalidInput

__all__ = ["SERVERS", "RequestBody", "Server", "find_unlike", "list_lacking", "make_request_body", "render_request"]

Seeds = Literal["per_request", "global"]


@dataclass(frozen=True)
class Server:
    """What a server of the OpenAI-compatible API takes.

    Attributes:
        title: its name, for people.
        dialect: our field to the name in the body of a request.
        plain_limit: name of the limit on new tokens in /v1/completions.
        seeds: "per_request": a request's seed gives its text again, as long as the server computes it in
            the same batch shapes and with as much of the prompt in its cache; "global": a seed sets one
            random stream for all requests, so it is never sent; None: none is sent.
        n: several samples of one request are drawn by the server; asked for only where no seed is sent, since
            they would share it, and never at temperature 0.
        packed: name of the field that takes the whole configuration as a JSON string, but for what stands in an
            object of its own; "": none.
        keeps: settings with a default of the server's own which no request can change, and what it is.
        any_model: a request that names another model than it has is answered all the same.
        one_at_a_time: requests are worked off one after the other, so concurrency gains nothing.
        neutral_unsent: what is not sent is neutral there, as far as is known: a neutral value that a model of it
            refuses can be left out.
        most_stops: how many strings that stop an answer it takes; None: as many as one likes.
    """

    title: str
    dialect: Dialect
    plain_limit: str = "max_tokens"
    seeds: Seeds | None = "per_request"
    n: bool = False
    packed: str = ""
    keeps: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    any_model: bool = False
    one_at_a_time: bool = False
    neutral_unsent: bool = False
    most_stops: int | None = None

    def get_dialect(self, *, chat: bool) -> Dialect:
        """What it takes in a request to /v1/chat/completions, or else to /v1/completions."""
        if chat:
            return self.dialect
        plain = self.dialect.without(OF_CHATS)
        if plain.settings["max_tokens"].key != "max_completion_tokens":
            return plain
        return replace(plain, settings={**plain.settings, "max_tokens": Setting(self.plain_limit)})


@dataclass(frozen=True)
class RequestBody:
    """A configuration as the arguments of a request, without model, messages or prompt, and n.

    Attributes:
        body: keyword arguments of the official client's `chat.completions.create` or
            `completions.create`.
        extra_body: what the client has no keyword for; its `extra_body`.
        receipt: what became of every field.
    """

    body: dict[str, Any]
    extra_body: dict[str, Any]
    receipt: Receipt


_LIMIT = Setting("max_tokens")
_OWN_64 = "counts the tokens of the answer only, the last 64 of them unless the server was started otherwise"
_TRUNCATES_FIRST = "truncates before the temperature is applied"


# At the top of a request, where the servers put it into their templates themselves.
_EFFORT = Setting("reasoning_effort")
# What else is sent to vLLM is refused; SGLang has a further word, which no other has.
_EFFORTS = replace(_EFFORT, choices=EFFORTS)


def _adapt_to_http(dialect: Dialect, **changed: Setting) -> Dialect:
    """The dialect of an engine, in requests: what stands beside the engine's keywords stands among those of a body."""
    settings = {name: replace(setting, beside=False) for name, setting in dialect.settings.items()}
    return replace(dialect, settings={**settings, "max_tokens": _LIMIT, **changed})


_LLAMA_CPP_PYTHON = Dialect(
    settings={
        "temperature": Setting("temperature"),
        "top_p": Setting("top_p", note=_TRUNCATES_FIRST),
        "top_k": Setting("top_k"),
        "min_p": Setting("min_p", note=_TRUNCATES_FIRST),
        "repetition_penalty": Setting("repeat_penalty", note=_OWN_64),
        "presence_penalty": Setting("presence_penalty", note=_OWN_64),
        "frequency_penalty": Setting("frequency_penalty", note=_OWN_64),
        "max_tokens": _LIMIT,
    },
    always={"mirostat_mode": 0},
    masks=masks.LLAMA_CPP_PYTHON,
)

# The fields of its request have no top_k, min_p, typical_p or repeat_penalty; unknown ones are skipped in silence.
_OLLAMA = Dialect(
    settings={
        "temperature": Setting("temperature"),
        "top_p": Setting("top_p"),
        "presence_penalty": Setting("presence_penalty"),
        "frequency_penalty": Setting("frequency_penalty"),
        # "none" switches thinking off, any other on; models that know no levels take all of these for the same.
        "reasoning_effort": Setting("reasoning_effort", choices=("none", "low", "medium", "high", "max")),
        "max_tokens": _LIMIT,
    },
    masks=masks.RESPONSE_FORMAT,
)
_MODELFILE = "the model's own (its Modelfile), else Ollama's; a /v1 request cannot say it"

# No `processors`: our own logits processors are not on the other side. As fields of the request,
# presence_penalty is skipped with a line in the server's log, and frequency_penalty f would become
# repetition_penalty 1 + f.
_TRANSFORMERS = replace(
    TRANSFORMERS,
    settings={name: replace(setting, beside=False) for name, setting in TRANSFORMERS.settings.items()},
    processors=frozenset(),
)

SERVERS: Registry[Server] = Registry(
    "server",
    {
        "vllm": Server("vLLM", _adapt_to_http(VLLM, reasoning_effort=_EFFORTS), n=True),
        # A seed counts only in a server started with --enable-deterministic-inference, where the answers
        # of one request with n > 1 share it and are copies; without a seed all requests there share one.
        "sglang": Server(
            "SGLang",
            replace(_adapt_to_http(SGLANG, reasoning_effort=_EFFORTS), masks=masks.SGLANG_SERVER),
            any_model=True,
        ),
        # It draws at most as many answers to one request as it was started with slots, and refuses more.
        "llama_cpp": Server(
            "llama.cpp's llama-server", _adapt_to_http(LLAMA_CPP, reasoning_effort=_EFFORT), any_model=True
        ),
        "llama_cpp_python": Server("llama-cpp-python's server", _LLAMA_CPP_PYTHON, any_model=True, one_at_a_time=True),
        "ollama": Server(
            "Ollama",
            _OLLAMA,
            keeps=MappingProxyType(dict.fromkeys(("top_k", "min_p", "typical_p", "repetition_penalty"), _MODELFILE)),
        ),
        "transformers_serve": Server(
            "transformers serve", _TRANSFORMERS, seeds="global", packed="generation_config", one_at_a_time=True
        ),
        # Its seed is a best effort and deprecated; with `n` the prompt is read, and paid for, once.
        "openai": Server("the OpenAI API", OPENAI, seeds=None, n=True, neutral_unsent=True, most_stops=4),
        # Any other: the names that all of them know.
        "compatible": Server(
            "a plain OpenAI-compatible server",
            replace(_adapt_to_http(OPENAI).without(OF_CHATS), masks={}),
            neutral_unsent=True,
            most_stops=4,
        ),
    },
)
"""The servers by name."""

# Keywords of the official client's `create`, of those that a dialect uses; chat and plain differ in two.
_KEYWORDS = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens", "seed"})
_CHAT_KEYWORDS = _KEYWORDS | {"max_completion_tokens", "response_format", "reasoning_effort"}

# Every server takes 31 bits: some keep a seed as a signed, some as an unsigned number of 32 bits, of
# which the last (all ones) means "any seed" to llama.cpp.
_SEED_BITS = 31
_OTHER_LIMIT = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


def make_request_body(
    server: str,
    fields: Mapping[str, Any],
    *,
    seed: int | None,
    max_tokens: int,
    chat: bool,
    unsupported: Unsupported = "error",
    refused: Collection[str] = (),
    constraint: Constraint | None = None,
) -> RequestBody:
    """The arguments of a request to /v1/chat/completions or /v1/completions.

    Every setting that the server has is sent, neutral values too but for those that it refuses. The hint belongs to
    the prompt (`render.apply_hint`) and is only entered in the receipt.

    Args:
        server: a name in `SERVERS`.
        fields: values of decoding fields; those left out are neutral; its own limit on tokens is ignored.
        seed: of this request; folded to 31 bits. None: none. Not sent to a server whose seed is global.
        max_tokens: limit on new tokens, at least 1.
        chat: whether for chat completions.
        unsupported: as in `render.render`.
        refused: fields that are not sent at their neutral value; "seed": none is sent; "max_tokens": the limit is
            sent under its other name, max_completion_tokens for max_tokens and the reverse.
        constraint: of the prompt, for a server that masks tokens itself.

    Raises:
        UnsupportedSetting: with "error", naming field and server.
        InvalidInput: an unknown server or field, or a limit below 1.
    """
    if max_tokens < 1:
        raise InvalidInput("max_tokens", "at least 1", max_tokens)
    entry = SERVERS[server]
    fields = {**fields, "max_tokens": max_tokens}
    dialect = entry.get_dialect(chat=chat)
    rendering = render_as(
        dialect, fields, entry.title, unsupported=unsupported, leave_out=refused, constraint=constraint
    )
    sent = _pack(entry, dialect, fields, rendering.kwargs)
    if "max_tokens" in refused:
        sent = {_OTHER_LIMIT.get(key, key): value for key, value in sent.items()}
    if seed is not None and entry.seeds == "per_request" and "seed" not in refused:
        sent["seed"] = seed % 2**_SEED_BITS
    elif "seed" in refused:
        rendering.receipt.notes["seed"] = "not sent: it is refused"
    rendering.receipt.notes.update({name: f"not sent: {what}" for name, what in entry.keeps.items()})
    return RequestBody(*_split(sent, chat=chat), rendering.receipt)


def render_request(
    server: str,
    fields: Mapping[str, Any],
    prompt: PromptLike = "",
    *,
    unsupported: Unsupported = "error",
    constraint: Constraint | None = None,
) -> Rendering:
    """A configuration as keyword arguments of the official client's `chat.completions.create`, with a receipt.

    What the client has no keyword for is in `extra_body`. Neutral values are sent too, but where the server is known
    to do the same without them.

    Args:
        server: a name in `SERVERS`.
        fields: values of decoding fields; those left out are neutral.
        prompt: a string or chat messages; the hint goes into it.
        unsupported: as in `render.render`.
        constraint: of the prompt, as there.

    Raises:
        UnsupportedSetting: with "error", naming field and server.
        InvalidInput: an unknown server or field.
    """
    entry = SERVERS[server]
    unsent = FIELDS if entry.neutral_unsent else ()
    made = render_as(
        entry.dialect, fields, entry.title, prompt, unsupported=unsupported, leave_out=unsent, constraint=constraint
    )
    body, extra = _split(_pack(entry, entry.dialect, fields, made.kwargs), chat=True)
    made.receipt.notes.update({name: f"not sent: {what}" for name, what in entry.keeps.items()})
    return replace(made, kwargs=body | ({"extra_body": extra} if extra else {}))


def _pack(entry: Server, dialect: Dialect, fields: Mapping[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """The settings in the one field that takes them all, where the server has one."""
    if not entry.packed:
        return sent
    if fields.get("unset"):
        # The whole configuration would take the place of the server's own, with what is left out in it neutral.
        return {"max_tokens": fields["max_tokens"]} if fields.get("max_tokens") else {}
    apart = {setting.under for setting in dialect.settings.values() if setting.under}
    packed = {key: value for key, value in sent.items() if key not in apart}
    objects = {key: value for key, value in sent.items() if key in apart}
    return {entry.packed: json.dumps(packed, sort_keys=True), **objects}


def _split(sent: Mapping[str, Any], *, chat: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the official client has keywords for, and the rest."""
    known = _CHAT_KEYWORDS if chat else _KEYWORDS
    body = {key: value for key, value in sent.items() if key in known}
    return body, {key: value for key, value in sent.items() if key not in known}


def find_unlike(sent: Mapping[str, Any], applied: Mapping[str, Any]) -> dict[str, Any]:
    """What a server says it applied where it is another number than was sent, by the names of the request.

    Args:
        sent: keys and values of a request.
        applied: what its answer says, such as llama-server's `generation_settings`, whose numbers are of 32 bits.
    """
    return {
        key: applied[key]
        for key, value in sent.items()
        if is_number(value) and is_number(applied.get(key)) and not _is_close(value, applied[key])
    }


def _is_close(sent: float, applied: float) -> bool:
    try:
        return math.isclose(sent, applied, rel_tol=1e-5)
    except OverflowError:  # a whole number beyond all floats
        return False


def list_lacking(server: str, fields: Mapping[str, Any], *, chat: bool = True) -> list[str]:
    """Names of the fields that a server cannot honour at these values; empty when it can.

    Args:
        server: a name in `SERVERS`.
        fields: values of decoding fields; those left out are neutral.
        chat: whether in chat completions, else in plain ones.

    Raises:
        InvalidInput: an unknown server or field.
    """
    entry = SERVERS[server]
    dialect = entry.get_dialect(chat=chat)
    receipt = render_as(dialect, fields, entry.title, unsupported="drop").receipt
    # A tiny temperature that the engine itself raises is taken, with a receipt.
    beyond = {name for name, (asked, _) in receipt.clamped.items() if not dialect.settings[name].takes(asked)}
    return [name for name in FIELDS if name in receipt.dropped or name in beyond]
