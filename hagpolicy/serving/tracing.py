"""`RequestTracer`: a span for each request that passes a policy, by OpenTelemetry's API.

The trace of the caller is continued and handed on. Attributes are those of OpenTelemetry's conventions for generative
AI (development status, November 2026), and ours begin with `hag.`; no text of a prompt is among them. Without a
configured SDK nothing is recorded and requests go on as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hagpolicy._extras import require
from hagpolicy.serving.handler import HandledRequest
from hagpolicy.serving.metrics import OPERATIONS

__all__ = ["RequestTracer"]

Headers = list[tuple[bytes, bytes]]

# Keys of bodies that the conventions name otherwise.
_NAMES = {"max_completion_tokens": "max_tokens", "max_output_tokens": "max_tokens", "n_predict": "max_tokens"}


class RequestTracer:
    """Opens spans and says in them what became of requests.

    Raises:
        MissingExtra: opentelemetry-api is not installed.
    """

    def __init__(self) -> None:
        self._trace = require("opentelemetry.trace", "otel", "spans")
        self._propagate = require("opentelemetry.propagate", "otel", "spans")
        self._tracer = self._trace.get_tracer("hagpolicy")

    @property
    def collects(self) -> bool:
        """Whether spans go anywhere: some provider of them is configured by now."""
        return not isinstance(self._trace.get_tracer_provider(), self._trace.ProxyTracerProvider)

    @contextmanager
    def open(self, handled: HandledRequest, headers: Headers) -> Iterator[Headers]:
        """The headers to send on, while the span of a request is open.

        Args:
            handled: the request.
            headers: its own, of which those that name a trace are continued.
        """
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        operation = OPERATIONS[handled.endpoint]
        kind, context = self._trace.SpanKind.SERVER, self._propagate.extract(carrier)
        opened = self._tracer.start_as_current_span(
            f"{operation} {handled.model}", context, kind, record_exception=False, set_status_on_exception=False
        )
        with opened as span:
            if not span.is_recording():
                yield headers
                return
            span.set_attributes({"gen_ai.operation.name": operation, **describe(handled)})
            sent: dict[str, str] = {}
            self._propagate.inject(sent)
            ours = {name.encode("latin-1"): value.encode("latin-1") for name, value in sent.items()}
            try:
                yield [pair for pair in headers if pair[0] not in ours] + list(ours.items())
            except Exception as error:
                # Its type alone: its words, which the SDK would record, may hold what a prompt said.
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(self._trace.StatusCode.ERROR)
                raise

    def close(self, status: int) -> None:
        """Say in the span that is open how its answer ended.

        Args:
            status: of the answer; 0 where none came, since the client had gone.
        """
        span = self._trace.get_current_span()
        if status:
            span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)


def describe(handled: HandledRequest) -> dict[str, Any]:
    """What was decided and sent, as attributes of a span."""
    receipt = handled.receipt
    told: dict[str, Any] = {"hag.policy": handled.policy, "hag.reason": receipt.reason}
    for name, value in receipt.applied.items():
        if isinstance(value, int | float):
            told[f"gen_ai.request.{_NAMES.get(name, name)}"] = value
    for outcome in ("dropped", "overruled"):
        if found := getattr(receipt, outcome):
            told[f"hag.{outcome}"] = sorted(found)
    return told
