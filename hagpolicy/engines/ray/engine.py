"""`RayEngine`: one engine on each of many Ray workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy._extras import require
from hagpolicy.artefacts.folder import Artefact
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.completion import Completion, Request
from hagpolicy.engines.base import Engine, UnitOutcome
from hagpolicy.engines.ray.actor import WorkerFacts
from hagpolicy.engines.ray.dispatch import Dispatcher
from hagpolicy.engines.ray.workers import WAIT_SECONDS, WorkerPool, shorten_error
from hagpolicy.engines.spec import EngineSpec
from hagpolicy.errors import EngineError, HagError, InvalidInput

__all__ = ["RayEngine"]

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0


class RayEngine(Engine):
    """An engine on every worker of a Ray cluster; units are spread over them.

    Each worker (a Ray actor) makes its own engine. All must have the first one's fingerprint: a node
    that holds another model is left out, with both fingerprints logged. A lost worker's units are
    done again by another; a unit that three workers did not survive comes back as an EngineError. A
    worker whose engine fails as a whole on two units in a row is replaced.

    Units and seeds are the plan's, so texts equal those of one process where the arithmetic does:
    same kind of machine, and as many threads as each worker has, which is `num_cpus` rounded down, at
    least 1 (`OMP_NUM_THREADS` of the single process), whatever a node's environment says.

    Only requests and completions travel. The process that draws from `stream` scores and stores, so a
    folder has one writer and the same format as ever. It is therefore the limit of a sweep whose
    workers are many and whose answers are short: `benchmarks/claims/engines/ray_overhead.py` prints the cells per
    second that pass through it. If it ends, so do the workers; the same call goes on from the folder.

    Nodes need this library and the engine's packages and files. An engine on a GPU needs `num_gpus`:
    Ray hides the devices from workers that ask for none.

    Args:
        engine: a spec for `load_engine`, a mapping of it and its options such as
            `{"engine": "simulated:1", "delay": 0.1}`, or a class or function that makes an engine of
            your own (sent to the workers by Ray, which pickles it). Relative paths are those of this
            process: they are made absolute here, because workers run in folders of their own.
        workers: how many, at least 1; those without room wait, and ask an autoscaler for nodes. None:
            as many as the nodes have room for, nodes that are added later included.
        num_gpus: GPUs of each worker, such as 0.5.
        num_cpus: cores of each worker.
        address: of the cluster; None: `RAY_ADDRESS`, else one that runs on this machine, else one is
            started here. A process that is connected to Ray already stays so, and stays connected.
        options: of the engine.

    Raises:
        InvalidInput: a live engine, or a value out of range, or an engine that cannot be by that spec.
        MissingExtra: Ray is not installed, or the engine's packages are not on the first worker.
        EngineError: no cluster, no room in it, or an engine that cannot be loaded.
    """

    def __init__(
        self,
        engine: str | Path | Mapping[str, Any] | Callable[..., Engine] | EngineSpec,
        workers: int | None = None,
        num_gpus: float = 0.0,
        num_cpus: float = 1.0,
        address: str | None = None,
        **options: Any,
    ) -> None:
        spec = EngineSpec.parse(engine, **options).with_absolute_paths()
        if workers is not None and not is_whole(workers, 1):
            raise InvalidInput("workers", "a whole number of at least 1, or None", workers)
        for name, share in (("num_gpus", num_gpus), ("num_cpus", num_cpus)):
            if not share >= 0.0:
                raise InvalidInput(name, "a number of at least 0", share)
        if not num_gpus and not num_cpus:
            raise InvalidInput("num_cpus", "above 0 where num_gpus is 0", num_cpus)
        self._ray: Any = require("ray", "cluster", "sweeping on Ray")
        self._closed = False
        _connection.join(self._ray, address)
        self._pool = WorkerPool(spec, workers, num_cpus, num_gpus)
        try:
            facts = self._wait_for_first()
        except BaseException:
            self.close()
            raise
        self.name, self.unit_cells, self._fingerprint = facts.name, facts.unit_cells, facts.fingerprint

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """The workers' own, all alike."""
        return self._fingerprint

    @cached_property
    def scorer(self) -> Any:
        """The scorer that the engine brings, as simulated ones do; None where it has none."""
        return self._call("scorer")

    def default_config(self) -> DecodingConfig:
        """A worker's; see `Engine.default_config`."""
        config: DecodingConfig = self._call("default_config")
        return config

    @property
    def counts_tokens(self) -> bool:
        """A worker's; see `Engine.counts_tokens`."""
        counted: bool = self._call("counts_tokens")
        return counted

    @property
    def handles(self) -> frozenset[str]:
        """A worker's; see `Engine.handles`."""
        names: frozenset[str] = self._call("handles")
        return names

    @cached_property
    def artefacts(self) -> Mapping[str, Mapping[str, Artefact]]:  # type: ignore[override]
        """A worker's; see `Engine`."""
        given: Mapping[str, Mapping[str, Artefact]] = self._call("artefacts")
        return given

    def unsupported(self, config: DecodingConfig) -> list[str]:
        """A worker's; see `Engine.unsupported`."""
        fields: list[str] = self._call("unsupported", config)
        return fields

    def check(self) -> None:
        """A worker's; see `Engine.check`."""
        self._call("check")

    def check_space(self, space: Sequence[DecodingConfig]) -> None:
        """A worker's; see `Engine.check_space`."""
        self._call("check_space", list(space))

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """Generate one unit on some worker; see `Engine.generate`."""
        (_, outcome), *_ = self.stream([unit])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def stream(self, units: Iterable[Sequence[Request]]) -> Iterator[UnitOutcome]:
        """Generate units on all workers; see `Engine.stream`.

        Units are drawn as workers have room: one or two each. Closing the iterator kills the workers
        that have something to do; a later call starts others.

        Raises:
            EngineError: no worker is left and none can be started.
        """
        self._require_connection()
        pool, dispatcher = self._pool, Dispatcher(self._ray, self._pool, units)
        done: list[UnitOutcome] = []
        try:
            while True:
                pool.maintain()
                dispatcher.dispatch()
                # What is done is handed on only after the workers have got more to do.
                yield from done
                if dispatcher.finished:
                    return
                done = dispatcher.collect()
        finally:
            pool.stop([worker for worker in pool.ready if worker.jobs])

    def close(self) -> None:
        """Let the workers release their engines, and go; the last engine leaves the cluster that the first joined."""
        if self._closed:
            return
        self._closed = True
        # Asked anything without a connection, Ray would start a cluster of its own.
        if self._ray.is_initialized():
            refs = [worker.actor.close.remote() for worker in self._pool.ready]
            if refs:
                self._ray.wait(refs, num_returns=len(refs), timeout=CLOSE_SECONDS)
            self._pool.stop([*self._pool.ready, *self._pool.starting])
        _connection.leave(self._ray)

    def _wait_for_first(self) -> WorkerFacts:
        """The facts of the first worker, once there is one."""
        while not self._pool.ready:
            self._pool.maintain()
            self._wait([worker.loading for worker in self._pool.starting])
        facts = self._pool.ready[0].facts
        assert facts is not None
        return facts

    def _call(self, method: str, *values: Any) -> Any:
        """The result of a method of some worker's actor."""
        self._require_connection()
        while True:
            self._wait_for_first()
            worker = self._pool.ready[0]
            try:
                return self._ray.get(getattr(worker.actor, method).remote(*values))
            except self._ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, HagError) else EngineError(str(error.cause))) from None
            except self._ray.exceptions.RayError as error:
                logger.warning("lost %s (%s)", worker, shorten_error(error))
                self._pool.discard(worker)

    def _require_connection(self) -> None:
        if self._closed or not self._ray.is_initialized():
            raise EngineError("this engine was closed, or Ray was shut down; make another RayEngine")

    def _wait(self, refs: list[Any]) -> None:
        if refs:
            self._ray.wait(refs, num_returns=1, timeout=WAIT_SECONDS)
        else:
            time.sleep(WAIT_SECONDS)


class _Connection:
    """The connection of this process to Ray, which its engines share: the last one leaves what the first one joined."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines = 0
        self._joined_here = False

    def join(self, ray: Any, address: str | None) -> None:
        with self._lock:
            if not ray.is_initialized():
                _connect(ray, address)
                self._joined_here = True
            self._engines += 1

    def leave(self, ray: Any) -> None:
        with self._lock:
            self._engines -= 1
            if self._joined_here and not self._engines:
                self._joined_here = False
                ray.shutdown()


_connection = _Connection()


def _connect(ray: Any, address: str | None) -> None:
    try:
        # Ray's own INFO lines, dashboard and echo of every worker's output are noise beside a progress bar.
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray raises whatever its parts raise
        where = "" if address is None else f" at {address}"
        raise EngineError(f"no Ray cluster{where}: {type(error).__name__}: {error}") from error
