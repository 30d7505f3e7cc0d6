"""What a wrapped model of transformers is given beside itself, so that configs which name it can be chosen."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.artefacts.folder import load_artefacts
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import ARTEFACT_FIELDS, NEUTRAL, split_pin
from hagpolicy.errors import InvalidInput

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

__all__ = ["GivenArtefacts"]

KINDS = ("reference", "draft_source")
# What is put around a call, and not sent with it.
_AROUND = {name: NEUTRAL[name] for name in (*KINDS, "reference_weight", "adapter")}
# Which adapter answers is said of a model as a whole: one call at a time.
_SWITCHING = threading.RLock()


class GivenArtefacts:
    """The stores of references and memories of drafts of a wrapped model, and the adapters it has if it is one of PEFT.

    Args:
        model: of transformers.
        policy: whose configs name them.
        given: folders by field and name; None: none.

    Attributes:
        can: bool (n_configs,), configs of the policy that name nothing which the model has not; None: all of them.

    Raises:
        InvalidInput: another field, or a folder that is not what a config of the policy was swept with.
        EngineError: one that is of another model.
    """

    def __init__(self, model: Any, policy: Policy, given: Mapping[str, Mapping[str, Any]] | None) -> None:
        self._model, self._stores, self._memories = model, {}, {}
        artefacts = load_artefacts(given)
        if other := [kind for kind in artefacts if kind not in KINDS]:
            raise InvalidInput("artifacts", f"those of {' and '.join(KINDS)}, which wrap can give a model", other[0])
        own = getattr(model, "peft_config", None) if callable(getattr(model, "disable_adapter", None)) else None
        self._adapters = frozenset(own or ()) & {split_pin(config.adapter)[0] for config in policy.space}
        for config in policy.space:
            for kind, named in artefacts.items():
                name, digest = split_pin(getattr(config, kind))
                if name in named and digest and named[name].pin != getattr(config, kind):
                    expected = f"the folder that was swept, {getattr(config, kind)}"
                    raise InvalidInput(f"artifacts[{kind!r}][{name!r}]", expected, named[name].pin)
        if artefacts:
            references, drafts = (
                require(f"hagpolicy.engines.transformers.{module}", "sweep", "an artefact of a wrapped model")
                for module in ("references", "drafts")
            )
            self._stores = references.load_stores(model, artefacts.get("reference", {}))
            self._memories = drafts.load_memories(artefacts.get("draft_source", {}))
        can = np.array([self._has(config.canonical()) for config in policy.space])
        self.can = None if can.all() else can

    def strip(self, config: DecodingConfig) -> tuple[DecodingConfig, dict[str, Any]]:
        """The config without what is put around a call, and that; a name that was not given stays."""
        asked = config.canonical()
        if not self._has(asked):
            return config, {}
        return config.replace(**_AROUND), {name: getattr(asked, name) for name in _AROUND}

    @contextlib.contextmanager
    def use(self, config: DecodingConfig | None) -> Any:
        """A context in which the model generates with what a config names; None: with nothing."""
        asked = None if config is None else config.canonical()
        store, memory = (None if asked is None else self._find(asked, kind) for kind in KINDS)
        with contextlib.ExitStack() as stack:
            if asked is not None and store is not None:
                from hagpolicy.engines.transformers.references import mixing

                stack.enter_context(mixing(self._model, store, asked.reference_weight))
            if asked is not None and self._adapters:
                stack.enter_context(_switch(self._model, split_pin(asked.adapter)[0]))
            if memory is not None:
                from hagpolicy.engines.transformers.drafts import drafting

                stack.enter_context(drafting(self._model, memory))
            yield

    def _has(self, asked: DecodingConfig) -> bool:
        """Whether the model has all that a config names."""
        held = {"adapter": self._adapters, "reference": self._stores, "draft_source": self._memories}
        named = {kind: split_pin(getattr(asked, kind))[0] for kind in ARTEFACT_FIELDS}
        return all(not name or name in held.get(kind, ()) for kind, name in named.items())

    def _find(self, asked: DecodingConfig, kind: str) -> Any:
        held = self._stores if kind == "reference" else self._memories
        return held.get(split_pin(getattr(asked, kind))[0])


@contextlib.contextmanager
def _switch(model: Any, adapter: str) -> Iterator[None]:
    """A context in which a model of PEFT answers with one of its adapters, "": with none; then it is as it was."""
    with _SWITCHING, contextlib.ExitStack() as stack:
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
