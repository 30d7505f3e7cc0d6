"""`RequestHandler`: what the transport, the middleware and the proxy do with the bytes of a request."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hagpolicy._names import suggest
from hagpolicy.config.adapters import ServedAdapters
from hagpolicy.config.constraints import RETRY, Constraint
from hagpolicy.config.servers import find_unlike
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.answers import AnswerFindings, find_applied, find_model, is_same_model
from hagpolicy.serving.attempts import AnswerAttempts, find_obstacle, write_attempt
from hagpolicy.serving.constraints import UNMET, check_form
from hagpolicy.serving.endpoints import Endpoint, find_endpoint
from hagpolicy.serving.exploration import Exploration
from hagpolicy.serving.headers import PREFIX, RequestOptions, describe_receipt, read_options
from hagpolicy.serving.live import LiveCall, LiveSettings, TrafficRecorder
from hagpolicy.serving.rewrite import RequestReceipt, Rewriter, RewriteRules

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

__all__ = ["HandledRequest", "RequestHandler"]

logger = logging.getLogger(__name__)

ANY_MODEL = "*"
# What models that nobody configured are called in metrics and logs: names of requests would be without end.
OTHER_MODEL = "other"
# What answers are found to say: a server may name another model in every one.
MOST_WARNINGS = 20
PRICE_HEADER, TASK_HEADER = f"{PREFIX}price", f"{PREFIX}task"
# Bodies of so many bytes and more are read in a thread where a loop serves others meanwhile: reading, deciding and
# writing them takes longer than the way into a thread and back.
LARGE_BYTES = 8 << 10
# Of a policy's digest, in what a response says of it.
LABEL_DIGITS = 8
# More threads would only take turns: most of the work holds the interpreter's lock.
THREADS = 2


@dataclass(frozen=True)
class HandledRequest:
    """A request on its way to the server.

    Attributes:
        content: the body to send; the very bytes that came where nothing changes.
        receipt: what became of it.
        headers: for its response.
        endpoint: its name in `ENDPOINTS`; "" for other paths.
        policy: name of the policy that decided; "" where none did.
        digest: of that policy, see `Policy.digest`; "" where none did.
        model: that the request names, where policies or rules are given under that name, else "other".
        seconds: that reading, deciding and writing took.
        ignored: names of its headers that were ignored.
        call: takes what becomes of the request, where traffic is logged; else None.
        attempts: takes the answers of a request whose constraint is met by trying again; None: the answer is handed on
            as it comes.
        outcome: what became of its constraint, "met", "not_met" or "not_checked"; "" while that is not known, and where
            its answers are not checked.
        refusal: why the request is to be answered by 400 and not sent; "": it is to be sent.
    """

    content: bytes
    receipt: RequestReceipt
    headers: Mapping[str, str] = field(default_factory=dict)
    endpoint: str = ""
    policy: str = ""
    digest: str = ""
    model: str = OTHER_MODEL
    seconds: float = 0.0
    ignored: tuple[str, ...] = ()
    call: LiveCall | None = None
    attempts: AnswerAttempts | None = None
    outcome: str = ""
    refusal: str = ""

    @property
    def label(self) -> str:
        """Name and short digest of the policy, NAME@1234abcd; "" where none decided."""
        return f"{self.policy}@{self.digest[:LABEL_DIGITS]}" if self.policy else ""


@dataclass(frozen=True)
class _Target:
    """What decides a request.

    Attributes:
        name: of the policy.
        model: its own name, without a price behind it.
        price: that stood behind it; None: none did.
        rewriter: of the policy at the endpoint.
        body: with the model's own name.
    """

    name: str
    model: Any
    price: float | None
    rewriter: Rewriter
    body: Mapping[str, Any]


class RequestHandler:
    """Rewrites requests by the policy of their model, counts what became of them, and never fails one.

    Safe to be used by many threads and tasks at once. A body that is no JSON object, and one for which the policy
    fails, goes out as it came; the first failure is logged.

    Args:
        policies: one for all models, or by the name of the model that requests name; "*" for all others. A request
            for "NAME@PRICE" is for the model NAME at that price, where NAME has a policy fitted with prices;
            under "*" for prices below 1 alone, since other models' names may end in a version.
        rules: one for all models, or by their names; "*" for all others.
        price: reward that a token or second costs where a request does not say it, for policies fitted with prices.
        task: the kind of the prompts where a request does not say it, for the policies that know it; None: not told.
        on_receipt: called with every receipt, in the thread of the request; what it raises is logged and ignored.
        live: the decision log, exploration and experiment; None: nothing is logged, drawn or assigned.
        constraint: what the answers to all requests have to be that do not say it themselves; None: anything.

    Attributes:
        traffic: writes the log; None without one.
        observers: called with every request that was handled, as `on_receipt` is.
        counts: requests by what became of them (`RequestReceipt.reason`).
        ignored: headers of requests that were ignored, since they were unknown, repeated or malformed.
        unread: answers that could not be examined, since they came compressed in a way that is not read, or damaged.
        constraints: requests with a constraint by how it is met ("ask", "mask", "none"), those that are tried again by
            what became of that ("retry_met", "retry_not_met", "retry_not_checked").

    Raises:
        InvalidInput: no policy, one that reads vectors and no text, a price for policies without, or a task that is
            none of theirs. Where they know no task at all, it is a warning in the log.
        StoreError: the log cannot be written or is none.
    """

    def __init__(
        self,
        policies: Policy | Mapping[str, Policy],
        rules: RewriteRules | Mapping[str, RewriteRules] | None = None,
        *,
        price: float | None = None,
        task: str | None = None,
        on_receipt: Callable[[RequestReceipt], object] | None = None,
        live: LiveSettings | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self.constraint = constraint
        self.policies = dict(policies) if isinstance(policies, Mapping) else {ANY_MODEL: policies}
        self.rules = dict(rules) if isinstance(rules, Mapping) else {ANY_MODEL: rules or RewriteRules()}
        self.price, self.task = price, task
        if not self.policies:
            raise InvalidInput("policies", "a policy, or some by model", "none")
        for model, policy in self.policies.items():
            self._check(model, policy)
            policy.digest  # noqa: B018 - which takes a while, and is kept
        known = sorted({name for policy in self.policies.values() for name in policy.manifest.tasks})
        if known and task is not None and task not in known:
            raise InvalidInput("task", f"one that a policy knows: {', '.join(known)}", task, suggest(task, known))
        self._check_task()
        self.observers: list[Callable[[HandledRequest], object]] = []
        if on_receipt is not None:
            self.observers.append(lambda handled: on_receipt(handled.receipt))
        self.traffic = None if live is None else TrafficRecorder(live)
        self._rewriters: dict[tuple[str, str], Rewriter] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="hagpolicy")
        self._counts: Counter[str] = Counter()
        self._constraints: Counter[str] = Counter()
        self._ignored = self._unread = 0
        self._failed = False
        self._warned: set[tuple[str, str]] = set()

    @property
    def counts(self) -> dict[str, int]:
        """Requests by what became of them."""
        with self._lock:
            return dict(self._counts)

    @property
    def constraints(self) -> dict[str, int]:
        """Requests with a constraint by how it is met, and what became of that."""
        with self._lock:
            return dict(self._constraints)

    @property
    def ignored(self) -> int:
        """Headers of requests that were ignored."""
        return self._ignored

    @property
    def unread(self) -> int:
        """Answers that could not be examined, since they came compressed in a way that is not read, or damaged."""
        return self._unread

    def replace_policy(self, model: str, policy: Policy) -> None:
        """Decide by another policy from now on; requests that are under way keep theirs.

        Args:
            model: the name under which the policy was given; "*" for that of all others.
            policy: takes its place, under the same rules.

        Raises:
            InvalidInput: no policy has that name, or the new one could not have been given at first.
        """
        if model not in self.policies:
            raise InvalidInput("model", " or ".join(self.policies), model)
        self._check(model, policy)
        # In this order: who sees the new rewriters sees the new policies.
        self.policies = {**self.policies, model: policy}
        self._rewriters = {}
        self._check_task()

    def examine_answer(self, handled: HandledRequest, begin: bytes) -> AnswerFindings:
        """What the answer to a request tells; whatever is found for the first time is logged.

        Args:
            handled: the request.
            begin: of its answer, whole or the first bytes of it.
        """
        named = find_model(begin)
        applied = find_applied(begin) if handled.receipt.applied else {}
        unlike = find_unlike(handled.receipt.applied, applied) if applied else {}
        for key, value in unlike.items():
            self._warn_once(("", key), "the server says that it applied %s=%r, which is not what was sent", key, value)
        fields = dict.fromkeys(handled.receipt.fields[key] for key in unlike if key in handled.receipt.fields)
        return AnswerFindings(named is not None and self._is_other_model(handled, named), tuple(fields))

    def miss_answer(self) -> AnswerFindings:
        """What is told of an answer that cannot be read: that, counted and for the first time logged."""
        with self._lock:
            self._unread += 1
        words = "an answer is compressed otherwise than by gzip or deflate, or damaged, and is handed on unexamined"
        self._warn_once(("", ""), words)
        return AnswerFindings(unread=True)

    def _is_other_model(self, handled: HandledRequest, answered: str) -> bool:
        policy = self.policies.get(handled.policy)
        fitted = "" if policy is None else policy.fingerprint.get("model", "")
        adapters = [ServedAdapters(rules.adapters, rules.server) for rules in self.rules.values()]
        # Who gives a policy under a model's name, or names a server's adapters, has said that they belong together.
        there = handled.receipt.endpoint
        told = answered == handled.policy or (there is not None and answered == there.model)
        told = told or any(one.find(answered) is not None for one in adapters)
        if not fitted or told or is_same_model(fitted, answered):
            return False
        words = "the policy was fitted on %r and %r answers: what was proven on the one need not hold on the other"
        self._warn_once((fitted, answered), words, fitted, answered)
        return True

    def _warn_once(self, what: tuple[str, str], words: str, *values: Any) -> None:
        with self._lock:
            first = len(self._warned) < MOST_WARNINGS and what not in self._warned
            if first:
                self._warned.add(what)
        if first:
            logger.warning(words, *values)

    def _check(self, model: str, policy: Policy) -> None:
        if not policy.reads_text:
            do = "Name what makes vectors of texts: load(folder, embed=…)."
            raise InvalidInput(f"policy for {model}", "one that reads texts", "one that takes vectors", do)
        if self.price is not None:
            policy.dial.rule_at(self.price)

    def _check_task(self) -> None:
        """Log where a task is to be told that no policy knows: whether one does depends on what was proven for it."""
        if self.task is not None and not any(policy.knows_task(self.task) for policy in self.policies.values()):
            logger.warning("no policy knows the task %r: they decide as if it were not told", self.task)

    def handles(self, path: str) -> bool:
        """Whether requests to a path are rewritten at all; others need not be read."""
        return find_endpoint(path) is not None

    def handle(self, path: str, headers: Iterable[tuple[str, str]], content: bytes) -> HandledRequest:
        """The request to send in place of one, with its receipt.

        Args:
            path: of the request, with or without query.
            headers: its own, of which those that begin with "x-hag-" are read; they are not meant for the server.
            content: its body.
        """
        begun = time.perf_counter()
        endpoint = find_endpoint(path)
        if endpoint is None:
            return HandledRequest(content, RequestReceipt("other_path"))
        headers = list(headers)
        options = read_options(headers)
        call = self._begin(endpoint, options, headers, content)
        if options.refusal:
            made = _refuse_request(endpoint, options, content, options.refusal)
        elif any(name.lower() == "content-encoding" for name, _ in headers):
            receipt = RequestReceipt("encoded")
            made = HandledRequest(content, receipt, endpoint=endpoint.name, ignored=options.ignored)
        else:
            made = self._decide(endpoint, options, content, call)
        if self._find_constraint(options) is not None and not made.receipt.constraint and not made.refusal:
            made = replace(made, receipt=replace(made.receipt, constraint=UNMET))
        if call is not None:
            made = self._record(made, call)
        seconds = time.perf_counter() - begun
        told = describe_receipt(made.label, made.receipt, made.ignored, seconds)
        return self._finish(replace(made, headers=told, seconds=seconds))

    def handle_unread(self, path: str, headers: Iterable[tuple[str, str]] = ()) -> HandledRequest:
        """What became of a request to a path whose body is too large to be read; it goes on as it comes.

        Args:
            path: of the request.
            headers: its own, as for `handle`.
        """
        endpoint, options = find_endpoint(path), read_options(headers)
        unmet = "" if endpoint is None or self._find_constraint(options) is None else UNMET
        made = HandledRequest(b"", RequestReceipt("too_large", constraint=unmet))
        if endpoint is not None:
            refused = _refuse_request(endpoint, options, b"", options.refusal)
            made = refused if options.refusal else replace(made, endpoint=endpoint.name)
        return self._finish(replace(made, headers=describe_receipt("", made.receipt, (), 0.0)))

    def _finish(self, handled: HandledRequest) -> HandledRequest:
        """The handled request, counted and told to the observers."""
        with self._lock:
            self._counts[handled.receipt.reason] += 1
            if handled.receipt.constraint and handled.attempts is None:
                not_checked = "_not_checked" if handled.receipt.constraint == RETRY else ""
                self._constraints[handled.receipt.constraint + not_checked] += 1
            self._ignored += len(handled.ignored)
        for observe in self.observers:
            try:
                observe(handled)
            except Exception as error:
                self._log_failure(error)
        return handled

    async def handle_async(self, path: str, headers: Iterable[tuple[str, str]], content: bytes) -> HandledRequest:
        """What `handle` returns; a large body is read in a thread, so that it holds up no other request of the loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # of another library, such as trio
            return self.handle(path, headers, content)
        if len(content) < LARGE_BYTES:
            return self.handle(path, headers, content)
        return await loop.run_in_executor(self._threads, self.handle, path, headers, content)

    def handle_body(self, path: str, body: Mapping[str, Any]) -> tuple[Mapping[str, Any], HandledRequest]:
        """The body to send in place of one that was read already, and what became of it: for the hooks of gateways.

        The body itself is given back where nothing changes, and it is never changed in place. Values that are no JSON
        pass as they are. Nothing is logged, drawn or assigned (`live`), and no constraint is met: who calls it
        reads the answer, and says its form, itself.

        Args:
            path: of the request that it is the body of, such as "/v1/chat/completions".
            body: of the request.
        """
        begun = time.perf_counter()
        sent: Mapping[str, Any] = body
        made = HandledRequest(b"", RequestReceipt("other_path"))
        endpoint = find_endpoint(path)
        if endpoint is not None:
            try:
                made = replace(made, receipt=RequestReceipt("other_model"), endpoint=endpoint.name)
                target = self._find_target(endpoint, body)
                if target is not None:
                    sent, receipt = self._ask(target, RequestOptions(), routed=False)
                    digest, model = target.rewriter.policy.digest, self._label(target.model)
                    made = replace(made, receipt=receipt, policy=target.name, digest=digest, model=model)
            except Exception as error:
                self._log_failure(error)
                made = replace(made, receipt=RequestReceipt("failed"))
        seconds = time.perf_counter() - begun
        told = describe_receipt(made.label, made.receipt, (), seconds)
        return sent, self._finish(replace(made, headers=told, seconds=seconds))

    def _decide(
        self, endpoint: Endpoint, options: RequestOptions, content: bytes, call: LiveCall | None
    ) -> HandledRequest:
        """What to send in place of a request; the request itself where anything goes wrong."""
        try:
            return self._rewrite(endpoint, options, content, call)
        except Exception as error:
            self._log_failure(error)
            return HandledRequest(content, RequestReceipt("failed"), endpoint=endpoint.name, ignored=options.ignored)

    def _begin(
        self, endpoint: Endpoint, options: RequestOptions, headers: Iterable[tuple[str, str]], content: bytes
    ) -> LiveCall | None:
        """The call that a request belongs to; None where traffic is not logged."""
        try:
            return None if self.traffic is None else self.traffic.begin(endpoint.path, options, headers, content)
        except Exception as error:
            self._log_failure(error)
            return None

    def _record(self, made: HandledRequest, call: LiveCall) -> HandledRequest:
        """The handled request with the call in its receipt, which is logged."""
        assert self.traffic is not None
        alone = call.by_request and bool(call.arm)
        receipt = replace(made.receipt, request_id=call.id, arm=call.arm, by_request=alone)
        handled = replace(made, receipt=receipt, call=call)
        try:
            self.traffic.add(call, receipt, made.endpoint)
        except Exception as error:
            self._log_failure(error)
        return handled

    def flush(self) -> None:
        """Wait until what was logged is written, where traffic is logged."""
        if self.traffic is not None:
            self.traffic.log.flush()

    def _rewrite(
        self, endpoint: Endpoint, options: RequestOptions, content: bytes, call: LiveCall | None
    ) -> HandledRequest:
        unchanged = HandledRequest(content, RequestReceipt("skipped"), endpoint=endpoint.name, ignored=options.ignored)
        body = parse_body(content)
        target = None if body is None else self._find_target(endpoint, body)
        if body is None or target is None:
            reason = "skipped" if options.skip else "not_json" if body is None else "other_model"
            return replace(unchanged, receipt=RequestReceipt(reason))
        if options.skip:  # no server knows NAME@PRICE
            return (
                unchanged if target.body is body else replace(unchanged, content=write_body(content, body, target.body))
            )
        constraint = self._find_constraint(options)
        try:
            if constraint is not None:
                check_form(endpoint.name, body)
        except InvalidInput as error:
            return _refuse_request(endpoint, options, content, str(error))
        options = _keep_what_is_known(options, target.rewriter.policy)
        if call is not None and self.traffic is not None:
            call.policy, call.name, call.model = target.rewriter.policy, target.name, self._label(target.model)
            call.prompt = endpoint.read(body)
            self.traffic.assign(call, options, body)
        if call is not None and call.arm == "default":
            sent, receipt = target.body, RequestReceipt("experiment_default")
        else:
            sent, receipt = self._ask(target, options, None if call is None else call.explore, constraint)
        attempts, receipt = _plan_attempts(target, content, body, receipt, constraint)
        return replace(
            unchanged,
            content=content if sent is body else write_body(content, body, sent),
            receipt=receipt,
            attempts=attempts,
            policy=target.name,
            digest=target.rewriter.policy.digest,
            model=self._label(target.model),
            ignored=options.ignored,
        )

    def _ask(
        self,
        target: _Target,
        options: RequestOptions,
        explore: Exploration | None = None,
        constraint: Constraint | None = None,
        *,
        routed: bool = True,
    ) -> tuple[Mapping[str, Any], RequestReceipt]:
        """The body to send and what became of it; as it is where the policy fails."""
        asked = [one for one in (options.price, target.price, self.price) if one is not None]
        policy = target.rewriter.policy
        own = self.task if self.task is not None and policy.knows_task(self.task) else None
        try:
            return target.rewriter.rewrite(
                target.body,
                options.fixed,
                price=next(iter(asked), None),
                task=options.task or own,
                explore=explore,
                constraint=constraint,
                routed=routed,
            )
        except Exception as error:  # the model's own name is sent all the same: no server knows NAME@PRICE
            self._log_failure(error)
            return target.body, RequestReceipt("failed")

    def _find_constraint(self, options: RequestOptions) -> Constraint | None:
        return options.constraint if options.says_constraint else self.constraint

    def conclude(self, handled: HandledRequest) -> HandledRequest:
        """The request whose answers were checked, with what became of its constraint, counted."""
        attempts = handled.attempts
        assert attempts is not None
        with self._lock:
            self._constraints[f"{RETRY}_{attempts.outcome}"] += 1
        told = {**handled.headers, f"{PREFIX}constraint": f"{RETRY}; {attempts.told}"}
        return replace(handled, headers=told, outcome=attempts.outcome)

    async def read_async(self, handled: HandledRequest, content: bytes, encoding: str) -> bytes | None:
        """What `AnswerAttempts.read` returns, from a thread: checking an answer holds up no other request."""
        assert handled.attempts is not None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # of another library, such as trio
            return handled.attempts.read(content, encoding)
        return await loop.run_in_executor(self._threads, handled.attempts.read, content, encoding)

    def _find_target(self, endpoint: Endpoint, body: Mapping[str, Any]) -> _Target | None:
        """What decides a request; None where there is no policy for its model."""
        name, model, price = self._find_policy(body.get("model"))
        if name is None:
            return None
        own = body if model == body.get("model") else {**body, "model": model}
        return _Target(name, model, price, self._find_rewriter(endpoint, name, model), own)

    def _label(self, model: Any) -> str:
        """A model's name where it was configured."""
        known = isinstance(model, str) and (model in self.policies or model in self.rules)
        return model if known else OTHER_MODEL

    def find_policy(self, model: Any) -> tuple[Policy | None, float | None]:
        """The policy for requests that name a model, None where there is none; and the price that its name says."""
        name, _, price = self._find_policy(model)
        return (None if name is None else self.policies[name]), price

    def _find_policy(self, model: Any) -> tuple[str | None, Any, float | None]:
        """Name of the policy for a model, the model's own name, and the price that stands behind it."""
        if isinstance(model, str) and model in self.policies:
            return model, model, None
        if isinstance(model, str):
            own, _, words = model.rpartition("@")
            name, price = own if own in self.policies else ANY_MODEL, _parse_number(words)
            # Names that nobody configured may end in a version, such as "@001"; no token costs a whole reward.
            if name == ANY_MODEL and price is not None and price >= 1.0:
                price = None
            if own and name in self.policies and price is not None and _takes_price(self.policies[name], price):
                return name, own, price
        return (ANY_MODEL if ANY_MODEL in self.policies else None), model, None

    def _find_rewriter(self, endpoint: Endpoint, name: str, model: Any) -> Rewriter:
        rules_of = model if isinstance(model, str) and model in self.rules else ANY_MODEL
        key = (endpoint.name, f"{name}\n{rules_of}")
        rewriters = self._rewriters
        found = rewriters.get(key)
        if found is None:
            rules = self.rules.get(rules_of) or RewriteRules()
            found = rewriters[key] = Rewriter(endpoint, self.policies[name], rules)
        return found

    def _log_failure(self, error: Exception) -> None:
        with self._lock:
            first, self._failed = not self._failed, True
        if first:
            # Its type alone: its words may hold what a prompt said.
            logger.error("a request went out without the policy, which failed: %s", type(error).__name__)


def _refuse_request(endpoint: Endpoint, options: RequestOptions, content: bytes, why: str) -> HandledRequest:
    receipt = RequestReceipt("refused")
    return HandledRequest(content, receipt, endpoint=endpoint.name, ignored=options.ignored, refusal=why)


def _plan_attempts(
    target: _Target, content: bytes, body: Mapping[str, Any], receipt: RequestReceipt, constraint: Constraint | None
) -> tuple[AnswerAttempts | None, RequestReceipt]:
    """What takes the answers to a request that may be sent again, and its receipt with what is to be said of that."""
    if constraint is None or receipt.constraint != RETRY or receipt.decision is None:
        return None, receipt
    if obstacle := find_obstacle(body):
        return None, replace(receipt, notes={**receipt.notes, "constrain": obstacle})
    fixed = receipt.fixed.get("temperature") == 0.0

    def write(number: int) -> bytes:
        again = target.rewriter.rewrite_again(target.body, receipt, constraint)
        return write_body(content, body, write_attempt(again, number))

    alone = "the request fixes temperature 0" if fixed else ""
    return AnswerAttempts(constraint, target.rewriter.endpoint.name, write, alone), receipt


def _keep_what_is_known(options: RequestOptions, policy: Policy) -> RequestOptions:
    """The options without what a policy cannot be asked, which is ignored and named."""
    if options.price is not None and not _takes_price(policy, options.price):
        options = replace(options, price=None, ignored=(*options.ignored, PRICE_HEADER))
    if options.task is not None and not policy.knows_task(options.task):
        # Not left to the policy, whose warning would write what a client may put there.
        options = replace(options, task=None, ignored=(*options.ignored, TASK_HEADER))
    return options


def _takes_price(policy: Policy, price: float) -> bool:
    """Whether a policy can decide at a price: it was fitted with prices, and it is none that no token costs."""
    try:
        policy.dial.rule_at(price)
    except InvalidInput:
        return False
    return True


def _parse_number(words: str) -> float | None:
    try:
        return float(words)
    except ValueError:
        return None


def parse_body(content: bytes) -> dict[str, Any] | None:
    """The JSON object in a body; None where it is none, or one that would not be the same when it is written again."""
    try:
        found = _DECODER.decode(content.decode(json.detect_encoding(content), "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def write_body(content: bytes, body: Mapping[str, Any], sent: Mapping[str, Any]) -> bytes:
    """The bytes of a body to send; what is only added stands behind the bytes that came, which stay as they are.

    Args:
        content: the bytes that came.
        body: what was read of them.
        sent: to be written; values that are as they came are the same objects.
    """
    bare = content.strip()
    added = {key: value for key, value in sent.items() if key not in body}
    grown = len(sent) == len(body) + len(added) and all(sent[key] is value for key, value in body.items())
    # Bytes of UTF-16 and UTF-32, which JSON may come in, do not begin and end like this.
    if not (body and added and grown and bare.startswith(b"{") and bare.endswith(b"}")):
        return _write(sent).encode()
    return bare[:-1] + b"," + _write(added).encode()[1:]


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _parse_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


# `json.loads` and `json.dumps` would make one for each body.
_write = json.JSONEncoder(separators=(",", ":")).encode
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_parse_float, object_pairs_hook=_make_object)
