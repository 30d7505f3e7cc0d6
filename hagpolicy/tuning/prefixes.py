"""`tune_prefix`: a soft prefix of a frozen model, from prompts with their answers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagpolicy._digest import digest
from hagpolicy._extras import require
from hagpolicy.artefacts.folder import new_artefact
from hagpolicy.artefacts.soft_prefix import write_soft_prefix
from hagpolicy.engines.base import Engine
from hagpolicy.engines.chat import count_before_request
from hagpolicy.errors import InvalidInput
from hagpolicy.tuning.adapters import check_engine, check_numbers
from hagpolicy.tuning.examples import AnswerOf, Example, read_examples, split_groups

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["tune_prefix"]

FEATURE = "tuning a soft prefix"


def tune_prefix(
    engine: Engine,
    prompts: Any,
    folder: str | Path,
    *,
    answers: AnswerOf | None = None,
    tokens: int = 8,
    epochs: int = 3,
    batch: int = 8,
    rate: float = 0.1,
    most_tokens: int = 1024,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """The folder of a soft prefix tuned on prompts with answers (SPRING: Zhu et al., arXiv 2405.19670).

    The prefix is new rows of the input embedding before the text of the last user message; all other weights stay. Each
    step learns with the first k rows alone, k drawn anew, so that any first k can be used afterwards. The loss is that
    of the answers' tokens. About a tenth of the groups are held out, where there are 20: the epoch that is best on
    them, with all rows, stands. The folder has a record of the prompts, which later sweeps and fits leave out. An
    interrupted call goes on from where it stopped. The engine's model is as it was afterwards.

    Args:
        engine: of transformers, without artefacts.
        prompts: as of `sweep`; the engine's chat template is applied.
        folder: the artefact's, which must not be there yet.
        answers: the answer to a prompt; None: its reference, or the first of several.
        tokens: rows of the prefix, at least 1.
        epochs: how often each prompt is seen, at least 1.
        batch: prompts of a step.
        rate: of AdamW at its highest, in units of the standard deviation of the model's own embeddings.
        most_tokens: prompts that have more, with their answers, are left out.
        seed: of the first rows, the order, k, and which groups are held out.
        progress: whether to show it on stderr.

    Returns:
        The folder, for `load_engine(..., artifacts={"soft_prefix": {name: folder}})`.

    Raises:
        InvalidInput: another engine, bad numbers, a prompt without an answer or without a place for the prefix, or a
            folder that is there.
        MissingExtra: a package of the extra [tune] is not installed.
        KeyboardInterrupt: after what was done is stored.
    """
    check_engine(engine)
    numbers = {"tokens": tokens, "epochs": epochs, "batch": batch, "most_tokens": most_tokens}
    folder = check_numbers(numbers, rate, folder)
    torch = require("torch", "tune", FEATURE)
    from hagpolicy.tuning.training import TrainingSpec, train

    held: Any = engine
    model = held.model
    examples = read_examples(held, prompts, answers, most_tokens)
    places = find_places(held, examples)
    tuned_on, held_out = split_groups(examples, seed)
    given = {**numbers, "rate": rate, "seed": seed}
    seen = [[one.prompt.digest, list(one.answer)] for one in examples]
    spec = TrainingSpec(epochs, batch, rate, seed, digest([dict(engine.fingerprint), given, seen]))
    rows, scale = begin_rows(model, tokens, seed)
    model.requires_grad_(False)

    def compute_loss(some: Sequence[Example], draw: random.Random) -> Tensor:
        count = draw.randint(1, tokens) if torch.is_grad_enabled() else tokens  # what is held out is judged with all
        return compute_spliced_loss(model, some, places, rows[:count] * scale)

    folder.parent.mkdir(parents=True, exist_ok=True)
    place = folder.with_name(f".{folder.name}.tuning")
    trained = train({"rows": rows}, compute_loss, tuned_on, held_out, spec, place, progress=progress)
    about = {"engine": dict(engine.fingerprint), **given, **trained.to_json(), "prompts": len(examples)}
    with new_artefact(folder, "soft_prefix", [one.prompt for one in examples], about) as made:
        write_soft_prefix(made, (rows.detach() * scale).cpu().numpy())
    return folder


def find_places(engine: Any, examples: Sequence[Example]) -> dict[Example, int]:
    """How many tokens of each question come before its prefix.

    Raises:
        InvalidInput: a prompt that has no place for one.
    """
    places = {}
    for one in examples:
        at = count_before_request(engine.tokenizer, one.prompt.content, one.question)
        if at is None:
            expected = "text of a user that the chat template writes as it is"
            raise InvalidInput(f"prompt {one.prompt.text[:60]!r}", expected, "none")
        places[one] = at
    return places


def begin_rows(model: Any, tokens: int, seed: int) -> tuple[Tensor, float]:
    """float32 (tokens, width): rows to begin with, those of as many tokens drawn from the vocabulary (Lester et al.,
    arXiv 2104.08691), in units of the standard deviation of all; and this unit."""
    import torch

    weights = model.get_input_embeddings().weight.detach()
    scale = float(weights.float().std())
    drawn = torch.randint(len(weights), (tokens,), generator=torch.Generator().manual_seed(seed))
    rows = weights[drawn.to(weights.device)].float() / scale
    return rows.clone().requires_grad_(), scale


def compute_spliced_loss(model: Any, batch: Sequence[Example], places: Mapping[Example, int], rows: Tensor) -> Tensor:
    """Mean cross-entropy of the answers' tokens, nats, with the rows (k, width) in each question."""
    import torch

    from hagpolicy.engines.transformers.prefixes import embed
    from hagpolicy.tuning.training import lay_out

    starts, room = [places[one] for one in batch], (0,) * len(rows)
    wide = [
        replace(one, question=(*one.question[:start], *room, *one.question[start:]))
        for one, start in zip(batch, starts, strict=True)
    ]
    ids, mask, before = lay_out(wide, model.device)
    embeddings = embed(model, ids, starts, [rows] * len(batch))
    hidden = model.get_decoder()(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[before]).float()
    return torch.nn.functional.cross_entropy(logits, ids[torch.roll(before, 1, dims=1)])
