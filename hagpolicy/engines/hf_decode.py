"""The decode loop: many rows of one or several prompts, each row by its own settings.

Each distinct prompt is prefilled once, all of them in one left-padded batch; its cache is then
expanded to its rows, and rows that finish leave the batch. The loop is in tensors throughout: no
Python loop over rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hagpolicy.config import DecodingConfig
from hagpolicy.engines.hf_cache import roomy_cache
from hagpolicy.engines.hf_rows import RowSettings, positions, uniforms
from hagpolicy.engines.hf_sampling import NONE_ALLOWED, choose, penalise

__all__ = ["Decoded", "decode"]

# Leaving costs one copy of the cache, about what each step costs anyway; a row's share of the forward
# pass is worth more from one finished row in this many on.
LEAVE_WHEN_ONE_IN = 8


@dataclass(frozen=True)
class Decoded:
    """What the rows generated.

    Attributes:
        tokens: int64 (rows, steps), on the CPU; beyond a row's length without meaning.
        lengths: int64 (rows,): new tokens, the end token included.
        stopped: bool (rows,): ended by an end token.
        stuck: bool (rows,): ended because the settings ruled out every token.
        rows_computed: rows of all forward passes after the prefill, together.
    """

    tokens: Tensor
    lengths: Tensor
    stopped: Tensor
    stuck: Tensor
    rows_computed: int


@torch.inference_mode()  # type: ignore[untyped-decorator]
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    owner: Sequence[int],
    configs: Sequence[DecodingConfig],
    seeds: Sequence[int],
    limits: Sequence[int],
    end: Sequence[int],
) -> Decoded:
    """Generate all rows together.

    Args:
        model: a decoder of transformers, in evaluation mode.
        prompts: token ids of the distinct prompts.
        owner: (rows,): index of each row's prompt.
        configs: (rows,): settings; max_tokens and beams are not read.
        seeds: (rows,): each names the random stream of its row.
        limits: (rows,): most new tokens, at least 1.
        end: ids of the end tokens.

    Returns:
        The tokens of all rows, in their order.
    """
    device = model.device
    batch = _Batch.begin(model, prompts, torch.tensor(owner, device=device), max(limits))
    settings = RowSettings.of(configs, device)
    stream = torch.from_numpy(uniforms(seeds, max(limits))).to(device)
    limit, ends = torch.tensor(limits, device=device), torch.tensor(list(end), dtype=torch.int64, device=device)
    rows = torch.arange(len(owner), device=device)  # the batch's rows, as rows of the results
    tokens = torch.zeros((len(owner), max(limits)), dtype=torch.int64, device=device)
    lengths, stopped, stuck = torch.zeros_like(limit), limit < 0, limit < 0
    open_ = torch.ones_like(rows, dtype=torch.bool)
    computed = 0
    for step in range(max(limits)):
        logits = penalise(settings, batch.history(), batch.padding, batch.prompt_width, batch.logits)
        token = choose(settings, logits, stream[rows, step])
        dead = open_ & (token == NONE_ALLOWED)
        token = token.clamp(min=0)
        alive = open_ & ~dead
        tokens[rows, step] = token
        lengths[rows] += alive
        ended = alive & torch.isin(token, ends)
        stopped[rows] |= ended
        stuck[rows] |= dead
        open_ = alive & ~ended & (limit[rows] > step + 1)
        left = int(open_.sum())
        if not left:
            break
        if (len(rows) - left) * LEAVE_WHEN_ONE_IN >= len(rows):
            stay = positions(open_)
            batch.keep(stay)
            settings, rows, open_, token = settings.take(stay), rows[stay], open_[stay], token[stay]
        batch.advance(token)
        computed += len(rows)
    steps = int(lengths.max())
    return Decoded(tokens[:, :steps].cpu(), lengths.cpu(), stopped.cpu(), stuck.cpu(), computed)


class _Batch:
    """Cache, history and next logits of the rows that are still generating.

    Attributes:
        padding: int64 (rows,): padding tokens on the left of each row.
        prompt_width: tokens of the padded prompts.
        logits: float32 (rows, vocabulary): of the next token.
    """

    def __init__(self, model: Any, prompts: Tensor, padding: Tensor, room: int) -> None:
        self.padding, self.prompt_width, self.width = padding, prompts.shape[1], prompts.shape[1]
        self._model, self._names = model, set(inspect.signature(model.forward).parameters)
        self._cache = roomy_cache(model.config, room)
        # Room for the whole answer, so that a step writes one column instead of copying all.
        self._tokens = torch.zeros((len(prompts), self.width + room), dtype=torch.int64, device=prompts.device)
        self._tokens[:, : self.width] = prompts
        self._padded = bool(padding.any())
        self.logits: Tensor
        self._forward(prompts)

    @classmethod
    def begin(cls, model: Any, prompts: Sequence[Sequence[int]], owner: Tensor, room: int) -> _Batch:
        """Prefill each prompt once, then give every row a share of its prompt's cache."""
        width = max(map(len, prompts))
        # Padding repeats the prompt's own first token: harmless to penalties over the tokens seen.
        padded = torch.tensor([[ids[0]] * (width - len(ids)) + list(ids) for ids in prompts], device=owner.device)
        padding = torch.tensor([width - len(ids) for ids in prompts], device=owner.device)
        batch = cls(model, padded, padding, room)
        batch.keep(owner)
        return batch

    def history(self) -> Tensor:
        """int64 (rows, tokens): padded prompt and answer so far."""
        return self._tokens[:, : self.width]

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, in this order; one may be named several times."""
        self._cache.batch_select_indices(rows)
        self.padding, self.logits, self._tokens = self.padding[rows], self.logits[rows], self._tokens[rows]

    def advance(self, token: Tensor) -> None:
        """Append a token to every row and compute the logits of the next one."""
        self._tokens[:, self.width] = token
        self.width += 1
        self._forward(token[:, None])

    def _forward(self, ids: Tensor) -> None:
        known: dict[str, Any] = {}
        if "position_ids" in self._names:
            positions = torch.arange(self.width - ids.shape[1], self.width, device=ids.device)
            known["position_ids"] = (positions[None, :] - self.padding[:, None]).clamp(min=0)
        if self._padded:  # without padding a model takes a faster way when it gets no mask
            columns = torch.arange(self.width, device=ids.device)
            known["attention_mask"] = (columns[None, :] >= self.padding[:, None]).long()
        if "logits_to_keep" in self._names:
            known["logits_to_keep"] = 1
        out = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, return_dict=True, **known)
        self.logits = out.logits[:, -1].float()
