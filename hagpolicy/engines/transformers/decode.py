"""The decode loop: many cells of one or several prompts, each by its own settings.

A unit may hold more cells than are decoded at once. Cells wait in a queue, those of the longest prompts
first and those of one prompt together; a row that finishes is given to the next cell, and once the queue is
empty finished rows leave the batch. Each distinct prompt is prefilled once. The loop is in tensors
throughout: no Python loop over rows, but over those whose constraint is met by masks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hagpolicy.config.config import DecodingConfig
from hagpolicy.engines.transformers.batch import Batch
from hagpolicy.engines.transformers.cache import is_refillable
from hagpolicy.engines.transformers.forward import Pass
from hagpolicy.engines.transformers.masks import RowMasks
from hagpolicy.engines.transformers.prefixes import Splice
from hagpolicy.engines.transformers.references import CellReferences, HeadInput
from hagpolicy.engines.transformers.rows import RowSettings, draw_uniforms, find_positions
from hagpolicy.engines.transformers.sampling import NONE_ALLOWED, choose, penalise
from hagpolicy.engines.transformers.stopping import StopWatch

__all__ = ["Decoded", "EndedCells", "decode", "decode_in_parts"]

# Leaving costs one copy of the cache, about what each step costs anyway; a row's share of the forward
# pass is worth more from one finished row in this many on.
LEAVE_WHEN_ONE_IN = 8
# Entering copies the cache of one prompt for each new row, and chooses their first tokens apart.
ENTER_WHEN_ONE_IN = 32
# Cells that have ended are handed over at such intervals.
PART_SECONDS = 2.0


@dataclass(frozen=True)
class Decoded:
    """What the cells generated.

    Attributes:
        tokens: int64 (cells, steps), on the CPU; beyond a cell's length without meaning.
        lengths: int64 (cells,): new tokens, the end token included.
        stopped: bool (cells,): ended by an end token, by a string that stops it, or with a constraint that is met.
        stuck: bool (cells,): ended because the settings ruled out every token.
        passes: the forward passes it took, in their order.
    """

    tokens: Tensor
    lengths: Tensor
    stopped: Tensor
    stuck: Tensor
    passes: tuple[Pass, ...]

    def take(self, cells: Sequence[int]) -> Decoded:
        """What some of the cells generated, without passes."""
        at = torch.tensor(list(cells), dtype=torch.int64)
        return Decoded(self.tokens[at], self.lengths[at], self.stopped[at], self.stuck[at], ())

    @property
    def rows_computed(self) -> int:
        """Rows of all forward passes after the prefills, together."""
        return sum(one.rows for one in self.passes if not one.prefill)


@dataclass(frozen=True)
class EndedCells:
    """Cells that have ended while others go on.

    Attributes:
        cells: their indices; of these the arrays of `decoded` hold a row each, in this order.
        decoded: what they generated; its `passes` are empty.
        tokens: new tokens of all cells so far, of those that go on too.
    """

    cells: tuple[int, ...]
    decoded: Decoded
    tokens: int


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    owner: Sequence[int],
    configs: Sequence[DecodingConfig],
    seeds: Sequence[int],
    limits: Sequence[int],
    end: Sequence[int],
    at_once: int | None = None,
    stop_watch: StopWatch | None = None,
    adapters: Sequence[str] | None = None,
    splices: Sequence[Splice | None] | None = None,
    references: CellReferences | None = None,
    masks: RowMasks | None = None,
) -> Decoded:
    """Generate all cells; arguments and result as of `decode_in_parts`."""
    more = at_once, stop_watch, adapters, splices, references, masks
    parts = decode_in_parts(model, prompts, owner, configs, seeds, limits, end, *more)
    while True:
        try:
            next(parts)
        except StopIteration as done:
            result: Decoded = done.value
            return result


@torch.inference_mode()  # type: ignore[untyped-decorator]  # torch's own has no types
def decode_in_parts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    owner: Sequence[int],
    configs: Sequence[DecodingConfig],
    seeds: Sequence[int],
    limits: Sequence[int],
    end: Sequence[int],
    at_once: int | None = None,
    stop_watch: StopWatch | None = None,
    adapters: Sequence[str] | None = None,
    splices: Sequence[Splice | None] | None = None,
    references: CellReferences | None = None,
    masks: RowMasks | None = None,
) -> Generator[EndedCells, None, Decoded]:
    """Generate all cells, and give those that have ended, every `PART_SECONDS`.

    Args:
        model: a decoder of transformers, in evaluation mode.
        prompts: token ids of the distinct prompts.
        owner: (cells,): index of each cell's prompt.
        configs: (cells,): settings; max_tokens and beams are not read.
        seeds: (cells,): each names the random stream of its cell.
        limits: (cells,): most new tokens, at least 1.
        end: ids of the end tokens.
        at_once: most rows that are decoded together; None: all cells.
        stop_watch: ends cells whose text holds a string that stops them; None: none does.
        adapters: what PEFT calls the adapter of each distinct prompt; None: the model answers all rows alike.
        splices: embeddings among those of each distinct prompt's tokens; None: none.
        references: the stores that have a share in the cells' tokens; None: none have.
        masks: rules out tokens of cells that have a constraint, and ends those that have met it; None: none has.

    Yields:
        Between two steps, cells that have ended since the last time; none of them where none has.

    Returns:
        The tokens of all cells, in their order.
    """
    cells = _Cells(model.device, configs, seeds, limits, end, stop_watch, references or None, masks)
    width = min(at_once or len(owner), len(owner))
    sizes = [len(ids) + len(one or ()) for ids, one in zip(prompts, splices or [None] * len(prompts), strict=True)]
    queue = sorted(range(len(owner)), key=lambda cell: (-sizes[owner[cell]], owner[cell]))
    # A cache that cannot be refilled is begun anew once all its rows are done.
    size = len(queue) if is_refillable(model) else width
    passes: list[Pass] = []
    with HeadInput(model) if references else contextlib.nullcontext() as head:
        for begin in range(0, len(queue), size):
            some = queue[begin : begin + size]
            longest, rows = sizes[owner[some[0]]], min(width, len(some))
            further: dict[str, Any] = {"adapters": adapters, "splices": splices, "head": head}
            batch = Batch(model, prompts, longest, rows, max(limits), reused=rows < len(some), **further)
            yield from _run(batch, cells, some, owner)
            passes += batch.passes
    return cells.read(slice(None), tuple(passes))


class _Cells:
    """What is given for each cell, and what it has generated."""

    def __init__(
        self,
        device: torch.device,
        configs: Sequence[DecodingConfig],
        seeds: Sequence[int],
        limits: Sequence[int],
        end: Sequence[int],
        stop_watch: StopWatch | None,
        references: CellReferences | None,
        masks: RowMasks | None,
    ) -> None:
        self.stop_watch, self.references, self.masks = stop_watch, references, masks
        self.settings = RowSettings.of(configs, device)
        self.stream = torch.from_numpy(draw_uniforms(seeds, max(limits))).to(device)
        self.limits = torch.tensor(limits, device=device)
        self.ends = torch.tensor(list(end), dtype=torch.int64, device=device)
        # One column more: a row that is done but still in the batch writes behind its answer.
        self.tokens = torch.zeros((len(configs), max(limits) + 1), dtype=torch.int64, device=device)
        self.lengths = torch.zeros_like(self.limits)
        self.stopped, self.stuck = self.limits < 0, self.limits < 0
        self._given, self._given_at = self.limits < 0, time.monotonic()

    def read(self, at: slice | Tensor, passes: tuple[Pass, ...] = ()) -> Decoded:
        """What some cells have generated, or all."""
        lengths = self.lengths[at].cpu()
        steps = int(lengths.max()) if len(lengths) else 0
        return Decoded(self.tokens[at, :steps].cpu(), lengths, self.stopped[at].cpu(), self.stuck[at].cpu(), passes)

    def take_ended(self) -> EndedCells | None:
        """Cells that have ended and were not given before; None where it is not yet time to look."""
        if time.monotonic() - self._given_at < PART_SECONDS:
            return None
        ended = self.stopped | self.stuck | (self.lengths >= self.limits)
        new = find_positions(ended & ~self._given)
        self._given, self._given_at = ended, time.monotonic()
        return EndedCells(tuple(new.tolist()), self.read(new), int(self.lengths.sum()))


def _run(batch: Batch, cells: _Cells, queue: Sequence[int], owner: Sequence[int]) -> Iterator[EndedCells]:
    """Generate the cells of a queue, the batch's rows at a time; those that have ended."""
    device = batch.open.device
    row_cells = torch.zeros(len(batch), dtype=torch.int64, device=device)
    token = torch.zeros_like(row_cells)
    settings = cells.settings
    taken, fresh = 0, torch.arange(len(batch), device=device)
    while True:
        if taken < len(queue) and len(fresh):
            some = queue[taken : taken + len(fresh)]
            taken, fresh = taken + len(some), fresh[: len(some)]
            later = queue[taken : taken + len(batch)]
            batch.enter(fresh, [owner[cell] for cell in some], [owner[cell] for cell in later])
            row_cells[fresh] = torch.tensor(some, device=device)
            settings = cells.settings.take(row_cells)
            # A row that is done with its first token makes room at once.
            token[fresh] = _choose_next(batch, cells, settings.take(fresh), row_cells[fresh], fresh)
        free = len(batch) - int(batch.open.sum())
        if taken < len(queue) and free * ENTER_WHEN_ONE_IN >= len(batch):
            fresh = find_positions(~batch.open)
            continue
        if free == len(batch):
            return
        if taken == len(queue) and free * LEAVE_WHEN_ONE_IN >= len(batch):
            stay = find_positions(batch.open)
            batch.keep(stay)
            settings, row_cells, token = settings.take(stay), row_cells[stay], token[stay]
        if (ended := cells.take_ended()) is not None:
            yield ended
        batch.advance(token)
        token, fresh = _choose_next(batch, cells, settings, row_cells, None), fresh[:0]


def _choose_next(batch: Batch, cells: _Cells, settings: RowSettings, cell: Tensor, rows: Tensor | None) -> Tensor:
    """Choose and note the next token of the batch's `rows`, None: of all.

    Args:
        batch: its `open` is brought up to date.
        cells: the token goes there.
        settings: of these rows.
        cell: int64 (rows,): which cell each row generates.
        rows: int64 (rows,).

    Returns:
        int64 (rows,): the tokens.
    """
    at = slice(None) if rows is None else rows
    open_, step = batch.open[at], cells.lengths[cell]
    logits, masks = batch.logits[at], cells.masks
    if cells.references is not None:
        logits = cells.references.mix(cell, open_, logits, batch.hidden[at])
    masked = [] if masks is None else masks.find(cell, open_)
    kept = {} if masks is None else masks.keep(masked, settings, logits)
    logits = penalise(settings, batch.history()[at], batch.before_history[at], batch.prompt_end[at], logits)
    if masks is not None and masked:
        masks.apply(masked, step.tolist(), logits, kept)
    token = choose(settings, logits, cells.stream[cell, step.clamp(max=cells.stream.shape[1] - 1)])
    ruled_out = open_ & (token == NONE_ALLOWED)
    token, chosen = token.clamp(min=0), open_ & ~ruled_out
    cells.tokens[cell, step] = token
    cells.lengths[cell] += chosen
    ended = chosen & torch.isin(token, cells.ends)
    if cells.stop_watch is not None:
        ended |= cells.stop_watch.check(cell, cells.tokens, cells.lengths, chosen & ~ended)
    if masks is not None and masked:
        ended |= masks.advance(masked, token, chosen & ~ended)
    cells.stopped[cell] |= ended
    cells.stuck[cell] |= ruled_out
    batch.open[at] = chosen & ~ended & (cells.limits[cell] > step + 1)
    return token
