"""`OpenAIEngine`: a frozen LLM behind a server of the OpenAI-compatible HTTP API.

Where a server takes a seed, every cell is a request of its own, because its random stream is a function
of its key alone: with `n` the cells of a prompt and config would share one. The official API takes none
that it keeps to, so there they are asked for together, and the prompt is read and billed once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hagpolicy._checks import is_number, is_whole
from hagpolicy._digest import digest
from hagpolicy.artefacts.folder import Artefact
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import MASK, Constraint
from hagpolicy.config.endpoints import is_same_host, parse_endpoints
from hagpolicy.config.fields import split_pin
from hagpolicy.config.masks import FORMS
from hagpolicy.config.servers import SERVERS, list_lacking
from hagpolicy.data.completion import Completion, Request
from hagpolicy.engines.base import Engine, PartOutcome, UnitOutcome
from hagpolicy.engines.openai.adapters import check_listed, leave_out_adapters, open_adapters
from hagpolicy.engines.openai.client import OFFICIAL, Client, Key, check_url, is_official, join_headers
from hagpolicy.engines.openai.counting import TokenCounter
from hagpolicy.engines.openai.extras import check_extras, find_fixed, make_extras, read_headers
from hagpolicy.engines.openai.probe import probe
from hagpolicy.engines.openai.request import CellRequester
from hagpolicy.engines.openai.retry import RetryPolicy
from hagpolicy.engines.openai.stream import EventLoopThread, HandOver, stream_units
from hagpolicy.engines.openai.transport import is_loopback
from hagpolicy.errors import EngineError, InvalidInput

__all__ = ["OpenAIEngine"]

logger = logging.getLogger(__name__)
Api = Literal["chat", "completions"]
# A unit is stored as a whole: a small one loses little where a run is cut off. Where samples are asked for
# together, it should hold all of a prompt and config.
UNIT_CELLS, TOGETHER_CELLS = 8, 32
MOST_IN_FLIGHT = 256
SHOWN_MODELS = 20
KEY_ENV = "OPENAI_API_KEY"
_OF_ENDPOINTS = ("server", "key_env", "headers_env")
_FORM = "openai:http://host:port/v1#MODEL"


class OpenAIEngine(Engine):
    """A model of a server that speaks the OpenAI-compatible API.

    Requests of several units are in flight at once, as many as the server does the most work with
    (`concurrency.ConcurrencyLimiter`). What fails for the moment is tried again (`retry`); a request
    that fails for good marks its cells. The seconds of a completion are its request's, divided by how
    many were in flight beside it: its share of the time the server was busy.

    A completion's receipt holds, by name, what was not honoured as sent: a setting that was dropped
    or clamped, or means something else to this server; and `tokens` where the server did not count
    those of this cell, which are then NaN, counted here, or a share of what it counted for several.

    Args:
        client: towards the server; closed with the engine.
        model: the server's name of the model.
        server: what it runs, a name in `config.servers.SERVERS`.
        version: of the server; "" where it is not known.
        default: what the server does when nothing is sent; None: it is not known, so that is asked for as it is.
        api: "chat", or "completions": the plain text goes to the model without a chat template.
        max_concurrency: most requests in flight; None: 256, and 1 for a server that works them off
            one after the other.
        retry_policy: how long a request is tried.
        count_tokens: counts the answers that the server does not; None: their tokens are unknown.
        extras: further fields of every request's body, such as response_format.
        models: what the server lists, for messages.
        artifacts, adapters: see `load`.
        endpoints: engines of the servers that configs name as their endpoint, without any of their own; their clients
            share the thread of `client`, and are closed with it.

    Raises:
        InvalidInput: an unknown server or api, a bound below 1, extras that the sweep itself sets, or what is no
            adapter.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        server: str = "compatible",
        version: str = "",
        default: DecodingConfig | None = None,
        api: Api = "chat",
        max_concurrency: int | None = None,
        retry_policy: RetryPolicy | None = None,
        count_tokens: TokenCounter | None = None,
        extras: Mapping[str, Any] | None = None,
        models: Sequence[str] = (),
        artifacts: Mapping[str, Mapping[str, Any]] | None = None,
        adapters: Mapping[str, str] | None = None,
        endpoints: Mapping[str, OpenAIEngine] | None = None,
    ) -> None:
        entry = SERVERS[server]
        self._extras, self._models = dict(extras or {}), tuple(models)
        check_extras(self._extras, server)
        self._fixed = find_fixed(self._extras, server)
        if api not in ("chat", "completions"):
            raise InvalidInput("api", "'chat' or 'completions'", api)
        _check_bound(max_concurrency)
        found, served = open_adapters(artifacts, adapters, server)
        if server == "vllm" and self._models:
            check_listed(served, self._models, client.base_url)
        self._endpoints = dict(endpoints or {})
        there = {name: _identify_endpoint(name, one) for name, one in self._endpoints.items()}
        self.artefacts = {kind: named for kind, named in (("adapter", found), ("endpoint", there)) if named}
        self.name = f"openai:{model}"
        self.model, self.server, self.version, self.api = model, server, version, api
        self._client, self._default = client, default
        self._told_of_default = False
        self._together = entry.n and entry.seeds != "per_request"
        self.unit_cells = TOGETHER_CELLS if self._together else UNIT_CELLS
        highest = max_concurrency or (1 if entry.one_at_a_time else client.connections)
        policy = retry_policy or RetryPolicy()
        self._requester = CellRequester(
            client,
            model,
            server=server,
            chat=api == "chat",
            highest=highest,
            retry_policy=policy,
            count_tokens=count_tokens,
            extras=self._extras,
            adapters=served,
        )
        clients = [client, *(one._client for one in self._endpoints.values())]
        # Also when the interpreter ends, or nobody holds the engine any more.
        self._closing = weakref.finalize(self, client.thread.stop, partial(_close_clients, clients))

    @classmethod
    def load(
        cls,
        source: str,
        *,
        base_url: str | None = None,
        server: str = "auto",
        api: Api = "chat",
        key_env: str | None = None,
        timeout: float = 600.0,
        max_concurrency: int | None = None,
        tokenizer: str | Path | None = None,
        response_format: Mapping[str, Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        headers_env: Mapping[str, str] | None = None,
        artifacts: Mapping[str, Mapping[str, Any]] | None = None,
        adapters: Mapping[str, str] | None = None,
        endpoints: Mapping[str, str | Mapping[str, Any]] | None = None,
    ) -> OpenAIEngine:
        """An engine for a model of a server, which is asked what it is.

        Args:
            source: "http://host:port/v1#MODEL"; without a model the only one that the server lists;
                or a model alone.
            base_url: of the server, where `source` is a model; None: the environment variable
                OPENAI_BASE_URL, else the official one.
            server: what it runs, a name in `config.servers.SERVERS`; "auto": found out by asking it.
            api: "chat" or "completions".
            key_env: environment variable with the key, which is sent to this server whichever it is; None:
                OPENAI_API_KEY, for the official server, one on this machine and the one that OPENAI_BASE_URL
                names. Where there is no key a placeholder is sent, except to the official server, which needs it.
            timeout: seconds for one attempt of a request, above 0.
            max_concurrency: most requests in flight, at least 1.
            tokenizer: the model's tokenizer.json, or a folder that holds it: counts the new tokens of answers that
                the server does not count. None: they are unknown.
            response_format: sent with every request, such as {"type": "json_object"}.
            chat_template_kwargs: the same, such as {"enable_thinking": false}.
            extra_body: any other fields of a request's body. They and the two before are part of the engine's
                fingerprint: other ones are other answers.
            headers_env: environment variables with the values of further headers, by the headers' names, such as
                {"X-Gateway-Key": "GATEWAY_KEY"}; they are stored and logged nowhere.
            artifacts: folders of adapters that the server has, {"adapter": {"sql": "path"}}: what configs that name
                them are known by. They are read here and sent nowhere.
            adapters: what the server calls each, {"sql": "sql-lora"}: of llama.cpp's server its number, of others a
                name; one with a folder that is not named here is called as configs do. Without a folder it is known
                by that name alone.
            endpoints: further servers, by the names that configs have for them as their `endpoint`, such as
                {"drafted": "http://127.0.0.1:8001/v1#MODEL"}, or in place of an address {"url": address, "server":
                …, "key_env": …, "headers_env": …}. `key_env` and `headers_env` of the engine hold for those on the
                host of its own server alone; every other option holds for all.

        Raises:
            InvalidInput: an address, model, server, adapter or option that does not fit.
            EngineError: no server there, or it refuses the key.
        """
        address, model = _split_source(source, base_url)
        if not is_number(timeout) or not 0.0 < timeout < math.inf:
            raise InvalidInput("timeout", "seconds above 0", timeout)
        _check_bound(max_concurrency)
        shared: dict[str, Any] = {
            "timeout": timeout,
            "thread": EventLoopThread(),
            "api": api,
            "max_concurrency": max_concurrency,
            "count_tokens": None if tokenizer is None else TokenCounter(tokenizer),
            "extras": make_extras(response_format, chat_template_kwargs, extra_body),
            "artifacts": artifacts,
            "adapters": adapters,
        }
        connect: Callable[..., OpenAIEngine] = partial(cls._connect, **shared)
        given = parse_endpoints(endpoints, _OF_ENDPOINTS)
        made = {}
        for name, there in given.items():
            near = {"key_env": key_env, "headers_env": headers_env} if is_same_host(there.url, address) else {}
            try:
                made[name] = connect(check_url(there.url), there.model, **{**near, **there.options})
            except InvalidInput as error:
                where = f"endpoints[{name!r}], {error.field}"
                raise InvalidInput(where, error.expected, error.got, error.do) from error
        return connect(address, model, server=server, key_env=key_env, headers_env=headers_env, endpoints=made)

    @classmethod
    def _connect(
        cls,
        address: str,
        model: str,
        *,
        timeout: float,
        thread: EventLoopThread,
        max_concurrency: int | None,
        artifacts: Any,
        adapters: Any,
        server: str = "auto",
        key_env: str | None = None,
        headers_env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> OpenAIEngine:
        """An engine for the server at an address; see `load`."""
        if server != "auto" and server not in SERVERS:
            raise SERVERS.unknown(server)
        headers, official = read_headers(headers_env), is_official(address)
        ours = official or is_loopback(address) or address == _read_base_url()
        key = _read_key(key_env, KEY_ENV if ours else "", official, headers)
        version, default, models = "", None, list[str]()
        if official:
            server = "openai" if server == "auto" else server
        else:
            probed = probe(address, join_headers(key.headers, headers))
            models = probed.models
            server = probed.server if server == "auto" else server
            if probed.server == server:
                version, default = probed.version, _read_default(probed.defaults)
        model = _choose_model(model, leave_out_adapters(models, artifacts, adapters), server, address)
        if server == "compatible":
            do = "if you know what it runs, say so (server=vllm, …), and it takes more settings"
            logger.warning("openai:%s: %s; %s", model, SERVERS[server].title, do)
        if (official or models) and not address.endswith("/v1"):
            address += "/v1"  # it was found there
        connections = max_concurrency or MOST_IN_FLIGHT
        client = Client(address, key, timeout=timeout, connections=connections, headers=headers, thread=thread)
        options |= {"server": server, "version": version, "default": default, "models": models}
        options |= {"max_concurrency": max_concurrency, "artifacts": artifacts, "adapters": adapters}
        try:
            return cls(client, model, **options)
        except BaseException:
            client.thread.stop(client.close)
            raise

    def __repr__(self) -> str:
        return f"OpenAIEngine({self.model!r}, server={self.server!r}, api={self.api!r})"

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """Kind, server, its version, model and api; digest of the further fields of the body, where there are any;
        neither address nor key nor headers."""
        version = self.version or "unknown"
        told = {"kind": "openai", "server": self.server, "version": version, "model": self.model, "api": self.api}
        return {**told, "extra_body": digest(self._extras)} if self._extras else told

    @property
    def concurrency(self) -> int:
        """The number of requests in flight at which the server did the most work so far."""
        return self._requester.limiter.settled

    @property
    def counts_tokens(self) -> bool:
        """See `Engine.counts_tokens`."""
        return not self._requester.uncounted and all(one.counts_tokens for one in self._endpoints.values())

    def default_config(self) -> DecodingConfig:
        """What the server does when nothing is sent, where it states it; else the config that sends nothing, with one
        warning: it is asked where no default was named."""
        if self._default is None and self.server != "openai" and not self._told_of_default:
            self._told_of_default = True
            message = "%s: %s does not tell what it does when nothing is sent; the default is the request without any"
            message += " setting (unset), unless you name yours: default={...}, --default"
            logger.warning(message, self.name, SERVERS[self.server].title)
        return self._default or DecodingConfig(unset=True)

    @property
    def handles(self) -> frozenset[str]:
        """Fields that a request to the server can say, and that the extras do not say already; the hint is in its
        prompt, an adapter beside the settings."""
        settings = SERVERS[self.server].get_dialect(chat=self.api == "chat").handles
        return (settings | self.artefacts.keys()) - self._fixed

    def unsupported(self, config: DecodingConfig) -> list[str]:
        """Fields that the server lacks, or lacks at these values, or that the extras fix; or that name what it was not
        said to have. Of a config that names an endpoint, those of the server there."""
        if (there := self._find_endpoint(config)) is not self:
            return there.unsupported(config.replace(endpoint=""))
        asked = config.canonical().to_dict()
        beside = {name: value for name, value in config.fields().items() if name not in self.artefacts}
        lacking = list_lacking(self.server, beside, chat=self.api == "chat")
        lacking += [name for name in asked if name in self.artefacts and self.lacks_artefact(config, name)]
        return [*lacking, *(name for name in asked if name in self._fixed - set(lacking))]

    def refuse_constraint(self, constraint: Constraint, constrain: str) -> str:
        """See `Engine.refuse_constraint`. A form of the answer that is sent with every request would be met instead."""
        if fixed := sorted(self._extras.keys() & FORMS):
            return f"every request has {', '.join(fixed)} of its own, which the constraint would be beside"
        if constrain != MASK or constraint.kind in SERVERS[self.server].dialect.masks:
            reasons = (one.refuse_constraint(constraint, constrain) for one in self._endpoints.values())
            return next(filter(None, reasons), "")
        return f"{SERVERS[self.server].title} masks no tokens for a constraint of {constraint.kind}"

    def check(self) -> None:
        """See `Engine.check` and `engines.check.check_contract`."""
        self.check_space(())

    def check_space(self, space: Sequence[DecodingConfig]) -> None:
        """See `Engine.check_space`; without configs everything that the server has is tried. What configs say of an
        endpoint is tried there."""
        from hagpolicy.engines.check import check_contract

        for name, there in self._endpoints.items():
            if used := [config for config in space if split_pin(config.endpoint)[0] == name]:
                there.check_space([config.replace(endpoint="") for config in used])
        own = [config for config in space if not config.endpoint]
        if space and not own:
            return
        try:
            logger.info("%s", check_contract(self, own))
        except EngineError as error:
            if self._models and self.model not in self._models:
                listed = f"the server lists no model {self.model!r}, but {_list_some(self._models)}"
                raise EngineError(f"{error}; {listed}") from error
            raise

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """See `Engine.generate`."""
        stream = self.stream([unit])
        try:
            _, outcome = next(stream)
        finally:
            stream.close()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def stream(self, units: Iterable[Sequence[Request]]) -> Generator[UnitOutcome, None, None]:
        """See `Engine.stream`."""
        for number, outcome in self.stream_parts(units):
            if not isinstance(outcome, dict):
                yield number, outcome

    def stream_parts(self, units: Iterable[Sequence[Request]]) -> Generator[PartOutcome, None, None]:
        """See `Engine.stream_parts`: every answer as it comes."""
        requesters = [self._requester, *(one._requester for one in self._endpoints.values())]
        for requester in requesters:
            requester.begin_anew()
        limiters = [requester.limiter for requester in requesters]
        return stream_units(
            self._client.thread, units, self._fill_unit, lambda: sum(limiter.limit for limiter in limiters)
        )

    def close(self) -> None:
        """Cancel what is in flight, close the connections and join the thread; a second call does nothing."""
        self._closing()

    async def _fill_unit(
        self, unit: list[Request], begun: Callable[[int], None], hand_over: HandOver
    ) -> list[Completion]:
        """Fill one unit. Where the server is given up in its midst, what was answered before is kept."""
        jobs = self._group_requests(unit)
        tasks: list[asyncio.Task[list[Completion]]] = []
        filled: dict[int, Completion] = {}
        failure: Exception | None = None

        async def fill(rows: list[int]) -> list[Completion]:
            done = await self._fill_alike([unit[row] for row in rows], begun)
            if len(jobs) > 1:
                hand_over(dict(zip(rows, done, strict=True)))
            return done

        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(fill(rows)) for rows in jobs]
        except ExceptionGroup as several:  # a task group raises nothing else; the first failure stopped the others
            failure = several.exceptions[0]
        for rows, task in zip(jobs, tasks, strict=True):
            if not task.cancelled() and task.exception() is None:
                filled |= zip(rows, task.result(), strict=True)
        if failure is not None and all(completion.finish == "error" for completion in filled.values()):
            raise failure from None
        lost = Completion("", finish="error", error=str(failure))
        return [filled.get(row, lost) for row in range(len(unit))]

    async def _fill_alike(self, requests: list[Request], begun: Callable[[int], None]) -> list[Completion]:
        """Fill what is asked for together, of one config, at the server that it names."""
        there = self._find_endpoint(requests[0].config)
        if there is not self:
            requests = [replace(one, config=one.config.replace(endpoint="")) for one in requests]
        return await there._requester.fill(requests, begun)

    def _find_endpoint(self, config: DecodingConfig) -> OpenAIEngine:
        """The engine of the endpoint that a config names; this one where it names none, or one that is not there."""
        named = bool(config.endpoint) and not self.lacks_artefact(config, "endpoint")
        return self._endpoints[split_pin(config.endpoint)[0]] if named else self

    def _group_requests(self, unit: Sequence[Request]) -> list[list[int]]:
        """Numbers of the requests that are asked for together; see the module."""
        jobs: dict[Any, list[int]] = {}
        for row, request in enumerate(unit):
            alike = self._find_endpoint(request.config)._together and not request.config.deterministic
            key = (request.prompt.digest, request.config.digest, request.max_tokens, request.stop) if alike else row
            jobs.setdefault(key, []).append(row)
        return list(jobs.values())


def _identify_endpoint(name: str, engine: OpenAIEngine) -> Artefact:
    """What configs that name an endpoint are known by: the server and model there, not the address."""
    return Artefact("endpoint", name, None, digest(dict(engine.fingerprint)))


async def _close_clients(clients: Sequence[Client]) -> None:
    for client in clients:
        await client.close()


def _read_key(named: str | None, usual: str, official: bool, headers: Mapping[str, str]) -> Key:
    """The key of the variable that the caller names, which must be set, or of the usual one."""
    own = any(name.lower() == "authorization" for name in headers)
    key = Key(named or usual, needed=official and not own)
    if named and not key.headers:
        do = "Set it, or leave key_env out where the server takes any."
        raise InvalidInput(f"environment variable {named}", "the key that key_env says it holds", "nothing", do)
    return key


def _check_bound(bound: Any) -> None:
    if bound is not None and not is_whole(bound, 1):
        raise InvalidInput("max_concurrency", "a whole number of at least 1", bound)


def _split_source(source: str, base_url: str | None) -> tuple[str, str]:
    """(address, model) of a spec; the model "" where it names none."""
    address, mark, model = source.partition("#")
    if not address.startswith(("http://", "https://")):
        if not source or mark:
            raise InvalidInput("engine", f"openai:MODEL or {_FORM}", f"openai:{source}")
        return check_url(base_url or _read_base_url() or OFFICIAL), source
    if base_url is not None:
        raise InvalidInput("base_url", "one address", "two", "Leave base_url out, or name the model alone.")
    address = check_url(address)
    if mark and not model:
        raise InvalidInput("engine", "a model after '#'", "none")
    return address, model


def _read_base_url() -> str:
    """The address in OPENAI_BASE_URL, which stands for the official one; "" where it is not set."""
    return os.environ.get("OPENAI_BASE_URL", "").rstrip("/")


def _choose_model(model: str, models: Sequence[str], server: str, address: str) -> str:
    """The model to ask for: the one named, else the only one that the server has."""
    if not model and len(models) != 1:
        some = _list_some(models) or "none"
        raise InvalidInput("model", "a name, unless the server has one model", some, f"Name it: {_FORM}.")
    named = {model, model.partition(":")[0]}  # SGLang takes MODEL:ADAPTER
    # Where what answers then is another model, under the name of this one; or none, and the list is complete.
    told = SERVERS[server].any_model or server == "vllm"
    if model and models and told and not named & set(models):
        raise InvalidInput("model", f"one of those at {address}: {_list_some(models)}", model)
    if model and models and not named & set(models):  # gateways answer to names that they do not list
        logger.warning("openai:%s: the server at %s lists no such model, but %s", model, address, _list_some(models))
    return model or models[0]


def _list_some(models: Sequence[str]) -> str:
    return ", ".join(models[:SHOWN_MODELS]) + (", …" if len(models) > SHOWN_MODELS else "")


def _read_default(defaults: Mapping[str, Any]) -> DecodingConfig | None:
    """A server's own settings as a config; None where it states none that is a field of ours."""
    config = None
    for name, value in defaults.items():
        try:
            # Servers keep settings in 32 bits: 0.8 comes back as 0.800000011920929.
            setting = {name: round(value, 6) if isinstance(value, float) else value}
            config = (config or DecodingConfig()).replace(**setting)
        except InvalidInput:
            continue  # a value that means "off" there, as it does here by being neutral
    return config and config.canonical()
