"""What a wrapped model of transformers is given beside itself, so that configs which name it can be chosen."""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.artefacts.folder import Artefact, check_new, load_artefacts, new_artefact
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import ARTEFACT_FIELDS, NEUTRAL, split_pin
from hagpolicy.errors import InvalidInput

if TYPE_CHECKING:
    from hagpolicy.engines.transformers.drafts import DraftMemory, GrowingMemory
    from hagpolicy.engines.transformers.prefixes import Splice
    from hagpolicy.policy.policy import Policy

__all__ = ["GivenArtefacts"]

KINDS = ("reference", "draft_source", "soft_prefix")
# What is put around a call, and not sent with it.
_AROUND = {name: NEUTRAL[name] for name in (*KINDS, "reference_weight", "soft_tokens", "adapter")}
# Of the record of a memory that was saved after it grew: the pin of the one that was swept.
_GROWN = "grown_from"
# Arguments of `generate` that count or replace the columns of a prompt, and know nothing of those of a soft prefix.
_NO_PREFIX_BESIDE = (
    "past_key_values",
    "inputs_embeds",
    "position_ids",
    "cache_implementation",
    "prefill_chunk_size",
)
# What is put around a call is put around the model as a whole: one call of it at a time. By model, since a lock of its
# own could be neither copied nor pickled.
_CALLING: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_MAKING = threading.Lock()


class GivenArtefacts:
    """The soft prefixes, stores of references and memories of drafts of a wrapped model, and the adapters it has if it
    is one of PEFT.

    Args:
        model: of transformers.
        policy: whose configs name them.
        given: folders by field and name; None: none.
        learn_drafts: whether its memories learn from the answers that it gives.

    Attributes:
        can: bool (n_configs,), configs of the policy that name nothing which the model has not; None: all of them.

    Raises:
        InvalidInput: another field, or a folder that is not what a config of the policy was swept with.
        EngineError: one that is of another model.
    """

    def __init__(
        self, model: Any, policy: Policy, given: Mapping[str, Mapping[str, Any]] | None, *, learn_drafts: bool = True
    ) -> None:
        self._model, self._stores, self._prefixes = model, {}, None
        self._memories: dict[str, DraftMemory | GrowingMemory] = {}
        artefacts = load_artefacts(given)
        self._sources = artefacts.get("draft_source", {})
        if other := [kind for kind in artefacts if kind not in KINDS]:
            do = "Wrap a model of PEFT that has the adapters." if other[0] == "adapter" else ""
            raise InvalidInput("artifacts", f"those of {', '.join(KINDS)}, which wrap can give a model", other[0], do)
        own = getattr(model, "peft_config", None) if callable(getattr(model, "disable_adapter", None)) else None
        # What `generate` calls: PEFT's model stands around it.
        self._bare = model if own is None else model.get_base_model()
        self._adapters = frozenset(own or ()) & {split_pin(config.adapter)[0] for config in policy.space}
        for config in policy.space:
            for kind, named in artefacts.items():
                name, digest = split_pin(getattr(config, kind))
                if name in named and digest and getattr(config, kind) not in _list_pins(named[name]):
                    expected = f"the folder that was swept, {getattr(config, kind)}"
                    raise InvalidInput(f"artifacts[{kind!r}][{name!r}]", expected, named[name].pin)
        if artefacts:
            references, drafts, prefixes = (
                require(f"hagpolicy.engines.transformers.{module}", "sweep", "an artefact of a wrapped model")
                for module in ("references", "drafts", "prefixes")
            )
            self._stores = references.load_stores(self._bare, artefacts.get("reference", {}))
            self._memories = drafts.load_memories(self._bare, self._sources)
            if learn_drafts:
                self._memories = {name: drafts.GrowingMemory(one) for name, one in self._memories.items()}
            self._prefixes = prefixes.SoftPrefixes(self._bare, artefacts.get("soft_prefix", {}))
        can = np.array([self._has(config.canonical()) for config in policy.space])
        self.can = None if can.all() else can

    def strip(self, config: DecodingConfig) -> tuple[DecodingConfig, dict[str, Any]]:
        """The config without what is put around a call, and that; a name that was not given stays."""
        asked = config.canonical()
        if not self._has(asked):
            return config, {}
        return config.replace(**_AROUND), {name: getattr(asked, name) for name in _AROUND}

    def find_place(
        self,
        tokenizer: Any,
        content: Any,
        config: DecodingConfig,
        ids: Sequence[int],
        keywords: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> Splice | str:
        """Where the soft prefix that a config names goes, or why it cannot be had in this call.

        Args:
            tokenizer: of the model.
            content: the prompt, hint included.
            config: that names it.
            ids: of the prompt.
            keywords: of the chat template.
            settings: the caller's, by the names of `generate`.
        """
        assert self._prefixes is not None  # a config that names what the model has not is never chosen
        standing = {**vars(self._bare.generation_config), **settings}
        if beside := [name for name in _NO_PREFIX_BESIDE if standing.get(name) is not None]:
            return f"{beside[0]} of the call, or of the model, leaves no place for a soft prefix"
        context = getattr(self._bare.config.get_text_config(), "max_position_embeddings", None) or math.inf
        made: Splice | str = self._prefixes.find_place(tokenizer, content, config.canonical(), ids, context, keywords)
        return made

    def save_draft_memory(self, name: str, folder: str | Path) -> Path:
        """The folder of a new artefact with all that a memory holds by now.

        Args:
            name: of the memory, as it was given.
            folder: which must not be there yet.

        Raises:
            InvalidInput: no memory of this name that learns, or a folder that is there.
        """
        memory = self._memories.get(name)
        if memory is None or not hasattr(memory, "freeze"):
            expected = f"the name of a memory that learns: {', '.join(self._memories) or 'none was given'}"
            raise InvalidInput("name", expected, name)
        made, source = memory.freeze(), self._sources[name]
        about = {**source.about, _GROWN: _list_pins(source)[-1], "trigrams": len(made.counts)}
        path = check_new(folder)
        with new_artefact(path, "draft_source", [], about) as place:
            made.save(place)
        return path

    @contextlib.contextmanager
    def use(self, config: DecodingConfig | None, splices: Sequence[Splice] | None = None) -> Iterator[None]:
        """A context in which the model generates, by itself, with what a config names; None: with nothing.

        Args:
            config: of all prompts of the call.
            splices: of its soft prefix, one a prompt; None: none.
        """
        with self._find_lock(), contextlib.ExitStack() as stack:
            if config is not None:
                self._enter(stack, config.canonical(), splices)
            yield

    def _enter(self, stack: contextlib.ExitStack, asked: DecodingConfig, splices: Sequence[Splice] | None) -> None:
        """Put what a config names around the model."""
        if self._adapters:
            stack.enter_context(_switch(self._model, split_pin(asked.adapter)[0]))
        if splices is not None:
            from hagpolicy.engines.transformers.prefixes import splice_calls

            stack.enter_context(splice_calls(self._bare, splices))
        if (store := self._stores.get(split_pin(asked.reference)[0])) is not None:
            from hagpolicy.engines.transformers.references import mixing

            stack.enter_context(mixing(self._bare, store, asked.reference_weight))
        if (memory := self._memories.get(split_pin(asked.draft_source)[0])) is not None:
            from hagpolicy.engines.transformers.drafts import drafting

            stack.enter_context(drafting(self._bare, memory))

    def _find_lock(self) -> contextlib.AbstractContextManager[Any]:
        """The lock of the model; none where nothing is ever put around its calls."""
        if not (self._adapters or self._stores or self._memories or self._prefixes):
            return contextlib.nullcontext()
        with _MAKING:
            return _CALLING.setdefault(self._bare, threading.RLock())

    def _has(self, asked: DecodingConfig) -> bool:
        """Whether the model has all that a config names, a soft prefix with as many rows."""
        held = {"adapter": self._adapters, "reference": self._stores, "draft_source": self._memories}
        named = {kind: split_pin(getattr(asked, kind))[0] for kind in ARTEFACT_FIELDS}
        if named.pop("soft_prefix") and (self._prefixes is None or not self._prefixes.has(asked)):
            return False
        return all(not name or name in held.get(kind, ()) for kind, name in named.items())


def _list_pins(artefact: Artefact) -> list[str]:
    """What a config may call an artefact: by its digest and, of a memory that grew, by that of the one it grew from,
    since drafts change no text."""
    grown = artefact.about.get(_GROWN) if artefact.kind == "draft_source" else None
    return [artefact.pin, *([grown] if isinstance(grown, str) else [])]


@contextlib.contextmanager
def _switch(model: Any, adapter: str) -> Iterator[None]:
    """A context in which a model of PEFT answers with one of its adapters, "": with none; then it is as it was."""
    with contextlib.ExitStack() as stack:
        if adapter != model.active_adapter:
            # PEFT lets what it sets be trained.
            stack.callback(_let_learn, [(one, one.requires_grad) for one in model.parameters()])
        if not adapter:
            stack.enter_context(model.disable_adapter())
        elif adapter != model.active_adapter:
            stack.callback(model.set_adapter, model.active_adapter)
            model.set_adapter(adapter)
        yield


def _let_learn(parameters: Sequence[tuple[Any, bool]]) -> None:
    for one, learns in parameters:
        one.requires_grad_(learns)
