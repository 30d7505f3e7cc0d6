"""The rows that are decoded together: their cache, their tokens so far, and the logits of the next ones.

All rows share the columns of one cache and end at the same column; a row's own tokens begin after its
padding. A prompt is prefilled once, whichever of its cells enter when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from hagpolicy.engines.transformers.cache import is_refillable, make_roomy_cache
from hagpolicy.engines.transformers.forward import Pass, forward
from hagpolicy.engines.transformers.prefixes import Splice, embed_spliced
from hagpolicy.engines.transformers.references import HeadInput

__all__ = ["Batch", "Prefilled"]

# Prompts are prefilled together where the shortest has this share of the longest's tokens: what is padded is
# computed for nothing. And no more tokens than this: activations grow with them, and nothing is gained.
ALIKE, PREFILL_TOKENS = 0.75, 8192
# Where prompts have to be prefilled anyway, those of the next cells join them up to this many tokens: short ones,
# one at a time, would leave the weights read for few tokens.
AHEAD_TOKENS = 512


@dataclass(frozen=True)
class Prefilled:
    """Prompts of similar length, computed.

    Attributes:
        cache: of transformers, a row a prompt.
        tokens: int64 (prompts, width), padded on the left.
        padding: int64 (prompts,).
        spliced: int64 (prompts,): columns of the cache that are no tokens; in `tokens` so many more are padding.
        logits: float32 (prompts, vocabulary): of the first new token.
        hidden: float (prompts, width): what they were made of; None where no row needs it.
    """

    cache: Any
    tokens: Tensor
    padding: Tensor
    spliced: Tensor
    logits: Tensor
    hidden: Tensor | None


class Batch:
    """Rows that are decoded together.

    Args:
        model: a decoder of transformers, in evaluation mode.
        prompts: token ids of the distinct prompts.
        longest: columns of the longest prompt that will enter: its tokens, and what is spliced into them.
        rows: how many rows there are room for.
        room: most new tokens of a row.
        reused: whether rows will be filled again.
        adapters: what PEFT calls the adapter of each distinct prompt; None: the model answers all rows alike.
        splices: embeddings among those of each distinct prompt's tokens; None: none.
        head: holds what the logits of a call are made of; None: no row needs it.

    Attributes:
        padding: int64 (rows,): columns on the left of each row's own.
        spliced: int64 (rows,): columns of each row that are no tokens.
        prompt_end: int64 (rows,): the column after its prompt.
        logits: float32 (rows, vocabulary): of the next token.
        hidden: float (rows, width): what they are made of; only with `head`.
        open: bool (rows,): still generating; for the caller to set.
        passes: the forward passes so far.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        longest: int,
        rows: int,
        room: int,
        *,
        reused: bool,
        adapters: Sequence[str] | None = None,
        splices: Sequence[Splice | None] | None = None,
        head: HeadInput | None = None,
    ) -> None:
        self._head = head
        self._model, self._prompts, self._device = model, prompts, model.device
        self._splices = [None] * len(prompts) if splices is None else list(splices)
        self._sizes = [len(ids) + len(one or ()) for ids, one in zip(prompts, self._splices, strict=True)]
        self._adapters, self._row_adapters = adapters, [""] * rows
        self._cache: Any = None
        self._plain = is_refillable(model)
        self._ready: dict[int, tuple[Prefilled, int]] = {}
        self._start, self._stop = 0, longest
        # Room beyond what the rows of one time need: a move to the front copies all, so it is to be rare.
        self._columns = (longest + room) * 5 // 4 if reused else longest + room
        self._tokens = torch.zeros((rows, self._columns), dtype=torch.int64, device=self._device)
        self.padding = torch.zeros(rows, dtype=torch.int64, device=self._device)
        self.prompt_end, self.spliced = self.padding.clone(), self.padding.clone()
        self.open = torch.zeros(rows, dtype=torch.bool, device=self._device)
        self.logits: Tensor
        self.hidden: Tensor
        self.passes: list[Pass] = []
        self._masked = False

    def __len__(self) -> int:
        return len(self._tokens)

    def history(self) -> Tensor:
        """int64 (rows, columns): padding, prompt and answer so far, tokens alone (`before_history`)."""
        return self._tokens[:, self._start : self._stop]

    @property
    def before_history(self) -> Tensor:
        """int64 (rows,): columns of `history` on the left of each row's own tokens. What was spliced into a prompt has
        its columns in the cache where it stands, and none in the history: they are on the left of it."""
        return self.padding + self.spliced

    def enter(self, rows: Tensor, owner: Sequence[int], later: Sequence[int] = ()) -> None:
        """Give rows to prompts: from then on they are open.

        Args:
            rows: int64 (some,): where; all of them where the model's cache cannot be refilled.
            owner: (some,): index of each one's prompt. From one call to the next, too, prompts come one after
                the other, none longer than those before it: what has entered leaves room for it on the left.
            later: prompts of rows to come, in their order.
        """
        self._prefill(owner, later)
        parts: dict[int, tuple[Prefilled, list[int], list[int]]] = {}
        for place, prompt in enumerate(owner):
            found, index = self._ready[prompt]
            _, places, indices = parts.setdefault(id(found), (found, [], []))
            places.append(place)
            indices.append(index)
        for found, places, indices in parts.values():
            self._place(rows[places], found, torch.tensor(indices, device=self._device))
        if self._adapters is not None:
            for row, prompt in zip(rows.tolist(), owner, strict=True):
                self._row_adapters[row] = self._adapters[prompt]
        for one in set(owner) - {owner[-1]}:  # only the last one may be asked for again
            del self._ready[one]
        self.open[rows] = True
        self._narrow()

    def keep(self, rows: Tensor) -> None:
        """Keep these rows (some,), in this order."""
        self._cache.batch_select_indices(rows)
        names = ["padding", "prompt_end", "spliced", "logits", "open", "_tokens"]
        names += ["hidden"] * (self._head is not None)
        for name in names:
            setattr(self, name, getattr(self, name)[rows])
        self._row_adapters = [self._row_adapters[row] for row in rows.tolist()]
        self._narrow()

    def advance(self, token: Tensor) -> None:
        """Append a token (rows,) to every row and compute the logits of the next one."""
        if self._stop == self._columns:
            self._narrow()
            self._to_front()
        self._tokens[:, self._stop] = token
        self._stop += 1
        columns = self._stop - self._start
        mask = torch.arange(columns, device=self._device) >= self.padding[:, None] if self._masked else None
        # A row that is done may be past the last position the model knows.
        places = ((columns - 1 - self.padding) * self.open)[:, None]
        self.passes.append(Pass(len(self), 1, columns, self._masked, False))
        adapters = None if self._adapters is None else self._row_adapters
        self.logits = forward(self._model, self._cache, token[:, None], places, mask, adapters)
        if self._head is not None:
            self.hidden = self._head.states[:, -1]

    def _prefill(self, owner: Sequence[int], later: Sequence[int]) -> None:
        """Compute the prompts that are not, those of similar length together."""
        wanted = [one for one in dict.fromkeys(owner) if one not in self._ready]
        if wanted and self._plain:
            ahead = [one for one in dict.fromkeys(later) if one not in self._ready and one not in owner]
            sizes = accumulate(self._sizes[one] for one in wanted + ahead)
            fitting = sum(size <= AHEAD_TOKENS for size in sizes)
            wanted += ahead[: max(fitting - len(wanted), 0)]
        while wanted:
            longest = self._sizes[wanted[0]]
            most = max(PREFILL_TOKENS // longest, 1)
            # Caches of other kinds cannot be put together from parts: all of theirs go in one.
            alike = [one for one in wanted[:most] if self._sizes[one] >= ALIKE * longest]
            some = alike if self._plain else wanted
            found = self._compute(some)
            self._ready |= {one: (found, index) for index, one in enumerate(some)}
            wanted = wanted[len(some) :]

    def _compute(self, some: Sequence[int]) -> Prefilled:
        prompts, splices = [self._prompts[one] for one in some], [self._splices[one] for one in some]
        sizes = [self._sizes[one] for one in some]
        width = max(sizes)
        # Padding repeats the prompt's own first token: harmless to penalties over the tokens seen.
        padded = [[ids[0]] * (width - len(ids)) + list(ids) for ids in prompts]
        tokens = torch.tensor(padded, device=self._device)
        padding = torch.tensor([width - size for size in sizes], device=self._device)
        spliced = torch.tensor([len(one or ()) for one in splices], device=self._device)
        cache = DynamicCache(config=self._model.config)
        columns = torch.arange(width, device=self._device)
        masked = min(sizes) < width
        mask = columns >= padding[:, None] if masked else None
        self.passes.append(Pass(len(prompts), width, width, masked, True))
        places = (columns - padding[:, None]).clamp(min=0)
        adapters = None if self._adapters is None else [self._adapters[one] for one in some]
        embeddings = embed_spliced(self._model, tokens, padding.tolist(), splices) if any(splices) else None
        logits = forward(self._model, cache, tokens, places, mask, adapters, embeddings)
        hidden = None if self._head is None else self._head.states[:, -1]
        return Prefilled(cache, tokens, padding, spliced, logits, hidden)

    def _place(self, rows: Tensor, found: Prefilled, owner: Tensor) -> None:
        """Write computed prompts, by their index, over rows."""
        if self._cache is None:
            self.logits = found.logits.new_zeros((len(self), found.logits.shape[1]))
            if found.hidden is not None:
                self.hidden = found.hidden.new_zeros((len(self), found.hidden.shape[1]))
            self._cache = found.cache
            if self._plain:
                self._cache = make_roomy_cache(self._model.config, found.cache, len(self), self._columns, self._stop)
        if self._plain:
            for layer, prompts in zip(self._cache.layers, found.cache.layers, strict=True):
                layer.place(rows, prompts, owner)
        else:
            self._cache.batch_select_indices(owner)
        width, columns = found.tokens.shape[1], self._stop - self._start
        self._tokens[rows] = found.tokens[owner, :1]
        self._tokens[rows, self._stop - width : self._stop] = found.tokens[owner]
        self.padding[rows] = columns - width + found.padding[owner]
        self.spliced[rows] = found.spliced[owner]
        self.prompt_end[rows] = columns
        self.logits[rows] = found.logits[owner]
        if found.hidden is not None:
            self.hidden[rows] = found.hidden[owner]

    def _narrow(self) -> None:
        """Let go of the columns on the left that no open row needs."""
        spare, most = (int(bound) for bound in self.padding[self.open].aminmax())
        spare = spare if self._plain else 0  # caches of other kinds keep their columns
        self._masked = most > spare
        if spare > 0:
            self._start += spare
            self.padding -= spare
            self.prompt_end -= spare
            for layer in self._cache.layers:
                layer.window(self._start, self._stop)

    def _to_front(self) -> None:
        for layer in self._cache.layers:
            layer.to_front()
        width = self._stop - self._start
        self._tokens[:, :width] = self._tokens[:, self._start : self._stop].clone()
        self._start, self._stop = 0, width
