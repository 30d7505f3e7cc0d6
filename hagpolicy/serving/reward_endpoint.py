"""`POST /hag/reward`: an application tells later what an answer was worth."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hagpolicy.data.decision_log import add_reward
from hagpolicy.errors import InvalidInput, StoreError
from hagpolicy.serving.live import TrafficRecorder
from hagpolicy.serving.messages import Receive, Said, Scope, Send, answer_post

__all__ = ["REWARD_PATH", "answer_reward"]

logger = logging.getLogger(__name__)

REWARD_PATH = "/hag/reward"
MOST_BYTES = 4_096
# As long as a reward waits for the row of its call, which may have been decided a moment ago.
_FLUSH_SECONDS = 2.0
_EXPECTED = 'expected a JSON object such as {"id": "…", "value": 0.5}'

# Of their own: a log that others write to for long must not hold up what decides requests.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="hagpolicy-rewards")


async def answer_reward(scope: Scope, receive: Receive, send: Send, traffic: TrafficRecorder | None) -> None:
    """Answer one request: 200; 400 for what is no such object or no reward in [0, 1]; 404 for an id that is not in the
    log, or without a log; 405, 413; 503 where the log cannot be written.

    Args:
        scope: of the request.
        receive: gives its body.
        send: takes the answer.
        traffic: whose log it is for.
    """
    await answer_post(scope, receive, send, MOST_BYTES, partial(_add, traffic), _THREADS)


def _add(traffic: TrafficRecorder | None, content: bytes) -> Said:
    """Status and answer."""
    if traffic is None:
        return 404, {"error": "no decisions are logged here"}
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        return 400, {"error": _EXPECTED}
    if not isinstance(given, dict) or not isinstance(given.get("id"), str) or "value" not in given:
        return 400, {"error": _EXPECTED}
    traffic.log.flush(_FLUSH_SECONDS)
    try:
        add_reward(traffic.log.path, given["id"], given["value"])
    except InvalidInput as error:
        return (404 if error.field == "id" else 400), {"error": f"{error.field}: expected {error.expected}"}
    except StoreError as error:
        logger.warning("a reward was not logged: %s", error)
        return 503, {"error": "the log cannot be written now"}
    return 200, {"id": given["id"], "value": given["value"]}
