"""The interface of an engine: a frozen LLM that fills cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from hagpolicy.artefacts.folder import Artefact
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import Constraint
from hagpolicy.config.fields import ARTEFACT_FIELDS, split_pin
from hagpolicy.data.completion import Completion, Request
from hagpolicy.errors import EngineError, InvalidInput, UnsupportedSetting

__all__ = ["Engine", "EngineLost", "PartOutcome", "UnitOutcome"]

UnitOutcome = tuple[int, list[Completion] | Exception]
"""Number of a unit, with its completions or what the engine failed with on it as a whole."""

PartOutcome = tuple[int, list[Completion] | dict[int, Completion] | Exception]
"""A unit's outcome, or before it, by their indices in the unit, cells of it that have ended; none where the engine only
tells that it still waits."""


class EngineLost(EngineError):
    """An engine is gone, after all that it could do about it: no other unit need be tried."""


class Engine(ABC):
    """A frozen LLM behind one interface.

    Attributes:
        name: shown to people, such as "transformers:HuggingFaceTB/SmolLM2-135M-Instruct".
        unit_cells: how many cells the engine likes to generate together.
        artefacts: what it was given beside the model, by field and name.
    """

    name: str
    unit_cells: int = 1
    artefacts: Mapping[str, Mapping[str, Artefact]] = MappingProxyType({})

    @property
    def counts_tokens(self) -> bool:
        """False where an answer came already whose new tokens were not counted."""
        return True

    @property
    def handles(self) -> frozenset[str]:
        """Names of the config fields whose values reach what is generated, made from what the engine's code
        handles: an engine says what it does, never what it lacks, so that a field it does not know is lacking."""
        return frozenset()

    @property
    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """What the cells depend on: kind, model, weights digest or revision, engine version, digest
        of the chat template. Equal fingerprints: cells may be mixed in one folder."""

    @abstractmethod
    def default_config(self) -> DecodingConfig:
        """What the engine does when nothing is sent: the model's generation_config over the
        engine's own defaults; `DecodingConfig(unset=True)` where that cannot be known."""

    def resolve(self, config: DecodingConfig) -> DecodingConfig:
        """The config by which one is decoded: itself; for `unset` the engine's default, with its hint and limit.

        For engines whose default is no `unset` itself.
        """
        if not config.unset:
            return config
        return self.default_config().replace(hint=config.hint, max_tokens=config.max_tokens)

    def unsupported(self, config: DecodingConfig) -> list[str]:
        """Names of the fields of `config` that this engine cannot honour; empty when it can run it.

        Those that are neutral, or idle beside the others, ask nothing of an engine. Here: the others that it does
        not handle, or that name what it was not given. An engine that takes only a range of values adds what is
        beyond it.
        """
        asked = config.canonical().to_dict()
        return [name for name in asked if name not in self.handles or self.lacks_artefact(config, name)]

    def lacks_artefact(self, config: DecodingConfig, name: str) -> bool:
        """Whether a field names what the engine was not given, or another version of it."""
        value = getattr(config, name)
        if name not in ARTEFACT_FIELDS or not value:
            return False
        bare, pinned = split_pin(value)
        artefact = self.artefacts.get(name, {}).get(bare)
        return artefact is None or (pinned != "" and value != artefact.pin)

    def pin(self, config: DecodingConfig) -> DecodingConfig:
        """The config with the digest of each artefact that it names: what its cells are stored under. A name that does
        nothing beside the other fields stays bare.

        Raises:
            UnsupportedSetting: it names what the engine was not given, or another version of it.
        """
        changes, asked = {}, config.canonical()
        for name in ARTEFACT_FIELDS:
            value = getattr(asked, name)
            if self.lacks_artefact(asked, name):
                known = ", ".join(one.pin for one in self.artefacts.get(name, {}).values()) or "none"
                do = f"Give the engine artifacts={{{name!r}: {{{split_pin(value)[0]!r}: folder}}}}."
                raise UnsupportedSetting(f"{name} of {config}", f"one that {self.name} was given: {known}", value, do)
            artefact = self.artefacts.get(name, {}).get(split_pin(value)[0])
            if artefact is not None:
                changes[name] = artefact.pin
        return config.replace(**changes) if changes else config

    def refuse_constraint(self, constraint: Constraint, constrain: str) -> str:
        """Why this engine cannot meet a prompt's constraint in a way that it handles; "" where it can.

        Args:
            constraint: of a prompt.
            constrain: of a config, also "".
        """
        return ""

    @abstractmethod
    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """Generate the cells of one unit together, in the order given.

        A cell that fails comes back with finish "error" and the reason; the others are not
        touched. The result depends on the unit's own content only.

        Raises:
            EngineError: the engine failed as a whole.
        """

    def stream(self, units: Iterable[Sequence[Request]]) -> Iterator[UnitOutcome]:
        """Generate many units, several at a time where the engine can.

        Args:
            units: drawn as the engine has room for more, always in the thread that draws from the
                iterator that comes back.

        Yields:
            As each unit ends, in any order: its number in `units`, with its completions or what the
            engine failed with on that unit as a whole. Closing the iterator stops the engine; what
            is in flight is lost.
        """
        for number, unit in enumerate(units):
            outcome: list[Completion] | Exception
            try:
                outcome = self.generate(unit)
            except Exception as error:  # whatever an engine raises is a mark on its cells; the others go on
                outcome = error
            yield number, outcome

    def stream_parts(self, units: Iterable[Sequence[Request]]) -> Iterator[PartOutcome]:
        """Generate many units as `stream` does, and hand over cells as they end, where the engine can.

        Args:
            units: see `stream`.

        Yields:
            The number of a unit with cells of it that have ended, at intervals of seconds; at its end its outcome
            as of `stream`: all its completions, those handed over before among them. Here: outcomes alone.
        """
        yield from self.stream(units)

    def fix_threads(self, threads: int) -> None:
        """Compute with so many threads from now on; for engines that compute in this process.

        Raises:
            InvalidInput: the engine has no threads to be fixed.
        """
        do = "Leave `threads` out: what computes elsewhere has its own."
        raise InvalidInput("threads", f"an engine that computes in this process, not {self.name}", threads, do)

    def check(self) -> None:  # noqa: B027 - an engine in this process honours what it is sent
        """Find out by a few generations whether settings are honoured at all.

        Raises:
            EngineError: naming what is lost on the way to the model.
        """

    def check_space(self, space: Sequence[DecodingConfig]) -> None:
        """Called before a sweep of these configs: `check`, by what they use alone where the engine can.

        Raises:
            EngineError: as `check`.
        """
        self.check()

    def close(self) -> None:  # noqa: B027 - most engines hold nothing to release
        """Release what the engine holds; a second call does nothing."""
