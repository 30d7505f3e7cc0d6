"""A cell from the request to the completion: its slot, its attempts, and what their end means."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from hagpolicy.config.adapters import ServedAdapters
from hagpolicy.config.constraints import MASK
from hagpolicy.config.render import ask_for, merge_objects
from hagpolicy.config.servers import SERVERS, RequestBody, find_unlike, make_request_body
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.prompts import prompt_text, to_messages
from hagpolicy.data.stopping import cut_at_stop
from hagpolicy.engines.base import EngineLost
from hagpolicy.engines.constraints.attempts import ATTEMPTS, is_wanting, join_attempts, make_attempt
from hagpolicy.engines.openai.client import Client
from hagpolicy.engines.openai.concurrency import ConcurrencyLimiter
from hagpolicy.engines.openai.counting import TokenCounter
from hagpolicy.engines.openai.pacing import RatePacer
from hagpolicy.engines.openai.refusals import Refusals
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
        pacer: spaces them for a server that counts requests.
        uncounted: answers whose new tokens nobody counted.

    Args:
        client: towards the server.
        model: the server's name of the model.
        server: what it runs, a name in `config.servers.SERVERS`.
        chat: chat completions, else plain ones.
        highest: most requests in flight.
        retry_policy: how long a request is tried.
        count_tokens: counts the answers that the server does not; None: nothing does.
        extras: further fields of every request's body.
        adapters: that the server has; None: none.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        server: str,
        chat: bool,
        highest: int,
        retry_policy: RetryPolicy,
        count_tokens: TokenCounter | None = None,
        extras: Mapping[str, Any] | None = None,
        adapters: ServedAdapters | None = None,
    ) -> None:
        self.model, self.server, self.chat = model, server, chat
        self.limiter = ConcurrencyLimiter(highest)
        self.slots = Slots(self.limiter)
        self.pacer, self._turn = RatePacer(), asyncio.Lock()
        self.uncounted = 0
        self._client, self._count_tokens, self._extras = client, count_tokens, dict(extras or {})
        self._adapters = adapters or ServedAdapters({}, server)
        self._backoff, self._refusals = Backoff(retry_policy), Refusals(server)
        self._last_answer = -1.0  # when the last answer came, by the loop's clock
        self._failed_since = 0  # requests given up since
        self._silent_since = math.inf  # when the first attempt was sent that met no server, with none answered since
        self._gone = ""  # why the server was given up

    def begin_anew(self) -> None:
        """Try a server that was given up once more, with one attempt if it is still gone."""
        self._gone = ""

    async def fill(self, requests: Sequence[Request], begun: Callable[[int], None]) -> list[Completion]:
        """Completions of one cell, or of several that differ by their sample only, by one request to the server; those
        that do not meet their constraint are asked for again one by one.

        Args, Raises: see `_fill_once`.
        """
        done = []
        for request, first in zip(requests, await self._fill_once(requests, begun), strict=True):
            attempts = [first]
            while len(attempts) < ATTEMPTS and is_wanting(request, attempts[-1]):
                attempts += await self._fill_once([make_attempt(request, len(attempts))], lambda _: None)
            done.append(join_attempts(request, attempts))
        return done

    async def _fill_once(self, requests: Sequence[Request], begun: Callable[[int], None]) -> list[Completion]:
        """Completions of one cell, or of several that differ by their sample only, by one request to the server.

        Args:
            requests: the cells; several only where their prompt, config and limit are the same.
            begun: called with their number when the request has its slot.

        Raises:
            EngineError: the server was given up; `EngineLost`: it is gone.
            UnsupportedSetting: it lacks a setting.
        """
        first = requests[0]
        done: list[Completion] = []
        left_out: set[str] = set()
        async with self.slots as since:
            begun(len(requests))
            if self._gone:
                raise EngineLost(self._gone)
            # A server may draw fewer answers than asked for: the others are asked for again.
            while wanted := len(requests) - len(done):
                sent = self._make_body(first, left_out)
                try:
                    arguments = self._build_arguments(first, sent, wanted)
                    choices, seconds = await self._request_with_retries(arguments, wanted, first, since)
                except RequestFailed as failure:
                    if failure.kind in ("fatal", "gone"):
                        where = f"the server at {self._client.base_url} was given up"
                        words = f"openai:{self.model}: {failure.reason}; {where}"
                        if failure.kind == "gone":
                            self._gone = words
                        raise (EngineLost if self._gone else EngineError)(words) from None
                    more = self._refusals.learn(failure, sent, first.config)
                    if more - left_out:
                        left_out |= more
                        continue
                    done += [Completion("", finish="error", error=failure.reason)] * wanted
                else:
                    self._refusals.confirm(left_out)
                    done += [self._make_completion(choice, sent, seconds / len(choices)) for choice in choices]
                    since = asyncio.get_running_loop().time()
        return [cut_at_stop(self._client.redact(completion, arguments), first.stop) for completion in done]

    def _make_body(self, request: Request, left_out: Set[str]) -> RequestBody:
        fields, limit = request.config.fields(), request.max_tokens
        # Asking is in the prompt, and trying again is done here: neither is for the server.
        masked = fields["constrain"] == MASK and request.prompt.constraint is not None
        fields["constrain"] = MASK if masked else ""
        if self._adapters.has(fields["adapter"]):
            fields["adapter"] = ""  # named beside the settings
        refused = self._refusals.names | left_out
        return make_request_body(
            self.server,
            fields,
            seed=request.seed,
            max_tokens=limit,
            chat=self.chat,
            refused=refused,
            constraint=request.prompt.constraint,
        )

    def _build_arguments(self, request: Request, sent: RequestBody, count: int) -> dict[str, Any]:
        prompt, config = request.prompt, request.config
        content = ask_for(prompt.content, config.hint, prompt.constraint, config.constrain)
        arguments: dict[str, Any] = {"model": self.model, **sent.body}
        arguments |= self._adapters.write(config.adapter, arguments)
        if not self.chat:
            arguments["prompt"] = prompt_text(content)
        else:
            arguments["messages"] = to_messages(content)
        if count > 1:
            arguments["n"] = count
        if request.stop:
            # Where a server takes fewer, the answer is only longer on the way: it is cut here.
            arguments["stop"] = list(request.stop[: SERVERS[self.server].most_stops])
        return merge_objects({**arguments, **sent.extra_body}, self._extras)

    async def _request_with_retries(
        self, arguments: dict[str, Any], wanted: int, request: Request, since: float
    ) -> tuple[list[Choice], float]:
        """Choices, 1 to `wanted`, and the seconds that are their share, after as many attempts as the policy allows.

        Raises:
            RequestFailed: "cell" for a request that is given up, "fatal" and "gone" for the server.
        """
        now = asyncio.get_running_loop().time
        begun, attempt = since, 0
        while True:
            attempt += 1
            turn, waited = await self._take_turn()
            ticket, sent, beside = self.limiter.start_attempt(paced=waited), now(), self.limiter.in_flight
            since = begun if attempt == 1 else sent
            try:
                choices = await self._client.complete(
                    lambda body: read_choices(body, wanted, request.max_tokens), chat=self.chat, arguments=arguments
                )
            except RequestFailed as found:
                failure = found
            else:
                self._last_answer, self._failed_since, self._silent_since = now(), 0, math.inf
                work = sum(choice.tokens if choice.tokens > 0 else 1 + len(choice.text) // 4 for choice in choices)
                self.limiter.record_success(ticket, now() - since, work)
                return choices, 2.0 * (now() - sent) / (beside + self.limiter.in_flight)
            silence = self._measure_silence(failure, sent)
            wait = self._backoff.choose_delay(attempt, failure, now() - begun)
            if wait is not None and silence > 0.0:
                left = self._backoff.policy.max_silence - silence
                wait = min(wait, left) if left > 0.0 else None
            if failure.counted:
                self.pacer.refuse(turn, now(), 0.0 if wait is None else failure.wait)
            paced = failure.counted and self.pacer.holds_back(now())
            if failure.kind in ("refused", "slow") and not paced:
                self.limiter.record_refusal(ticket, now() - since + (wait or 0.0))
            if wait is None:
                raise await self._conclude(failure, attempt, begun)
            logger.debug("openai:%s: attempt %d failed, again in %.1f s: %s", self.model, attempt, wait, failure.reason)
            if paced:  # the pacer sees to it that fewer are sent
                await self.slots.lend(wait)
            else:  # the slot is kept: while some have to wait, fewer are sent
                await asyncio.sleep(wait)

    async def _take_turn(self) -> tuple[int, bool]:
        """Wait until an attempt may be sent, first come, first served: its number for the pacer, and whether it
        waited."""
        now = asyncio.get_running_loop().time
        if not self.pacer.holds_back(now()):
            return self.pacer.start(now()), False
        waited = self._turn.locked()
        async with self._turn:  # one waits by the rate of the moment, the others for it
            while wait := self.pacer.wait(now()):
                waited = True
                await asyncio.sleep(wait)
            return self.pacer.start(now(), waited=waited), waited

    def _measure_silence(self, failure: RequestFailed, sent: float) -> float:
        """Seconds for which no attempt of anyone has met a server, as far as this one tells; 0 where one did."""
        if failure.kind == "slow":
            return 0.0
        if self._client.heard >= sent:
            self._silent_since = math.inf
            return 0.0
        self._silent_since = min(self._silent_since, sent)
        return asyncio.get_running_loop().time() - self._silent_since

    async def _conclude(self, failure: RequestFailed, attempts: int, begun: float) -> RequestFailed:
        """The failure that the last attempt amounts to: "cell" (the request), "fatal" (the server) or "gone".

        The server is given up where no request at all was answered since this one was begun, and it turned everyone
        away or lost many in a row. It is gone where it cannot be reached, or does not answer a simple question either.
        """
        if failure.kind in ("cell", "fatal"):
            return failure
        reason = failure.reason + (f" ({attempts} attempts)" if attempts > 1 else "")
        reason += f"; it asks to wait {failure.wait:.0f} s" if failure.wait > self._backoff.policy.max_delay else ""
        self._failed_since += 1
        silence = asyncio.get_running_loop().time() - self._silent_since
        if self._last_answer >= begun and silence < self._backoff.policy.max_silence:
            return RequestFailed("cell", reason)
        if failure.kind == "unreachable" or not await self._client.is_alive():
            return RequestFailed("gone", reason)
        lost = failure.kind == "refused" or self._failed_since >= FAILURES_IN_A_ROW
        return RequestFailed("fatal" if lost else "cell", reason)

    def _name_fields(self, applied: Mapping[str, Any]) -> dict[str, str]:
        """What the server says it applied otherwise than it was sent, by our fields."""
        settings = SERVERS[self.server].get_dialect(chat=self.chat).settings.items()
        return {name: f"applied as {applied[one.key]:g}" for name, one in settings if one.key in applied}

    def _make_completion(self, choice: Choice, sent: RequestBody, seconds: float) -> Completion:
        """A choice as a completion, with what of the configuration was not honoured as sent."""
        receipt = sent.receipt
        unlike = dict.fromkeys(receipt.dropped, "dropped") | {name: sent for name, (_, sent) in receipt.clamped.items()}
        applied = find_unlike({**sent.body, **sent.extra_body}, choice.applied)
        notes = {**receipt.notes, **unlike, **self._name_fields(applied), **choice.notes}
        tokens = choice.tokens
        if tokens != tokens and self._count_tokens is not None:
            tokens = self._count_tokens(choice.reasoning + choice.text, ended=choice.finish == "stop")
            notes["tokens"] = f"counted by the tokenizer {self._count_tokens.name}"
        self.uncounted += tokens != tokens
        passes = None
        if choice.drafts is not None:
            drafted, kept = choice.drafts
            notes["drafts"] = f"{kept} of {drafted} drafted tokens kept"
            if tokens > kept:  # each pass gives one token that was not drafted
                passes = int(tokens) - kept
        fields = choice.text, tokens, choice.prompt_tokens, seconds, choice.finish, choice.error
        return Completion(*fields, notes, passes, reasoning=choice.reasoning)
