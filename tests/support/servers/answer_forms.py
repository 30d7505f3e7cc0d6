"""Forms that a server's answer can take: well and malformed HTTP, JSON of every shape, secrets said back.

`FORMS` is the table: a line a form, with what is to become of the cell. `FormServer` gives them on a raw
socket: a prompt names its form in double brackets, "[[reset before status]] …"; others get a plain answer.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gzip
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.support.loop_thread import LoopThread

KEY = "sk-Proj-4f9aQ7zLmXw2Kd81"
SCORED, MARKED, REFUSED = "scored", "marked", "refused"
"""What is to become of a cell: its text is scored; it is marked as failed; the server is refused as a whole."""
ENDLESS_SECONDS = 20.0


@dataclass
class Asked:
    """A request that a form answers.

    Attributes:
        text: the prompt.
        body: of the request.
        headers: of the request, names in lower case.
        attempt: its number, from 1.
        writer: of its connection.
    """

    text: str
    body: dict[str, Any]
    headers: dict[str, str]
    attempt: int
    writer: asyncio.StreamWriter

    @property
    def said(self) -> str:
        """The plain answer: the request's seed ("-" where greedy), temperature and the prompt's last word."""
        penalised = " penalised" if self.body.get("frequency_penalty") else ""
        seed = self.body.get("seed") if self.body.get("temperature") else "-"
        narrow = " narrow" if self.body.get("top_p", 1) < 0.5 or self.body.get("top_k", 50) == 1 else ""
        return f"{'-' if narrow else seed} {self.body.get('temperature')} {self.text.split()[-1]}{penalised}"

    def answer(self, **choice: Any) -> dict[str, Any]:
        """A whole body, with some parts of its choice changed."""
        message = {"role": "assistant", "content": self.said}
        whole = {"index": 0, "message": message, "finish_reason": "stop", **choice}
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        return {"id": "x", "object": "chat.completion", "choices": [whole], "usage": usage}


Deliver = Callable[[Asked], Awaitable[None]]


@dataclass(frozen=True)
class Form:
    """A form of an answer.

    Attributes:
        kind: of the forms beside it.
        name: of it.
        handling: `SCORED`, `MARKED` or `REFUSED`.
        deliver: writes the answer; the connection is closed after it.
        text: that the cell's begins with, where it is scored; None: the plain answer's.
    """

    kind: str
    name: str
    handling: str
    deliver: Deliver = field(repr=False)
    text: str | None = None


def head(length: int | None, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    """Status and headers of an answer."""
    size = "" if length is None else f"Content-Length: {length}\r\n"
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{size}{more}Connection: close\r\n\r\n".encode("latin-1")


def plain(body: bytes, status: str = "200 OK", more: str = "", kind: str = "application/json") -> bytes:
    """A whole answer."""
    return head(len(body), status, kind, more) + body


def raw(make: Callable[[Asked], bytes]) -> Deliver:
    """Bytes and the end of the connection."""

    async def deliver(asked: Asked) -> None:
        asked.writer.write(make(asked))
        await asked.writer.drain()

    return deliver


def saying(make: Callable[[Asked], Any], status: str = "200 OK", more: str = "") -> Deliver:
    """A value as JSON, or bytes as they are."""

    def whole(asked: Asked) -> bytes:
        value = make(asked)
        return plain(value if isinstance(value, bytes) else json.dumps(value).encode(), status, more)

    return raw(whole)


def first_then_plain(deliver: Deliver) -> Deliver:
    """A form at the first attempt, the plain answer after it."""

    async def both(asked: Asked) -> None:
        await (deliver if asked.attempt == 1 else saying(Asked.answer))(asked)

    return both


def endless(start: bytes, part: bytes, pause: float = 0.0) -> Deliver:
    """A part again and again, for as long as somebody reads."""

    async def deliver(asked: Asked) -> None:
        asked.writer.write(start)
        loop = asyncio.get_running_loop()
        end = loop.time() + ENDLESS_SECONDS
        while loop.time() < end:
            asked.writer.write(part)
            await asked.writer.drain()
            if pause:
                await asyncio.sleep(pause)

    return deliver


async def _reset(asked: Asked) -> None:
    # Closing with a linger of 0 seconds sends a reset instead of an end.
    sock: socket.socket = asked.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _wait(asked: Asked) -> None:
    await asyncio.sleep(ENDLESS_SECONDS)


def _then_wait(make: Callable[[Asked], bytes]) -> Deliver:
    async def deliver(asked: Asked) -> None:
        await raw(make)(asked)
        await _wait(asked)

    return deliver


def _body(asked: Asked) -> bytes:
    return json.dumps(asked.answer()).encode()


def _packed(encoding: str, pack: Callable[[bytes], bytes]) -> Deliver:
    return raw(lambda asked: plain(pack(_body(asked)), more=f"Content-Encoding: {encoding}\r\n"))


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@functools.cache
def bomb(wbits: int) -> bytes:
    """64 MB of zeros, packed."""
    packer = zlib.compressobj(9, wbits=wbits)
    zeros = bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()


def _bombing(encoding: str, wbits: int) -> Deliver:
    return raw(lambda asked: plain(bomb(wbits), more=f"Content-Encoding: {encoding}\r\n"))


def _chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


CHUNKED = "Transfer-Encoding: chunked\r\n"


def _list_framing() -> list[Form]:
    """Answers that are no HTTP, or hardly."""
    start = b"HTTP/1.1 200 OK\r\n"
    ok: dict[str, Deliver] = {
        "early hints first": raw(lambda a: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + plain(_body(a))),
        "many 100 first": raw(lambda a: b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + plain(_body(a))),
        "no length": raw(lambda a: head(None) + _body(a)),
        "chunked": raw(lambda a: head(None, more=CHUNKED) + _chunked(_body(a)[:9], _body(a)[9:]) + b"0\r\n\r\n"),
        "HTTP 1.0": raw(lambda a: b"HTTP/1.0 200 OK\r\n\r\n" + _body(a)),
        "reason in Latin-1": raw(lambda a: plain(_body(a), "200 tr\xe8s bien")),
        "gzip": _packed("gzip", gzip.compress),
        "x-gzip": _packed("x-gzip", gzip.compress),
        "deflate": _packed("deflate", zlib.compress),
        "deflate without its frame": _packed("deflate", _raw_deflate),
        "gzip and bytes after it": _packed("gzip", lambda data: gzip.compress(data) + b"more"),
        "identity": _packed("identity", bytes),
        "fifty cookies": raw(lambda a: plain(_body(a), more="".join(f"Set-Cookie: c{at}=v\r\n" for at in range(50)))),
    }
    bad: dict[str, Deliver] = {
        "closed before the status": raw(lambda a: b""),
        "reset before the status": _reset,
        "no HTTP": raw(lambda a: b"\x16\x03\x01\x00\xff" * 50),
        "an answer without a status": raw(_body),
        "HTTP 2": raw(lambda a: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _body(a)),
        "status of two digits": raw(lambda a: plain(_body(a), "99 x")),
        "status of four digits": raw(lambda a: plain(_body(a), "2000 x")),
        "status in words": raw(lambda a: plain(_body(a), "fine x")),
        "101": raw(lambda a: plain(_body(a), "101 Switching Protocols", "Upgrade: x\r\n")),
        "a header without a colon": raw(lambda a: plain(_body(a), more="nonsense\r\n")),
        "a header with NUL": raw(lambda a: plain(_body(a), more="X: a\0b\r\n")),
        "a header with a bare return": raw(lambda a: plain(_body(a), more="X: a\rb\r\n")),
        "a header without a name": raw(lambda a: plain(_body(a), more=": x\r\n")),
        "a header of 1 MB": raw(lambda a: plain(_body(a), more=f"X: {'x' * 1_000_000}\r\n")),
        "endless headers": endless(start, b"X-More: 1\r\n" * 100),
        "an endless header": endless(start + b"X: ", b"x" * 1000),
        "endless 100": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10, 0.01),
        "headers that drip": endless(start, b"X: 1\r\n", 0.2),
        "a body that drips": endless(head(100_000), b" ", 0.2),
        "chunks that drip": endless(head(None, more=CHUNKED), b"1\r\n \r\n", 0.2),
        "nothing at all": _wait,
        "nothing after the headers": _then_wait(lambda a: head(100)),
        "half a body and nothing": _then_wait(lambda a: head(len(_body(a))) + _body(a)[:40]),
        "half a body and the end": raw(lambda a: head(len(_body(a))) + _body(a)[:40]),
        "too short a length": raw(lambda a: head(40) + _body(a)),
        "a length below zero": raw(lambda a: head(-5) + _body(a)),
        "a length in words": raw(lambda a: head(None, more="Content-Length: many\r\n") + _body(a)),
        "two lengths": raw(lambda a: head(len(_body(a)), more="Content-Length: 7\r\n") + _body(a)),
        "a length of 10^30": raw(lambda a: head(10**30) + _body(a)),
        "a chunk without a size": raw(lambda a: head(None, more=CHUNKED) + b"zz\r\n" + _body(a)),
        "a chunk below zero": raw(lambda a: head(None, more=CHUNKED) + b"-5\r\n" + _body(a)),
        "a chunk of 10^30": raw(lambda a: head(None, more=CHUNKED) + b"f" * 25 + b"\r\n" + _body(a)),
        "chunks without an end": raw(lambda a: head(None, more=CHUNKED) + _chunked(_body(a))),
        "endless chunks": endless(head(None, more=CHUNKED), _chunked(b" " * 65536)),
        "an endless chunk extension": endless(head(None, more=CHUNKED) + b"5;", b"x" * 1000),
        "endless trailers": endless(head(None, more=CHUNKED) + b"0\r\n", b"X: 1\r\n" * 100),
        "an unknown transfer": raw(lambda a: head(None, more="Transfer-Encoding: gzip\r\n") + gzip.compress(_body(a))),
        "an endless body": endless(head(None), b" " * 65536),
        "20 MB in front": raw(lambda a: plain(b" " * 20_000_000 + _body(a))),
        "a bomb of gzip": _bombing("gzip", 31),
        "a bomb of deflate": _bombing("deflate", 15),
        "a bomb of deflate without its frame": _bombing("deflate", -15),
        "endless empty blocks of deflate": endless(
            head(None, more="Content-Encoding: deflate\r\n"), b"\x00\x00\x00\xff\xff" * 10_000
        ),
        "gzip in gzip": _packed("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
        "half of gzip": _packed("gzip", lambda data: gzip.compress(data)[:30]),
        "gzip that is none": _packed("gzip", bytes),
        "br": _packed("br", bytes),
        "zstd": _packed("zstd", lambda data: b"\x28\xb5\x2f\xfd" + data),
        "an unknown packing": _packed("rot13", bytes),
        "endless events": endless(head(None, kind="text/event-stream"), b'data: {"choices": []}\n\n', 0.01),
        "an endless event": endless(head(None, kind="text/event-stream") + b"data: ", b"x" * 65536),
        "events": raw(lambda a: head(None, kind="text/event-stream") + b"data: " + _body(a) + b"\n\ndata: [DONE]\n\n"),
        "events that are called JSON": raw(lambda a: plain(b"data: " + _body(a) + b"\n\ndata: [DONE]\n\n")),
    }
    forms = [Form("framing", name, SCORED, deliver) for name, deliver in ok.items()]
    return forms + [Form("framing", name, MARKED, deliver) for name, deliver in bad.items()]


def _list_statuses() -> list[Form]:
    """Statuses, redirects, and how long to wait."""
    forms = []
    once = (400, 406, 411, 413, 414, 415, 418, 422, 431, 451)
    for status in (*once, 408, 409, 425, 500, 502, 504, 507, 520, 524, 530, 599, 600, 999):
        forms.append(Form("status", f"{status}", MARKED, saying(lambda a: {"error": {"message": "no"}}, f"{status} x")))
    for status in (201, 202, 203):
        forms.append(Form("status", f"{status} with an answer", SCORED, saying(Asked.answer, f"{status} x")))
    for status in (204, 205):
        forms.append(Form("status", f"{status}", MARKED, raw(lambda a, s=status: plain(b"", f"{s} x"))))  # type: ignore[misc]
    for status in (401, 402, 404, 405, 407, 501, 505):
        forms.append(Form("status", f"{status}", REFUSED, saying(lambda a: {"error": "no"}, f"{status} x")))
    elsewhere = {
        "301 to another host": "http://other.invalid/v1/chat/completions",
        "302 with the key": f"http://user:{KEY}@other.invalid/v1?api_key={KEY}",
        "303": "https://other.invalid/",
        "307": "//other.invalid/v1",
        "308 to a path": "/v2/chat/completions",
        "302 without a target": "",
        "302 to no address": "http://[::1/\x7f",
        "302 to the key": f"http://{KEY}.invalid/",
        "302 to a file": "file:///etc/passwd",
        "300": "http://other.invalid/",
        "304": "",
    }
    for name, target in elsewhere.items():
        more = f"Location: {target}\r\n" if target else ""
        forms.append(Form("redirect", name, REFUSED, raw(lambda a, n=name, m=more: plain(b"", f"{n[:3]} x", m))))  # type: ignore[misc]
    waits = ("-5", "nan", "-inf", "inf", "1e400", "", "soon", "5s", "1,2", "x" * 9000, "Thu, 01 Jan 1970 00:00:00 GMT")
    waits += ("Thu, 99 Nay 1970", "0x10", "٣", "Mon, 01 Jan 0000 00:00:00 GMT", "0.01", "1" * 500)
    for wait in waits:
        more = f"Retry-After: {wait}\r\n".encode().decode("latin-1")
        deliver = first_then_plain(saying(lambda a: {"error": "busy"}, "429 x", more))
        # Seconds beyond all patience are no seconds to wait; numbers that are none are as good as no word.
        handling = REFUSED if wait == "1" * 300 else SCORED
        forms.append(Form("wait", f"429, wait {wait[:30]!r}", handling, deliver))
    for name, wait in {"86400": "86400", "10^18": "1" + "0" * 18, "year 9999": "Fri, 31 Dec 9999 23:59:59 GMT"}.items():
        deliver = saying(lambda a: {"error": "busy"}, "429 x", f"Retry-After: {wait}\r\n")
        forms.append(Form("wait", f"429, wait for {name}", REFUSED, deliver))
    return forms


def _list_json() -> list[Form]:
    """Bodies that are no JSON, or another one."""
    usage = b'{"prompt_tokens": 7, "completion_tokens": 5}'
    ok: dict[str, Callable[[Asked], Any]] = {
        "spaces around": lambda a: b" \n\t" + _body(a) + b" \n",
        "a byte order mark": lambda a: b"\xef\xbb\xbf" + _body(a),
        "UTF-16": lambda a: json.dumps(a.answer()).encode("utf-16"),
        "unknown fields": lambda a: {**a.answer(), "x": [1, {"y": None}], "created": "yesterday"},
        "half a character escaped": lambda a: _body(a).replace(b'"x"', b'"\\ud800"'),
    }
    bad: dict[str, Callable[[Asked], Any]] = {
        "empty": lambda a: b"",
        "a page": lambda a: b"<html><body>busy</body></html>",
        "half": lambda a: _body(a)[: len(_body(a)) // 2],
        "two documents": lambda a: _body(a) + _body(a),
        "no UTF-8": lambda a: _body(a).replace(b"assistant", b"\xff\xfe\xfa"),
        "NUL": lambda a: b"\0" * 100,
        "100,000 lists deep": lambda a: b"[" * 100_000,
        "100,000 objects deep": lambda a: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "a list": lambda a: [a.answer()],
        "a string": lambda a: "an answer",
        "a number": lambda a: 7,
        "null": lambda a: None,
        "true": lambda a: True,
        "an empty object": lambda a: {},
        "a number of 10,000 digits": lambda a: _body(a).replace(b"_tokens\": 5", b"_tokens\": " + b"9" * 10_000),
        "single quotes": lambda a: str(a.answer()).encode(),
        "a million lists as choices": lambda a: b'{"choices": [' + b"[]," * 999_999 + b'[]], "usage": ' + usage + b"}",
    }  # fmt: skip
    forms = [Form("JSON", name, SCORED, saying(make)) for name, make in ok.items()]
    return forms + [Form("JSON", name, MARKED, saying(make)) for name, make in bad.items()]


def _spell_key() -> dict[str, Callable[[Asked], str]]:
    """The key as a server could say it, by its way."""
    bearer = f"Bearer {KEY}"
    return {
        "as it is": lambda a: f"Incorrect API key provided: {KEY}.",
        "with its scheme": lambda a: f"header Authorization: {a.headers.get('authorization')} is wrong",
        "in upper case": lambda a: f"UNKNOWN {KEY.upper()}",
        "in part": lambda a: f"Incorrect API key {KEY[:8]}***********{KEY[-7:]}",
        "in part with dots": lambda a: f"no such key {KEY[3:14]}...",
        "in base 64": lambda a: f"header {base64.b64encode(bearer.encode()).decode()} refused",
        "in base 64, of its own": lambda a: f"value {base64.b64encode(KEY.encode()).decode()}",
        "in base 64, in the midst": lambda a: (
            f"value {base64.urlsafe_b64encode(b'{k:' + KEY.encode() + b'}').decode()}"
        ),
        "in base 16": lambda a: f"bytes {KEY.encode().hex()}",
        "percent-encoded": lambda a: "value " + "".join(f"%{ord(one):02X}" for one in KEY),
        "percent-encoded twice": lambda a: "value " + "".join(f"%25{ord(one):02X}" for one in KEY),
        "escaped": lambda a: "value " + "".join(f"\\u{ord(one):04x}" for one in KEY),
        "as entities": lambda a: "value " + "".join(f"&#{ord(one)};" for one in KEY),
        "spaced": lambda a: "value " + " ".join(KEY),
        "with invisible characters": lambda a: "value " + "\u200b".join(KEY),
        "over two lines": lambda a: f"value {KEY[:12]}\n{KEY[12:]}",
        "with colours": lambda a: f"value {KEY[:9]}\x1b[31m{KEY[9:]}\x1b[0m",
        "full-width": lambda a: "value " + "".join(chr(ord(one) + 0xFEE0) for one in KEY),
        "as a user in an address": lambda a: f"at http://me:{KEY}@proxy.invalid/v1",
        "as a query in an address": lambda a: f"at http://proxy.invalid/v1?x=1&api-key={quote(KEY)}",
        "in quotes": lambda a: f"value 'sk-' '{KEY[3:]}'",
        "after 10,000 characters": lambda a: "x " * 5000 + KEY,
        "with the prompt": lambda a: f"cannot answer {a.text!r} for {KEY}",
        "with the prompt in JSON": lambda a: f"cannot answer {json.dumps(a.body)} for {a.headers.get('authorization')}",
        "with pieces of the prompt": lambda a: f"near {a.text[20:60]!r}: bad",
        "with the prompt percent-encoded": lambda a: f"near {quote(a.text)}",
        "with the prompt in base 64": lambda a: f"near {base64.b64encode(a.text.encode()).decode()}",
        "as a page": lambda a: f"<script>alert('{KEY}')</script>",
    }


def _list_secrets() -> list[Form]:
    """Answers that say the key or the prompt."""
    spelled = _spell_key()
    forms = []
    for name, say in spelled.items():
        wrapped = {
            "error in 200": saying(lambda a, s=say: {"error": {"message": s(a), "code": s(a)}}),  # type: ignore[misc]
            "400": saying(lambda a, s=say: {"error": {"message": s(a)}}, "400 x"),  # type: ignore[misc]
        }
        forms += [Form("secret", f"{where}, {name}", MARKED, deliver) for where, deliver in wrapped.items()]
    whole = spelled["with its scheme"]
    shapes: dict[str, Callable[[Asked], Any]] = {
        "error as a string": lambda a: {"error": whole(a)},
        "error as a list": lambda a: {"error": [whole(a)]},
        "detail": lambda a: {"detail": whole(a)},
        "detail as a list": lambda a: {"detail": [{"loc": ["header", KEY], "msg": whole(a), "input": a.body}]},
        "message": lambda a: {"message": whole(a), "code": KEY},
        "msg": lambda a: {"msg": whole(a)},
        "errors": lambda a: {"errors": [{"message": whole(a)}]},
        "plain text": lambda a: whole(a).encode(),
        "a page": lambda a: f"<html><title>{whole(a)}</title></html>".encode(),
    }
    for name, make in shapes.items():
        for status in ("200 x", "422 x", "500 x"):
            forms.append(Form("secret", f"{status[:3]}, {name}", MARKED, saying(make, status)))
    forms += [
        Form("secret", "the reason of the status", SCORED, raw(lambda a: plain(_body(a), f"200 {KEY}"))),
        Form("secret", "headers", SCORED, raw(lambda a: plain(_body(a), more=f"X: {KEY}\r\nSet-Cookie: k={KEY}\r\n"))),
        Form("secret", "the reason of 500", MARKED, raw(lambda a: plain(b"", f"500 {KEY}"))),
        Form("secret", "401 with the key", REFUSED, saying(lambda a: {"error": whole(a)}, "401 x")),
        Form("secret", "404 with the key", REFUSED, saying(lambda a: {"error": whole(a)}, "404 x")),
        Form("secret", "429 for long, with the key", REFUSED,
             saying(lambda a: {"error": whole(a)}, "429 x", "Retry-After: 9999\r\n")),
        Form("secret", "the answer", SCORED,
             saying(lambda a: a.answer(message={"content": f"{KEY} {a.said}"})), text="***"),
        Form("secret", "the answer, in base 64", SCORED,
             saying(lambda a: a.answer(message={"content": base64.b64encode(KEY.encode()).decode()})), text="***"),
        Form("secret", "the finish reason", SCORED, saying(lambda a: a.answer(finish_reason=KEY))),
        Form("secret", "an unknown field", SCORED, saying(lambda a: {**a.answer(), "system_fingerprint": KEY})),
    ]  # fmt: skip
    return forms


def _list_meanings() -> list[Form]:
    """Answers of the right shape that mean something else: failures, and the ends and texts of other vendors."""
    return [*_list_failures(), *_list_ends(), *_list_texts(), *_list_counts()]


def _list_failures() -> list[Form]:
    def beside(**more: Any) -> Callable[[Asked], Any]:
        return lambda a: {**a.answer(), **more}

    def choice(**more: Any) -> Callable[[Asked], Any]:
        return lambda a: a.answer(**more)

    def choices(*given: Any) -> Callable[[Asked], Any]:
        return lambda a: {**a.answer(), "choices": [a.answer(**one)["choices"][0] for one in given]}

    said = {"message": "the upstream is down", "code": 502}
    bad: dict[str, Callable[[Asked], Any]] = {
        "an error beside an answer": beside(error=said),
        "an error that is true": lambda a: {"error": True, "message": "down"},
        "an error of a list": lambda a: {"error": [said]},
        "errors": lambda a: {"errors": [said]},
        "detail": lambda a: {"detail": "down"},
        "details": lambda a: {"detail": [{"loc": ["body"], "msg": "down", "input": a.body}]},
        "a message": lambda a: {"message": "down"},
        "msg and a code": lambda a: {"code": 500, "msg": "down"},
        "object is error": beside(object="error", message="down"),
        "a status of its own": lambda a: {"base_resp": {"status_code": 1002, "status_msg": "down"}, "choices": None},
        "a code alone": lambda a: {"code": 500},
        "an error in a choice": choice(error=said),
        "an error in an empty choice": choice(error=said, message={"content": ""}),
        "choices are empty": beside(choices=[]),
        "choices are null": beside(choices=None),
        "choices are an object": lambda a: {**a.answer(), "choices": {"0": a.answer()["choices"][0]}},
        "a choice is a text": beside(choices=["5 0.7 lantern"]),
        "a choice is null": beside(choices=[None]),
        "a message is a text": choice(message="5 0.7 lantern"),
        "a message is missing": choice(message=None),
        "a part of a stream": choice(message=None, delta={"content": "5 0.7 lantern"}),
        "a content is a number": choice(message={"content": 5}),
        "a content is an object": choice(message={"content": {"text": "5"}}),
        "a content holds a number": choice(message={"content": [5]}),
        "a content is an image": choice(message={"content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
        "an index of 1": choice(index=1),
        "an index of -1": choice(index=-1),
        "an index in words": choice(index="0"),
        "an index that is true": choice(index=True),
        "two choices of one index": choices({}, {}),
        "one of two without an index": choices({}, {"index": None}),
        "nothing and no tokens": lambda a: {**a.answer(message={"content": ""}), "usage": {"completion_tokens": 0}},
        "nothing and no usage": lambda a: {**a.answer(message={"content": None}), "usage": None},
        "nothing at the limit": lambda a: {
            **a.answer(message={"content": None}, finish_reason="length"), "usage": {"completion_tokens": 0}
        },
        "a tool": choice(message={"content": None, "tool_calls": [{"id": "1"}]}, finish_reason="tool_calls"),
        "a tool of before": choice(message={"content": None, "function_call": {}}, finish_reason="function_call"),
        "a tool of Anthropic": choice(message={"content": ""}, finish_reason="tool_use"),
        "reasoning alone": choice(message={"content": None, "reasoning_content": "5 0.7 lantern"}),
        "an answer of Anthropic's own API": lambda a: {"content": [{"type": "text", "text": a.said}]},
        "an answer of Gemini's own API": lambda a: {"candidates": [{"content": {"parts": [{"text": a.said}]}}]},
        "an answer of Ollama's own API": lambda a: {"message": {"content": a.said}, "done": True},
    }  # fmt: skip
    return [Form("failure", name, MARKED, saying(make)) for name, make in bad.items()]


def _list_ends() -> list[Form]:
    """Finish reasons of vendors: the text counts unless a filter or a fault ended it."""
    scored: tuple[Any, ...] = (
        *("stop", "STOP", "eos", "eos_token", "stop_sequence", "end_turn", "COMPLETE", "FinishReason.STOP"),
        *("length", "MAX_TOKENS", "max_tokens", "model_length", "max_output_tokens", "maxTokens"),
        *(None, "", "null", "OTHER", "no word of anyone's", 1, {}, [], {"reason": "stop"}),
    )
    marked = (
        "content_filter",
        "SAFETY",
        "RECITATION",
        "PROHIBITED_CONTENT",
        "BLOCKLIST",
        "SPII",
        "guardrail_intervened",
    )
    marked += ("error", "ERROR", "abort", "cancelled", "timeout", "insufficient_system_resource", "ERROR_TOXIC")
    words = [(word, SCORED) for word in scored] + [(word, MARKED) for word in marked]
    return [
        Form(
            "end",
            f"ends with {word!r}".replace("[]", "a list"),
            how,
            saying(lambda a, w=word: a.answer(finish_reason=w)),
        )  # type: ignore[misc]
        for word, how in words
    ]


def _list_texts() -> list[Form]:
    """Texts in other shapes."""
    texts: dict[str, tuple[Callable[[Asked], Any], str | None]] = {
        "parts": (lambda a: a.answer(message={"content": [{"type": "text", "text": a.said}]}), None),
        "parts after thinking": (
            lambda a: a.answer(
                message={"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": a.said}]}
            ),
            None,
        ),
        "parts that are texts": (lambda a: a.answer(message={"content": [a.said[:3], a.said[3:]]}), None),
        "a refusal": (lambda a: a.answer(message={"content": None, "refusal": "I would rather not"}), "I would"),
        "a text beside a tool": (
            lambda a: a.answer(message={"content": a.said, "tool_calls": [{}]}, finish_reason="tool_calls"), None
        ),
        "a text after reasoning": (lambda a: a.answer(message={"content": a.said, "reasoning": "hm"}), None),
        "a plain completion": (lambda a: a.answer(message=None, text=a.said), None),
        "no index": (lambda a: a.answer(index=None), None),
        "error is null": (lambda a: {**a.answer(error=None), "error": None}, None),
        "more choices than asked for": (
            lambda a: {**a.answer(), "choices": [*a.answer()["choices"], *a.answer(index=1)["choices"]]}, None
        ),
        "the end at once": (lambda a: {**a.answer(message={"content": ""}), "usage": {"completion_tokens": 1}}, ""),
        "null at once": (lambda a: {**a.answer(message={"content": None}), "usage": {"completion_tokens": 1}}, ""),
        "reasoning up to the limit": (
            lambda a: a.answer(message={"content": None, "reasoning_content": "hm"}, finish_reason="length"), ""
        ),
    }  # fmt: skip
    return [Form("text", name, SCORED, saying(make), text) for name, (make, text) in texts.items()]


def _list_counts() -> list[Form]:
    """Usages that say nothing or cannot be: the text is scored, its tokens are unknown."""
    counts = {"0": 0, "-1": -1, "5.0": 5.0, "true": True, "in words": "5", "null": None, "a list": [5], "10^30": 10**30}
    forms = [
        Form(
            "count",
            f"tokens: {name}",
            SCORED,
            saying(lambda a, n=count: {**a.answer(), "usage": {"completion_tokens": n}}),
        )  # type: ignore[misc]
        for name, count in counts.items()
    ]
    for name, usage in {"null": None, "a list": [], "a number": 7, "empty": {}}.items():
        forms.append(Form("count", f"usage: {name}", SCORED, saying(lambda a, u=usage: {**a.answer(), "usage": u})))  # type: ignore[misc]
    for word in (b"NaN", b"Infinity", b"1e400"):
        make = lambda a, w=word: _body(a).replace(b'completion_tokens": 5', b'completion_tokens": ' + w)  # noqa: E731
        forms.append(Form("count", f"tokens: {word.decode()}", SCORED, saying(make)))
    return forms


FORMS = _list_framing() + _list_statuses() + _list_json() + _list_secrets() + _list_meanings()


class FormServer:
    """A server of `FORMS` in a thread of its own, as a context; `url` is its API's root.

    Attributes:
        attempts: requests of each prompt so far.
        headers: names of headers that came, in lower case.
    """

    def __init__(self, forms: list[Form] | None = None) -> None:
        self.forms = {form.name: form for form in forms or FORMS}
        self.attempts: dict[str, int] = {}
        self.headers: set[str] = set()

    def __enter__(self) -> FormServer:
        for wbits in (31, 15, -15):
            bomb(wbits)  # not while somebody waits for it
        self._thread = LoopThread()
        self._server = self._thread.run(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.loop.call_soon_threadsafe(self._server.close)
        self._thread.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The client may leave, which is what most of these forms make it do.
        gone = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError)
        with contextlib.suppress(*gone):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            self.headers |= headers.keys()
            body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"null")
            if body is None:
                cards = {"data": [{"id": "m", "owned_by": "forms"}]}
                found = "/v1/models" in lines[0]
                writer.write(plain(json.dumps(cards if found else {}).encode(), "200 OK" if found else "404 x"))
            else:
                text = body["messages"][-1]["content"]
                self.attempts[text] = self.attempts.get(text, 0) + 1
                name = text.partition("[[")[2].partition("]]")[0]
                deliver = self.forms[name].deliver if name else saying(Asked.answer)
                await deliver(Asked(text, body, headers, self.attempts[text], writer))
        with contextlib.suppress(ConnectionError):
            writer.close()
