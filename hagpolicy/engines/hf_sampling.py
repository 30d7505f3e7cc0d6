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

Steps 7 to 10 need the tokens sorted, and sorting 49,152 logits costs more than the small model's own
forward pass. They keep the head of the distribution, so they run on the `SHORTLIST` likeliest tokens.
Where the cut is proven to lie within that list (something in it was cut) the result is that of the whole
vocabulary; rows without the proof are done again on all tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hagpolicy.engines.hf_rows import RowSettings, positions
from hagpolicy.processors import penalise_answer

__all__ = ["choose", "penalise", "truncate"]

SHORTLIST = 256
NONE_ALLOWED = -1


def penalise(settings: RowSettings, history: Tensor, padding: Tensor, prompt_width: int, logits: Tensor) -> Tensor:
    """Steps 2 to 4.

    Args:
        settings: of these rows.
        history: int64 (rows, tokens): prompt, padded on the left with any token of that prompt, and answer.
        padding: int64 (rows,): how many tokens on the left are padding.
        prompt_width: tokens of the padded prompt.
        logits: float32 (rows, vocabulary).

    Returns:
        float32 (rows, vocabulary); -inf where a token is ruled out.
    """
    rows = settings.repeating
    if len(rows):
        seen, some = history[rows].clamp(max=logits.shape[1] - 1), logits[rows]
        penalty = settings.repetition_penalty[rows, None]
        score = some.gather(1, seen)
        score = torch.where(score < 0, score * penalty, score / penalty)
        logits = logits.index_copy(0, rows, some.scatter(1, seen, score))
    for size, rows in settings.by_ngram.items():
        if size <= history.shape[1]:
            row, token = _repeats(history[rows], padding[rows], size)
            logits = logits.index_put((rows[row], token), logits.new_tensor(-torch.inf))
    rows = settings.answering
    if len(rows):
        presence, frequency = settings.presence_penalty[rows, None], settings.frequency_penalty[rows, None]
        some = penalise_answer(logits[rows], history[rows, prompt_width:], presence, frequency)
        logits = logits.index_copy(0, rows, some)
    return logits


def _repeats(history: Tensor, padding: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(row, token) pairs that would complete an n-gram the row already holds."""
    windows = history.unfold(1, size, 1)
    begun = history[:, history.shape[1] - size + 1 :]
    again = (windows[..., :-1] == begun[:, None, :]).all(-1)
    again &= torch.arange(windows.shape[1], device=history.device) >= padding[:, None]
    row, window = again.nonzero(as_tuple=True)
    return row, windows[row, window, -1]


def choose(settings: RowSettings, logits: Tensor, uniform: Tensor) -> Tensor:
    """Steps 5 to 11.

    Args:
        settings: of these rows.
        logits: float32 (rows, vocabulary), penalised.
        uniform: float64 (rows,) in [0, 1).

    Returns:
        int64 (rows,): the next tokens; -1 where no token is allowed at all.
    """
    best, tokens = logits.max(-1)
    rows = settings.sampling
    if len(rows):
        # Less the greatest logit first: a tiny temperature would carry the quotient beyond float32.
        scores = (logits[rows] - best[rows, None]) / settings.temperature[rows, None]
        tokens = tokens.index_copy(0, rows, _sample(settings.sampled, scores, uniform[rows]))
    return tokens.masked_fill(best == -torch.inf, NONE_ALLOWED)


def _sample(settings: RowSettings, scores: Tensor, uniform: Tensor) -> Tensor:
    """int64 (rows,): steps 7 to 11 on scores already divided by the temperature."""
    vocabulary = scores.shape[1]
    head = ((settings.top_k > 0) & (settings.top_k < vocabulary)) | (settings.top_p < 1) | (settings.min_p > 0)
    typical = settings.typical_p < 1
    tokens = torch.empty(len(scores), dtype=torch.int64, device=scores.device)
    todo = torch.ones_like(head)
    listed = positions(head)
    if vocabulary > SHORTLIST and len(listed):
        some = scores[listed]
        # In the order of ids: a stable sort then breaks ties as it does over the whole vocabulary.
        ids = some.topk(SHORTLIST, sorted=False).indices.sort(dim=1).values
        short = some.gather(1, ids)
        kept, proven = truncate(settings.take(listed), short, some.logsumexp(1), whole=False)
        tokens[listed] = ids.gather(1, _draw(kept, uniform[listed])[:, None]).squeeze(1)
        todo[listed[proven]] = False
    rest = positions(todo)
    if len(rest):
        some = scores[rest]
        if bool((head | typical)[rest].any()):
            some = truncate(settings.take(rest), some, some.logsumexp(1), whole=True)[0]
        tokens[rest] = _draw(some, uniform[rest])
    return tokens


def truncate(settings: RowSettings, scores: Tensor, log_total: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Steps 7 to 10.

    Args:
        settings: of these rows.
        scores: float32 (rows, tokens): of the whole vocabulary, or of its likeliest tokens, in the order of ids.
        log_total: float32 (rows,): log of the sum of exp(score) over the whole vocabulary.
        whole: whether `scores` are those of the whole vocabulary.

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
    log_total = torch.where(limited, ordered.masked_fill(~keep, -torch.inf).logsumexp(1), log_total)
    # A token stays where the mass strictly above it has not reached top_p; masses in float64, from the top.
    mass = (ordered.masked_fill(~keep, -torch.inf).double() - log_total[:, None]).exp().flip(1)
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
    rows = positions(settings.typical_p < 1)
    if len(rows):
        kept = kept.index_copy(0, rows, _typical(kept[rows], settings.typical_p[rows]))
    return kept, proven


def _typical(scores: Tensor, mass: Tensor) -> Tensor:
    """Locally typical sampling (Meister et al., TACL 2023): the tokens whose surprise is nearest the entropy."""
    logs = scores.log_softmax(1)
    entropy = -(logs * logs.exp()).nansum(1, keepdim=True)
    ordered, order = (-logs - entropy).abs().sort(dim=1, stable=True)
    reached = scores.gather(1, order).softmax(1).cumsum(1)
    last = (reached < mass[:, None]).sum(1, keepdim=True).clamp(max=scores.shape[1] - 1)
    cut = ordered > ordered.gather(1, last)
    cut[:, 0] = False
    return scores.masked_fill(torch.zeros_like(cut).scatter(1, order, cut), -torch.inf)


def _draw(scores: Tensor, uniform: Tensor) -> Tensor:
    """int64 (rows,): the column where the cumulative distribution passes the uniform number."""
    cumulative = scores.softmax(1).cumsum(1, dtype=torch.float64)
    total = cumulative[:, -1]
    # Rounding may carry u * total up to the total itself, beyond every column.
    aim = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    column = torch.searchsorted(cumulative, aim[:, None], right=True).squeeze(1)
    return column.clamp(max=scores.shape[1] - 1)  # beyond it only where no token is allowed: all NaN
