"""What goes along with every request: further fields of the body, and headers from the environment."""

import json
import logging

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, Prompt, Request, load_engine, sweep
from hagpolicy.engines.ray.actor import EngineActor
from hagpolicy.engines.spec import EngineSpec
from hagpolicy.errors import EngineError, InvalidInput
from tests.support.stub_server import StubProcess

SECRET = "gw-3f9c1d77a2b04e55"
JSON = {"type": "json_object"}


@pytest.fixture(scope="module")
def stub():
    pytest.importorskip("httpx2")
    with StubProcess() as process:
        yield process


def ask(engine, text="q", **settings):
    [done] = engine.generate([Request(Prompt(text), DecodingConfig(**settings), 0, 1, 16)])
    return done


def test_further_fields_of_the_body_go_with_every_request_and_are_part_of_the_fingerprint(stub):
    options = {
        "response_format": JSON,
        "chat_template_kwargs": {"enable_thinking": False},
        "extra_body": {"reasoning_effort": "low", "repeat_last_n": 32},
    }
    engine = load_engine(f"openai:{stub.url}", server="llama_cpp", **options)
    stub.clear()
    for settings in ({"temperature": 0.5}, {"unset": True}):
        assert ask(engine, **settings).finish == "stop"
    engine.close()
    for note in stub.record():
        assert {name: note["body"][name] for name in ("response_format", "chat_template_kwargs")} == {
            name: options[name] for name in ("response_format", "chat_template_kwargs")
        }
        # Over what is otherwise switched off, which is no setting of ours.
        assert (note["body"]["reasoning_effort"], note["body"]["repeat_last_n"]) == ("low", 32)
    found = [dict(engine.fingerprint)]
    for changed in ({}, {"response_format": JSON}, {"extra_body": {"response_format": JSON}}):
        other = load_engine(f"openai:{stub.url}", server="llama_cpp", **changed)
        other.close()
        found.append(dict(other.fingerprint))
    assert "extra_body" not in found[1]  # as before there were any
    assert found[2] == found[3]
    assert len({one.get("extra_body") for one in found}) == 3


def test_an_unset_request_holds_nothing_but_its_limit(stub):
    for server, limit in (
        ("vllm", "max_tokens"),
        ("openai", "max_completion_tokens"),
        ("transformers_serve", "max_tokens"),
    ):
        engine = load_engine(f"openai:{stub.url}", server=server)
        stub.clear()
        assert ask(engine, unset=True).finish == "stop"
        engine.close()
        [note] = stub.record()
        assert note["body"].keys() - {"seed"} == {"model", "messages", limit}


def test_headers_come_from_the_environment_and_stay_in_the_request(stub, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("HAG_GATEWAY", f"Token {SECRET}")
    monkeypatch.setenv("HAG_OWN_KEY", f"Basic {SECRET}")
    caplog.set_level(logging.DEBUG)
    env = {"X-Gateway-Key": "HAG_GATEWAY", "authorization": "HAG_OWN_KEY"}
    engine = load_engine(f"openai:{stub.url}", headers_env=env)
    stub.clear()
    ask(engine)
    [note] = stub.record()
    assert note["headers"]["x-gateway-key"] == f"Token {SECRET}"
    assert note["headers"]["authorization"] == f"Basic {SECRET}"
    # A server that repeats the header in its refusal tells nobody.
    done = ask(engine, "[[400]] q")
    assert done.finish == "error"
    space = DecodingSpace([DecodingConfig()])
    sweep(engine, ["q", "[[400]] q"], space, len, max_tokens=8, samples=1, out=tmp_path, progress=False)
    engine.close()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (done.error, repr(engine), repr(vars(engine)), json.dumps(dict(engine.fingerprint)), caplog.text):
        assert SECRET not in text
    assert SECRET.encode() not in written


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (
            {"extra_body": {"temperature": 0.2, "model": "x"}},
            "no field that the sweep itself sets, got model, temperature",
        ),
        ({"extra_body": {"stop": ["a"]}}, "stop"),
        ({"extra_body": [1]}, "extra_body: expected a JSON object"),
        ({"extra_body": {"a": {1, 2}}}, "extra_body"),
        ({"response_format": "json_object"}, r'\{"type": "json_object"\}'),
        ({"response_format": JSON, "extra_body": {"response_format": JSON}}, "once"),
        ({"headers_env": {"X-Key": "HAG_NOT_SET"}}, "HAG_NOT_SET, which is not set"),
        ({"headers_env": {"Host": "HOME"}}, "but those of HTTP itself, got Host"),
        ({"headers_env": {"a b": "HOME"}}, "names of headers"),
        ({"headers_env": "X-Key"}, "a mapping"),
        ({"key_env": "HAG_NOT_SET"}, "environment variable HAG_NOT_SET: expected the key that key_env says it holds"),
        ({"sever": "vllm"}, "got sever. Did you mean 'server'"),
        ({"bogus": 1}, "one of base_url, server, api, key_env"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_request(stub, options, wrong):
    with pytest.raises(InvalidInput, match=wrong):
        load_engine(f"openai:{stub.url}", **options)


def test_a_value_given_in_place_of_a_variables_name_is_not_repeated(stub):
    with pytest.raises(InvalidInput) as caught:
        load_engine(f"openai:{stub.url}", headers_env={"X-Key": f"Bearer {SECRET}"})
    assert SECRET not in str(caught.value)


def test_a_wrong_model_is_told_which_there_are(stub, caplog):
    stub.set(owner="vllm", models=["tiny", "large"])
    with pytest.raises(InvalidInput, match=r"one of those at .*: tiny, large, got tny"):
        load_engine(f"openai:{stub.url}#tny")
    stub.set(owner="", models=["tiny", "large"])
    engine = load_engine(f"openai:{stub.url}#tny")  # a gateway need not list all that it has
    stub.set(every="404")
    assert "lists no such model, but tiny, large" in caplog.text
    with pytest.raises(EngineError, match=r"HTTP 404.*lists no model 'tny', but tiny, large"):
        engine.check_space([DecodingConfig()])
    engine.close()
    stub.clear()


def test_the_options_travel_to_a_worker_by_their_names_alone(stub, monkeypatch):
    monkeypatch.setenv("HAG_GATEWAY", SECRET)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # the actor sets them for its process
        monkeypatch.setenv(name, "1")
    spec = EngineSpec.parse(f"openai:{stub.url}", headers_env={"X-Key": "HAG_GATEWAY"}, response_format=JSON)
    assert SECRET not in repr(spec)
    assert EngineActor(spec, 1).describe().fingerprint["extra_body"]
