"""What a model is given beside its weights: adapters, soft prefixes, stores of references, memories of drafts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hagpolicy.artefacts.folder import Artefact
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import split_pin
from hagpolicy.data.completion import Request
from hagpolicy.engines.transformers.adapters import Adapters, name_row
from hagpolicy.engines.transformers.drafts import drafting, load_memories
from hagpolicy.engines.transformers.prefixes import SoftPrefixes, Splice
from hagpolicy.engines.transformers.references import CellReferences, load_stores, mixing

__all__ = ["Given"]


class Given:
    """The artefacts of one model, loaded.

    Args:
        model: a decoder of transformers; layers of adapters are put into it.
        artefacts: by field and name.

    Raises:
        EngineError: one that is not of this model, or cannot be read.
    """

    def __init__(self, model: Any, artefacts: Mapping[str, Mapping[str, Artefact]]) -> None:
        self._model = model
        named = artefacts.get("adapter", {})
        self._adapters = Adapters(model, named) if named else None
        self._prefixes = SoftPrefixes(model, artefacts.get("soft_prefix", {}))
        self._stores = load_stores(model, artefacts.get("reference", {}))
        self._memories = load_memories(model, artefacts.get("draft_source", {}))

    def has_rows(self, config: DecodingConfig) -> bool:
        """Whether there are as many rows of a soft prefix as a config asks for."""
        return not config.soft_prefix or self._prefixes.has(config)

    def make_splice(self, tokenizer: Any, request: Request, ids: Sequence[int], context: float) -> Splice | str | None:
        """What is spliced into a prompt, or why it cannot be; None: nothing. See `SoftPrefixes.make_splice`."""
        if not request.config.soft_prefix:
            return None
        return self._prefixes.make_splice(tokenizer, request, ids, context)

    def split(self, adapters: Sequence[str]) -> list[list[int]]:
        """Which cells are decoded in one batch, as their numbers; none of no cells.

        Args:
            adapters: (cells,): the value of each one's field.
        """
        if not adapters or self._adapters is None:
            return [list(range(len(adapters)))] if adapters else []
        return self._adapters.split(adapters)

    def read_references(self, configs: Sequence[DecodingConfig]) -> CellReferences:
        """The stores that the cells of a batch are generated with."""
        return CellReferences(self._stores, configs, self._model.device)

    @contextlib.contextmanager
    def batch(self, adapters: Sequence[str]) -> Iterator[tuple[Any, list[str] | None]]:
        """A context in which a batch is decoded: the model to call, and what PEFT calls the adapter of each prompt;
        None where the model says nothing of rows.

        Args:
            adapters: (prompts,): the value of each one's field.
        """
        if self._adapters is None:
            yield self._model, None
            return
        with self._adapters.batch(adapters) as mixed:
            yield (self._adapters.model, [name_row(one) for one in adapters]) if mixed else (self._model, None)

    @contextlib.contextmanager
    def lend(self, config: DecodingConfig) -> Iterator[None]:
        """A context in which the model's own `generate` runs with what a config names."""
        asked = config.canonical()
        adapted = contextlib.nullcontext() if self._adapters is None else self._adapters.use(asked.adapter)
        store = self._stores.get(split_pin(asked.reference)[0])
        memory = self._memories.get(split_pin(asked.draft_source)[0])
        with adapted, mixing(self._model, store, asked.reference_weight), drafting(self._model, memory):
            yield
