"""llama-cpp-python's server, the real one."""

import pytest

from hagpolicy import DecodingConfig, load_engine
from hagpolicy.data.completion import Request
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.check import check_contract
from hagpolicy.engines.openai.probe import probe
from hagpolicy.errors import EngineError


@pytest.fixture
def engine(llama_served):
    made = load_engine(f"openai:{llama_served.url}#{llama_served.model}")
    yield made
    made.close()


@pytest.mark.llm
def test_it_is_found_out_and_keeps_the_contract(llama_served, engine):
    found = probe(llama_served.url)
    assert (found.server, found.models) == ("llama_cpp_python", ["smollm2"])
    # What it does where a request is silent: nothing neutral at all.
    assert {"temperature": 0.8, "top_k": 40, "min_p": 0.05}.items() <= found.defaults.items()
    report = check_contract(engine)
    assert [finding.held for finding in report.findings] == [True] * 7
    assert report.tokens <= 200


@pytest.mark.servers
def test_a_seed_gives_its_text_again_and_another_seed_another(engine):
    ask = [Request(Prompt("Tell me a story."), DecodingConfig(temperature=1.5), 0, seed, 8) for seed in (4, 5, 5, 6)]
    # Not the first of them: it reads the prompt anew, the others take it from the server's cache. The last
    # digits then differ, and with them, at such a temperature and without truncation, the token drawn.
    first, once, again, other = (completion.text for completion in engine.generate(ask))
    assert once == again
    assert len({first, once, other}) == 3


@pytest.mark.servers
def test_every_setting_reaches_the_model(engine):
    prompt = Prompt("List twelve fruits, separated by commas.")

    def text(limit=24, **fields):
        return engine.generate([Request(prompt, DecodingConfig(**fields), 0, 3, limit)])[0].text

    greedy = text(temperature=0.0)
    for name, value in {"repetition_penalty": 1.8, "frequency_penalty": 2.0}.items():
        assert text(temperature=0.0, **{name: value}) != greedy, name
    # At a high temperature a truncation to the likeliest token makes the text greedy again.
    assert text(temperature=1.9) != greedy
    for name, value in {"top_k": 1, "min_p": 1.0, "top_p": 1e-6}.items():
        assert text(temperature=1.9, **{name: value}) == greedy, name
    assert engine.unsupported(DecodingConfig(typical_p=0.5)) == ["typical_p"]


@pytest.mark.servers
def test_it_has_no_switch_for_thinking_and_taken_for_a_server_that_has_one_it_is_found_out(llama_served, engine):
    space = [DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.0, thinking=False)]
    assert engine.unsupported(space[1]) == ["thinking"]
    taken_for_another = load_engine(f"openai:{llama_served.url}#{llama_served.model}", server="llama_cpp")
    try:
        with pytest.raises(EngineError, match="thinking is lost on the way") as caught:
            check_contract(taken_for_another, space)
    finally:
        taken_for_another.close()
    assert "greedy agrees: held" in str(caught.value)
