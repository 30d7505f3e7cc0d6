"""`OwnPaths`: what the middleware and the proxy answer themselves, below `/hag/`."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from hagpolicy._extras import require
from hagpolicy.errors import InvalidInput, MissingExtra
from hagpolicy.serving.explain_endpoint import EXPLAIN_PATH, answer_explain
from hagpolicy.serving.handler import RequestHandler
from hagpolicy.serving.messages import Receive, Scope, Send, answer_json, answer_whole
from hagpolicy.serving.metrics import PolicyMetrics, find_metrics
from hagpolicy.serving.reward_endpoint import REWARD_PATH, answer_reward

__all__ = ["ANSWERS", "OwnPaths"]

logger = logging.getLogger(__name__)

ROOT = "/hag/"
ANSWERS = ("health", "ready", "metrics")
"""What may be answered without `/hag` as well, where no server has these paths."""


class OwnPaths:
    """Answers of a middleware about itself.

    Args:
        answers: names in `ANSWERS` that are answered without `/hag` as well.
        registry: of prometheus-client; None: its default.
        explains: `POST /hag/explain` is answered.

    Attributes:
        explains: the same.
        handler: whose requests they tell of; None while its policies are loaded.
        broken: why there is none; "" while there may be.
        metrics: of the handler; None where prometheus-client is not installed.

    Raises:
        InvalidInput: an unknown name.
    """

    def __init__(self, answers: Collection[str], registry: Any, *, explains: bool = False) -> None:
        if unknown := set(answers) - set(ANSWERS):
            raise InvalidInput("answers", f"names among {', '.join(ANSWERS)}", sorted(unknown)[0])
        self._registry, self.explains = registry, explains
        self._paths = {f"/{name}": name for name in answers}
        self.handler: RequestHandler | None = None
        self.broken = ""
        self.metrics: PolicyMetrics | None = None

    def observe(self, handler: RequestHandler) -> None:
        """Tell of a handler from now on, and count what it does where prometheus-client is installed."""
        try:
            self.metrics = find_metrics(self._registry)
            handler.observers.append(self.metrics)
        except MissingExtra:
            logger.info("no metrics: prometheus-client is not installed")
        self.handler = handler

    def has(self, path: str) -> bool:
        """Whether a path is answered here."""
        return path.startswith(ROOT) or path in self._paths

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path == REWARD_PATH:
            await answer_reward(scope, receive, send, None if self.handler is None else self.handler.traffic)
            return
        if path == EXPLAIN_PATH and self.explains:
            await answer_explain(scope, receive, send, self.handler)
            return
        name = self._paths.get(path) or path.removeprefix(ROOT)
        answers = {"health": self._health, "ready": self._ready, "counts": self._counts, "metrics": self._metrics}
        if name not in answers:
            await answer_json(send, 404, {"error": f"nothing at {ROOT} but {', '.join(answers)} and reward"})
        elif scope["method"] not in ("GET", "HEAD"):
            await answer_json(send, 405, {"error": f"{path} is read by GET"})
        else:
            await answers[name](send)

    async def _health(self, send: Send) -> None:
        await answer_json(send, 200, {"status": "ok"})

    async def _ready(self, send: Send) -> None:
        ready = self.handler is not None
        said = "ready" if ready else self.broken or "loading"
        await answer_json(send, 200 if ready else 503, {"status": said})

    async def _counts(self, send: Send) -> None:
        handler = self.handler
        counts, ignored, unread = ({}, 0, 0) if handler is None else (handler.counts, handler.ignored, handler.unread)
        said: dict[str, Any] = {"requests": counts, "ignored_headers": ignored, "unread_answers": unread}
        if handler is not None and handler.constraints:
            said["constraints"] = handler.constraints
        if handler is not None and handler.traffic is not None:
            said["not_logged"] = handler.traffic.log.dropped
        await answer_json(send, 200, said)

    async def _metrics(self, send: Send) -> None:
        try:
            prometheus_client = require("prometheus_client", "serve", "metrics")
        except MissingExtra as error:
            await answer_json(send, 404, {"error": str(error)})
            return
        registry = prometheus_client.REGISTRY if self._registry is None else self._registry
        content = prometheus_client.generate_latest(registry)
        await answer_whole(send, 200, content, prometheus_client.CONTENT_TYPE_LATEST)
