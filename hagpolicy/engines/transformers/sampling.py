"""From logits to the next token, every row by its own settings.

Order of operations, which is that of transformers' `generate` (5.x) with our penalties where it puts
a caller's own processors:

1. logits to float32;
2. repetition penalty over prompt and answer;
3. n-grams that would occur twice are ruled out, prompt and answer counted;
4. frequency, then presence penalty over the answer;
5. greedy rows (temperature 0): the likeliest token, the lowest id on a tie. The others:
6. divided by the temperature; 7. top_k; 8. top_p; 9. min_p; 10. typical_p, each over the tokens that
   the ones before it left;
11. one uniform number of the row's own stream picks from the cumulative distribution in the order of
    token ids, an order that no other row has a part in: a row draws the same in any batch.

Steps 7 to 10 need the tokens sorted, and sorting 49,152 logits of a row costs more than the small model's own
forward pass of it. They keep the head of the distribution, so they run on the likeliest tokens, a short list
first. Where the cut is proven to lie within the list (something in it was cut) the result is that of the
whole vocabulary; rows without the proof go on to the next list, and in the end to all tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from hagpolicy.engines.transformers.penalties import penalise_answer
from hagpolicy.engines.transformers.rows import RowSettings, find_positions

__all__ = ["STEPS", "choose", "penalise", "truncate"]

SHORTLIST, LONGER_LIST, BLOCK = 256, 4096, 256
NONE_ALLOWED = -1


def penalise(
    settings: RowSettings, history: Tensor, padding: Tensor, prompt_end: int | Tensor, logits: Tensor
) -> Tensor:
    """The logits after steps 2 to 4, which are written in place.

    Args:
        settings: of these rows.
        history: int64 (rows, tokens): prompt, padded on the left with any token of that prompt, and answer.
        padding: int64 (rows,): how many tokens on the left are padding.
        prompt_end: the column after the prompt, for all rows, or int64 (rows,): for each.
        logits: float32 (rows, vocabulary); written to: a copy would cost more than the rest of this.

    Returns:
        `logits`; -inf where a token is ruled out.
    """
    for step in dict.fromkeys(_PENALTIES.values()):
        step(settings, history, padding, prompt_end, logits)
    return logits


def _penalise_repetition(
    settings: RowSettings, history: Tensor, padding: Tensor, prompt_end: int | Tensor, logits: Tensor
) -> None:
    """Step 2, in place."""
    rows = settings.repeating
    if len(rows):
        seen, row = history[rows].clamp(max=logits.shape[1] - 1), rows[:, None]
        score, penalty = logits[row, seen], settings.repetition_penalty[rows, None]
        # A repeated token is written several times with one value.
        logits[row, seen] = torch.where(score < 0, score * penalty, score / penalty)


def _forbid_repeated_ngrams(
    settings: RowSettings, history: Tensor, padding: Tensor, prompt_end: int | Tensor, logits: Tensor
) -> None:
    """Step 3, in place."""
    for size, rows in settings.by_ngram.items():
        if size <= history.shape[1]:
            row, token = _find_repeats(history[rows], padding[rows], size)
            logits[rows[row], token] = -torch.inf


def _penalise_answer(
    settings: RowSettings, history: Tensor, padding: Tensor, prompt_end: int | Tensor, logits: Tensor
) -> None:
    """Step 4, in place."""
    rows = settings.answering
    if len(rows):
        presence, frequency = settings.presence_penalty[rows, None], settings.frequency_penalty[rows, None]
        ends = prompt_end if isinstance(prompt_end, int) else prompt_end[rows, None]
        inside = torch.arange(history.shape[1], device=history.device) >= ends
        logits[rows] = penalise_answer(logits[rows], history[rows], presence, frequency, inside)


def _find_repeats(history: Tensor, padding: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(row, token) pairs that would complete an n-gram the row already holds."""
    windows = history.unfold(1, size, 1)
    begun = history[:, history.shape[1] - size + 1 :]
    again = (windows[..., :-1] == begun[:, None, :]).all(-1)
    again &= torch.arange(windows.shape[1], device=history.device) >= padding[:, None]
    row, window = again.nonzero(as_tuple=True)
    return row, windows[row, window, -1]


def choose(settings: RowSettings, logits: Tensor, uniform: Tensor) -> Tensor:
    """The next token of each row, by steps 5 to 11.

    Args:
        settings: of these rows.
        logits: float32 (rows, vocabulary), penalised.
        uniform: float64 (rows,) in [0, 1).

    Returns:
        int64 (rows,): the next tokens; -1 where no token is allowed at all.
    """
    best = logits.amax(-1)
    tokens = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    rows = settings.greedy
    if len(rows):
        tokens[rows] = logits[rows].argmax(-1)
    rows = settings.uncut
    if len(rows):
        scores = _scale(logits[rows], best[rows], settings.temperature[rows])
        tokens[rows] = _draw(scores, uniform[rows])
    rows = settings.cut
    if len(rows):
        tokens[rows] = _cut_and_draw(settings.of_cut, logits[rows], best[rows], uniform[rows])
    return tokens.masked_fill(best == -torch.inf, NONE_ALLOWED)


def _scale(logits: Tensor, best: Tensor, temperature: Tensor) -> Tensor:
    """Step 6, in place. Less the greatest logit first: a tiny temperature would carry the quotient beyond float32."""
    return logits.sub_(best[:, None]).div_(temperature[:, None])


def _cut_and_draw(settings: RowSettings, logits: Tensor, best: Tensor, uniform: Tensor) -> Tensor:
    """int64 (rows,): steps 6 to 11 for rows that cut; `best` float32 (rows,) is the greatest logit of each."""
    vocabulary = logits.shape[1]
    tokens = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    log_total, entropy = _sum_up(settings, logits, best)
    rows = torch.arange(len(logits), device=logits.device)
    for size in (SHORTLIST, LONGER_LIST, vocabulary):
        if size > vocabulary or not len(rows):
            continue
        some, ids = logits if len(rows) == len(logits) else logits[rows], None
        if size < vocabulary:
            # In the order of ids: a stable sort then breaks ties as it does over the whole vocabulary.
            ids = some.topk(size, sorted=False).indices.sort(dim=1).values
            some = some.gather(1, ids)
        these = settings.take(rows)
        scores = _scale(some, best[rows], these.temperature)
        kept, proven = truncate(these, scores, log_total[rows], whole=ids is None, entropy=entropy[rows])
        column = _draw(kept, uniform[rows])
        tokens[rows] = column if ids is None else ids.gather(1, column[:, None]).squeeze(1)
        rows = rows[~proven]
    return tokens


def _sum_up(settings: RowSettings, logits: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the sum of exp(score) and the entropy over the whole vocabulary, float32 (rows,) each; NaN for rows
    that need neither: those whose first cut is not a share of the whole distribution's mass."""
    log_total, entropy = torch.full_like(best, torch.nan), torch.full_like(best, torch.nan)
    rows = settings.of_all
    if len(rows):
        scores = _scale(logits[rows], best[rows], settings.temperature[rows])
        log_total[rows] = scores.logsumexp(1)
        alone = find_positions(settings.typical_alone[rows])
        if len(alone):
            logs = scores[alone].sub_(log_total[rows[alone], None])
            entropy[rows[alone]] = -(logs * logs.exp()).nansum(1)
    return log_total, entropy


def truncate(
    settings: RowSettings, scores: Tensor, log_total: Tensor, *, whole: bool, entropy: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The scores after steps 7 to 10, and where the cut is proven.

    Args:
        settings: of these rows.
        scores: float32 (rows, tokens): of the whole vocabulary, or of its likeliest tokens, in the order of ids.
        log_total: float32 (rows,): log of the sum of exp(score) over the whole vocabulary; read where `scores`
            are a list, and there only for rows without top_k.
        whole: whether `scores` are those of the whole vocabulary.
        entropy: float32 (rows,): over the whole vocabulary; read where `scores` are a list, and there only for
            rows that nothing but typical_p cuts.

    Returns:
        (scores with -inf for tokens that are cut, bool (rows,): the cut is that of the whole vocabulary).
    """
    width = scores.shape[1]
    ordered, order = scores.sort(dim=1, stable=True)
    lowest, top = ordered[:, :1], ordered[:, -1:]
    limited = (settings.top_k > 0) & (settings.top_k < width)
    kth = ordered.gather(1, (width - settings.top_k.clamp(1, width))[:, None])
    # Ties with the last of the top k stay, as in transformers.
    keep = (ordered >= kth) | ~limited[:, None]
    total = ordered.masked_fill(~keep, -torch.inf).logsumexp(1)
    total = total if whole else torch.where(limited, total, log_total)
    # A token stays where the mass strictly above it has not reached top_p; masses in float64, from the top.
    mass = (ordered.masked_fill(~keep, -torch.inf).double() - total[:, None]).exp().flip(1)
    above = (mass.cumsum(1) - mass).flip(1)
    keep &= (above < settings.top_p.double()[:, None]) | (settings.top_p >= 1)[:, None]
    keep[:, -1] = True
    keep &= ((ordered - top).exp() >= settings.min_p[:, None]) | (settings.min_p <= 0)[:, None]
    keep[:, -1] = True
    proven = torch.ones_like(limited)
    if not whole:
        # Tokens outside the list score at most `lowest`: none of them stays if that score does not. A top_k
        # beyond the list leaves the total that top_p is a part of unknown.
        proven = ~(keep & (ordered == lowest)).any(1) & (limited | (settings.top_k == 0) | (settings.top_p >= 1))
    kept = torch.full_like(scores, -torch.inf).scatter(1, order, ordered.masked_fill(~keep, -torch.inf))
    rows = settings.typical
    if len(rows):
        parts = (kept, log_total) if entropy is None else (kept, log_total, entropy)
        alone = settings.typical_alone if not whole else torch.zeros_like(limited)
        some, sure = _keep_typical(settings.typical_p[rows], alone[rows], *(part[rows] for part in parts))
        kept = kept.index_copy(0, rows, some)
        proven[rows] = torch.where(alone[rows], sure, proven[rows])
    return kept, proven


def _keep_typical(
    mass: Tensor, alone: Tensor, scores: Tensor, log_total: Tensor, entropy: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Locally typical sampling (Meister et al., TACL 2023): the tokens whose surprise is nearest the entropy.

    Args:
        mass: float32 (rows,): typical_p.
        alone: bool (rows,): `scores` are a list of the likeliest tokens of a vocabulary that nothing has cut:
            total and entropy are then those given. Elsewhere the tokens left in `scores` are all there are.
        scores: float32 (rows, tokens), -inf where cut.
        log_total, entropy: float32 (rows,): see `truncate`.

    Returns:
        (scores with -inf where cut, bool (rows,): where `alone`, whether the list holds all that stays).
    """
    logs = torch.where(alone[:, None], scores - log_total[:, None], scores.log_softmax(1))
    own = -(logs * logs.exp()).nansum(1)
    centre = own if entropy is None else torch.where(alone, entropy, own)
    ordered, order = (-logs - centre[:, None]).abs().sort(dim=1, stable=True)
    short = logs.exp().gather(1, order).cumsum(1) < mass[:, None]
    last = ordered.gather(1, short.sum(1, keepdim=True).clamp(max=scores.shape[1] - 1))
    cut = ordered > last
    cut[:, 0] = False
    # A token outside the list is less likely than all in it. It lies farther from the entropy than what stays
    # once the least likely one in the list, on the far side, does.
    sure = ~short[:, -1] & (-logs.amin(1) - centre > last.squeeze(1))
    return scores.masked_fill(torch.zeros_like(cut).scatter(1, order, cut), -torch.inf), sure


def _draw(scores: Tensor, uniform: Tensor) -> Tensor:
    """int64 (rows,): the column where the cumulative distribution passes the uniform number. Over the sums of blocks
    of columns first, then within one block: summing costs a fraction of accumulating."""
    shares = scores.softmax(1)
    width = shares.shape[1]
    # On the right of a row that is not a whole number of blocks: columns without mass.
    blocks = (pad(shares, (0, -width % BLOCK)) if width % BLOCK else shares).unflatten(1, (-1, BLOCK))
    masses = blocks.sum(2, dtype=torch.float64)
    block, rest = _find_passed(masses, uniform * masses.sum(1))
    column, _ = _find_passed(blocks[torch.arange(len(block), device=block.device), block], rest)
    return (block * BLOCK + column).clamp(max=width - 1)  # beyond it only where no token is allowed: all NaN


def _find_passed(masses: Tensor, aim: Tensor) -> tuple[Tensor, Tensor]:
    """Where the cumulative masses (rows, columns) pass `aim`, float64 (rows,): int64 (rows,) columns, none of them
    without mass, and how far into its column each aim lies."""
    cumulative = masses.cumsum(1, dtype=torch.float64)
    total = cumulative[:, -1]
    # Rounding may carry an aim up to the total itself, beyond every column.
    aim = torch.minimum(aim, torch.nextafter(total, torch.zeros_like(total)))
    column = torch.searchsorted(cumulative, aim[:, None], right=True).clamp(max=masses.shape[1] - 1)
    before = cumulative.gather(1, (column - 1).clamp(min=0)).masked_fill(column == 0, 0.0)
    return column.squeeze(1), aim - before.squeeze(1)


_Penalty = Callable[[RowSettings, Tensor, Tensor, "int | Tensor", Tensor], None]
# In their order; each step once.
_PENALTIES: Mapping[str, _Penalty] = MappingProxyType(
    {
        "repetition_penalty": _penalise_repetition,
        "no_repeat_ngram_size": _forbid_repeated_ngrams,
        "frequency_penalty": _penalise_answer,
        "presence_penalty": _penalise_answer,
    }
)
STEPS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        **_PENALTIES,
        "temperature": choose,
        "top_k": truncate,
        "top_p": truncate,
        "min_p": truncate,
        "typical_p": truncate,
    }
)
"""Each field that a row of a batch is decoded by, with the function that reads it; a row has no other settings."""
