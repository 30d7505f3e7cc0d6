"""A soft prefix of random embeddings, for tests of what is done with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def save_prefix(folder: Path, *, tokens: int = 4, width: int = 16, strength: float = 1.0, seed: int = 0) -> Path:
    """Write a soft prefix whose embeddings are normal noise of this size. Returns the folder."""
    from hagpolicy.artefacts.soft_prefix import write_soft_prefix

    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(size=(tokens, width)) * strength
    write_soft_prefix(folder, noise.astype(np.float32))
    return folder
