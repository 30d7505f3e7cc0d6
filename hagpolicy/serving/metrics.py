"""`PolicyMetrics`: what a policy does to the requests of a server, for Prometheus.

Our own numbers begin with `hag_`; those of any server of LLMs have the names of OpenTelemetry's conventions for
generative AI (`gen_ai.server.…`, development status, November 2026) as Prometheus writes them. Values of labels come
from what was configured alone: models that nobody named are "other", so that no client can make series without end.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

from hagpolicy._extras import require
from hagpolicy.serving.answers import AnswerFindings
from hagpolicy.serving.constraints import UNMET
from hagpolicy.serving.handler import HandledRequest
from hagpolicy.serving.headers import show_config

__all__ = ["OPERATIONS", "PolicyMetrics", "find_metrics"]

# What a decision may cost, in seconds, and how long answers take: OpenTelemetry's advice for the latter.
_OVERHEAD = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5)
_DURATION = tuple(0.01 * 2**n for n in range(14))
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OPERATIONS = {"chat": "chat", "completions": "text_completion", "responses": "chat", "messages": "chat"}
"""OpenTelemetry's names of operations, by those of our endpoints."""

_lock = threading.Lock()
_made: WeakKeyDictionary[Any, PolicyMetrics] = WeakKeyDictionary()


class PolicyMetrics:
    """Counters and histograms in a registry of prometheus-client; an observer of a `RequestHandler`.

    Args:
        registry: that shows them; each may hold them once, see `find_metrics`.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """

    def __init__(self, registry: Any) -> None:
        client = require("prometheus_client", "serve", "metrics")
        given = {"registry": registry}
        of_call = ["gen_ai_operation_name", "gen_ai_request_model", "error_type"]
        self._decisions = client.Counter(
            "hag_decisions", "Requests by what was decided", ["policy", "model", "config", "reason"], **given
        )
        self._fields = client.Counter(
            "hag_fields", "Fields of decided requests by what became of them", ["policy", "field", "outcome"], **given
        )
        self._ignored = client.Counter("hag_ignored_headers", "Headers of requests that could not be read", **given)
        self._other_model = client.Counter(
            "hag_other_model_answers", "Answers of another model than the policy's", ["policy"], **given
        )
        self._unread = client.Counter(
            "hag_unread_answers", "Answers whose encoding is not read, or that came damaged", ["policy"], **given
        )
        self._constraints = client.Counter(
            "hag_constraints", "Requests with a constraint, by how it is met", ["policy", "way", "outcome"], **given
        )
        self._reloads = client.Counter(
            "hag_reloads", "Bundles that were loaded again, by outcome", ["policy", "outcome"], **given
        )
        self._overhead = client.Histogram(
            "hag_overhead_seconds", "Time to read, decide and rewrite", ["policy"], buckets=_OVERHEAD, **given
        )
        self._duration = client.Histogram(
            "gen_ai_server_request_duration_seconds", "Time to the last byte", of_call, buckets=_DURATION, **given
        )
        self._first = client.Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first part of a stream",
            of_call[:2],
            buckets=_FIRST_TOKEN,
            **given,
        )

    def __call__(self, handled: HandledRequest) -> None:
        """Count a request."""
        receipt, policy = handled.receipt, handled.policy
        # Of the policy's own configs: what clients fix in them would make series without end.
        config = "" if receipt.chosen is None else show_config(receipt.chosen)
        self._decisions.labels(policy, handled.model, config, receipt.reason).inc()
        self._overhead.labels(policy).observe(handled.seconds)
        ours = ["hint"] * receipt.hinted + ["constrain"] * (receipt.constraint not in ("", UNMET))
        if receipt.constraint and handled.attempts is None:
            self._constraints.labels(policy, receipt.constraint, "not_checked").inc()
        outcomes = {"applied": [*dict.fromkeys(receipt.fields.values()), *ours], "dropped": receipt.dropped}
        for outcome, names in (outcomes | {"overruled": receipt.overruled, "kept": receipt.kept}).items():
            for name in names:
                self._fields.labels(policy, name, outcome).inc()
        if handled.ignored:
            self._ignored.inc(len(handled.ignored))

    def count_answer(
        self, handled: HandledRequest, seconds: float, first: float | None, error: str, found: AnswerFindings
    ) -> None:
        """Count the answer to a request.

        Args:
            handled: the request.
            seconds: to its last byte.
            first: seconds to the first part of a stream; None where it was none.
            error: its status from 400 on, or the type of what went wrong; "" where nothing did.
            found: what it tells.
        """
        call = OPERATIONS[handled.endpoint], handled.model
        self._duration.labels(*call, error).observe(seconds)
        if first is not None and not error:
            self._first.labels(*call).observe(first)
        for name in found.not_honoured:
            self._fields.labels(handled.policy, name, "not_honoured").inc()
        if handled.outcome:
            self._constraints.labels(handled.policy, handled.receipt.constraint, handled.outcome).inc()
        if found.unread:
            self._unread.labels(handled.policy).inc()
        if found.other_model:
            self._other_model.labels(handled.policy).inc()

    def count_reload(self, policy: str, *, failed: bool) -> None:
        """Count that a bundle was loaded again."""
        self._reloads.labels(policy, "failed" if failed else "loaded").inc()


def find_metrics(registry: Any = None) -> PolicyMetrics:
    """The metrics in a registry, the same ones whenever it is asked for.

    Args:
        registry: None: prometheus-client's default, which the server that a middleware stands in shows with its own.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """
    if registry is None:
        registry = require("prometheus_client", "serve", "metrics").REGISTRY
    with _lock:
        if registry not in _made:
            _made[registry] = PolicyMetrics(registry)
        return _made[registry]
