"""`answer_checked`: an application behind the middleware, asked again where its answer does not meet a constraint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hagpolicy.serving.attempts import AnswerAttempts, adapt_headers
from hagpolicy.serving.messages import App, Message, Receive, Scope, Send

__all__ = ["answer_checked"]

# An answer that is larger is handed on as it comes, unchecked.
MOST_BYTES = 32 << 20
Read = Callable[[bytes, str], Awaitable[bytes | None]]


async def answer_checked(
    app: App, scope: Scope, content: bytes, receive: Receive, send: Send, attempts: AnswerAttempts, read: Read
) -> None:
    """Answer a request by the first answer of an application that meets its constraint, else by the very first one.

    What is sent first is preceded by the end of `attempts`, so that it can bear what became of them.

    Args:
        app: answers.
        scope: of the request.
        content: its body.
        receive: what comes of it behind the body.
        send: takes the answer.
        attempts: of the request.
        read: `attempts.read`, or the same from a thread.
    """
    kept = [_KeptAnswer(attempts, send)]
    await app(_adapt(scope, content, 0), _give(content, receive), kept[0].send)
    if not kept[0].whole:
        if not kept[0].passes:  # it was cut: so it goes on
            await kept[0].hand_on(send)
        return
    again = await read(kept[0].body, kept[0].encoding)
    while again is not None:
        more = _KeptAnswer(attempts, None)
        try:
            await app(_adapt(scope, again, len(kept)), _give(again, receive), more.send)
        except Exception:  # the first answer stands, whatever becomes of others
            more.whole = False
        if not more.whole:
            attempts.fail()
            break
        kept.append(more)
        again = await read(more.body, more.encoding)
    number, joined = attempts.join()
    await kept[number].hand_on(send, joined)


class _KeptAnswer:
    """An answer that is kept until it is known whether it is handed on; one that is not checked is so at once.

    Args:
        attempts: says which are checked.
        send: takes an answer that is not checked; None: it is dropped.

    Attributes:
        whole: it has come to its end.
        passes: it is not checked.
    """

    def __init__(self, attempts: AnswerAttempts, send: Send | None) -> None:
        self._attempts, self._send = attempts, send
        self._messages: list[Message] = []
        self._size = 0
        self.whole = self.passes = False

    @property
    def body(self) -> bytes:
        """Its body."""
        return b"".join(message.get("body", b"") for message in self._messages[1:])

    @property
    def encoding(self) -> str:
        """Its `content-encoding`."""
        return self._find(b"content-encoding")

    def _find(self, header: bytes) -> str:
        headers = self._messages[0].get("headers", ())
        return ", ".join(value.decode("latin-1") for name, value in headers if name.lower() == header)

    async def send(self, message: Message) -> None:
        """Take a part of it."""
        if self.passes:
            if self._send is not None:
                await self._send(message)
            return
        self._messages.append(message)
        if message["type"] == "http.response.start":
            checked = self._attempts.takes(message["status"], self._find(b"content-type"))
        else:
            self._size += len(message.get("body", b""))
            checked = self._size <= MOST_BYTES
            if not checked:
                self._attempts.skip("the answer is too large")
            self.whole = checked and not message.get("more_body", False)
        if not checked:
            self.passes = True
            if self._send is not None:
                await self.hand_on(self._send)

    async def hand_on(self, send: Send, body: bytes | None = None) -> None:
        """Hand on what came; in place of its body another one, where that is given."""
        messages = self._messages
        if body is not None:
            own = (b"content-length", b"content-encoding", b"transfer-encoding")
            kept = [pair for pair in messages[0].get("headers", ()) if pair[0].lower() not in own]
            headers = [*kept, (b"content-length", str(len(body)).encode())]
            whole = {"type": "http.response.body", "body": body, "more_body": False}
            messages = [{**messages[0], "headers": headers}, whole]
        for message in messages:
            await send(message)


def _adapt(scope: Scope, content: bytes, number: int) -> Scope:
    """The request of an attempt."""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    kept = [pair for pair in adapt_headers(headers, number) if pair[0].lower() != "content-length"]
    sent = [*kept, ("content-length", str(len(content)))]
    return {**scope, "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent]}


def _give(content: bytes, receive: Receive) -> Receive:
    """A body, then what comes."""
    left: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given
