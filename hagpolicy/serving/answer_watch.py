"""`AnswerWatch`: an answer on its way to the client, as the handler and the decision log need to see it."""

from __future__ import annotations

from hagpolicy.serving.answers import READ_BYTES, AnswerFindings
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
        self._found: AnswerFindings | None = None

    def start(self, status: int) -> None:
        """The answer has begun."""
        self.status = status
        if self.handled.call is not None:
            self.handled.call.status = status

    def read(self, chunk: bytes, *, whole: bool = False) -> None:
        """Take a part of its body; `whole` for the last one."""
        self.whole = whole
        if len(self._begin) < READ_BYTES:
            self._begin += chunk[:READ_BYTES]
        if self.handled.call is not None:
            self.handled.call.read(chunk)

    def end(self) -> AnswerFindings:
        """What the answer tells, now that nothing more comes; asked again, the same."""
        if self._found is None:
            answered = bool(self._begin) and self.status < 400
            self._found = AnswerFindings()
            if self.handled.call is not None:
                self.handled.call.whole = self.whole
                self.handled.call.end()
            if answered:
                self._found = self._handler.examine_answer(self.handled, self._begin)
        return self._found
