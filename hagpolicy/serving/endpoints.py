"""The requests that a policy can be put in front of: what each says of prompt and settings, and where a hint goes.

Read from the API references of OpenAI (chat completions, completions, responses) and Anthropic (messages), and from the
sources of vLLM and llama.cpp's server, which answer all four (November 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hagpolicy._names import Registry
from hagpolicy.config.dialects import EFFORTS, OF_CHATS, Dialect, Setting
from hagpolicy.config.render import append_text
from hagpolicy.config.servers import SERVERS

__all__ = ["ENDPOINTS", "Endpoint", "find_endpoint"]

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """One kind of request.

    Attributes:
        name: its own in `ENDPOINTS`.
        path: by which the path of a request ends.
        settings: the settings that servers take there under these names, every one, but for those of `OF_CHATS`, which
            only those have that have them in chats too; None: the server's own.
        limit: other names of the limit on new tokens than the server's own.
        read: the prompt in a body, as policies take it: a string or chat messages; None where it holds none, several,
            or one in token ids.
        append: the body with a text, such as a hint, at the end of its prompt, of one that `render.takes_hint` allows.
    """

    name: str
    path: str
    settings: Mapping[str, Setting] | None
    limit: tuple[str, ...]
    read: Callable[[Body], Any]
    append: Callable[[Body, str], dict[str, Any]]

    def find_dialect(self, server: str) -> Dialect:
        """What a server is sent at this endpoint, by the names of our fields.

        Raises:
            InvalidInput: an unknown server.
        """
        own = SERVERS[server].get_dialect(chat=self.path != "/completions")
        return own if self.settings is None else Dialect(settings=self.settings).without(OF_CHATS - own.handles)


def _read_chat(body: Body) -> Any:
    return _read_turns(body.get("messages"))


def _read_turns(turns: Any, system: Any = None) -> Any:
    """Chat messages, the system text before them; None where there are none."""
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in turns
    ):
        return None
    first = [{"role": "system", "content": system}] if system else []
    return [*first, *turns] if turns else None


def _read_plain(body: Body) -> Any:
    """One text; a list of one holds one. Token ids are no text."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None


def _read_responses(body: Body) -> Any:
    given, system = body.get("input"), body.get("instructions")
    if isinstance(given, str):
        return _read_turns([{"role": "user", "content": given}], system)
    if not isinstance(given, list):
        return None
    # Calls of tools and their results stand among the messages and have no role.
    return _read_turns([item for item in given if isinstance(item, dict) and "role" in item], system)


def _read_messages(body: Body) -> Any:
    return _read_turns(body.get("messages"), body.get("system"))


def _append_to_turns(key: str) -> Callable[[Body, str], dict[str, Any]]:
    def append(body: Body, text: str) -> dict[str, Any]:
        given = body[key]
        return {**body, key: append_text(given, text) if isinstance(given, str) else _append_to_user(given, text)}

    return append


def _append_to_user(items: Sequence[Any], text: str) -> list[Any]:
    """The items with the text in the last message of a user; there is one."""
    at = max(at for at, item in enumerate(items) if isinstance(item, dict) and item.get("role") == "user")
    return [*items[:at], *append_text([items[at]], text), *items[at + 1 :]]


def _append_to_plain(body: Body, text: str) -> dict[str, Any]:
    prompt = body["prompt"]
    return {**body, "prompt": append_text(prompt, text) if isinstance(prompt, str) else [append_text(prompt[0], text)]}


_RESPONSES = {
    "temperature": Setting("temperature", low=0.0, high=2.0),
    "top_p": Setting("top_p"),
    "reasoning_effort": Setting("effort", under="reasoning", choices=EFFORTS),
    "max_tokens": Setting("max_output_tokens"),
}
_MESSAGES = {
    "temperature": Setting("temperature", low=0.0, high=1.0),
    "top_p": Setting("top_p"),
    "top_k": Setting("top_k"),
    "max_tokens": Setting("max_tokens"),
}

ENDPOINTS: Registry[Endpoint] = Registry(
    "endpoint",
    {
        one.name: one
        for one in (
            Endpoint(
                "chat",
                "/chat/completions",
                None,
                ("max_tokens", "max_completion_tokens"),
                _read_chat,
                _append_to_turns("messages"),
            ),
            Endpoint("completions", "/completions", None, ("max_tokens",), _read_plain, _append_to_plain),
            Endpoint("responses", "/responses", _RESPONSES, (), _read_responses, _append_to_turns("input")),
            Endpoint("messages", "/messages", _MESSAGES, (), _read_messages, _append_to_turns("messages")),
        )
    },
)
"""The endpoints by name."""


def find_endpoint(path: str) -> Endpoint | None:
    """The endpoint of a request's path, by how it ends: gateways put parts of their own before it; None for others."""
    path = path.partition("?")[0].rstrip("/")
    return next((one for one in ENDPOINTS.values() if path.endswith(one.path)), None)
