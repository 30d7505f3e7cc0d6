"""The workers of a Ray sweep: started, compared, counted, lost and replaced."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hagpolicy._extras import require
from hagpolicy.data.completion import Request
from hagpolicy.engines.ray.actor import EngineActor, WorkerFacts
from hagpolicy.engines.spec import EngineSpec
from hagpolicy.errors import EngineError, HagError

logger = logging.getLogger(__name__)

# The longest wait for an answer before the cluster is looked after again.
WAIT_SECONDS = 0.5
# How often the cluster is looked at for room, and how often a warning says that there is no worker.
SCALE_SECONDS, WARN_SECONDS, SLOWEST_SCALE = 2.0, 30.0, 60.0
# After so many starts in a row that failed, with no worker left, the engine is taken for one that cannot be started.
START_TRIES = 3
# A unit of less than this many seconds has another queued behind it, so that its worker never waits for the driver;
# longer ones do not: at the end of a sweep a queued unit waits while other workers have nothing to do.
QUEUE_BELOW = 1.0


@dataclass
class Job:
    """A unit on its way.

    Attributes:
        number: of the unit.
        unit: its requests.
        losses: workers that were lost while they generated it.
        ref: Ray's reference of the answer.
    """

    number: int
    unit: Sequence[Request]
    losses: int = 0
    ref: Any = None


@dataclass(eq=False)
class Worker:
    """One actor and what it has to do.

    Attributes:
        actor: Ray's handle.
        loading: reference of its `WorkerFacts`, which are there when its engine is loaded.
        facts: None until then.
        jobs: units given to it, in the order in which it takes them.
        failures: units in a row on which its engine failed as a whole.
        pace: seconds that its latest unit took.
    """

    actor: Any
    loading: Any
    facts: WorkerFacts | None = None
    jobs: deque[Job] = field(default_factory=deque)
    failures: int = 0
    pace: float = math.inf

    @property
    def room(self) -> int:
        """How many units it may hold: 1 or 2."""
        return 2 if self.pace < QUEUE_BELOW else 1

    def assign(self, job: Job) -> None:
        """Send it a unit."""
        job.ref = self.actor.generate.remote(job.unit)
        self.jobs.append(job)

    def __str__(self) -> str:
        if self.facts is None:
            return "a Ray worker that was starting"
        return f"the Ray worker of process {self.facts.pid} on {self.facts.host} (node {self.facts.node[:8]})"


class WorkerPool:
    """The workers of one engine on a connected Ray cluster.

    Args:
        spec: what each worker makes its engine from.
        workers: how many; None: as many as the cluster's nodes have room for.
        num_cpus: of each worker; whole ones are its threads, at least one.
        num_gpus: of each worker, a share of one or whole ones.

    Attributes:
        ready: workers whose engine is loaded and agrees with the first one's.
        starting: the others.
        first: facts of the first worker; None until there was one.
    """

    def __init__(self, spec: EngineSpec, workers: int | None, num_cpus: float, num_gpus: float) -> None:
        self._ray: Any = require("ray", "cluster", "sweeping on Ray")
        self._actor_arguments = (spec, max(int(num_cpus), 1))
        self._workers = workers
        self._needs = {name: need for name, need in (("CPU", num_cpus), ("GPU", num_gpus)) if need > 0}
        self._shares = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self.ready: list[Worker] = []
        self.starting: list[Worker] = []
        self.first: WorkerFacts | None = None
        self._rejected: dict[str, dict[str, str]] = {}
        self._failed_starts = 0
        self._scale_at = self._warn_at = 0.0
        self._ready_at = time.monotonic()

    def maintain(self) -> None:
        """Take in the workers that have started; start more where there is room.

        Raises:
            EngineError: no worker is left and none can be had.
            HagError: what the first worker's engine raised while it was loaded.
        """
        if self.starting:
            refs = [worker.loading for worker in self.starting]
            arrived = set(self._ray.wait(refs, num_returns=len(refs), timeout=0)[0])
            for worker in [worker for worker in self.starting if worker.loading in arrived]:
                self._admit(worker)
        if time.monotonic() >= self._scale_at:
            self._scale()

    def discard(self, worker: Worker) -> None:
        """Part with a worker, which is replaced at once where there is room."""
        self.stop([worker])
        self._scale_at = 0.0

    def stop(self, workers: Iterable[Worker]) -> None:
        """Kill workers; what they were doing is lost."""
        connected = self._ray.is_initialized()  # if not, Ray would start a cluster of its own to kill them in
        for worker in list(workers):
            for group in (self.ready, self.starting):
                if worker in group:
                    group.remove(worker)
            worker.jobs.clear()
            if connected:
                with contextlib.suppress(Exception):  # the dead cannot be killed
                    self._ray.kill(worker.actor)

    def _admit(self, worker: Worker) -> None:
        try:
            facts: WorkerFacts = self._ray.get(worker.loading)
        except self._ray.exceptions.RayError as error:
            self._record_failed_start(worker, error)
            return
        worker.facts = facts
        self.first = self.first or facts
        if facts.fingerprint != self.first.fingerprint:
            self._reject(worker, facts)
            return
        self._failed_starts = 0
        self.starting.remove(worker)
        self.ready.append(worker)
        logger.info("%s has loaded %s", worker, facts.name)

    def _record_failed_start(self, worker: Worker, error: Exception) -> None:
        self.stop([worker])
        cause = getattr(error, "cause", None)
        # The engine's own refusal of the first load, such as an unknown name: no other worker would fare better.
        if self.first is None and isinstance(cause, HagError):
            raise cause
        self._failed_starts += 1
        why = str(cause) if isinstance(cause, HagError) else shorten_error(error)
        logger.warning("a Ray worker could not be started: %s", why)
        if not self.ready and self._failed_starts >= START_TRIES:
            raise EngineError(f"no Ray worker could be started in {self._failed_starts} tries, the last: {why}")
        # A node that keeps failing is asked ever less often: each try may load a model.
        self._scale_at = time.monotonic() + min(2.0**self._failed_starts, SLOWEST_SCALE)

    def _reject(self, worker: Worker, facts: WorkerFacts) -> None:
        assert self.first is not None
        self._rejected[facts.node] = facts.fingerprint
        self.stop([worker])
        logger.warning(
            "%s (node %s) is left out: it holds another model than the first worker.\n  first: %s\n  there: %s",
            facts.host, facts.node[:8], self.first.fingerprint, facts.fingerprint,
        )  # fmt: skip

    def _scale(self) -> None:
        """Start as many workers as the cluster has room for, up to the number wanted."""
        self._scale_at = time.monotonic() + SCALE_SECONDS
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        places = {node["NodeID"]: self._count_room(node["Resources"]) for node in nodes}
        room = sum(count for node, count in places.items() if node not in self._rejected)
        if self.ready:
            self._ready_at = time.monotonic()
        elif not room:
            self._handle_no_room(places)
        elif time.monotonic() - self._ready_at >= WARN_SECONDS:
            words = "no Ray worker is ready; %d load their engine, or wait for room that something else takes"
            self._warn(words, len(self.starting))
        wanted = room if self._workers is None else self._workers
        for _ in range(wanted - len(self.ready) - len(self.starting)):
            self._start()

    def _count_room(self, offered: Mapping[str, float]) -> int:
        """Workers that fit on a node, by its whole resources: whatever else runs there makes a worker wait."""
        return min(int(offered.get(name, 0.0) / need + 1e-9) for name, need in self._needs.items())

    def _handle_no_room(self, places: Mapping[str, int]) -> None:
        need = " and ".join(f"{count:g} {name}" for name, count in self._needs.items())
        other = [node for node in self._rejected if places.get(node)]
        if other and self.first is not None:
            raise EngineError(
                f"all {len(other)} nodes with room hold another model than the first worker had.\n"
                f"  first: {self.first.fingerprint}\n  there: {self._rejected[other[0]]}"
            )
        if self.first is None and self._workers is None:
            raise EngineError(
                f"no node of the Ray cluster ({len(places)} alive) offers {need} for a worker. Give smaller "
                "`num_cpus` or `num_gpus`, or `workers` to wait for nodes that an autoscaler adds."
            )
        self._warn("no Ray worker is left; waiting for a node with %s (%d nodes alive)", need, len(places))

    def _warn(self, words: str, *values: Any) -> None:
        """A warning, and no other for a while."""
        if time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + WARN_SECONDS
            logger.warning(words, *values)

    def _start(self) -> None:
        selector = {"label_selector": {"ray.io/node-id": f"!in({','.join(self._rejected)})"}} if self._rejected else {}
        actor = self._ray.remote(EngineActor).options(**self._shares, **selector).remote(*self._actor_arguments)
        self.starting.append(Worker(actor, actor.describe.remote()))


def shorten_error(error: Exception) -> str:
    """One short line in place of Ray's many about a lost worker."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    first = lines[-1].partition(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {first[:160]}"
