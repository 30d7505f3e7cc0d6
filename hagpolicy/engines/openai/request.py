"""A cell from the request to the completion: its slot, its attempts, and what their end means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from hagpolicy.config.render import apply_hint
from hagpolicy.config.servers import Said, request_body
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.prompts import prompt_text
from hagpolicy.engines.openai.client import Client
from hagpolicy.engines.openai.concurrency import ConcurrencySeeker
from hagpolicy.engines.openai.response import Answer, read_answers
from hagpolicy.engines.openai.retry import Backoff, Patience, Trouble
from hagpolicy.engines.openai.stream import Slots
from hagpolicy.errors import EngineError

__all__ = ["Asking"]

logger = logging.getLogger(__name__)
# After so many requests given up without one answer in between, the server is.
LOST_IN_A_ROW = 20


class Asking:
    """Fills cells through requests to one model of one server; its coroutines run in one event loop.

    Attributes:
        seeker: finds how many requests to have in flight.

    Args:
        client: towards the server.
        model: the server's name of the model.
        server: what it runs, a name in `dialects.servers.SERVERS`.
        chat: chat completions, else plain ones.
        highest: most requests in flight.
        patience: how long a request is tried.
    """

    def __init__(
        self, client: Client, model: str, *, server: str, chat: bool, highest: int, patience: Patience
    ) -> None:
        self.model, self.server, self.chat = model, server, chat
        self.seeker = ConcurrencySeeker(highest)
        self.slots = Slots(self.seeker)
        self._client = client
        self._backoff = Backoff(patience)
        self._answered = -1.0  # when the last answer came, by the loop's clock
        self._lost = 0  # requests given up since

    async def cells(self, requests: Sequence[Request], begun: Callable[[int], None]) -> list[Completion]:
        """One request to the server for one cell, or for several that differ by their sample only.

        Args:
            requests: the cells; several only where their prompt, config and limit are the same.
            begun: called with their number when the request has its slot.

        Raises:
            EngineError: the server was given up.
            UnsupportedSetting: it lacks a setting.
        """
        first = requests[0]
        fields = first.config.fields()
        said = request_body(self.server, fields, seed=first.seed, max_tokens=first.max_tokens, chat=self.chat)
        done: list[Completion] = []
        async with self.slots as since:
            begun(len(requests))
            # A server may draw fewer answers than asked for: the others are asked for again.
            while wanted := len(requests) - len(done):
                try:
                    answers, seconds = await self._tried(self._arguments(first, said, wanted), wanted, first, since)
                except Trouble as trouble:
                    if trouble.kind == "fatal":
                        where = f"the server at {self._client.base_url} was given up"
                        raise EngineError(f"openai:{self.model}: {trouble.reason}; {where}") from None
                    done += [Completion("", finish="error", error=trouble.reason)] * wanted
                else:
                    done += [_completion(answer, said, seconds / len(answers)) for answer in answers]
                    since = asyncio.get_running_loop().time()
        return done

    def _arguments(self, request: Request, said: Said, count: int) -> dict[str, Any]:
        prompt = apply_hint(request.prompt.content, request.config.hint)
        arguments: dict[str, Any] = {"model": self.model, **said.body}
        if not self.chat:
            arguments["prompt"] = prompt_text(prompt)
        else:
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            arguments["messages"] = [dict(turn) for turn in turns]
        if count > 1:
            arguments["n"] = count
        return {**arguments, "extra_body": said.extra_body} if said.extra_body else arguments

    async def _tried(
        self, arguments: dict[str, Any], wanted: int, request: Request, since: float
    ) -> tuple[list[Answer], float]:
        """Answers, 1 to `wanted`, and the seconds that are their share, after as many attempts as patience allows.

        Raises:
            Trouble: "cell" for a request that is given up, "fatal" for the server.
        """
        now = asyncio.get_running_loop().time
        begun, attempt = since, 0
        while True:
            attempt += 1
            ticket, sent, beside = self.seeker.sent(), now(), self.seeker.in_flight
            since = begun if attempt == 1 else sent
            try:
                body = await self._client.ask(chat=self.chat, **arguments)
                answers = read_answers(body, wanted, request.max_tokens)
            except Trouble as found:
                trouble = found
            else:
                self._answered, self._lost = now(), 0
                work = sum(answer.tokens or 1 + len(answer.text) // 4 for answer in answers)
                self.seeker.answered(ticket, now() - since, work)
                return answers, 2.0 * (now() - sent) / (beside + self.seeker.in_flight)
            wait = self._backoff.wait(attempt, trouble, now() - begun)
            if trouble.kind in ("refused", "slow"):
                self.seeker.refused(ticket, now() - since + (wait or 0.0))
            if wait is None:
                raise await self._last(trouble, attempt, begun)
            logger.debug("openai:%s: attempt %d failed, again in %.1f s: %s", self.model, attempt, wait, trouble.reason)
            # The slot is kept: while some are told to wait, fewer are sent.
            await asyncio.sleep(wait)

    async def _last(self, trouble: Trouble, attempts: int, begun: float) -> Trouble:
        """What the end of all attempts means: a request that never works, or a server that is gone.

        It is gone where no request at all was answered since this one was begun, and it could not be
        reached, turned everyone away, does not answer a simple question either, or lost many in a row.
        """
        if trouble.kind in ("cell", "fatal"):
            return trouble
        reason = trouble.reason + (f" ({attempts} attempts)" if attempts > 1 else "")
        reason += f"; it asks to wait {trouble.wait:.0f} s" if trouble.wait > self._backoff.patience.longest else ""
        self._lost += 1
        if self._answered >= begun:
            return Trouble("cell", reason)
        gone = trouble.kind in ("refused", "unreachable") or self._lost >= LOST_IN_A_ROW
        return Trouble("fatal" if gone or not await self._client.alive() else "cell", reason)


def _completion(answer: Answer, said: Said, seconds: float) -> Completion:
    """An answer as a completion, with what of the configuration was not honoured as sent."""
    receipt = said.receipt
    unlike = dict.fromkeys(receipt.dropped, "dropped") | {name: sent for name, (_, sent) in receipt.clamped.items()}
    return Completion(
        answer.text, answer.tokens, answer.prompt_tokens, seconds, answer.finish, answer.error,
        {**receipt.notes, **unlike, **answer.notes},
    )  # fmt: skip
