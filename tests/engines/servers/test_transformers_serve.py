"""`transformers serve`, the real one: what it does with settings, and that ours reach the model."""

import json
import urllib.error
import urllib.request

import pytest

from hagpolicy import DecodingConfig, load_engine
from hagpolicy.data.completion import Request
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.check import check_contract
from hagpolicy.engines.openai.probe import probe
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.errors import EngineError

QUESTION = Prompt("Name three colours of the rainbow.")


def engine_of(served, **options):
    return load_engine(f"openai:{served.url}#{served.model}", **options)


def asked(served, **body):
    """(status, text or error) of a chat request as it is, without the engine."""
    content = {"model": served.model, "messages": [{"role": "user", "content": QUESTION.text}], "max_tokens": 8, **body}
    request = urllib.request.Request(f"{served.url}/chat/completions", json.dumps(content).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.llm
def test_it_is_found_out_and_keeps_the_contract(smollm_served):
    with_probe = probe(smollm_served.url)
    assert (with_probe.server, with_probe.models) == ("transformers_serve", [smollm_served.model])
    engine = engine_of(smollm_served)
    try:
        assert engine.server == "transformers_serve"
        report = check_contract(engine)
    finally:
        engine.close()
    assert [(finding.promise, finding.held) for finding in report.findings] == [
        ("samples differ", True),
        ("greedy agrees", True),
        ("top_k cuts the samples", True),
        ("top_p cuts the samples", True),
        ("min_p cuts the samples", True),
        ("repetition_penalty changes the text", True),
    ]
    assert report.tokens <= 260


@pytest.mark.servers
def test_spoken_to_as_the_plain_api_it_breaks_the_contract(smollm_served):
    # Its temperature alone leaves it greedy, so every sample is a copy: the trap the check is for.
    engine = engine_of(smollm_served, server="openai")
    try:
        with pytest.raises(EngineError, match=r"temperature is lost.*samples differ: BROKEN") as caught:
            check_contract(engine)
    finally:
        engine.close()
    assert "copies" in str(caught.value)


@pytest.mark.servers
def test_what_it_does_with_plain_fields(smollm_served):
    status, greedy = asked(smollm_served)
    assert status == 200
    for ignored in ({"temperature": 1.5}, {"n": 2}, {"presence_penalty": 2.0}, {"temperature": 1.5, "seed": 1}):
        assert asked(smollm_served, **ignored) == (200, greedy), ignored
    for refused in ({"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.3}):
        status, why = asked(smollm_served, **refused)
        assert status == 422
        assert next(iter(refused)) in why
    # frequency_penalty f becomes repetition_penalty 1 + f.
    as_repetition = json.dumps({"repetition_penalty": 2.0, "max_new_tokens": 8})
    status, changed = asked(smollm_served, frequency_penalty=1.0)
    assert (status, changed) == asked(smollm_served, generation_config=as_repetition)
    assert changed != greedy


@pytest.mark.servers
def test_a_greedy_text_is_the_one_the_model_gives_in_this_process(smollm_served, smollm):
    configs = [DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.0, repetition_penalty=1.3)]
    configs.append(DecodingConfig(temperature=0.0, no_repeat_ngram_size=2, hint="Be brief."))
    unit = [Request(QUESTION, config, 0, 7, 12) for config in configs]
    engine = engine_of(smollm_served)
    try:
        served = engine.generate(unit)
    finally:
        engine.close()
    here = smollm.generate(unit)
    assert [(c.text, c.tokens, c.prompt_tokens, c.finish) for c in served] == [
        (c.text, c.tokens, c.prompt_tokens, c.finish) for c in here
    ]


@pytest.mark.servers
def test_plain_completions_take_the_configuration_too(smollm_served):
    engine = engine_of(smollm_served, api="completions")
    try:
        hot = [Request(Prompt("The sea is"), DecodingConfig(temperature=2.0), at, at, 8) for at in range(3)]
        cold = [Request(Prompt("The sea is"), DecodingConfig(temperature=0.0), at, at, 8) for at in range(3)]
        assert len({c.text for c in engine.generate(hot)}) == 3
        assert len({c.text for c in engine.generate(cold)}) == 1
    finally:
        engine.close()


THINKING = [
    DecodingConfig(temperature=0.0),
    *(DecodingConfig(temperature=0.0, thinking=said) for said in (True, False)),
]


@pytest.mark.servers
def test_it_is_told_of_thinking_and_the_check_sees_that_the_template_honours_it(thinking_served):
    from tests.support.tiny_llama import thinking_tokenizer, tiny_model

    space = [*THINKING, DecodingConfig(temperature=0.0, reasoning_effort="low")]
    space.append(DecodingConfig(temperature=0.0, thinking_budget=4))
    engine = engine_of(thinking_served)
    try:
        report = check_contract(engine, space)
        served = engine.generate([Request(QUESTION, config, 0, 7, 6) for config in space])
    finally:
        engine.close()
    told = {finding.promise: finding.held for finding in report.findings if finding.promise.endswith("the answer")}
    assert told == {f"{name} changes the answer": True for name in ("thinking", "reasoning_effort", "thinking_budget")}
    here = TransformersEngine(tiny_model(words=4), thinking_tokenizer())
    mine = here.generate([Request(QUESTION, config, 0, 7, 6) for config in space])
    assert [one.prompt_tokens for one in served] == [one.prompt_tokens for one in mine]
    # Of a thought that its template began the server says only the text.
    assert [one.text for one in served] == [one.text or one.reasoning for one in mine]


@pytest.mark.servers
def test_the_check_sees_that_a_template_knows_nothing_of_thinking(tiny_served):
    engine = engine_of(tiny_served)
    try:
        with pytest.raises(EngineError, match="thinking is lost on the way, or the model's chat template does not"):
            check_contract(engine, THINKING)
    finally:
        engine.close()
