"""A low-rank adapter with random weights for the tiny model, in PEFT's own format."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any


def save_adapter(model: Any, folder: Path, *, strength: float, seed: int = 0, **options: Any) -> Path:
    """Write an adapter whose layers are normal noise of this size; the model is not touched. Returns the folder.

    Args:
        model: a tiny Llama.
        folder: where to.
        strength: standard deviation of the weights.
        seed: of the noise.
        options: further ones of PEFT's `LoraConfig`.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **options))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=draw) * strength)
    adapted.save_pretrained(folder)
    return folder
