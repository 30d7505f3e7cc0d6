"""What servers give and take of thinking: reasoning is kept beside the text, and objects of the body are merged."""

import pytest

from hagpolicy import DecodingConfig, Prompt, Request, load_engine
from hagpolicy.engines.check import check_contract
from hagpolicy.engines.openai.response import read_choices
from hagpolicy.errors import EngineError
from tests.support.stub_server import StubProcess

OFF = {"enable_thinking": False, "thinking": False}


@pytest.fixture(scope="module")
def stub():
    pytest.importorskip("httpx2")
    with StubProcess() as process:
        yield process


@pytest.fixture
def load(stub):
    made = []

    def load(server="vllm", **options):
        stub.clear()
        made.append(load_engine(f"openai:{stub.url}#stub", server=server, **options))
        return made[-1]

    yield load
    for engine in made:
        engine.close()


def ask(engine, text="q", **settings):
    [done] = engine.generate([Request(Prompt(text), DecodingConfig(**settings), 0, 1, 16)])
    return done


def test_reasoning_that_comes_beside_the_text_is_kept_and_paid(load):
    done = ask(load(), "[[reasoning]] why")
    assert done.reasoning == "hmm " * 5
    assert "hmm" not in done.text
    assert done.tokens == 7
    assert ask(load(), "why").reasoning == ""


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_every_name_of_reasoning_is_read_and_an_unfinished_one_leaves_no_answer(field):
    def read(content, finish):
        body = '{"choices": [{"message": {"content": %s, "%s": "so 6 * 7"}, "finish_reason": "%s"}], '
        body += '"usage": {"prompt_tokens": 3, "completion_tokens": 9}}'
        return read_choices((body % (content, field, finish)).encode(), 1, 9)[0]

    whole, cut = read('"42"', "stop"), read("null", "length")
    assert (whole.text, whole.reasoning, whole.tokens) == ("42", "so 6 * 7", 9)
    assert (cut.text, cut.reasoning, cut.tokens, cut.finish) == ("", "so 6 * 7", 9, "length")


def test_the_switch_is_sent_beside_what_every_request_has_of_the_object(load, stub):
    engine = load(chat_template_kwargs={"add_sources": True})
    assert ask(engine, thinking=False).finish == "stop"
    assert ask(engine).finish == "stop"
    bodies = [note["body"] for note in stub.record()]
    assert [body["chat_template_kwargs"] for body in bodies] == [{"add_sources": True, **OFF}, {"add_sources": True}]


def test_what_every_request_says_of_thinking_no_config_can_say(load):
    config = DecodingConfig(thinking=True, reasoning_effort="low")
    assert load().unsupported(config) == []
    for options in ({"chat_template_kwargs": {"thinking": False}}, {"extra_body": {"chat_template_kwargs": OFF}}):
        assert load(**options).unsupported(config) == ["thinking"]
    engine = load(extra_body={"reasoning_effort": "high"})
    assert engine.unsupported(config) == ["reasoning_effort"]
    assert "reasoning_effort" not in engine.handles
    assert load(api="completions").unsupported(config) == ["thinking", "reasoning_effort"]


def test_a_server_that_takes_the_switch_and_does_nothing_is_found_out(load):
    space = [DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.0, thinking=False)]
    with pytest.raises(EngineError, match="thinking is lost on the way, or the model's chat template does not know it"):
        check_contract(load(), space)
    check_contract(load(), space[:1])
