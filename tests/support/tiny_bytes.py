"""A randomly initialised Llama over the tokens of a small byte-level BPE, as of today's models, for tests of masks."""

from __future__ import annotations

from functools import cache
from typing import Any

TEXT = (
    'the dog and the cat catch a ball in the park . yes no maybe {"name": "Ann", "age": 12} true false null '
    "it is 12 o'clock , one two three 2024-11-30 über café naïve"
)
SPECIAL = ["<pad>", "<s>", "<|end|>"]
SIZE, PADDED = 330, 336


@cache
def byte_tokenizer() -> Any:
    """A tokenizer with a token for each byte, and merges learned from a line of text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2]
    )


def byte_model(seed: int = 0) -> Any:
    """A Llama over the tokenizer's tokens; its output layer is padded, as those of some models are."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=PADDED, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.3,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval()
    for name, value in {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}.items():
        setattr(model.generation_config, name, value)
    return model
