"""What ASGI applications are made of, and an answer in one piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import Any

__all__ = [
    "App",
    "Message",
    "Receive",
    "Said",
    "Scope",
    "Send",
    "answer_json",
    "answer_post",
    "answer_whole",
    "read_whole",
    "refuse",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Said = tuple[int, dict[str, Any]]
"""The status of an answer, and what it says."""
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


async def answer_post(
    scope: Scope, receive: Receive, send: Send, most_bytes: int, answer: Callable[[bytes], Said], threads: Executor
) -> None:
    """Answer a POST as `answer` says of its body, in a thread of `threads`: 405 for another method, 413 for a body of
    more than `most_bytes`."""
    if scope["method"] != "POST":
        status, said = 405, {"error": "expected POST"}
    elif (content := await read_whole(receive, most_bytes)) is None:
        status, said = 413, {"error": f"expected at most {most_bytes} bytes"}
    else:
        status, said = await asyncio.get_running_loop().run_in_executor(threads, answer, content)
    await answer_json(send, status, said)


async def refuse(
    send: Send, status: int, message: str, kind: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send an error in the form that clients of the API read."""
    said = {"error": {"message": message, "type": kind, "code": status}}
    await answer_whole(send, status, json.dumps(said).encode(), "application/json", headers)
