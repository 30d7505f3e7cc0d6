"""A server of the OpenAI API that answers at once, or with events at a fixed pace: what stands behind a proxy that is
measured.

Its answers are made beforehand and written by a protocol of asyncio, so that it costs little itself.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

EVENTS, EVERY_SECONDS = 10, 0.005
_MESSAGE = {"role": "assistant", "content": "A short answer."}
_CHOICE = {"index": 0, "message": _MESSAGE, "text": "A short answer.", "finish_reason": "stop"}
ANSWER = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [_CHOICE]}).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n"
WHOLE = _HEAD % b"application/json" + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
BEGIN = _HEAD % b"text/event-stream" + b"transfer-encoding: chunked\r\n\r\n"
_DELTA = {"index": 0, "delta": {"content": " word"}, "finish_reason": None}
_PART = json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [_DELTA]})
EVENT = f"data: {_PART}\n\n".encode()
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
_DONE = b"data: [DONE]\n\n"
END = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_DONE), _DONE)


class StubProtocol(asyncio.Protocol):
    """One connection. A body that says `"stream":true` is answered by events."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, bytearray()
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        if b'"stream":true' in body.replace(b" ", b""):
            self.transport.write(BEGIN)
            self._send_event(0)
        else:
            self.transport.write(WHOLE)

    def _send_event(self, number: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(CHUNK if number < EVENTS else END)
        if number < EVENTS:
            asyncio.get_running_loop().call_later(EVERY_SECONDS, self._send_event, number + 1)


def serve_stub(pipe: Any) -> None:
    """Serve on a free port of this machine, which is sent through the pipe, until the process is ended."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(StubProtocol, "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())
