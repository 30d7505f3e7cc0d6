"""The vLLM engine, held to facts read from the real classes of vLLM (`vllm_facts.py`).

vLLM cannot generate without a GPU: here a stand-in for `LLM` answers, which takes and gives only
what those facts say the real one does. Where vLLM is installed, the facts are read anew and the
stand-in's rows are real `SamplingParams`.
"""

import dataclasses
import json
import sys
from types import ModuleType

import numpy as np
import pytest

from hagpolicy import Constraint, DecodingConfig, DecodingSpace, load_engine, load_table, sweep
from hagpolicy.data.completion import Request
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.chat import encode
from hagpolicy.engines.constraints.attempts import ATTEMPTS
from hagpolicy.engines.vllm import VLLMEngine
from hagpolicy.errors import EngineError, InvalidInput, MissingExtra
from hagpolicy.scorers.registry import get_scorer
from tests.support.vllm_facts import PLAIN, RELIED_ON, SAID, configs, facts, rendering
from tests.support.vllm_stand_in import FACTS, INSTALLED, PACKAGE, StandIn


def request(text="what is red", seed=3, max_tokens=8, **fields):
    prompt = text if isinstance(text, Prompt) else Prompt(text)
    return Request(prompt, DecodingConfig(**fields), 0, seed, max_tokens)


@pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed: its facts are those of the fixture")
def test_facts_are_those_of_the_installed_vllm():
    assert json.loads(json.dumps(facts())) == FACTS, "run tests/vllm_facts.py and see what vLLM changed"


def test_every_rendering_is_taken_as_sent():
    assert [fact["sent"] for fact in FACTS["rendered"]] == json.loads(json.dumps([*map(rendering, configs())]))
    for fact in FACTS["rendered"]:
        assert set(fact["sent"]) <= set(FACTS["sampling_params"])
        assert fact["made"] == {**PLAIN, **fact["sent"]}  # 0.001 was lifted by us, so that vLLM lifts nothing


def test_ranges_are_vllms_own():
    """A value that we call fine is taken as it is; one that we call unsupported is refused there."""
    engine = VLLMEngine(StandIn())
    for fact in FACTS["edges"]:
        sent, made = fact["sent"], fact["made"]
        fields = {name: value for name, value in sent.items() if name not in ("n", "seed")}
        try:
            config = DecodingConfig(**fields)
        except InvalidInput:  # out of the range of every engine
            assert "refused" in made or sent == {"top_k": -1}
            continue
        if set(sent) == set(fields):
            assert bool(engine.unsupported(config)) == ("refused" in made), sent
        if "refused" not in made:
            assert {name: config.render("vllm").kwargs[name] for name in fields} == {n: made[n] for n in fields}
    assert "refused" in next(f["made"] for f in FACTS["edges"] if f["sent"] == {"temperature": 0.0, "n": 2})
    assert engine.unsupported(DecodingConfig(temperature=2.5, num_beams=4)) == ["num_beams", "temperature"]
    assert engine.unsupported(DecodingConfig(typical_p=0.5, no_repeat_ngram_size=3, temperature=0.001)) == [
        "typical_p",
        "no_repeat_ngram_size",
    ]


def test_default_is_what_vllm_takes_from_the_model():
    for fact in FACTS["defaults"]:
        taken = {name: value for name, value in fact["taken"].items() if name != "max_tokens"}
        if taken.get("top_k") == -1:
            taken["top_k"] = 0
        assert VLLMEngine(StandIn(said=fact["said"])).default_config() == DecodingConfig(**taken)
    assert FACTS["vllm_defaults"] == {}
    assert VLLMEngine(StandIn(said=SAID[0]), generation_config="vllm").default_config() == DecodingConfig()
    with pytest.raises(InvalidInput, match="generation_config"):
        VLLMEngine(StandIn(), generation_config="model")


def test_one_call_with_a_row_for_each_cell():
    llm = StandIn()
    engine = VLLMEngine(llm)
    unit = [
        request(seed=3, temperature=0.0),
        request(seed=4, temperature=0.7, hint="be brief ."),
        request("count to ten", seed=2**62 + 1, temperature=0.001, max_tokens=2),
    ]
    done = engine.generate(unit)
    assert len(llm.calls) == llm.emptied == 1
    rows = [params for _, params in llm.calls[0]]
    assert [params.seed for params in rows] == [3, 4, 2**62 + 1]
    assert [params.max_tokens for params in rows] == [8, 8, 2]
    assert [params.n for params in rows] == [1, 1, 1]
    assert [params.temperature for params in rows] == [0.0, 0.7, 0.01]
    assert done[2].receipt == {"temperature": 0.01}
    assert not done[0].receipt
    assert [answer.text for answer in done] == [f"seed {r.seed}" for r in unit]
    assert [answer.tokens for answer in done] == [4, 5, min(1 + (2**62 + 1) % 5, 2)]
    per_token = done[0].seconds / 4
    assert [answer.seconds for answer in done] == pytest.approx([per_token * answer.tokens for answer in done])
    assert {answer.finish for answer in done} == {"stop"}


def test_template_and_hint_are_applied_once():
    llm = StandIn()
    engine = VLLMEngine(llm)
    words = engine.tokenizer.convert_ids_to_tokens(encode(engine.tokenizer, "what is red\n\nbe brief ."))
    assert words == ["<|user|>", *["what", "is", "red", "be", "brief", ".", "<|end|>"], "<|assistant|>"]
    engine.generate([request(hint="be brief .")])
    assert engine.tokenizer.convert_ids_to_tokens(llm.calls[0][0][0]["prompt_token_ids"]) == words
    messages = Prompt([{"role": "system", "content": "be brief"}, {"role": "user", "content": "say hello"}])
    first = engine.generate([request(messages)])[0]
    assert first.prompt_tokens == len(encode(engine.tokenizer, messages.content)) == 9
    plain = VLLMEngine(StandIn(chat=False))
    assert plain.tokenizer.convert_ids_to_tokens(encode(plain.tokenizer, "say hello")) == ["say", "hello"]


def test_a_prompt_that_does_not_fit_marks_its_own_cells():
    llm = StandIn(context=12)
    engine = VLLMEngine(llm)
    long = "red " * 20
    done = engine.generate([request(), request(long), request("say " * 7)])
    assert done[0].finish == "stop"
    assert "the model's context 12" in done[1].error
    assert done[2].receipt == {"max_tokens": 2}
    assert len(llm.calls[0]) == 2
    assert len(engine.generate([request(long)])) == len(llm.calls) == 1  # nothing is left to ask for


def test_only_stop_and_length_are_answers():
    known = {"stop", "length"}
    for reason in FACTS["finish_reasons"]:
        answer = VLLMEngine(StandIn(finish=reason)).generate([request()])[0]
        assert (answer.finish == reason and answer.error is None) == (reason in known)
        assert reason in known or (answer.finish == "error" and reason in answer.error)


def test_a_failing_vllm_is_an_engine_error():
    class Dead(StandIn):
        def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
            raise RuntimeError("EngineCore encountered an issue")

    with pytest.raises(EngineError, match="EngineCore encountered"):
        VLLMEngine(Dead()).generate([request()])


def test_a_setting_that_vllm_refuses_marks_its_cell():
    done = VLLMEngine(StandIn()).generate([request(num_beams=3), request()])
    assert "num_beams on vllm" in done[0].error
    assert done[1].finish == "stop"


def test_close_ends_the_engine_core_once():
    llm = StandIn()
    engine = VLLMEngine(llm)
    engine.close()
    engine.close()
    assert llm.closed == 1


def test_fingerprint_names_what_the_cells_depend_on():
    found = VLLMEngine(StandIn()).fingerprint
    assert found["version"] == f"vllm {FACTS['vllm']}"
    assert (found["dtype"], found["quantization"], found["weights"]) == ("bfloat16", "fp8", "commit abc123")
    assert found["chat_template"] != VLLMEngine(StandIn(chat=False)).fingerprint["chat_template"] == "none"


def test_a_sweep_runs_through_it(tmp_path):
    space = DecodingSpace.grid(temperature=[0.0, 0.7])
    llm = StandIn()
    table = sweep(
        VLLMEngine(llm), ["say hello", "count to ten"], space, get_scorer("brevity"),
        samples=2, max_tokens=4, out=tmp_path / "s", progress=False,
    )  # fmt: skip
    assert len(llm.calls) == 1
    assert len(llm.calls[0]) == 2 * (1 + 2 + 2)  # greedy once, and the default, temperature 1, added
    assert not table.failures
    np.testing.assert_array_equal(load_table(tmp_path / "s").tokens, table.tokens)
    assert np.nanmax(table.tokens) == 4


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_without_vllm_the_extra_is_named():
    with pytest.raises(MissingExtra, match="vllm"):
        load_engine("vllm:tiny/words")
    with pytest.raises(InvalidInput, match="KIND:NAME"):
        load_engine("vllm:")


def test_relied_on_names_are_those_of_the_fixture():
    assert {owner: tuple(names) for owner, names in FACTS["relied_on"].items()} == RELIED_ON


def test_a_constraint_is_vllms_own_structured_output(monkeypatch):
    """By the class of vLLM's own module; the stand-in's takes the fields that vLLM's has."""

    @dataclasses.dataclass
    class StructuredOutputsParams:
        json: object = None
        regex: object = None
        choice: object = None

    module = ModuleType("vllm_stand_in.sampling_params")
    module.StructuredOutputsParams = StructuredOutputsParams
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(PACKAGE, "__path__", [], raising=False)
    llm = StandIn()
    engine = VLLMEngine(llm)
    prompt = Prompt("why ?", constraint=Constraint(choices=("yes", "no")))
    config = DecodingConfig(constrain="mask")
    [done] = engine.generate([Request(prompt, config, 0, 1, 4)])
    assert done.error is None
    [[(_, row)]] = llm.calls
    assert row.structured_outputs == StructuredOutputsParams(choice=["yes", "no"])
    assert engine.refuse_constraint(Constraint(include=("dog",)), "mask")
    assert engine.refuse_constraint(Constraint(include=("dog",)), "retry") == ""


def test_answers_that_miss_their_constraint_are_generated_again_together():
    llm = StandIn()
    constraint = Constraint(regex=r"seed \d*[02468]")
    config = DecodingConfig(constrain="retry")
    unit = [Request(Prompt("why ?", constraint=constraint), config, 0, seed, 9) for seed in range(8)]
    found = VLLMEngine(llm).generate(unit)
    sizes = [len(call) for call in llm.calls]
    assert sizes[:2] == [8, 4]
    assert len(sizes) <= ATTEMPTS
    for request, done in zip(unit, found, strict=True):
        assert (done.text == f"seed {request.seed}") == (
            request.seed % 2 == 0 or "not met" in done.receipt["constrain"]
        )
