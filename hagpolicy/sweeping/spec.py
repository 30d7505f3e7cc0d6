"""`SweepSpec`: the arguments of a sweep, checked before anything is spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.store.cells import View
from hagpolicy.data.store.loading import drop_repeated
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Scorer
from hagpolicy.scorers.registry import assign_scorers
from hagpolicy.sweeping.plan import check_references, check_settings


@dataclass(frozen=True)
class SweepSpec:
    """The arguments of `sweep` that say which cells there are, checked.

    Attributes:
        prompts: distinct.
        scorers: one a prompt, (n_prompts,).
        space: the configs, without the engine's default.
        samples, max_tokens, seed: see `sweep`.
    """

    prompts: tuple[Prompt, ...]
    scorers: tuple[Scorer, ...]
    space: DecodingSpace
    samples: int
    max_tokens: int
    seed: int

    @classmethod
    def of(
        cls,
        prompts: Any,
        space: DecodingSpace | Iterable[DecodingConfig],
        scorer: Any,
        samples: int,
        max_tokens: int,
        seed: int,
    ) -> SweepSpec:
        """The spec of what was given, checked.

        Raises:
            InvalidInput: bad prompts, space, scorer or numbers, references that a scorer cannot use.
        """
        for name, value in (("samples", samples), ("max_tokens", max_tokens)):
            if not is_whole(value, 1):
                raise InvalidInput(name, "a whole number of at least 1", value)
        if not is_whole(seed):
            raise InvalidInput("seed", "a whole number", seed)
        chosen = drop_repeated(as_prompts(prompts))
        scorers = tuple(assign_scorers(scorer, chosen))
        check_references(chosen, scorers)
        space = space if isinstance(space, DecodingSpace) else DecodingSpace(space)
        return cls(chosen, scorers, space, samples, max_tokens, seed)

    def view(self, engine: Engine) -> View:
        """The view of the cells, the engine's default among them.

        Raises:
            UnsupportedSetting: a config that the engine cannot run.
        """
        check_settings(engine, self.space)
        space, default = self.space.with_config(engine.default_config())
        names = tuple(one.stored_name for one in self.scorers)
        return View(self.prompts, space, self.samples, self.max_tokens, self.seed, default, names)
