"""What ASGI applications are made of, and an answer in one piece."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["App", "Message", "Receive", "Scope", "Send", "answer_json", "answer_whole", "read_whole", "refuse"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer_whole(
    send: Send, status: int, content: bytes, kind: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send an answer in one piece."""
    own = [(b"content-type", kind.encode()), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *(headers or [])]})
    await send({"type": "http.response.body", "body": content})


async def answer_json(send: Send, status: int, said: Any) -> None:
    """Send a value as JSON."""
    await answer_whole(send, status, json.dumps(said).encode(), "application/json")


async def read_whole(receive: Receive, most_bytes: int) -> bytes | None:
    """The body of a request; None where it is larger. Of a client that has gone, what has come of it."""
    content = b""
    while True:
        message = await receive()
        content += bytes(message.get("body", b""))
        if len(content) > most_bytes:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return content


async def refuse(
    send: Send, status: int, message: str, kind: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send an error in the form that clients of the API read."""
    said = {"error": {"message": message, "type": kind, "code": status}}
    await answer_whole(send, status, json.dumps(said).encode(), "application/json", headers)
