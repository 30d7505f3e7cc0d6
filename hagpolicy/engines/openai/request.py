"""A cell from the request to the completion: its slot, its attempts, and what their end means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from hagpolicy.config.render import apply_hint
from hagpolicy.config.servers import RequestBody, make_request_body
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.prompts import prompt_text, to_messages
from hagpolicy.engines.openai.client import Client
from hagpolicy.engines.openai.concurrency import ConcurrencyLimiter
from hagpolicy.engines.openai.response import Choice, read_choices
from hagpolicy.engines.openai.retry import Backoff, RequestFailed, RetryPolicy
from hagpolicy.engines.openai.stream import Slots
from hagpolicy.errors import EngineError

__all__ = ["CellRequester"]

logger = logging.getLogger(__name__)
# After so many requests given up without one answer in between, the server is.
FAILURES_IN_A_ROW = 20


class CellRequester:
    """Fills cells through requests to one model of one server; its coroutines run in one event loop.

    Attributes:
        limiter: finds how many requests to have in flight.

    Args:
        client: towards the server.
        model: the server's name of the model.
        server: what it runs, a name in `config.servers.SERVERS`.
        chat: chat completions, else plain ones.
        highest: most requests in flight.
        retry_policy: how long a request is tried.
    """

    def __init__(
        self, client: Client, model: str, *, server: str, chat: bool, highest: int, retry_policy: RetryPolicy
    ) -> None:
        self.model, self.server, self.chat = model, server, chat
        self.limiter = ConcurrencyLimiter(highest)
        self.slots = Slots(self.limiter)
        self._client = client
        self._backoff = Backoff(retry_policy)
        self._last_answer = -1.0  # when the last answer came, by the loop's clock
        self._failed_since = 0  # requests given up since

    async def fill(self, requests: Sequence[Request], begun: Callable[[int], None]) -> list[Completion]:
        """Completions of one cell, or of several that differ by their sample only, by one request to the server.

        Args:
            requests: the cells; several only where their prompt, config and limit are the same.
            begun: called with their number when the request has its slot.

        Raises:
            EngineError: the server was given up.
            UnsupportedSetting: it lacks a setting.
        """
        first = requests[0]
        fields = first.config.fields()
        sent = make_request_body(self.server, fields, seed=first.seed, max_tokens=first.max_tokens, chat=self.chat)
        done: list[Completion] = []
        async with self.slots as since:
            begun(len(requests))
            # A server may draw fewer answers than asked for: the others are asked for again.
            while wanted := len(requests) - len(done):
                try:
                    arguments = self._build_arguments(first, sent, wanted)
                    choices, seconds = await self._request_with_retries(arguments, wanted, first, since)
                except RequestFailed as failure:
                    if failure.kind == "fatal":
                        where = f"the server at {self._client.base_url} was given up"
                        raise EngineError(f"openai:{self.model}: {failure.reason}; {where}") from None
                    done += [Completion("", finish="error", error=failure.reason)] * wanted
                else:
                    done += [_make_completion(choice, sent, seconds / len(choices)) for choice in choices]
                    since = asyncio.get_running_loop().time()
        return done

    def _build_arguments(self, request: Request, sent: RequestBody, count: int) -> dict[str, Any]:
        prompt = apply_hint(request.prompt.content, request.config.hint)
        arguments: dict[str, Any] = {"model": self.model, **sent.body}
        if not self.chat:
            arguments["prompt"] = prompt_text(prompt)
        else:
            arguments["messages"] = to_messages(prompt)
        if count > 1:
            arguments["n"] = count
        return {**arguments, "extra_body": sent.extra_body} if sent.extra_body else arguments

    async def _request_with_retries(
        self, arguments: dict[str, Any], wanted: int, request: Request, since: float
    ) -> tuple[list[Choice], float]:
        """Choices, 1 to `wanted`, and the seconds that are their share, after as many attempts as the policy allows.

        Raises:
            RequestFailed: "cell" for a request that is given up, "fatal" for the server.
        """
        now = asyncio.get_running_loop().time
        begun, attempt = since, 0
        while True:
            attempt += 1
            ticket, sent, beside = self.limiter.start_attempt(), now(), self.limiter.in_flight
            since = begun if attempt == 1 else sent
            try:
                body = await self._client.complete(chat=self.chat, **arguments)
                choices = read_choices(body, wanted, request.max_tokens)
            except RequestFailed as found:
                failure = found
            else:
                self._last_answer, self._failed_since = now(), 0
                work = sum(choice.tokens or 1 + len(choice.text) // 4 for choice in choices)
                self.limiter.record_success(ticket, now() - since, work)
                return choices, 2.0 * (now() - sent) / (beside + self.limiter.in_flight)
            wait = self._backoff.choose_delay(attempt, failure, now() - begun)
            if failure.kind in ("refused", "slow"):
                self.limiter.record_refusal(ticket, now() - since + (wait or 0.0))
            if wait is None:
                raise await self._conclude(failure, attempt, begun)
            logger.debug("openai:%s: attempt %d failed, again in %.1f s: %s", self.model, attempt, wait, failure.reason)
            # The slot is kept: while some have to wait, fewer are sent.
            await asyncio.sleep(wait)

    async def _conclude(self, failure: RequestFailed, attempts: int, begun: float) -> RequestFailed:
        """The failure that the last attempt amounts to: "cell", of the request alone, or "fatal", of the server.

        The server is given up where no request at all was answered since this one was begun, and it could not be
        reached, turned everyone away, does not answer a simple question either, or lost many in a row.
        """
        if failure.kind in ("cell", "fatal"):
            return failure
        reason = failure.reason + (f" ({attempts} attempts)" if attempts > 1 else "")
        reason += f"; it asks to wait {failure.wait:.0f} s" if failure.wait > self._backoff.policy.max_delay else ""
        self._failed_since += 1
        if self._last_answer >= begun:
            return RequestFailed("cell", reason)
        gone = failure.kind in ("refused", "unreachable") or self._failed_since >= FAILURES_IN_A_ROW
        return RequestFailed("fatal" if gone or not await self._client.is_alive() else "cell", reason)


def _make_completion(choice: Choice, sent: RequestBody, seconds: float) -> Completion:
    """A choice as a completion, with what of the configuration was not honoured as sent."""
    receipt = sent.receipt
    unlike = dict.fromkeys(receipt.dropped, "dropped") | {name: sent for name, (_, sent) in receipt.clamped.items()}
    return Completion(
        choice.text, choice.tokens, choice.prompt_tokens, seconds, choice.finish, choice.error,
        {**receipt.notes, **unlike, **choice.notes},
    )  # fmt: skip
