"""Low-rank adapters (Hu et al., arXiv 2106.09685) tuned on chat messages, loss on the answer's tokens alone."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hagpolicy.engines.transformers.engine import TransformersEngine

RANK, ALPHA, EPOCHS, BATCH, RATE, WARM_UP = 8, 16, 3, 8, 1e-3, 0.1
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Example = tuple[list[int], list[int]]


def tune(engine: TransformersEngine, path: Path, *, epochs: int = EPOCHS, seed: int = 0) -> list[float]:
    """Put adapters into the engine's model and tune them; its own weights stay as they are.

    Args:
        engine: its model is changed in place and answers with the adapters from then on.
        path: of `SweepTable.to_instruction_tuning`.
        epochs: how often each line is seen.
        seed: of the adapters and of the order.

    Returns:
        The mean loss of each step, nats a token of the answer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    examples = [encoded(engine, json.loads(line)["messages"]) for line in path.read_text("utf-8").splitlines()]
    torch.manual_seed(seed)
    settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(LAYERS), lora_dropout=0.0)
    model = inject_adapter_in_model(settings, engine.model)
    tuned = []
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            weight.data = weight.data.float()  # steps of the optimizer are too small for bfloat16
            tuned.append(weight)
    order = [batch for epoch in range(epochs) for batch in _batches(examples, random.Random(seed * 1000 + epoch))]
    optimizer = torch.optim.AdamW(tuned, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(order)))
    losses = []
    for batch in order:
        loss = answer_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        print(f"\rstep {len(losses)} of {len(order)}, loss {losses[-1]:.3f}", end="", flush=True)
    print()
    return losses


def encoded(engine: TransformersEngine, messages: Sequence[dict[str, str]]) -> Example:
    """Token ids of the question as the engine will ask it, and of the answer with its end."""
    question = engine.encode(tuple(messages[:-1]))
    answer = engine.tokenizer(messages[-1]["content"], add_special_tokens=False)["input_ids"]
    return question, [*answer, engine.end_tokens[0]]


def answer_loss(model: Any, batch: Sequence[Example]) -> Tensor:
    """Mean cross-entropy of the answers' tokens; logits are made for these alone, the vocabulary being large."""
    width = max(len(question) + len(answer) for question, answer in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    before = torch.zeros(len(batch), width, dtype=torch.bool)  # the tokens after which one of the answer comes
    for row, (question, answer) in enumerate(batch):
        end = len(question) + len(answer)
        ids[row, :end] = torch.tensor([*question, *answer])
        mask[row, :end] = 1
        before[row, len(question) - 1 : end - 1] = True
    hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[before]).float()
    after = torch.roll(before, 1, dims=1)
    return torch.nn.functional.cross_entropy(logits, ids[after])


def _batches(examples: Sequence[Example], draw: random.Random) -> list[list[Example]]:
    """Batches of examples of similar length, so that little is padded, in random order."""
    mixed = draw.sample(examples, len(examples))
    mixed.sort(key=lambda example: len(example[0]) + draw.randint(0, 16))
    batches = [mixed[start : start + BATCH] for start in range(0, len(mixed), BATCH)]
    draw.shuffle(batches)
    return batches


def _rate(step: int, steps: int) -> float:
    """Share of the rate: rises over the first tenth of the steps, then falls to 0."""
    warm = max(1.0, WARM_UP * steps)
    return min((step + 1) / warm, (steps - step) / max(1.0, steps - warm))
