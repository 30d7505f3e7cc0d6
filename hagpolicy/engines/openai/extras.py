"""What goes along with every request of a server beside prompt and decoding settings: fields of the body, headers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from hagpolicy.config.dialects import OF_CHATS
from hagpolicy.config.servers import SERVERS
from hagpolicy.errors import InvalidInput

__all__ = ["check_extras", "find_fixed", "make_extras", "read_headers"]

# What hagpolicy itself says in a request.
OURS = frozenset(
    {"model", "messages", "prompt", "n", "best_of", "stop", "seed", "stream", "stream_options", "max_tokens",
     "max_completion_tokens", "n_predict", "generation_config"}
)  # fmt: skip
# What HTTP needs for itself.
_OF_HTTP = frozenset({"content-length", "content-type", "host", "connection", "transfer-encoding", "accept-encoding"})
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def make_extras(
    response_format: Mapping[str, Any] | None,
    chat_template_kwargs: Mapping[str, Any] | None,
    extra_body: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The further fields of a request's body.

    Raises:
        InvalidInput: one that is no mapping, or holds what is no JSON; a field given twice.
    """
    parts = {"response_format": response_format, "chat_template_kwargs": chat_template_kwargs, "extra_body": extra_body}
    for name, value in parts.items():
        if value is None:
            continue
        try:
            plain = isinstance(value, Mapping) and json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError, RecursionError):
            plain = False
        if not plain:
            example = '{"type": "json_object"}' if name == "response_format" else "{...}"
            raise InvalidInput(name, f"a JSON object such as {example}", value)
    extras = dict(extra_body or {})
    for name in ("response_format", "chat_template_kwargs"):
        if parts[name] is not None:
            if name in extras:
                raise InvalidInput("extra_body", f"{name} once", "one in it and one beside it")
            extras[name] = parts[name]
    return extras


def check_extras(extras: Mapping[str, Any], server: str) -> None:
    """Refuse a field of the body that hagpolicy sets itself: the sweep decides about it.

    Those about thinking are taken, and then no config can have them (`find_fixed`).

    Raises:
        InvalidInput: naming the fields.
    """
    settings = {one.key for name, one in SERVERS[server].dialect.settings.items() if name not in OF_CHATS}
    if ours := sorted(extras.keys() & (OURS | settings)):
        do = "Settings belong into the space; max_tokens, stop and seed are arguments of the sweep."
        raise InvalidInput("extra_body", "no field that the sweep itself sets", ", ".join(ours), do)


def find_fixed(extras: Mapping[str, Any], server: str) -> frozenset[str]:
    """Names of the fields about thinking that further fields of the body decide for every request: no config can."""
    settings = SERVERS[server].dialect.settings.items()
    within = {path for key, value in extras.items() for path in ((key,), *((key, one) for one in _list_keys(value)))}
    return frozenset(name for name, setting in settings if name in OF_CHATS and not within.isdisjoint(setting.paths))


def _list_keys(value: Any) -> list[str]:
    return list(value) if isinstance(value, Mapping) else []


def read_headers(headers_env: Any) -> dict[str, str]:
    """The headers whose values stand in environment variables, which keep them out of files, logs and shells.

    Args:
        headers_env: the variable of each header, by the header's name.

    Raises:
        InvalidInput: no mapping, a name that is none or is HTTP's own, or a variable that is not set.
    """
    if headers_env is not None and not isinstance(headers_env, Mapping):
        form = 'a mapping of headers to the variables that hold them, {"X-Gateway-Key": "GATEWAY_KEY"}'
        raise InvalidInput("headers_env", form, type(headers_env).__name__)
    found = {}
    for header, variable in (headers_env or {}).items():
        if not isinstance(header, str) or not _NAME.fullmatch(header) or header.lower() in _OF_HTTP:
            raise InvalidInput("headers_env", "names of headers, but those of HTTP itself", header)
        value = os.environ.get(variable, "").strip() if isinstance(variable, str) else ""
        if not value:
            # A variable's value may have been given in place of its name: it is not repeated.
            shown = variable if isinstance(variable, str) and variable.isidentifier() else "another form"
            expected = f"the name of an environment variable with the value of {header}"
            raise InvalidInput("headers_env", expected, f"{shown}, which is not set", "Set it.")
        found[header] = value
    return found
