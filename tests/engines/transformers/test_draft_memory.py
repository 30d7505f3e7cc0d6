"""Drafts from a memory of earlier answers: the same text, and fewer passes where answers are alike."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from hagpolicy import DecodingConfig, EngineError, Prompt, Request
from hagpolicy.engines.transformers.drafts import DraftMemory
from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.support.tiny_artefacts import save_memory
from tests.support.tiny_llama import WORDS, tiny_model, tiny_tokenizer

DRAFTED = {"temperature": 0.0, "prompt_lookup_num_tokens": 6}
LIMIT = 24


def load(given=None):
    model = tiny_model(seed=5)
    return TransformersEngine(model, tiny_tokenizer(), name="tiny", artifacts=given and {"draft_source": given})


def make_prompts(seed, count=30):
    draw = np.random.default_rng(seed)
    return [Prompt(" ".join(draw.choice(WORDS, 6))) for _ in range(count)]


def generate(engine, prompts, **fields):
    config = DecodingConfig(**fields)
    found = engine.generate([Request(prompt, config, 0, seed, LIMIT) for seed, prompt in enumerate(prompts)])
    assert [one.error for one in found if one.error] == []
    return found


def remember(folder, engine, answers, prompts):
    """A memory of answers behind the last two tokens of their prompts."""
    ids = [
        engine.encode(prompt.content)[-2:] + engine.tokenizer(one.text, add_special_tokens=False)["input_ids"]
        for prompt, one in zip(prompts, answers, strict=True)
    ]
    return save_memory(folder, ids)


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    engine, prompts = load(), make_prompts(1)
    return remember(tmp_path_factory.mktemp("drafts") / "memory", engine, generate(engine, prompts, **DRAFTED), prompts)


def test_greedy_texts_are_equal_in_float32_and_take_at_most_nine_tenths_of_the_passes(memory):
    engine, prompts = load({"memory": memory}), make_prompts(2)
    assert engine.model.dtype == torch.float32
    plain = generate(engine, prompts, temperature=0.0)
    lookup = generate(engine, prompts, **DRAFTED)
    drafted = generate(engine, prompts, **DRAFTED, draft_source="memory")
    texts = [[(one.text, one.tokens, one.finish) for one in some] for some in (plain, lookup, drafted)]
    assert texts[0] == texts[1] == texts[2]
    passes = [sum(one.passes for one in some) for some in (plain, lookup, drafted)]
    assert passes[2] < 0.9 * passes[1] < 0.9 * passes[0]


def test_a_memory_of_nothing_drafts_as_the_prompt_does(tmp_path):
    """The control: passes and texts are those of prompt lookup, to the last one."""
    folder = tmp_path / "empty"
    folder.mkdir()
    DraftMemory.of([]).save(folder)
    engine, prompts = load({"empty": folder}), make_prompts(2)
    for fields in (DRAFTED, {**DRAFTED, "temperature": 0.8}):
        lookup = generate(load(), prompts, **fields)
        drafted = generate(engine, prompts, **fields, draft_source="empty")
        assert [(one.text, one.passes) for one in drafted] == [(one.text, one.passes) for one in lookup]
    assert "_get_candidate_generator" not in vars(engine.model)


def test_sampled_texts_have_the_distribution_of_plain_ones(memory):
    """The first three tokens of 800 answers each: a chi-square test over the third, 38 tokens in all."""
    from scipy.stats import chi2_contingency

    engine, prompt = load({"memory": memory}), make_prompts(2)[0]
    sampled = {"temperature": 0.6, "repetition_penalty": 1.2}
    counts, passes = [], []
    for fields in ({}, {"prompt_lookup_num_tokens": 6, "draft_source": "memory"}):
        config = DecodingConfig(**sampled, **fields)
        cells = [Request(prompt, config, 0, seed, 3) for seed in range(800)]
        found = engine.generate(cells)
        counts.append(Counter(tuple(one.text.split())[-1:] for one in found))
        passes.append(sum(one.passes for one in found) / sum(one.tokens for one in found))
    known = [token for token in counts[0] | counts[1] if counts[0][token] + counts[1][token] >= 20]
    table = np.array([[count[token] for token in known] for count in counts])
    assert len(known) > 4
    assert passes[1] < passes[0] == 1.0
    assert chi2_contingency(table).pvalue > 0.001
    # The test can tell: of another temperature it says so.
    other = engine.generate([Request(prompt, DecodingConfig(temperature=1.0), 0, seed, 3) for seed in range(800)])
    told = Counter(tuple(one.text.split())[-1:] for one in other)
    assert chi2_contingency(np.array([[count[token] for token in known] for count in (counts[0], told)])).pvalue < 0.001


def test_a_draft_is_the_line_of_likeliest_tokens():
    memory = DraftMemory.of([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [9, 3, 4, 6], [1, 2, 8]])
    assert memory.propose([7, 1, 2], 10) == [3, 4, 6]
    assert memory.propose([1, 2], 2) == [3, 4]
    assert memory.propose([2, 1], 5) == memory.propose([2], 5) == memory.propose([1, 2], 0) == []
    assert dict(zip(map(tuple, memory.trigrams.tolist()), memory.counts.tolist(), strict=True))[3, 4, 6] == 2


def test_a_memory_beside_beams_or_without_drafts_is_idle(memory):
    engine = load({"memory": memory})
    for idle in ({"num_beams": 3, "prompt_lookup_num_tokens": 5}, {}):
        config = DecodingConfig(temperature=0.0, draft_source="memory", **idle)
        assert config.canonical().draft_source == ""
        assert engine.pin(config).draft_source == "memory"
    assert engine.unsupported(DecodingConfig(**DRAFTED, draft_source="other")) == ["draft_source"]
    assert engine.pin(DecodingConfig(**DRAFTED, draft_source="memory")).draft_source.startswith("memory@")


def test_what_is_no_memory_is_told_when_the_engine_is_made(memory, tmp_path):
    for name in ("drafts.json", "drafts.safetensors"):
        (tmp_path / name).write_bytes((memory / name).read_bytes())
    (tmp_path / "drafts.json").write_text('{"format_version": 99}')
    with pytest.raises(EngineError, match=r"the memory of drafts 'old' of .* cannot be read"):
        load({"old": tmp_path})
