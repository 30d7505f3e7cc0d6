from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llama import tiny_model, tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from hagpolicy import Completion, DecodingConfig, Prompt, Request, load_engine
from hagpolicy.engines import hf_loading
from hagpolicy.engines.hf import CPU_ROWS, TransformersEngine
from hagpolicy.engines.hf_decode import decode
from hagpolicy.engines.hf_forward import refillable
from hagpolicy.errors import EngineError, InvalidInput

QUESTION = Prompt("what is the sum of three ?")
LONGER = Prompt("name three red colours . think step by step . why is the sky blue ? say hello again")
SAMPLED = DecodingConfig(temperature=1.2, top_p=0.95)
PLAIN = [
    {},
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "repetition_penalty": 0.9},
    {"presence_penalty": 1.0, "frequency_penalty": 0.6},
]


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    """A random Llama in float64, so that batch shapes change no token."""
    return TransformersEngine(tiny_model(seed=3).double(), tiny_tokenizer(), name="tiny")


def cell(prompt: Prompt, config: DecodingConfig, seed: int = 0, limit: int = 20) -> Request:
    return Request(prompt, config, 0, seed, limit)


def by_generate(engine: Any, request: Request) -> tuple[str, int]:
    """(text, new tokens) of transformers' own `generate`, for a config without a hint."""
    said = request.config.render("transformers")
    ids = torch.tensor([engine.encode(request.prompt.content)], device=engine.model.device)
    out = engine.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.max_tokens,
        logits_processor=said.processors,
        pad_token_id=0,
        **said.kwargs,
    )[0, ids.shape[1] :]
    return engine.tokenizer.decode(out, skip_special_tokens=True), len(out)


def same(one: Sequence[Completion], other: Sequence[Completion]) -> bool:
    keys = ("text", "tokens", "finish", "prompt_tokens")
    return [[getattr(c, key) for key in keys] for c in one] == [[getattr(c, key) for key in keys] for c in other]


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


def test_finished_rows_leave_the_batch(tiny: TransformersEngine) -> None:
    ids = tiny.encode(QUESTION.content)
    configs, limits = [SAMPLED] * 16, [2] * 14 + [40, 30]
    done = decode(tiny.model, [ids], [0] * 16, configs, list(range(16)), limits, [])
    assert done.lengths.tolist() == limits
    assert done.rows_computed <= 16 + 2 * 29 + 10 + 2
    alone = decode(tiny.model, [ids], [0], [SAMPLED], [14], [40], [])
    assert done.tokens[14].tolist() == alone.tokens[0].tolist()


def queued(count: int) -> tuple[list[list[int]], list[int], list[DecodingConfig], list[int], list[int]]:
    """Arguments of `decode` for cells of four prompts, every setting and limit among them."""
    prompts = [list(range(7, 7 + length)) for length in (4, 19, 11, 12)]
    settings = [SAMPLED, DecodingConfig(temperature=0.9, min_p=0.05), DecodingConfig(temperature=1.0, **PLAIN[4])]
    settings += [DecodingConfig(temperature=0.0, **values) for values in PLAIN]
    configs = [settings[i % len(settings)] for i in range(count)]
    return prompts, [i % 4 for i in range(count)], configs, list(range(count)), [1 + (7 * i) % 23 for i in range(count)]


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
    assert not refillable(model)
    cells = queued(14)
    uneven = (cells[0], [1, 1, 0, 0], cells[2][:4], [1, 2, 3, 4], [2, 2, 20, 20])  # the longest prompt's leave first
    for some, at_once in ((cells, 4), (uneven, 4)):
        done = decode(model, *some, [2], at_once)
        assert max(one.rows for one in done.passes) == at_once
        for i in range(len(some[1])):
            alone = decode(model, *([part[i]] if k else part for k, part in enumerate(some)), [2])
            assert done.tokens[i, : done.lengths[i]].tolist() == alone.tokens[0].tolist()


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


def test_without_a_template_the_text_goes_in_as_it_is() -> None:
    engine = TransformersEngine(tiny_model(), tiny_tokenizer(chat=False))
    assert engine.encode("red blue") == engine.tokenizer("red blue")["input_ids"]
    turns = ({"role": "user", "content": "red"}, {"role": "user", "content": "blue"})
    assert engine.encode(turns) == engine.encode("red\n\nblue")
    assert engine.fingerprint["chat_template"] == "none"


def test_default_config_is_what_generate_does() -> None:
    tokenizer = tiny_tokenizer()
    assert TransformersEngine(tiny_model(), tokenizer).default_config() == DecodingConfig(temperature=0.0)
    sampling = TransformersEngine(tiny_model(do_sample=True, temperature=0.6), tokenizer).default_config()
    assert sampling == DecodingConfig(temperature=0.6, top_k=50)
    both = TransformersEngine(tiny_model(do_sample=True, top_k=0, top_p=0.9, repetition_penalty=1.1), tokenizer)
    assert both.default_config() == DecodingConfig(top_p=0.9, repetition_penalty=1.1)


def test_settings_beyond_ours_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert TransformersEngine(tiny_model(), tiny_tokenizer()).ignored_settings() == []
    engine = TransformersEngine(tiny_model(suppress_tokens=[3], epsilon_cutoff=0.001), tiny_tokenizer())
    assert engine.ignored_settings() == ["epsilon_cutoff", "suppress_tokens"]
    assert "suppress_tokens" in caplog.text


def test_a_saved_folder_loads_with_the_same_answers(tmp_path: Path) -> None:
    model, tokenizer = tiny_model(seed=5), tiny_tokenizer()
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    unit = [cell(QUESTION, DecodingConfig(temperature=0.0)), cell(QUESTION, SAMPLED, 4)]
    loaded = load_engine(f"transformers:{tmp_path / 'tiny'}", device="cpu")
    assert same(loaded.generate(unit), TransformersEngine(model, tokenizer).generate(unit))
    assert loaded.name == "transformers:tiny"
    again = load_engine(tmp_path / "tiny", device="cpu", dtype="bfloat16")
    assert again.fingerprint["dtype"] == "bfloat16"
    assert again.fingerprint["weights"] == loaded.fingerprint["weights"]
    tiny_model(seed=6).save_pretrained(tmp_path / "tiny")
    other = load_engine(str(tmp_path / "tiny"), device="cpu")
    assert other.fingerprint["weights"] != loaded.fingerprint["weights"]


def test_a_model_given_as_an_object_is_known_by_its_weights() -> None:
    engines = [TransformersEngine(tiny_model(seed), tiny_tokenizer()) for seed in (1, 1, 2)]
    digests = [engine.fingerprint["weights"] for engine in engines]
    assert digests[0] == digests[1] != digests[2]


def test_a_changed_tokenizer_is_another_engine(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    engine = load_engine(tmp_path, device="cpu")
    before = engine.fingerprint
    engine.tokenizer("hello again", padding="max_length", truncation=True, max_length=4)
    assert load_engine(tmp_path, device="cpu").fingerprint == before
    del engine.__dict__["fingerprint"]  # padding of a call is not the tokenizer's identity
    assert engine.fingerprint == before
    path = tmp_path / "tokenizer.json"
    text = path.read_text("utf-8").replace('"red"', '"RED"').replace('"green"', '"red"').replace('"RED"', '"green"')
    path.write_text(text, "utf-8")
    assert load_engine(tmp_path, device="cpu").fingerprint["tokenizer"] != before["tokenizer"]


def test_a_truncated_weights_file_is_an_engine_error(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EngineError, match="could not load"):
        load_engine(tmp_path, device="cpu")


def test_half_precision_runs() -> None:
    engine = TransformersEngine(tiny_model().to(torch.bfloat16), tiny_tokenizer())
    assert engine.generate([cell(QUESTION, SAMPLED.replace(typical_p=0.9), 1, 6)])[0].tokens


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("transfomers:x", {}, "Did you mean 'transformers'"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", {}, "'transformers:HuggingFaceTB"),
        ("transformers:", {}, "KIND:NAME"),
        ("./nowhere.gguf", {}, "exists"),
        ("transformers:./nowhere", {}, "exists"),
        ("transformers:x/y", {"colour": 1}, "colour"),
        ("transformers:x/y", {"dtype": "int8"}, "dtype"),
        ("transformers:x/y", {"device": "abacus"}, "device"),
        ("transformers:x/y", {"cache": "."}, "cache"),
        ("simulated:many", {}, "whole number"),
    ],
)
def test_a_bad_spec_says_what_to_do(spec: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        load_engine(spec, **options)


def test_a_folder_without_a_model_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="could not load"):
        load_engine(tmp_path)


def test_specs_of_other_kinds(tiny: TransformersEngine) -> None:
    assert load_engine("simulated:7").name == "simulated:7"
    assert load_engine(tiny) is tiny
    with pytest.raises(InvalidInput, match="finished engine"):
        load_engine(tiny, device="cpu")


def test_a_closed_engine_holds_no_model() -> None:
    engine = TransformersEngine(tiny_model(), tiny_tokenizer())
    engine.close()
    engine.close()
    assert engine.model is None


FRANCE = Prompt("What is the capital of France?")
STORY = Prompt("Write two sentences about a dog.")


@pytest.mark.llm
def test_the_real_llm_answers_sensibly(smollm: TransformersEngine) -> None:
    assert smollm.default_config() == DecodingConfig(temperature=0.0)
    ids = smollm.encode(FRANCE.content)
    assert smollm.tokenizer.decode(ids).count("<|im_start|>") == 3  # system, user, assistant: none doubled
    (found,) = smollm.generate([cell(FRANCE, DecodingConfig(temperature=0.0), limit=16)])
    assert "Paris" in found.text
    assert found.finish == "stop"
    assert "<|" not in found.text


@pytest.mark.llm
def test_the_real_llm_in_a_mixed_batch_writes_what_generate_writes(smollm: TransformersEngine) -> None:
    configs = [DecodingConfig(temperature=0.0, **values) for values in PLAIN]
    unit = [cell(prompt, config, limit=24) for prompt in (STORY, FRANCE) for config in configs]
    noise = [cell(STORY, DecodingConfig(temperature=1.0, top_p=0.9), seed, 12) for seed in range(4)]
    found = smollm.generate([*unit, *noise])[: len(unit)]
    checked = [0, 1, 2, 4, 6]
    assert [(found[i].text, found[i].tokens) for i in checked] == [by_generate(smollm, unit[i]) for i in checked]


@pytest.mark.llm
def test_the_real_llm_writes_the_same_where_rows_are_refilled(smollm: TransformersEngine) -> None:
    prompts = [smollm.encode(prompt.content) for prompt in (FRANCE, STORY)]
    configs = [DecodingConfig(temperature=0.0, **values) for values in PLAIN[:3]] * 2
    cells = (prompts, [0, 0, 0, 1, 1, 1], configs, list(range(6)), [4, 12, 9, 12, 3, 12], smollm.end_tokens)
    refilled, together = decode(smollm.model, *cells, 3), decode(smollm.model, *cells)
    assert max(one.rows for one in refilled.passes) == 3
    assert refilled.lengths.tolist() == together.lengths.tolist()
    for one, other, length in zip(refilled.tokens, together.tokens, together.lengths, strict=True):
        assert one[:length].tolist() == other[:length].tolist()


@pytest.mark.llm
def test_a_cached_gguf_is_the_same_model(
    smollm: TransformersEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # De-quantising takes most of a load, and the fixture has just done it; undo only the layout by column.
    plain = copy.deepcopy(smollm.model)
    for weight in plain.parameters():
        weight.data = weight.data.contiguous()
    monkeypatch.setattr(hf_loading, "_converted", lambda *_: (plain, smollm.tokenizer))
    again = load_engine("smollm2", device="cpu", cache=tmp_path)
    assert again.fingerprint == smollm.fingerprint
    awkward = "def f(x):\n    return x\n\n\tTab  two spaces <|im_end|> é 你好"
    assert again.encode(awkward) == smollm.encode(awkward)
    assert again.tokenizer.decode(again.tokenizer(awkward)["input_ids"]) == awkward
    own, other = smollm.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert len(list(tmp_path.iterdir())) == 1
