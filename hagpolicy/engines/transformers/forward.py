"""One forward pass of a decoder of transformers, whatever of its arguments the model takes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Pass", "forward"]


class Pass(NamedTuple):
    """The shape of one forward pass.

    Attributes:
        rows: sequences.
        new: tokens of each that are computed.
        columns: tokens of each that are attended to, padding included.
        masked: whether it took a mask.
        prefill: whether it computed prompts.
    """

    rows: int
    new: int
    columns: int
    masked: bool
    prefill: bool


def forward(
    model: Any,
    cache: Any,
    ids: Tensor,
    places: Tensor,
    mask: Tensor | None,
    adapters: Sequence[str] | None = None,
    embeddings: Tensor | None = None,
) -> Tensor:
    """float32 (rows, vocabulary): logits after the last of `ids`.

    Args:
        model: a decoder of transformers.
        cache: what came before; the keys and values of `ids` are added to it.
        ids: int64 (rows, new tokens).
        places: int64 (rows, new tokens): positions, for models that take any.
        mask: bool (rows, columns), True for a row's own tokens; None: all are, and a model takes a faster way.
        adapters: (rows,), what PEFT calls each one's adapter; None: the model says nothing of rows.
        embeddings: (rows, new tokens, width): read in place of `ids`; None: those of `ids`.
    """
    taken = _parameters(type(model if adapters is None else model.get_base_model()).forward)
    known: dict[str, Any] = {"position_ids": places, "logits_to_keep": 1}
    known = {name: value for name, value in known.items() if name in taken}
    if mask is not None:
        known["attention_mask"] = mask.long()
    if adapters is not None:
        known["adapter_names"] = list(adapters)
    known |= {"input_ids": ids} if embeddings is None else {"inputs_embeds": embeddings}
    out = model(past_key_values=cache, use_cache=True, return_dict=True, **known)
    logits: Tensor = out.logits[:, -1].float()
    return logits


@functools.cache
def _parameters(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
