"""Adapters in the model of an engine: rows of different ones, and rows of none, in one batch.

PEFT puts its layers into the model once; which of them answers is said with each call (its documentation, "Inference
with different LoRA adapters in the same batch"). Adapters that it cannot mix so, such as weight-decomposed ones or
kinds that are no LoRA, are decoded a batch each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hagpolicy._extras import require
from hagpolicy._files import parse_json, read_regular
from hagpolicy.artefacts.folder import KINDS, Artefact
from hagpolicy.config.fields import split_pin
from hagpolicy.errors import EngineError

__all__ = ["NO_ADAPTER", "Adapters", "name_row"]

_LARGEST_CONFIG = 1 << 20
NO_ADAPTER = "__base__"
"""What PEFT calls a row of the bare model."""


class Adapters:
    """The adapters of one model.

    Args:
        model: a decoder of transformers; PEFT's layers are put into it.
        artefacts: by name; at least one.

    Attributes:
        model: takes `adapter_names` with a call, one a row.

    Raises:
        EngineError: PEFT cannot load one for this model.
        MissingExtra: PEFT is not installed.
    """

    def __init__(self, model: Any, artefacts: Mapping[str, Artefact]) -> None:
        peft = require("peft", "tune", "an adapter")
        self.model: Any = None
        for name, artefact in artefacts.items():
            _refuse_named_modules(artefact)
            try:
                if self.model is None:
                    self.model = peft.PeftModel.from_pretrained(model, artefact.folder, adapter_name=name)
                else:
                    self.model.load_adapter(artefact.folder, adapter_name=name)
            except Exception as error:  # PEFT, safetensors and torch have error types of their own
                raise EngineError(f"PEFT could not load the adapter {name!r} of {artefact.folder}: {error}") from error
        self.model.eval().requires_grad_(False)
        configs = self.model.peft_config.values()
        if learned := [name for name, one in self.model.peft_config.items() if one.is_prompt_learning]:
            raise EngineError(f"the adapter {learned[0]!r} changes the prompt, not the model: it is no adapter here")
        self._mixes = all(str(one.peft_type.value) == "LORA" and not one.use_dora for one in configs)

    def split(self, adapters: Sequence[str]) -> list[list[int]]:
        """Which cells are decoded in one batch, as their numbers.

        Args:
            adapters: (cells,): the value of each one's field.
        """
        if self._mixes:
            return [list(range(len(adapters)))]
        together: dict[str, list[int]] = {}
        for number, value in enumerate(adapters):
            together.setdefault(value, []).append(number)
        return list(together.values())

    @contextlib.contextmanager
    def batch(self, adapters: Sequence[str]) -> Iterator[bool]:
        """A context in which a batch of these adapters is decoded; whether calls have to name each row's.

        Args:
            adapters: (cells,): of one list of `split`.
        """
        if len(set(adapters)) < 2 or not self._mixes:
            with self.use(adapters[0]):
                yield False
        else:
            yield True

    @contextlib.contextmanager
    def use(self, value: str) -> Iterator[None]:
        """A context in which the model answers with an adapter, given as a config names it; "": with none."""
        if not value:
            with self.model.disable_adapter():
                yield
            return
        self.model.set_adapter(split_pin(value)[0])
        self.model.requires_grad_(False)  # PEFT lets what is set be trained
        yield


def _refuse_named_modules(artefact: Artefact) -> None:
    """Refuse an adapter whose config names a module of Python, which PEFT would import.

    Raises:
        EngineError: it does, or it cannot be read.
    """
    try:
        config = parse_json(read_regular(artefact.folder / KINDS["adapter"][0], _LARGEST_CONFIG))
        named = config.get("megatron_config")
    except (OSError, ValueError, AttributeError) as error:
        raise EngineError(f"the adapter {artefact.name!r} of {artefact.folder} cannot be read: {error}") from error
    if named:
        raise EngineError(
            f"the adapter {artefact.name!r} of {artefact.folder} has a megatron_config, for which PEFT imports the "
            "module that it names: it is not loaded"
        )


def name_row(value: str) -> str:
    """What PEFT calls the adapter of a row, given as a config names it."""
    return split_pin(value)[0] or NO_ADAPTER
