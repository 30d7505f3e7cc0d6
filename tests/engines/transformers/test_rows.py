"""The transformers engine: rows that finish, and who gets their places."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MistralConfig, MistralForCausalLM

from hagpolicy import DecodingConfig
from hagpolicy.engines.transformers.cache import is_refillable
from hagpolicy.engines.transformers.decode import decode
from hagpolicy.engines.transformers.engine import CPU_ROWS, TransformersEngine
from tests.engines.transformers.cells import LONGER, PLAIN, QUESTION, SAMPLED, by_generate, cell, queued


def test_finished_rows_leave_the_batch(tiny: TransformersEngine) -> None:
    ids = tiny.encode(QUESTION.content)
    configs, limits = [SAMPLED] * 16, [2] * 14 + [40, 30]
    done = decode(tiny.model, [ids], [0] * 16, configs, list(range(16)), limits, [])
    assert done.lengths.tolist() == limits
    assert done.rows_computed <= 16 + 2 * 29 + 10 + 2
    alone = decode(tiny.model, [ids], [0], [SAMPLED], [14], [40], [])
    assert done.tokens[14].tolist() == alone.tokens[0].tolist()


def test_a_finished_rows_place_goes_to_the_next_cell(tiny: TransformersEngine) -> None:
    cells = queued(60)
    apart = [decode(tiny.model, *([part[i]] if k else part for k, part in enumerate(cells)), [2]) for i in range(60)]
    for at_once in (1, 3, 8):
        done = decode(tiny.model, *cells, [2], at_once)
        for i, alone in enumerate(apart):
            length = int(alone.lengths[0])
            assert done.tokens[i, :length].tolist() == alone.tokens[0, :length].tolist()
            assert (done.lengths[i], done.stopped[i]) == (length, alone.stopped[0])
        steps = [one for one in done.passes if not one.prefill]
        assert max(one.rows for one in steps) == at_once
        assert sum(one.rows for one in done.passes if one.prefill) == 4  # each prompt once
        # More steps than a row lives, in no more columns than one needs at a time.
        assert len(steps) > 19 + 23 >= max(one.columns for one in steps)
    assert sum(int(alone.lengths[0]) - 1 for alone in apart) <= done.rows_computed <= 1.2 * sum(done.lengths)
    assert {bool(alone.stopped[0]) for alone in apart} == {True, False}


def test_prompts_of_few_cells_are_prefilled_ahead(tiny: TransformersEngine) -> None:
    prompts = [[7 + i, 8, 9, *range(10, 18 + i % 3)] for i in range(12)]
    cells = ([0, 1, 2, 3, 3, *range(4, 12)], [SAMPLED] * 13, list(range(13)), [9] * 13)
    done = decode(tiny.model, prompts, *cells, [], 2)
    prefills = [one for one in done.passes if one.prefill]
    assert sum(one.rows for one in prefills) == 12
    assert len(prefills) < 6
    for i, prompt in enumerate(cells[0]):
        alone = decode(tiny.model, [prompts[prompt]], [0], [SAMPLED], [i], [9], [])
        assert done.tokens[i].tolist() == alone.tokens[0].tolist()


def test_more_cells_than_rows_come_back_in_their_order(tiny: TransformersEngine) -> None:
    beams = DecodingConfig(temperature=0.0, num_beams=2)
    configs = [DecodingConfig(temperature=0.0, **values) for values in PLAIN]
    unit = [cell(prompt, configs[i % 5], limit=2 + i % 9) for i in range(40) for prompt in (QUESTION, LONGER)]
    unit[7:7] = [cell(QUESTION, beams, limit=5)]
    found = tiny.generate(unit)
    assert len(unit) - 1 > CPU_ROWS
    expected: dict[Any, tuple[str, int]] = {}
    for request, completion in zip(unit, found, strict=True):
        key = (request.prompt.digest, request.config, request.max_tokens)
        expected[key] = expected.get(key) or by_generate(tiny, request)
        assert (completion.text, completion.tokens) == expected[key]


def test_a_stuck_rows_place_is_free_at_once(tiny: TransformersEngine) -> None:
    everything = list(range(tiny.model.config.vocab_size))
    unigram = DecodingConfig(temperature=0.0, no_repeat_ngram_size=1)
    configs = [unigram, SAMPLED, unigram, unigram, SAMPLED]
    done = decode(tiny.model, [everything], [0] * 5, configs, [1, 2, 3, 4, 5], [3] * 5, [], 1)
    assert done.stuck.tolist() == [True, False, True, True, False]
    assert done.lengths.tolist() == [0, 3, 0, 0, 3]
    assert done.rows_computed == 4


def test_a_cache_that_cannot_be_refilled_is_begun_anew() -> None:
    """Sliding windows forget the past that a new row would need."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        heads = {"num_key_value_heads": 1, "sliding_window": 24, "initializer_range": 0.4, "vocab_size": 40}
        model = MistralForCausalLM(MistralConfig(**shape, **heads)).double().eval()
    assert not is_refillable(model)
    cells = queued(14)
    uneven = (cells[0], [1, 1, 0, 0], cells[2][:4], [1, 2, 3, 4], [2, 2, 20, 20])  # the longest prompt's leave first
    for some, at_once in ((cells, 4), (uneven, 4)):
        done = decode(model, *some, [2], at_once)
        assert max(one.rows for one in done.passes) == at_once
        for i in range(len(some[1])):
            alone = decode(model, *([part[i]] if k else part for k, part in enumerate(some)), [2])
            assert done.tokens[i, : done.lengths[i]].tolist() == alone.tokens[0].tolist()
