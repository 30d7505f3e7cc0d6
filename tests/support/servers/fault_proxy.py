"""A proxy process that stands between a client and a real server, and breaks a share of the answers.

    python fault_proxy.py --listen PORT --target HOST:PORT --plan '{"reset": 0.05}' --seed 0 --log FILE

Each request draws, with the seed, at most one of the plan's faults. The log gets a line of JSON for
every request: what was done to it. `GET /__proxy__` answers for the proxy itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FAULTS = ("delay", "reset", "lost", "storm", "error", "truncated", "refused")
"""What may happen to a request.

delay: it is passed on up to `SLOW` seconds later. reset: half of its answer arrives, then the connection
is reset. lost: the server answers, and nothing of it arrives. storm: it and all that come within `STORM`
seconds are answered 429 with a Retry-After. error: it is answered 500 or 503. truncated: it is answered
with a whole HTTP message that holds half of the JSON. refused: all connections are cut, and for `AWAY`
seconds nothing listens.
"""
SLOW, STORM, AWAY, RETRY_AFTER = 0.3, 0.4, 0.2, 0.1
# A storm meets about so many requests, so it begins less often.
MET = 4


class FaultProxy:
    """The proxy; `run` never returns."""

    def __init__(self, port: int, target: tuple[str, int], plan: Mapping[str, float], seed: int, log: Path) -> None:
        if unknown := set(plan) - set(FAULTS):
            raise SystemExit(f"no such fault: {', '.join(sorted(unknown))}")
        self.port, self.target = port, target
        self.plan = {name: share / (MET if name == "storm" else 1) for name, share in plan.items()}
        self.random = random.Random(seed)
        self.log = log.open("a", encoding="utf-8")
        self.storming_until = 0.0
        self.clients: set[asyncio.StreamWriter] = set()
        self.server: asyncio.Server | None = None
        self.tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        await self.listen()
        await asyncio.Event().wait()

    async def listen(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, with one of its own to the server."""
        self.clients.add(writer)
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while (request := await message(reader)) is not None:
                if request.startswith(b"GET /__proxy__ "):
                    writer.write(answer(200, b"{}"))
                    continue
                fault = self.drawn()
                # Also what is passed on is a line, so that the share of the faults can be counted.
                self.log.write(json.dumps({"fault": fault, "bytes": len(request)}) + "\n")
                self.log.flush()
                if fault in ("storm", "error"):
                    writer.write(self.refusal(fault))
                    await writer.drain()
                    continue
                if fault == "refused":
                    self.go_away()
                    return
                if fault == "delay":
                    await asyncio.sleep(self.random.uniform(0.0, SLOW))
                said = None
                if upstream is not None:
                    # The server may have closed it while it was idle: then the request goes over a new one.
                    said = await exchanged(upstream, request)
                if said is None:
                    upstream = await asyncio.open_connection(*self.target)
                    said = await exchanged(upstream, request)
                if said is None:
                    return
                if fault == "lost":
                    writer.transport.abort()
                    return
                if fault == "reset":
                    writer.write(said[: len(said) // 2])
                    await writer.drain()
                    writer.transport.abort()
                    return
                writer.write(halved(said) if fault == "truncated" else said)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client or the server went away: so does this connection
        finally:
            self.clients.discard(writer)
            for end in (writer, *([upstream[1]] if upstream else [])):
                with contextlib.suppress(Exception):
                    end.close()

    def drawn(self) -> str | None:
        """The fault of the next request."""
        now = time.monotonic()
        if now < self.storming_until:
            return "storm"
        at = self.random.random()
        for name, share in self.plan.items():
            if at < share:
                self.storming_until = now + STORM if name == "storm" else 0.0
                return name
            at -= share
        return None

    def refusal(self, fault: str) -> bytes:
        if fault == "storm":
            return answer(429, b'{"error": {"message": "slow down"}}', f"Retry-After: {RETRY_AFTER}\r\n")
        status = self.random.choice((500, 503))
        return answer(status, b"Internal Server Error" if status == 500 else b'{"error": "overloaded"}')

    def go_away(self) -> None:
        """Close the listening socket and every connection; come back after `AWAY` seconds."""
        if self.server is None:
            return
        self.server.close()
        self.server = None
        for client in self.clients:
            client.transport.abort()
        back = asyncio.ensure_future(self.come_back())
        self.tasks.add(back)
        back.add_done_callback(self.tasks.discard)

    async def come_back(self) -> None:
        await asyncio.sleep(AWAY)
        await self.listen()


async def exchanged(ends: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> bytes | None:
    """The server's answer to a request; None where it closed the connection instead."""
    try:
        ends[1].write(request)
        await ends[1].drain()
        return await message(ends[0])
    except ConnectionError:
        return None


async def message(reader: asyncio.StreamReader) -> bytes | None:
    """The next whole HTTP message, head and body as they came; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    fields = head.lower().split(b"\r\n")
    length = next((int(line.partition(b":")[2]) for line in fields if line.startswith(b"content-length:")), 0)
    if not any(line.startswith(b"transfer-encoding:") and b"chunked" in line for line in fields):
        return head + await reader.readexactly(length)
    parts = [head]
    while True:
        size = await reader.readuntil(b"\r\n")
        chunk = await reader.readexactly(int(size.partition(b";")[0], 16) + 2)
        parts += [size, chunk]
        if len(chunk) == 2:
            return b"".join(parts)


def answer(status: int, body: bytes, more: str = "") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def halved(said: bytes) -> bytes:
    """An answer whose body ends in the middle, with the length it then has."""
    head, _, body = said.partition(b"\r\n\r\n")
    return answer(int(head.split()[1]), body[: len(body) // 2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--plan", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    host, _, port = given.target.partition(":")
    asyncio.run(FaultProxy(given.listen, (host, int(port)), given.plan, given.seed, given.log).run())


if __name__ == "__main__":
    main()
