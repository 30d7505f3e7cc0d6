"""A small BERT of random weights, as a folder that transformers can load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ["what", "is", "list", "add", "ten", "birds", "sums", "and", "the", "of", "plus", "times", "many", "word"]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_bert(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write config, weights and tokenizer; returns the folder.

    Args:
        folder: to be made.
        seed: of the weights.
        changes: to the config.
    """
    import torch
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    vocabulary = [*MARKS, *WORDS, *letters, *(f"##{letter}" for letter in letters if letter.isalnum())]
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.2, **changes}
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=len(vocabulary), **sizes)
    BertModel(config).save_pretrained(folder)
    values = {
        "version": "1.0",
        "truncation": {"max_length": 16, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {token: number for number, token in enumerate(vocabulary)},
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(values), "utf-8")
    return folder
