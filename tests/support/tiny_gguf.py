"""A GGUF file of a randomly initialised Llama of a few thousand weights, for tests of what loads such files."""

from __future__ import annotations

from pathlib import Path

WIDTH, HIDDEN, BLOCKS, HEADS, CONTEXT = 32, 64, 2, 2, 256
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def write_tiny_gguf(path: Path, seed: int = 0) -> Path:
    """Write the file; `path`. Its tokenizer has one token for each byte."""
    import gguf
    import numpy as np
    from tokenizers.pre_tokenizers import ByteLevel

    draw = np.random.default_rng(seed)
    tokens = ["<unk>", "<s>", "</s>", *sorted(ByteLevel.alphabet()), "he"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([2, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["h e"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, draw.normal(0.0, 0.3, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), WIDTH)
    add("output.weight", len(tokens), WIDTH)
    add("output_norm.weight", WIDTH)
    for block in range(BLOCKS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{block}.{part}.weight", WIDTH, WIDTH)
        add(f"blk.{block}.ffn_gate.weight", HIDDEN, WIDTH)
        add(f"blk.{block}.ffn_up.weight", HIDDEN, WIDTH)
        add(f"blk.{block}.ffn_down.weight", WIDTH, HIDDEN)
        add(f"blk.{block}.attn_norm.weight", WIDTH)
        add(f"blk.{block}.ffn_norm.weight", WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
