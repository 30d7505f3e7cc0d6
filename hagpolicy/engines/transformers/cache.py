"""A key-value cache that grows in place, and in which a finished row's place is taken by another.

transformers' `DynamicLayer` appends by `torch.cat`, so every step copies every row's whole past: about
a sixth of a step of a small model on a CPU. Here a layer keeps room for the answer and a step writes one
column of it. A new row is written over a finished one's columns, the other rows stay where they are.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["RoomyLayer", "is_refillable", "make_roomy_cache"]


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # its base has no types
    """A `DynamicLayer` whose keys and values are a window into buffers (rows, heads, columns, size).

    The window ends at the newest token and begins where the caller says that no row needs more. What
    lies in it outside a row's own tokens is finite and for the caller's mask to hide.

    Args:
        prompts: a layer that holds the first prompts: gives shapes, type and device.
        rows: of the buffers.
        columns: of the buffers.
        stop: the column after the window, where the first token after the prompts goes.
    """

    def __init__(self, prompts: DynamicLayer, rows: int, columns: int, stop: int) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self.lazy_initialization(prompts.keys, prompts.values)
        # Zeros, not whatever memory holds: a masked value still counts zero times what it is, NaN included.
        parts = (prompts.keys, prompts.values)
        self._buffers = [part.new_zeros((rows, part.shape[1], columns, part.shape[3])) for part in parts]
        self.window(0, stop)

    def window(self, start: int, stop: int, rows: int | None = None) -> None:
        """Show columns from `start` up to `stop`, of the first `rows`; None: of all."""
        self._start, self._stop, self._rows = start, stop, rows
        self.keys, self.values = (buffer[:rows, :, start:stop] for buffer in self._buffers)

    def place(self, rows: Tensor, prompts: DynamicLayer, owner: Tensor) -> None:
        """Write the prompts `owner` (some,) of another layer to `rows` (some,), up to the window's end."""
        for buffer, part in zip(self._buffers, (prompts.keys, prompts.values), strict=True):
            buffer[rows, :, self._stop - part.shape[2] : self._stop] = part[owner]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, float (rows, heads, new tokens, size); the window's are returned."""
        stop = self._stop + key_states.shape[2]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: self._rows, :, self._stop : stop] = new
        self.window(self._start, stop, self._rows)
        return self.keys, self.values

    def to_front(self) -> None:
        """Move the window to the front of the buffers: room for more columns."""
        for buffer in self._buffers:
            # Not in one go: the two places overlap.
            buffer[:, :, : self._stop - self._start] = buffer[:, :, self._start : self._stop].clone()
        self.window(0, self._stop - self._start)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order."""
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self.window(self._start, self._stop)


def is_refillable(model: Any) -> bool:
    """Whether a finished row's place in the model's cache can be given to another: all its layers are plain ones (no
    sliding windows or recurrent states), so that `make_roomy_cache` can take their place."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


def make_roomy_cache(config: Any, prompts: Any, rows: int, columns: int, stop: int) -> Any:
    """A cache of `RoomyLayer`s with the shapes of the plain cache `prompts`; see there."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(layer, rows, columns, stop) for layer in prompts.layers]
    return cache
