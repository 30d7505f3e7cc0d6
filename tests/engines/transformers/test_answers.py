"""The transformers engine: the answers of `generate`, row by row, and what it marks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from hagpolicy import DecodingConfig, Prompt
from hagpolicy.engines.transformers.decode import decode
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.errors import EngineError
from tests.engines.transformers.cells import LONGER, PLAIN, QUESTION, SAMPLED, by_generate, cell, same
from tests.support.tiny_llama import tiny_tokenizer


def test_a_mixed_batch_equals_generate_row_by_row(tiny: TransformersEngine) -> None:
    configs = [DecodingConfig(temperature=0.0, **values) for values in PLAIN]
    prompts, limits = (QUESTION, LONGER), (5, 24)
    unit = [cell(prompt, config, limit=limit) for prompt in prompts for config in configs for limit in limits]
    noise = [cell(LONGER, SAMPLED, seed) for seed in range(3)]
    found = tiny.generate([*noise, *unit])[3:]
    assert [(c.text, c.tokens) for c in found] == [by_generate(tiny, request) for request in unit]
    assert len({c.text for c in found}) > 4  # the settings do change what is written


@pytest.mark.parametrize("values", [{}, {"num_beams": 2, "length_penalty": -1.0, "presence_penalty": 1.0}])
def test_beams_equal_generate(tiny: TransformersEngine, values: dict[str, Any]) -> None:
    request = cell(QUESTION, DecodingConfig(**{"temperature": 0.0, "num_beams": 3, **values}), limit=12)
    others = [cell(LONGER, SAMPLED, 1), request, cell(QUESTION, DecodingConfig(temperature=0.0))]
    found = tiny.generate(others)[1]
    assert (found.text, found.tokens) == by_generate(tiny, request)


@pytest.mark.parametrize(
    ("values", "calls"),
    [({"num_beams": 3}, 1), ({"num_beams": 30}, 2), ({"num_beams": 2, "presence_penalty": 1.0}, 1),
     ({"num_beams": 2, "repetition_penalty": 1.3}, 3), ({"num_beams": 2, "no_repeat_ngram_size": 2}, 3)],
)  # fmt: skip
def test_beams_of_several_prompts_share_a_call_and_equal_generate(
    tiny: TransformersEngine, values: dict[str, Any], calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DecodingConfig(temperature=0.0, **values)
    unit = [cell(prompt, config, limit=12) for prompt in (QUESTION, LONGER, Prompt(QUESTION.text + " please"))]
    unit.insert(1, cell(LONGER, SAMPLED, 1))
    expected = [by_generate(tiny, request) for request in unit if request.config == config]
    made, generate = [], tiny.model.generate

    def counted(ids: Any, **kwargs: Any) -> Any:
        made.append(len(ids))
        return generate(ids, **kwargs)

    monkeypatch.setattr(tiny.model, "generate", counted)
    found = [completion for index, completion in enumerate(tiny.generate(unit)) if index != 1]
    assert [(c.text, c.tokens) for c in found] == expected
    assert len(made) == calls
    assert sum(made) == 3


def test_sampled_rows_depend_on_their_seed_alone(tiny: TransformersEngine) -> None:
    configs = [SAMPLED, DecodingConfig(), DecodingConfig(temperature=0.9, min_p=0.05), DecodingConfig(typical_p=0.7)]
    unit = [cell(prompt, config, 10 * i, 16) for prompt in (QUESTION, LONGER) for i, config in enumerate(configs)]
    torch.manual_seed(1)
    together = tiny.generate(unit)
    torch.manual_seed(2)
    alone = [tiny.generate([request])[0] for request in reversed(unit)][::-1]
    assert same(together, alone)
    reseeded = tiny.generate([cell(r.prompt, r.config, r.seed + 1, 16) for r in unit])
    assert not same(together, reseeded)
    assert tiny.generate([cell(QUESTION, SAMPLED, 2**63 - 1)])[0].tokens


def test_no_global_random_state_is_touched(tiny: TransformersEngine) -> None:
    beams = DecodingConfig(temperature=1.0, num_beams=2)
    before = torch.random.get_rng_state()
    first = tiny.generate([cell(QUESTION, SAMPLED, 5), cell(QUESTION, beams, 5), cell(QUESTION, beams, 6)])
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert same(first[1:2], tiny.generate([cell(QUESTION, beams, 5)]))


def test_several_prompts_and_hints_in_one_unit_equal_one_at_a_time(tiny: TransformersEngine) -> None:
    configs = [SAMPLED, DecodingConfig(temperature=0.0, hint="think step by step"), DecodingConfig(temperature=0.0)]
    unit = [cell(prompt, config, 7, 12) for config in configs for prompt in (LONGER, QUESTION)]
    found = tiny.generate(unit)
    assert same(found, [tiny.generate([request])[0] for request in unit])
    assert found[2].prompt_tokens == found[4].prompt_tokens + 4


def test_learned_positions_count_from_each_prompts_own_start() -> None:
    """Rotary positions forgive a shift by the padding of a batch; learned ones do not."""
    words = len(tiny_tokenizer())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"n_positions": 128, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.4}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=words, bos_token_id=1, eos_token_id=2, **shape))
    engine = TransformersEngine(model.double().eval(), tiny_tokenizer(), name="tiny")
    configs = [SAMPLED, DecodingConfig(temperature=0.0)]
    unit = [cell(prompt, config, 7, 12) for config in configs for prompt in (LONGER, QUESTION)]
    assert same(engine.generate(unit), [engine.generate([request])[0] for request in unit])
    assert (engine.generate(unit)[3].text, 12) == by_generate(engine, unit[3])
    # A row that is done stays for a while beside longer ones: no position beyond the last is asked for.
    full = list(range(7, 27)) * 6
    done = decode(engine.model, [full, full[:9]], [0] + [1] * 11, [SAMPLED] * 12, list(range(12)), [8] + [40] * 11, [])
    assert done.lengths.tolist() == [8] + [40] * 11


def test_the_end_token_ends_and_is_counted(tiny: TransformersEngine) -> None:
    unit = [cell(QUESTION, DecodingConfig(temperature=1.5), seed, 60) for seed in range(30)]
    found = tiny.generate(unit)
    stopped = [c for c in found if c.finish == "stop"]
    assert stopped
    assert len(stopped) < 30
    assert all(c.tokens == 60 for c in found if c.finish == "length")
    assert all(len(c.text.split()) <= c.tokens - 1 for c in stopped)
    assert all("<|end|>" not in c.text for c in found)


def test_seconds_are_shares_of_the_unit(tiny: TransformersEngine) -> None:
    short, long = tiny.generate([cell(QUESTION, SAMPLED, 1, 2), cell(QUESTION, SAMPLED, 2, 8)])
    assert short.seconds > 0
    assert short.seconds / short.tokens == pytest.approx(long.seconds / long.tokens)


def test_what_cannot_be_run_marks_its_own_cell_only(tiny: TransformersEngine) -> None:
    endless = Prompt("hello " * 300)
    unit = [cell(endless, SAMPLED), cell(QUESTION, SAMPLED, 3), cell(Prompt("hello " * 240), SAMPLED, 4, 60)]
    found = tiny.generate(unit)
    assert found[0].finish == "error"
    assert "context 256" in str(found[0].error)
    assert same(found[1:2], tiny.generate(unit[1:2]))
    assert found[2].tokens <= found[2].receipt["max_tokens"] == 256 - found[2].prompt_tokens


def test_every_token_ruled_out_is_an_error(tiny: TransformersEngine) -> None:
    everything = list(range(tiny.model.config.vocab_size))
    unigram = DecodingConfig(temperature=0.0, no_repeat_ngram_size=1)
    done = decode(tiny.model, [everything], [0, 0], [unigram, SAMPLED], [1, 2], [3, 3], [])
    assert done.stuck.tolist() == [True, False]
    assert done.lengths.tolist() == [0, 3]


def test_memory_that_runs_out_marks_the_cells(monkeypatch: pytest.MonkeyPatch, tiny: TransformersEngine) -> None:
    def exhausted(message: str) -> Any:
        def forward(*_: Any, **__: Any) -> None:
            raise RuntimeError(message)

        return forward

    monkeypatch.setattr(tiny.model.model, "forward", exhausted("DefaultCPUAllocator: can't allocate memory"))
    found = tiny.generate([cell(QUESTION, SAMPLED), cell(QUESTION, DecodingConfig(temperature=0.0, num_beams=2))])
    assert [c.finish for c in found] == ["error", "error"]
    assert all("allocate memory" in str(c.error) and c.prompt_tokens for c in found)
    monkeypatch.setattr(tiny.model.model, "forward", exhausted("device-side assert"))
    with pytest.raises(EngineError, match="device-side assert"):
        tiny.generate([cell(QUESTION, SAMPLED)])
