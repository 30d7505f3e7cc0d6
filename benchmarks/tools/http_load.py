"""Requests over kept connections, with the times at which the parts of their answers came."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"


def make_request(characters: int, *, stream: bool) -> bytes:
    """The bytes of a request for a chat whose message has so many characters."""
    words = "How many of the 17 boxes hold more than 23 red marbles, and why? "
    text = (words * (characters // len(words) + 1))[:characters]
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
    content = json.dumps(body, separators=(",", ":")).encode()
    return f"{HEAD}content-length: {len(content)}\r\n\r\n".encode() + content


@dataclass
class Times:
    """Seconds since a request was written.

    Attributes:
        first: until the first byte of the answer's body.
        whole: until its end.
        gaps: between its chunks.
    """

    first: float = 0.0
    whole: float = 0.0
    gaps: list[float] = field(default_factory=list)


class Caller:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> None:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)

    async def ask(self, request: bytes) -> Times:
        """Send a request and read the whole answer.

        Raises:
            RuntimeError: its status is not 200.
        """
        await asyncio.sleep(0.0)  # hears of an end that came meanwhile
        if self.reader.at_eof():  # the server gives idle connections up
            self.close()
            await self.open()
        times, begun = Times(), time.perf_counter()
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"answered by {head[:60]!r}")
        if b"transfer-encoding: chunked" in head:
            last = None
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                await self.reader.readexactly(size + 2)
                now = time.perf_counter()
                times.first = times.first or now - begun
                times.gaps += [] if last is None else [now - last]
                last = now
            await self.reader.readexactly(2)
        else:
            await self.reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        times.whole = time.perf_counter() - begun
        times.first = times.first or times.whole
        return times

    def close(self) -> None:
        """Give the connection up."""
        self.writer.close()
