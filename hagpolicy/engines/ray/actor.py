"""What runs inside a Ray worker: one engine, called remotely."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hagpolicy._extras import require
from hagpolicy.artefacts.folder import Artefact
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.completion import Completion, Request
from hagpolicy.engines.base import Engine
from hagpolicy.engines.spec import EngineSpec
from hagpolicy.errors import EngineError, HagError


@dataclass(frozen=True)
class WorkerFacts:
    """The facts of a worker whose engine is loaded.

    Attributes:
        name, unit_cells, fingerprint: of its engine; see `Engine`.
        node: Ray's id of the node.
        host: the node's name, for people.
        pid: the process on that node.
    """

    name: str
    unit_cells: int
    fingerprint: dict[str, str]
    node: str
    host: str
    pid: int


@dataclass(frozen=True)
class UnitResult:
    """What a worker gives back for a unit.

    An exception comes as its type's name and its message: the exceptions of many clients cannot be
    rebuilt in another process, and one that fails to be would be taken for a dead worker.

    Attributes:
        seconds: wall time in the worker.
        completions: of the unit; empty where the engine failed.
        failure: (name of the exception's type, its message) where the engine failed as a whole.
    """

    seconds: float
    completions: list[Completion]
    failure: tuple[str, str] | None = None


class EngineActor:
    """The actor: holds one engine, loaded with the first call.

    Args:
        spec: what the engine is made from.
        threads: of OpenMP and MKL, at least 1. Set whatever the node's own environment says: sums of
            floats depend on it, and all workers must agree with each other.
    """

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        # Read by torch when it is imported, which is not before the engine is loaded.
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
        self._spec = spec
        self._engine: Engine | None = None

    def describe(self) -> WorkerFacts:
        """The facts of this worker, once its engine is loaded.

        Raises:
            HagError: as the engine raised it; any other exception as an EngineError.
        """
        try:
            engine = self._load()
            fingerprint = dict(engine.fingerprint)
        except HagError:
            raise
        except Exception as error:  # loaders raise what they like, and not all of it can be pickled
            raise EngineError(f"the engine cannot be loaded: {type(error).__name__}: {error}") from None
        ray = require("ray", "cluster", "sweeping on Ray")
        # Outside of a worker Ray would start a cluster of its own to tell.
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        return WorkerFacts(engine.name, engine.unit_cells, fingerprint, node, platform.node(), os.getpid())

    def generate(self, unit: Sequence[Request]) -> UnitResult:
        """The completions of a unit, or what the engine failed with."""
        begin = time.perf_counter()
        try:
            completions = list(self._load().generate(unit))
        except Exception as error:  # the unit's failure, not the worker's
            return UnitResult(time.perf_counter() - begin, [], (type(error).__name__, str(error)))
        return UnitResult(time.perf_counter() - begin, completions)

    def default_config(self) -> DecodingConfig:
        """See `Engine.default_config`."""
        return self._load().default_config()

    def counts_tokens(self) -> bool:
        """See `Engine.counts_tokens`."""
        return self._load().counts_tokens

    def handles(self) -> frozenset[str]:
        """See `Engine.handles`."""
        return self._load().handles

    def artefacts(self) -> dict[str, dict[str, Artefact]]:
        """What the engine was given beside the model."""
        return {kind: dict(named) for kind, named in self._load().artefacts.items()}

    def unsupported(self, config: DecodingConfig) -> list[str]:
        """See `Engine.unsupported`."""
        return self._load().unsupported(config)

    def scorer(self) -> Any:
        """The scorer that the engine brings, as simulated ones do; None where it has none."""
        return getattr(self._load(), "scorer", None)

    def check(self) -> None:
        """See `Engine.check`."""
        self._load().check()

    def check_space(self, space: list[DecodingConfig]) -> None:
        """See `Engine.check_space`."""
        self._load().check_space(space)

    def close(self) -> None:
        """See `Engine.close`."""
        if self._engine is not None:
            self._engine.close()

    def _load(self) -> Engine:
        if self._engine is None:
            self._engine = self._spec.make()
        return self._engine
