"""A key-value cache that grows in place.

transformers' `DynamicLayer` appends by `torch.cat`, so every step copies every row's whole past: about
a sixth of a step of a small model on a CPU. Here a layer keeps room for the answer and a step writes one
column of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["roomy_cache"]


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A `DynamicLayer` whose keys and values are views of buffers with room for more tokens.

    Args:
        room: tokens to come after the first ones; beyond it the buffers are made anew.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self._room = room
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, float (rows, heads, new tokens, size); all so far are returned."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.keys.numel() == 0:
            # The prompt's part: rows are multiplied before the first token, and room comes with it.
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        past, width = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < width:
            room = max(self._room, key_states.shape[-2])
            self._buffers = _with_room(self.keys, room), _with_room(self.values, room)
        keys, values = self._buffers
        keys[..., past:width, :] = key_states
        values[..., past:width, :] = value_states
        self.keys, self.values = keys[..., :width, :], values[..., :width, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; one may be named several times."""
        if self._buffers is None:
            super().batch_select_indices(indices)
            return
        width = self.keys.shape[-2]
        # The room still free is taken along: index_select of whole buffers is one plain copy each.
        self._buffers = self._buffers[0][indices], self._buffers[1][indices]
        self.keys, self.values = self._buffers[0][..., :width, :], self._buffers[1][..., :width, :]


def roomy_cache(config: Any, room: int) -> Any:
    """The cache for a model's configuration, its plain layers with room for `room` tokens after the prompt.

    Layers of other kinds (sliding windows, recurrent states) stay as transformers makes them.
    """
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _with_room(states: Tensor, room: int) -> Tensor:
    shape = (*states.shape[:-2], states.shape[-2] + room, states.shape[-1])
    grown = torch.empty(shape, dtype=states.dtype, device=states.device)
    grown[..., : states.shape[-2], :] = states
    return grown
