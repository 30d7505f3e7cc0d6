"""A server of the OpenAI-compatible API that fails in the ways that servers fail, and counts what is open."""

import asyncio
import json
import socket

from tests.support.loop_thread import LoopThread

EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "word"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


class FaultyServer:
    """On a loopback socket, on a loop of its own in a thread. The key `do` of a body says how it is answered.

    "stream": `events` events, `every` seconds apart, then the end; "die": the connection is reset after two events;
    "cut": it is closed after half of the promised body; "garbage": no HTTP at all; "half": JSON that breaks off;
    "html": a page in place of JSON; "headers": 300 headers of 200 bytes; "large": 20 MB of body; "silent": nothing
    until the connection ends; anything else: the body's size and what it is, in the form of a completion.

    Attributes:
        open: connections that are open.
        given_up: answers whose connection ended before them.
        asked: requests.
    """

    def __init__(self):
        self.open = self.given_up = self.asked = 0
        self._thread = LoopThread()
        self._server = self._thread.run(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24, backlog=2048))
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self):
        self._thread.loop.call_soon_threadsafe(self._server.close)
        self._thread.close()

    async def _serve(self, reader, writer):
        self.open += 1
        try:
            while (request := await _read_request(reader)) is not None:
                self.asked += 1
                head, content = request
                if head.startswith(b"head "):
                    await _write_whole(writer, b"text/plain", b"", b"")
                else:
                    await self._answer(content, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.given_up += 1
        except asyncio.CancelledError:
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, content, reader, writer):
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        do = body.get("do") if isinstance(body, dict) else None
        if do in ("stream", "die"):
            await _stream(body, reader, writer, 2 if do == "die" else body.get("events", 3))
        if do == "die":
            # A linger of 0 makes the end a reset.
            option = b"\1\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            raise asyncio.CancelledError
        if do == "silent":
            await reader.read(1)
            raise ConnectionResetError
        if do in ("cut", "garbage"):
            started = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 50
            writer.write(started if do == "cut" else b"\x16\x03\x01 what is this\r\n\r\n")
            await writer.drain()
            raise asyncio.CancelledError
        if do != "stream":
            await _write_whole(writer, *_make_answer(do, content))


def _make_answer(do, content):
    """Type, further headers and body."""
    if do == "half":
        return b"application/json", b"", b'{"choices": [{"mess'
    if do == "html":
        return b"text/html", b"", b"<h1>no</h1>"
    if do == "headers":
        return b"application/json", b"".join(b"x-%d: %b\r\n" % (at, b"v" * 200) for at in range(300)), b"{}"
    if do == "large":
        return b"application/json", b"", b" " * 20_000_000
    message = {"role": "assistant", "content": str(len(content))}
    choice = {"index": 0, "message": message, "text": str(len(content)), "finish_reason": "stop"}
    said = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return b"application/json", b"", json.dumps(said).encode()


async def _write_whole(writer, kind, more, body):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (kind, len(body), more)
    writer.write(head + body)
    await writer.drain()


async def _stream(body, reader, writer, events):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(events):
        writer.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        await writer.drain()
        await asyncio.sleep(body.get("every", 0.0))
        if reader.at_eof():
            raise ConnectionResetError
    if body["do"] == "stream":
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE))
        await writer.drain()


async def _read_request(reader):
    """Head and body of the next request; None where the connection ended before one."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    if b"\r\ntransfer-encoding: chunked" in head:
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return head, b"".join(parts)
    length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return head, await reader.readexactly(int(length or 0))
