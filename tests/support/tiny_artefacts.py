"""References and a memory of drafts for the tiny model, without a builder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def save_references(model: Any, folder: Path, *, seed: int = 0, shuffled: bool = False) -> Path:
    """Write a store of 40 random states with random tokens of words; the folder.

    Args:
        model: a tiny Llama.
        folder: where to.
        seed: of states and tokens.
        shuffled: whether the tokens stand in another order: the control of what they say.
    """
    import torch

    from hagpolicy.engines.transformers.references import ReferenceStore

    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(40, model.config.hidden_size, generator=draw)
    tokens = torch.randint(7, model.config.vocab_size, (40,), generator=draw)
    tokens = tokens[torch.randperm(40, generator=draw)] if shuffled else tokens
    folder.mkdir()
    ReferenceStore(states, tokens, 4, 10.0).save(folder)
    return folder


def save_memory(folder: Path, answers: Any = None) -> Path:
    """Write the memory of some answers, as token ids; None: of one in which each of the tiny model's ids follows
    itself. The folder."""
    from hagpolicy.engines.transformers.drafts import DraftMemory

    folder.mkdir()
    known = [[token] * 4 for token in range(3, 33)] if answers is None else answers
    DraftMemory.of(known).save(folder)
    assert len(np.unique(DraftMemory.load(folder).trigrams, axis=0))
    return folder
