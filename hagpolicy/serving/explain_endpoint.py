"""`POST /hag/explain`: why a policy decides as it does for a prompt, where the operator allows that to be asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.errors import HagError, InvalidInput
from hagpolicy.serving.handler import RequestHandler, parse_body
from hagpolicy.serving.messages import Receive, Said, Scope, Send, answer_post

__all__ = ["EXPLAIN_PATH", "answer_explain"]

logger = logging.getLogger(__name__)

EXPLAIN_PATH = "/hag/explain"
# A policy reads 8,000 characters; of a chat it may read one message among many.
MOST_BYTES = 1 << 20
MOST_NEIGHBOURS = 50
_EXPECTED = 'expected a JSON object such as {"prompt": "…"} or {"messages": […], "model": "…", "task": "…"}'
_KEYS = {"prompt", "messages", "model", "task", "price", "n", "neighbours"}

# One at a time and of its own: an explanation asks the policy some sixty times, and decisions go first.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="hagpolicy-explain")


async def answer_explain(scope: Scope, receive: Receive, send: Send, handler: RequestHandler | None) -> None:
    """Answer one request by `Explanation.to_dict`, never with texts of training prompts: 200; 400 for what is no such
    object or no prompt; 404 where no policy is for the model, or it holds no training prompts; 405, 413; 503 while
    policies are loaded.

    Args:
        scope: of the request.
        receive: gives its body.
        send: takes the answer.
        handler: whose policies explain.
    """
    await answer_post(scope, receive, send, MOST_BYTES, partial(_explain, handler), _THREAD)


def _explain(handler: RequestHandler | None, content: bytes) -> Said:
    """Status and answer."""
    if handler is None:
        return 503, {"error": "loading"}
    given = parse_body(content)
    if given is None or not set(given) <= _KEYS or ("prompt" in given) == ("messages" in given):
        return 400, {"error": _EXPECTED}
    neighbours = given.get("neighbours", 5)
    if not is_whole(neighbours, 0, MOST_NEIGHBOURS):
        return 400, {"error": f"neighbours: expected a whole number, at most {MOST_NEIGHBOURS}"}
    policy, price = handler.find_policy(given.get("model"))
    if policy is None:
        return 404, {"error": "no policy is for this model"}
    if policy.training is None:
        return 404, {"error": "the policy was saved without explain=True"}
    asked: Mapping[str, Any] = {name: given.get(name) for name in ("price", "n", "task")}
    asked = {**asked, "price": price if asked["price"] is None else asked["price"]}
    if asked["task"] is not None and not policy.knows_task(str(asked["task"])):
        return 400, {"error": "task: expected one that the policy knows"}
    try:
        found = policy.explain(given.get("prompt", given.get("messages")), **asked, neighbours=neighbours).to_dict()
    except InvalidInput as error:
        return 400, {"error": f"{error.field}: expected {error.expected}"}
    except HagError as error:
        logger.warning("a decision was not explained: %s", type(error).__name__)
        return 500, {"error": "the policy failed for this prompt"}
    # A bundle may hold the texts for its operator; clients are not told them.
    found["neighbours"] = [{key: one[key] for key in one if key != "text"} for one in found["neighbours"]]
    return 200, found
