"""What a failed request means: try again, mark the cell, or give the server up.

A failure that is about the moment (busy, faulty, unreachable) is tried again, with exponential
backoff and full jitter: the wait is uniform between 0 and the cap, so that requests that failed
together do not come back together. One that is about the request marks its cell. One that every
request would meet (a refused key, an unknown model) is the server's.
"""

from __future__ import annotations

import email.utils
import math
import random
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from hagpolicy.errors import InvalidInput

__all__ = ["Backoff", "RequestFailed", "RetryPolicy", "classify_status", "read_retry_after"]

Kind = Literal["refused", "slow", "faulty", "unreachable", "cell", "fatal", "gone"]

# 408 timeout, 409 lock conflict, 425 too early; 5xx but 501 and 505, which no second try changes.
RETRIED = {408, 409, 425}
TOO_MANY = 429
REFUSED = {TOO_MANY, 503, 529}
FATAL = {401, 402, 404, 405, 407, 501, 505}
# Of a 429 these are no wave that passes: the account is empty.
EMPTY = {"insufficient_quota", "billing_hard_limit_reached"}
# No exponent, no infinity, no digits of other scripts, all of which Python would take for a number.
_SECONDS = re.compile(r"\s*[0-9]{1,20}(?:\.[0-9]{0,20})?\s*")
LONGEST_DATE = 100


class RequestFailed(Exception):
    """A request that was not answered as it should be.

    Attributes:
        kind: "refused" (turned away for now), "slow" (timed out), "faulty" (a fault in between),
            "unreachable" (no connection), "cell" (about this request), "fatal" (about all of them), "gone"
            (about all of them, after every attempt).
        reason: for people; the client leaves out key and prompt.
        wait: least seconds until the next try, as the server asked; 0 where it did not.
        named: of what was sent, the settings that the server's words name.
        counted: the server counts requests, and takes no more of them for now (429).
    """

    def __init__(
        self, kind: Kind, reason: str, wait: float = 0.0, named: Collection[str] = (), *, counted: bool = False
    ) -> None:
        self.kind, self.reason, self.wait, self.named, self.counted = kind, reason, wait, named, counted
        super().__init__(reason)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a request is tried.

    Attributes:
        max_attempts: at least 1.
        initial_delay: cap of the wait before the second attempt, in seconds; doubled each time.
        max_delay: highest cap of a wait, in seconds; a server may ask for more.
        max_elapsed: no attempt begins later than this after the first, in seconds.
        max_silence: a server is given up that could not be reached for so long by anyone, in seconds.
    """

    max_attempts: int = 8
    initial_delay: float = 0.5
    max_delay: float = 30.0
    max_elapsed: float = 600.0
    max_silence: float = 20.0

    def __post_init__(self) -> None:
        if (
            self.max_attempts < 1
            or not 0.0 <= self.initial_delay <= self.max_delay
            or not 0.0 <= self.max_elapsed < math.inf
            or not 0.0 <= self.max_silence < math.inf
        ):
            raise InvalidInput("retry_policy", "attempts of at least 1 and finite seconds of at least 0", self)


class Backoff:
    """Waits between the attempts of requests.

    Args:
        retry_policy: how long a request is tried.
        seed: of the jitter, which is no part of any result; None: from the system's entropy, so that
            several processes do not wait in step.
    """

    def __init__(self, retry_policy: RetryPolicy, seed: int | None = None) -> None:
        self.policy = retry_policy
        self._random = random.Random(seed)

    def choose_delay(self, attempt: int, failure: RequestFailed, elapsed: float) -> float | None:
        """Seconds to wait after a failed attempt, at least what the server asked for; None: give up.

        Args:
            attempt: number of the attempt that failed, from 1.
            failure: how it failed.
            elapsed: seconds since the first attempt began.
        """
        cap = min(self.policy.max_delay, self.policy.initial_delay * 2.0 ** min(attempt - 1, 60))
        # While nothing listens no wave can build up: the waits may be longer, so that all attempts outlast a restart.
        wait = failure.wait + self._random.uniform(cap / 2.0 if failure.kind == "unreachable" else 0.0, cap)
        last = attempt >= self.policy.max_attempts or elapsed + wait > self.policy.max_elapsed
        return None if last or failure.kind in ("cell", "fatal") else wait


def read_retry_after(headers: Mapping[str, str], now: float | None = None) -> float:
    """Seconds that a server asks to wait: `retry-after-ms`, or `retry-after` in seconds or as HTTP date
    (RFC 9110, 10.2.3); 0 where it does not ask, or not in a way that can be read.

    Args:
        headers: names in lower case, or a mapping that ignores case.
        now: seconds of the epoch; None: the system's clock.
    """
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        if _SECONDS.fullmatch(text):
            seconds = float(text) / divisor
        else:
            try:
                when = email.utils.parsedate_to_datetime(text[:LONGEST_DATE]).timestamp()
            except (TypeError, ValueError, OverflowError):
                continue
            seconds = when - (time.time() if now is None else now)
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return 0.0


def classify_status(status: int, message: str, code: str, headers: Mapping[str, str], *, proven: bool) -> RequestFailed:
    """The failure that an HTTP status means.

    Args:
        status: 400 to 599.
        message: the server's words.
        code: the server's name of the error; "" where it gives none.
        headers: of the answer.
        proven: whether the server has answered a request before: a 403 then is about the content.
    """
    reason = f"HTTP {status}" + (f": {message}" if message else "")
    reason += " (is the address the root of the API, and the model one that it serves?)" if status == 404 else ""
    if status in FATAL or code in EMPTY or (status == 403 and not proven):
        return RequestFailed("fatal", reason)
    # Not a standard, but OpenAI's own word on whether to come back.
    wanted = headers.get("x-should-retry")
    again = wanted == "true" or (wanted != "false" and (status in RETRIED or status in REFUSED or status >= 500))
    if not again:
        return RequestFailed("cell", reason)
    kind: Kind = "refused" if status in REFUSED else "faulty"
    return RequestFailed(kind, reason, read_retry_after(headers), counted=status == TOO_MANY)
