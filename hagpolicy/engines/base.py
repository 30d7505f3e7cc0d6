"""The interface of an engine: a frozen LLM that fills cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.completion import Completion, Request

__all__ = ["Engine", "UnitOutcome"]

UnitOutcome = tuple[int, list[Completion] | Exception]
"""Number of a unit, with its completions or what the engine failed with on it as a whole."""


class Engine(ABC):
    """A frozen LLM behind one interface.

    Attributes:
        name: shown to people, such as "transformers:HuggingFaceTB/SmolLM2-135M-Instruct".
        unit_cells: how many cells the engine likes to generate together.
    """

    name: str
    unit_cells: int = 1

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
        engine's own defaults."""

    def unsupported(self, config: DecodingConfig) -> list[str]:
        """Names of the fields of `config` that this engine cannot honour; empty when it can run it.

        Those that are neutral, or idle beside the others, ask nothing of an engine. Here: the others that it does
        not handle. An engine that takes only a range of values adds what is beyond it.
        """
        return [name for name in config.canonical().to_dict() if name not in self.handles]

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

    def check(self) -> None:  # noqa: B027 - an engine in this process honours what it is sent
        """Called before a sweep: find out by a few generations whether settings are honoured at all.

        Raises:
            EngineError: naming what is lost on the way to the model.
        """

    def close(self) -> None:  # noqa: B027 - most engines hold nothing to release
        """Release what the engine holds; a second call does nothing."""
