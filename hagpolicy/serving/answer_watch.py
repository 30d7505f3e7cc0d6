"""`AnswerWatch`: an answer on its way to the client, as the handler and the decision log need to see it."""

from __future__ import annotations

from hagpolicy.serving.answers import READ_BYTES, AnswerFindings, AnswerReader
from hagpolicy.serving.handler import HandledRequest, RequestHandler

__all__ = ["AnswerWatch"]


class AnswerWatch:
    """Sees the parts of one answer, and tells at its end what they say.

    Args:
        handler: of the request.
        handled: the request.

    Attributes:
        handled: the request.
        status: of the answer; 0 while there is none.
        whole: it came to its end.
    """

    def __init__(self, handler: RequestHandler, handled: HandledRequest) -> None:
        self.handled, self.status, self.whole = handled, 0, False
        self._handler, self._begin = handler, b""
        self._reader, self._came = AnswerReader(""), False
        self._found: AnswerFindings | None = None

    def start(self, status: int, encoding: str = "") -> None:
        """The answer has begun.

        Args:
            status: of it.
            encoding: its `content-encoding`; "" without one.
        """
        self.status, self._reader = status, AnswerReader(encoding)
        if self.handled.call is not None:
            self.handled.call.status = status

    def read(self, chunk: bytes, *, whole: bool = False) -> None:
        """Take a part of its body; `whole` for the last one."""
        self.whole, self._came = whole, self._came or bool(chunk)
        if self.handled.call is None and len(self._begin) >= READ_BYTES:
            return
        text = self._reader.read(chunk)
        if len(self._begin) < READ_BYTES:
            self._begin += text[:READ_BYTES]
        if self.handled.call is not None:
            self.handled.call.read(text)

    def end(self) -> AnswerFindings:
        """What the answer tells, now that nothing more comes; asked again, the same."""
        if self._found is None:
            answered = self._came and self.status < 400
            self._found = AnswerFindings()
            if self.handled.call is not None:
                self.handled.call.whole = self.whole
                self.handled.call.end()
            if answered and self._reader.unread and len(self._begin) < READ_BYTES:
                self._found = self._handler.miss_answer()
            elif answered:
                self._found = self._handler.examine_answer(self.handled, self._begin)
        return self._found
