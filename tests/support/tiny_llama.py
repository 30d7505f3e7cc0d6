"""A randomly initialised Llama of a few thousand weights with a word tokenizer, for tests of plumbing."""

from __future__ import annotations

from typing import Any

TEXT = (
    "what is the sum of name three red green blue colours count to ten why sky say hello again brief be . ? "
    "think step by"
)
WORDS = TEXT.split(" ")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)

# In the manner of public ones: a thought that is begun or closed at once (Qwen3.5, MiniCPM5), an effort (gpt-oss) and a
# budget (Seed-OSS) in words.
THINKING_TEMPLATE = (
    "{% if reasoning_effort is defined %}<|system|> be {{ reasoning_effort }} <|end|> {% endif %}"
    "{% if thinking_budget is defined %}<|system|> count to {{ thinking_budget }} <|end|> {% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> "
    "{% if enable_thinking is defined %}<think> {{ '' if enable_thinking else '</think> ' }}{% endif %}{% endif %}"
)


def thinking_tokenizer() -> Any:
    """`tiny_tokenizer` with a chat template that knows of thinking, and words for its tags."""
    return _make_tokenizer([*WORDS, "<think>", "</think>", "low", "high"], THINKING_TEMPLATE)


def tiny_tokenizer(*, chat: bool = True) -> Any:
    """A word-level tokenizer: 3 special tokens, 3 role markers, then `WORDS`; pads on the right by default."""
    return _make_tokenizer(WORDS, TEMPLATE if chat else None)


def _make_tokenizer(words: list[str], template: str | None) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<unk>"]
    vocabulary = {word: index for index, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # As the tags of public models are: tokens of their own that stay in a text.
    tokenizer.add_tokens([AddedToken(word, special=False) for word in words if word.startswith("<")])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|end|>",
        unk_token="<unk>",
        additional_special_tokens=special[3:6],
    )
    if template is not None:
        wrapped.chat_template = template
    return wrapped


def tiny_model(seed: int = 0, words: int = 0, **generation: Any) -> Any:
    """A Llama over the tokenizer's words and so many more; `generation` goes into its own generation_config."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=7 + len(WORDS) + words,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # no special token but the end wins by chance
        model.lm_head.weight[[0, 1, 3, 4, 5, 6]] = 0.0
    torch.random.set_rng_state(state)
    for name, value in {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **generation}.items():
        setattr(model.generation_config, name, value)
    return model


def save_classifier(folder: Any, *, chat: bool = True, seed: int = 0, pad: int | None = 0, labels: int = 1) -> Any:
    """The folder, and a tiny Llama with a classification head that was saved to it with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=7 + len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=64, pad_token_id=pad, initializer_range=0.5, num_labels=labels,
        )  # fmt: skip
        model = LlamaForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    tiny_tokenizer(chat=chat).save_pretrained(folder)
    return folder, model
