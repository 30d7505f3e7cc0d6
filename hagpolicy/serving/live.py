"""`TrafficRecorder`: the ids, draws and arms of calls, and their rows in the decision log.

All of a call's randomness is a function of its id and of the log's key, so that an attempt which keeps the id keeps
the decision, in whichever process it is decided. What names a call, first to last:

1. the header `x-hag-request-id`, which a client sends alike in all attempts;
2. `idempotency-key`, which is made for that, as a digest. `x-request-id` is not taken: gateways give one to each
   attempt, and applications one to all calls of a page;
3. for attempts that count themselves (`x-stainless-retry-count`, as OpenAI's clients do): the id of an attempt with
   the same body that has failed in this process. Calls with one body are alike, so it does not matter which of them
   goes on, as each keeps one decision;
4. else a new one.

An experiment assigns units: `x-hag-unit`, or the body's `safety_identifier`, `user` or, of `/messages`,
`metadata.user_id`, never a credential. `prompt_cache_key` is none: it names texts that begin alike, not who asks. Where
none is given, the request is its own unit, and receipt and log say so.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagpolicy._checks import is_number
from hagpolicy._digest import digest_bytes
from hagpolicy.data.decision_log import DecisionLog, LoggedCall, LoggedPolicy
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.exploration import Exploration
from hagpolicy.serving.headers import RequestOptions
from hagpolicy.serving.rewrite import RequestReceipt

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

__all__ = ["LiveCall", "LiveSettings", "TrafficRecorder", "make_live"]

_RETRY_COUNT, _IDEMPOTENCY_KEY = "x-stainless-retry-count", "idempotency-key"
_UNITS = ("safety_identifier", "user")
# What a client that counts its attempts asks again after.
_RETRIED = frozenset({408, 409, 429})
# Of attempts that failed: how many are remembered, and for how long an attempt may follow.
_MOST_FAILED, _FAILED_SECONDS = 1_000, 600.0
# In every API the count of new tokens ends the answer or its stream. Within a text the quotes are escaped.
_TAIL_BYTES = 16 << 10
_TOKENS = re.compile(rb'(?<!\\)"(?:completion_tokens|output_tokens)"\s*:\s*(\d{1,9})')


@dataclass(frozen=True)
class LiveSettings:
    """What is kept of live traffic, and what is tried on it.

    Attributes:
        log: path of the decision log, which is made where there is none.
        text: prompts are kept as they are, which fitting from the log needs; else keyed digests of them alone.
        explore: share of the calls whose config is drawn among those that can be had, [0, 1].
        experiment: share of the units whose requests the policy decides, (0, 1); those of the others go out as they
            came. None: no experiment.

    Raises:
        InvalidInput: a share that is none.
    """

    log: str | Path
    text: bool = False
    explore: float = 0.0
    experiment: float | None = None

    def __post_init__(self) -> None:
        if not is_number(self.explore) or not 0.0 <= self.explore <= 1.0:
            raise InvalidInput("explore", "a share of the calls in [0, 1]", self.explore)
        if self.experiment is not None and (not is_number(self.experiment) or not 0.0 < self.experiment < 1.0):
            raise InvalidInput("experiment", "a share of the units in (0, 1), or None", self.experiment)


def make_live(
    log: str | Path | None, *, text: bool = False, explore: float | None = None, experiment: float | None = None
) -> LiveSettings | None:
    """The settings of what was said, None where nothing was.

    Raises:
        InvalidInput: a share that is none, or something that needs a log without one.
    """
    if log is not None:
        return LiveSettings(log, text, explore or 0.0, experiment)
    for name, value in (("explore", explore), ("experiment", experiment), ("log_text", text)):
        if value:
            do = "Name one: log=FILE, --log FILE or HAGPOLICY_LOG."
            raise InvalidInput(name, "a log beside it, in which what was drawn stands", value, do)
    return None


class LiveCall:
    """One attempt of one call, from its request to the end of its answer.

    Attributes:
        id: of the call.
        explore: its draw; None where nothing is drawn.
        arm: "policy" or "default"; "" while it is in no experiment.
        by_request: the request is its own unit.
        unit: digest of its unit.
        prompt: a string or chat messages; None where there is none.
        policy: that decides; None where none does.
        name: of the policy, as it is configured; "" without one.
        model: that the request names, as it is configured, else "other".
        status: of the answer, once it is known.
        whole: the answer has come to its end.
    """

    def __init__(self, recorder: TrafficRecorder, id: str, content: bytes, path: str) -> None:
        self._recorder, self.id, self.content, self.path = recorder, id, content, path
        self.explore = recorder.draw(id)
        self.arm, self.by_request, self.unit = "", True, recorder.name_unit("request", id)
        self.prompt: Any = None
        self.policy: Policy | None = None
        self.name, self.model = "", "other"
        self.status: int | None = None
        self.whole = False
        self._begun, self._tail, self._ended = time.perf_counter(), b"", False

    def read(self, chunk: bytes) -> None:
        """Take a part of the answer's body, whose end tells its tokens."""
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:] if len(chunk) < _TAIL_BYTES else chunk[-_TAIL_BYTES:]

    def end(self) -> None:
        """The answer has ended, or will not come; what comes later is not looked at."""
        if self._ended:
            return
        self._ended = True
        counted = _TOKENS.findall(self._tail)
        seconds = time.perf_counter() - self._begun
        self._recorder.end(self, int(counted[-1]) if counted else None, seconds)


class TrafficRecorder:
    """Names, draws and logs the calls of one handler.

    Args:
        settings: what is asked for.

    Attributes:
        settings: as given.
        log: the decision log.

    Raises:
        StoreError: the log cannot be written or is none, see `DecisionLog`.
    """

    def __init__(self, settings: LiveSettings) -> None:
        self.settings = settings
        self.log = DecisionLog(settings.log, text=settings.text)
        self._failed = _FailedAttempts()
        self._policies: dict[str, tuple[Policy, LoggedPolicy]] = {}

    def begin(self, path: str, options: RequestOptions, headers: Iterable[tuple[str, str]], content: bytes) -> LiveCall:
        """The call that a request belongs to."""
        said = {name.lower(): value for name, value in headers}
        id = options.request_id
        if id is None and (key := said.get(_IDEMPOTENCY_KEY)):
            id = self.log.digest("idempotency", key).hex()
        if id is None and said.get(_RETRY_COUNT, "0") != "0":
            id = self._failed.take(digest_bytes(content), path)
        return LiveCall(self, id or secrets.token_hex(16), content, path)

    def draw(self, id: str) -> Exploration | None:
        """The draw of a call; None without exploration."""
        if not self.settings.explore:
            return None
        bits = self.log.digest("draw", id)
        return Exploration(self.settings.explore, _to_share(bits[:8]), _to_share(bits[8:]))

    def name_unit(self, kind: str, name: str) -> str:
        """Digest of a unit, under the log's key."""
        return self.log.digest(kind, name).hex()

    def assign(self, call: LiveCall, options: RequestOptions, body: Mapping[str, Any]) -> None:
        """Name the unit of a call and, in an experiment, draw its arm."""
        unit = options.unit or find_unit(body)
        if unit is not None:
            call.unit, call.by_request = self.name_unit("unit", unit), False
        if self.settings.experiment is not None:
            drawn = _to_share(self.log.digest("arm", call.unit)[:8])
            call.arm = "policy" if drawn < self.settings.experiment else "default"

    def add(self, call: LiveCall, receipt: RequestReceipt, endpoint: str) -> None:
        """Log a call as it goes out.

        Args:
            call: to be logged.
            receipt: what became of its request.
            endpoint: name of the request's.
        """
        decision, draw = receipt.decision, receipt.draw
        index = None if decision is None else decision.index
        self.log.add(
            LoggedCall(
                call.id,
                receipt.reason,
                endpoint,
                call.model,
                None if call.policy is None else self._describe(call.name, call.policy),
                index,
                draw.intended if draw is not None else index,
                draw.propensity if draw is not None else 1.0,
                draw.choices if draw is not None else 0,
                draw is not None and draw.explored,
                {name: value for name, value in receipt.fixed.items() if not isinstance(value, str)},
                None if decision is None else decision.task,
                call.arm,
                self.settings.experiment if call.arm else None,
                call.unit,
                call.by_request,
                call.prompt,
                len(call.content),
            )
        )

    def end(self, call: LiveCall, tokens: int | None, seconds: float) -> None:
        """Log what is known of an answer, and remember an attempt that a client may repeat."""
        if call.status is None or call.status in _RETRIED or call.status >= 500 or not call.whole:
            self._failed.add(digest_bytes(call.content), call.path, call.id)
        self.log.add_answer(call.id, call.status, tokens, seconds)

    def _describe(self, name: str, policy: Policy) -> LoggedPolicy:
        known = self._policies.get(name)
        if known is None or known[0] is not policy:
            engine, limit = policy.fingerprint, policy.max_tokens
            made = LoggedPolicy(name, policy.digest, policy.space, policy.default_index, engine, limit)
            known = self._policies[name] = policy, made
        return known[1]


def find_unit(body: Mapping[str, Any]) -> str | None:
    """Whom a body says that it is sent for; None where it does not."""
    metadata = body.get("metadata")
    said = [body.get(name) for name in _UNITS]
    said.append(metadata.get("user_id") if isinstance(metadata, Mapping) else None)
    return next((one for one in said if isinstance(one, str) and one), None)


def _to_share(eight: bytes) -> float:
    """A number in [0, 1), uniform, of eight random bytes."""
    return (int.from_bytes(eight, "big") >> 11) / 2.0**53


class _FailedAttempts:
    """Ids of attempts that failed, by their bodies, the oldest forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: OrderedDict[str, tuple[str, str, float]] = OrderedDict()

    def add(self, body: str, path: str, id: str) -> None:
        with self._lock:
            self._ids[id] = body, path, time.monotonic()
            while len(self._ids) > _MOST_FAILED:
                self._ids.popitem(last=False)

    def take(self, body: str, path: str) -> str | None:
        """The id of such an attempt, which another one then cannot have; None where there is none."""
        oldest = time.monotonic() - _FAILED_SECONDS
        with self._lock:
            for id, (known, at, begun) in self._ids.items():
                if (known, at) == (body, path) and begun >= oldest:
                    del self._ids[id]
                    return id
        return None
