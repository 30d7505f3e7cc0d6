"""`SweepSpec`: the arguments of a sweep, checked before anything is spent."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy._text import format_count
from hagpolicy.analysis.checks import find_unseen
from hagpolicy.config.config import DecodingConfig, as_default
from hagpolicy.config.space import DEFAULT_PRESET, DecodingSpace
from hagpolicy.data.groups import number_groups
from hagpolicy.data.origins import Origin, list_unknown, select_origins
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.stopping import parse_stop
from hagpolicy.data.store.cells import View
from hagpolicy.data.store.loading import drop_repeated
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput, UnsupportedSetting
from hagpolicy.scorers.base import Scorer
from hagpolicy.scorers.registry import assign_scorers
from hagpolicy.sweeping.plan import check_constraints, check_references, check_settings

logger = logging.getLogger(__name__)

SpaceLike: TypeAlias = DecodingSpace | Iterable[DecodingConfig] | str | None
"""What `sweep` takes as a space: configs, the name of a preset, or None for `DEFAULT_PRESET`. Its attribute `origins`,
where it has one, says what its configs were made from, as that of `tuning.hints.TunedHints` does."""
MOST_TOKENS = 2**31 - 1  # that a segment can hold of an answer
MOST_SAMPLES = 10_000
MOST_CELLS = 50_000_000
"""A plan names its cells one by one: as many as a machine holds."""


@dataclass(frozen=True)
class SweepSpec:
    """The arguments of `sweep` that say which cells there are, checked.

    Attributes:
        prompts: distinct.
        scorers: one a prompt, (n_prompts,).
        space: the configs, without the default.
        samples, max_tokens, seed: see `sweep`.
        default: what the user runs today; None: the engine's own.
        stop: strings before the first of which an answer ends.
        preset: the name of the ready-made space that it is; "": a space that was given.
        origins: what the space's own configs were made from, such as tuned hints.
    """

    prompts: tuple[Prompt, ...]
    scorers: tuple[Scorer, ...]
    space: DecodingSpace
    samples: int
    max_tokens: int
    seed: int
    default: DecodingConfig | None = None
    stop: tuple[str, ...] = ()
    preset: str = ""
    origins: tuple[Origin, ...] = ()

    @classmethod
    def of(
        cls,
        prompts: Any,
        space: SpaceLike,
        scorer: Any,
        samples: int,
        max_tokens: int,
        seed: int,
        default: Any = None,
        stop: Any = None,
    ) -> SweepSpec:
        """The spec of what was given, checked.

        Raises:
            InvalidInput: bad prompts, space, scorer, default, stop or numbers, references that a scorer cannot use.
        """
        for name, value, most in (("samples", samples, MOST_SAMPLES), ("max_tokens", max_tokens, MOST_TOKENS)):
            if not is_whole(value, 1, most):
                raise InvalidInput(name, f"a whole number in [1, {most}]", value)
        if not is_whole(seed, -(2**63), 2**63 - 1):
            raise InvalidInput("seed", "a whole number of 64 bits", seed)
        chosen = drop_repeated(as_prompts(prompts))
        scorers = tuple(assign_scorers(scorer, chosen))
        check_references(chosen, scorers)
        origins = tuple(getattr(space, "origins", ()))
        preset = DEFAULT_PRESET if space is None else space if isinstance(space, str) else ""
        if preset:
            space = DecodingSpace.preset(preset)
        elif not isinstance(space, DecodingSpace):
            space = DecodingSpace(cast("Iterable[DecodingConfig]", space))
        for config in space:
            if config.max_tokens is not None and config.max_tokens > MOST_TOKENS:
                raise InvalidInput(f"max_tokens of {config}", f"at most {MOST_TOKENS:,}", config.max_tokens)
        if (cells := len(chosen) * len(space) * samples) > MOST_CELLS:
            do = "Sweep fewer at a time, into one folder."
            raise InvalidInput("prompts × configs × samples", f"at most {MOST_CELLS:,}", f"{cells:,}", do)
        numbers = samples, max_tokens, seed
        return cls(chosen, scorers, space, *numbers, as_default(default), parse_stop(stop), preset, origins)

    def take(self, order: Sequence[int]) -> SweepSpec:
        """The spec of some prompts, in their order."""
        return replace(
            self,
            prompts=tuple(self.prompts[index] for index in order),
            scorers=tuple(self.scorers[index] for index in order),
        )

    def for_engine(self, engine: Engine) -> SweepSpec:
        """The spec with its artefacts pinned to those of an engine, without the prompts that these were made from.

        Raises:
            UnsupportedSetting: a config that names what the engine was not given.
            InvalidInput: too few groups of prompts that no artefact was made from.
        """
        default = None if self.default is None else engine.pin(self.default)
        spec = replace(self, space=DecodingSpace(map(engine.pin, self.space)), default=default)
        origins = spec.find_origins(engine)
        if unknown := list_unknown(origins, [*spec.space, *([] if default is None else [default])]):
            logger.warning("nobody knows what %s was made from: sweep prompts that it has not seen", ", ".join(unknown))
        unseen = find_unseen(self.prompts, number_groups(self.prompts), origins)
        if unseen.all():
            return spec
        seen = format_count(int((~unseen).sum()), "prompt")
        logger.warning("%s left out, for every config: an artefact was made from them or their groups", seen)
        return spec.take(np.flatnonzero(unseen).tolist())

    def find_origins(self, engine: Engine) -> tuple[Origin, ...]:
        """What the artefacts were made from that the space or the default names, as far as it is known."""
        given = [one for named in engine.artefacts.values() for one in named.values()]
        origins = [*self.origins, *(one.origin for one in given if one.origin is not None)]
        return select_origins(origins, [*self.space, *([] if self.default is None else [self.default])])

    def view(self, engine: Engine) -> View:
        """The view of the cells, those of the default among them; of a preset, what the engine can run.

        Raises:
            UnsupportedSetting: a config that the engine cannot run.
        """
        space = self.space.keep_runnable(engine, f"preset {self.preset}") if self.preset else self.space
        check_settings(engine, space)
        if self.default is not None and (missing := engine.unsupported(self.default)):
            raise UnsupportedSetting(
                "default",
                f"settings that {engine.name} can honour",
                f"{self.default}, of which it has no {', '.join(missing)}",
                "Name what it does run today, or 'unset' for a request without settings.",
            )
        space, default = space.with_config(self.default or engine.default_config())
        check_constraints(engine, space, self.prompts)
        names = tuple(one.stored_name for one in self.scorers)
        origins = self.find_origins(engine)
        numbers = self.samples, self.max_tokens, self.seed
        return View(self.prompts, space, *numbers, default, names, stop=self.stop, origins=origins)
