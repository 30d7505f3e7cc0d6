"""A server of the OpenAI-compatible API with a known saturation curve and faults on demand.

    python tests/stub_server.py [--slots 8] [--service 0.1] [--penalty 0] [--rate 20] [--window 0]

A process of its own on a real socket; its first line on stdout is its port. It works on `slots`
requests at a time, each for `service` seconds, so its best rate is slots / service; every request
beyond the slots makes each service longer by the share `penalty`. With a rate, what is beyond it is refused with
429 and Retry-After in whole seconds: by a bucket that holds a second's requests, or counted in windows of
so many seconds.

A prompt may hold a script in double brackets, one word for each attempt, the last one for all that
follow: "[[429;retry-after=0.5 ok]] …". Words: an HTTP status; reset, cut, half, html, empty, hang; ok
and the forms of an answer in `Stub.answer`. Headers of the answer follow after semicolons. Apart from
that API it has GET /_record (all requests so far), POST /_clear and POST /_set (attributes).
"""

from __future__ import annotations

import argparse
import asyncio
import email.utils
import json
import math
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from typing import Any

SCRIPT = re.compile(r"\[\[(.*?)\]\]")


class Stub:
    """The server's state."""

    def __init__(self, slots: int, service: float, penalty: float, rate: float = 0.0, window: float = 0.0) -> None:
        self.slots, self.service, self.penalty = slots, service, penalty
        self.rate, self.window = rate, window
        self.tokens, self.filled = max(rate * (window or 1.0), 1.0), time.monotonic()
        self.clear()

    def clear(self) -> None:
        self.models, self.owner, self.key, self.every = ["stub"], "stub", "", ""
        self.record: list[dict[str, Any]] = []
        self.attempts: Counter[str] = Counter()
        self.active = 0
        self.free_at = [0.0] * self.slots

    def refused_for(self) -> int:
        """Whole seconds for which a request that comes now is refused, 0 for one that is taken."""
        if not self.rate:
            return 0
        now, most = time.monotonic(), max(self.rate * (self.window or 1.0), 1.0)
        if not self.window:
            self.tokens = min(self.tokens + (now - self.filled) * self.rate, most)
            self.filled = now
        elif now - self.filled >= self.window:
            self.tokens, self.filled = most, now - (now - self.filled) % self.window
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0
        left = self.filled + self.window - now if self.window else (1.0 - self.tokens) / self.rate
        return max(math.ceil(left), 1)

    async def asked(self, body: dict[str, Any], chat: bool, note: dict[str, Any]) -> tuple[str, bytes]:
        """(word, body) for one request: the word says how to deliver it."""
        text = body["messages"][-1]["content"] if chat else body["prompt"]
        script = SCRIPT.search(text)
        words = (script[1] if script else self.every or "ok").split()
        self.attempts[text] += 1
        word = words[min(self.attempts[text], len(words)) - 1]
        self.active += 1
        note["active"] = self.active
        try:
            await asyncio.sleep(self.reserved() - time.monotonic())
            note["done"] = time.time()
        finally:
            self.active -= 1
        return word, json.dumps(self.answer(word, body, text, chat)).encode()

    def reserved(self) -> float:
        """When the service of a request that comes now ends. Planned at its arrival: were slots taken
        when a task wakes up, a busy machine would lower the known rate."""
        slot = min(range(self.slots), key=self.free_at.__getitem__)
        crowd = max(self.active - self.slots, 0)
        start = max(self.free_at[slot], time.monotonic())
        self.free_at[slot] = start + self.service * (1.0 + self.penalty * crowd)
        return self.free_at[slot]

    def answer(self, word: str, body: dict[str, Any], text: str, chat: bool) -> dict[str, Any]:
        """What the API answers: the request's seed ("-" where one token is left), temperature and prompt as text."""
        sure = not body.get("temperature") or body.get("top_p", 1) < 1e-3 or body.get("top_k") == 1
        sure = sure or body.get("min_p") == 1
        said = f"{'-' if sure else body.get('seed')} {body.get('temperature')} {text}"
        said += " penalised" if body.get("frequency_penalty") else ""
        choices: list[dict[str, Any]] = []
        asked = body.get("n", 1)
        for index in reversed(range({"two": min(asked, 2), "more": asked + 1}.get(word, asked))):
            content = said + " word" * index
            message: dict[str, Any] = {"role": "assistant", "content": content}
            finish: str | None = "length" if word == "long" else "stop"
            if word == "null":
                message["content"] = None
            elif word == "refusal":
                message |= {"content": None, "refusal": "I would rather not."}
            elif word == "reasoning":
                message["reasoning_content"] = "hmm " * 5
            elif word == "filter":
                finish = "content_filter"
            elif word == "tool":
                message["content"], finish = None, "tool_calls"
            told = {"message": message} if chat else {"text": content}
            choices.append({"index": index, "finish_reason": finish, **told})
        if word == "few":
            choices = []
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": 7 * len(choices)}
        return {"id": "x", "choices": choices} | ({} if word == "nousage" else {"usage": usage})


def refusal(status: int, headers: dict[str, str], body: dict[str, Any]) -> bytes:
    """An error as servers word it: with parts of the key, the whole request, or both."""
    key = headers.get("authorization", "")
    if status == 422:
        detail = [{"loc": ["body", "top_k"], "msg": "extra fields are not permitted", "input": body}]
        return json.dumps({"detail": detail}).encode()
    message = f"status {status} for the key {key} alias {key[7:15]}***{key[-6:]} on {body.get('messages')}"
    code = "insufficient_quota" if status == 429 and "quota" in str(body) else "code"
    return json.dumps({"error": {"message": message, "code": code}}).encode()


async def serve(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        while await one(stub, reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def one(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request; False where the connection ends with it."""
    start = (await reader.readline()).decode().split()
    if len(start) < 2:
        return False
    headers = {}
    while line := (await reader.readline()).decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"null")
    path = start[1]
    if path == "/_record":
        return send(writer, 200, json.dumps(stub.record).encode())
    if path == "/_clear":
        stub.clear()
        return send(writer, 200, b"{}")
    if path == "/_set":
        vars(stub).update(body)
        return send(writer, 200, b"{}")
    if stub.key and headers.get("authorization") != f"Bearer {stub.key}":
        return send(writer, 401, refusal(401, headers, body or {}))
    if path == "/v1/models":
        if stub.every:
            return send(writer, 503, b"{}")
        cards = [{"id": name, "owned_by": stub.owner} for name in stub.models]
        return send(writer, 200, json.dumps({"data": cards}).encode())
    if path == "/version":
        return send(writer, 200, b'{"version": "1.2.3"}')
    if path not in ("/v1/chat/completions", "/v1/completions"):
        return send(writer, 404, b'{"detail": "Not Found"}')
    note = {"at": time.time(), "path": path, "body": body, "gone": False, "headers": headers}
    stub.record.append(note)
    if seconds := stub.refused_for():
        note["word"] = "429"
        return send(writer, 429, refusal(429, headers, {}), {"Retry-After": str(seconds)})
    work = asyncio.ensure_future(stub.asked(body, path.endswith("chat/completions"), note))
    over = asyncio.ensure_future(reader.read(1))  # nothing is pipelined, so this ends when the client leaves
    await asyncio.wait({work, over}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        note["gone"] = True
        work.cancel()
        return False
    word, answer = await work
    going = await deliver(writer, word, answer, headers, body, note, over)
    over.cancel()
    await asyncio.wait({over})  # two readers at a time are refused
    return going


async def deliver(
    writer: asyncio.StreamWriter,
    word: str,
    answer: bytes,
    headers: dict[str, str],
    body: dict[str, Any],
    note: dict[str, Any],
    over: asyncio.Future[bytes],
) -> bool:
    """Send an answer in the way its word says."""
    word, *more = word.split(";")
    extra = dict(part.split("=") for part in more)
    note["word"] = word
    if "date" in extra:
        when = time.time() + float(extra.pop("date"))
        note["date"] = int(when)
        extra["Retry-After"] = email.utils.formatdate(int(when), usegmt=True)
    if word.isdecimal():
        return send(writer, int(word), refusal(int(word), headers, body), extra)
    if word == "reset":
        # Closing with a linger of 0 seconds sends a reset instead of an end.
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    if word == "cut":
        send(writer, 200, answer[: len(answer) // 2], length=len(answer))
        await writer.drain()
        return False
    if word == "half":
        return send(writer, 200, answer[: len(answer) // 2])
    if word == "html":
        return send(writer, 200, b"<html>busy</html>", {"Content-Type": "text/html"})
    if word == "empty":
        return send(writer, 200, b"")
    if word == "hang":
        await over
        note["gone"] = True
        return False
    return send(writer, 200, answer, extra)


def send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    extra: dict[str, str] | None = None,
    length: int | None = None,
) -> bool:
    headers = {"Content-Type": "application/json", "Content-Length": str(length or len(body)), **(extra or {})}
    lines = [f"HTTP/1.1 {status} Word", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    return True


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--service", type=float, default=0.0)
    parser.add_argument("--penalty", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--window", type=float, default=0.0)
    stub = Stub(**vars(parser.parse_args()))
    server = await asyncio.start_server(lambda r, w: serve(stub, r, w), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


class StubProcess:
    """The server in a process of its own, as a context; `url` is its API's root."""

    def __init__(self, **options: float) -> None:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._root = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.url = f"{self._root}/v1"

    def __enter__(self) -> StubProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def record(self) -> list[dict[str, Any]]:
        """Every request for an answer so far, in the order of their arrival: `at` and `done` in seconds
        of the epoch, `body`, `active` (requests at work when it came, with it), `word`, and `gone`
        where the client left before its answer."""
        found: list[dict[str, Any]] = self._call("/_record")
        return found

    def set(self, **attributes: Any) -> None:
        """Set `models`, `owner`, `key` (all others are refused) or `every` (script of prompts without one)."""
        self._call("/_set", json.dumps(attributes).encode())

    def clear(self) -> None:
        """Forget the record and what was set."""
        self._call("/_clear", b"")

    def _call(self, path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(self._root + path, data=data, timeout=10) as answer:
            return json.loads(answer.read())


if __name__ == "__main__":
    asyncio.run(main())
