"""A config's endpoint: which of several servers answers, each with its own limits, identity and key."""

from __future__ import annotations

import logging

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput, Prompt, Request, UnsupportedSetting, load_engine
from hagpolicy.config.constraints import Constraint
from hagpolicy.config.fields import pin_name
from hagpolicy.engines.openai.client import Client, Key
from hagpolicy.engines.openai.engine import OpenAIEngine
from hagpolicy.tuning.space import make_large_space
from tests.engines.openai.cells import SHORT, own_threads
from tests.support.stub_server import StubProcess

PLAIN = DecodingConfig(temperature=0.7)
DRAFTED = PLAIN.replace(endpoint="drafted")


@pytest.fixture(scope="module")
def processes():
    pytest.importorskip("httpx2")
    with StubProcess() as one, StubProcess() as two:
        yield one, two


@pytest.fixture
def stubs(processes):
    """The server of the engine, and one beside it."""
    for process in processes:
        process.clear()
        process.set(models=["stub"], owner="vllm")
    return processes


def load(stubs, said=None, **options):
    endpoints = {"drafted": f"{stubs[1].url}#stub"} if said is None else said
    return load_engine(f"openai:{stubs[0].url}#stub", endpoints=endpoints, **options)


def ask(engine, *configs, text="q"):
    return engine.generate([Request(Prompt(text), config, 0, 7, 16) for config in configs])


def bodies(stub):
    return [note["body"] for note in stub.record()]


def test_a_config_is_answered_by_the_server_that_it_names(stubs):
    engine = load(stubs)
    assert engine.unsupported(DRAFTED) == []
    done = ask(engine, PLAIN, engine.pin(DRAFTED), DRAFTED.replace(temperature=0.0))
    engine.close()
    assert [one.text for one in done] == ["7 0.7 q", "7 0.7 q", "- 0.0 q"]
    assert [len(bodies(stub)) for stub in stubs] == [1, 2]
    assert bodies(stubs[0])[0] == next(body for body in bodies(stubs[1]) if body["temperature"])
    assert own_threads() == []


def test_without_endpoints_a_request_and_the_engine_are_what_they_were(stubs):
    plain, engine = load(stubs, {}), load(stubs)
    assert engine.fingerprint == plain.fingerprint
    assert engine.handles == plain.handles | {"endpoint"}
    assert plain.unsupported(DRAFTED) == ["endpoint"]
    with pytest.raises(UnsupportedSetting, match="was given: none"):
        plain.pin(DRAFTED)
    for one in (plain, engine):
        ask(one, PLAIN)
        one.close()
    assert bodies(stubs[0])[0] == bodies(stubs[0])[1]
    assert bodies(stubs[1]) == []


def test_it_is_pinned_by_what_the_server_is_and_not_by_where(stubs):
    pins = []
    for address, models in ((stubs[1], ["stub"]), (stubs[0], ["stub"]), (stubs[1], ["stub", "new"])):
        address.set(models=models)
        engine = load(stubs, {"drafted": f"{address.url}#{models[-1]}"})
        pins.append(engine.pin(DRAFTED).endpoint)
        engine.close()
        assert not any(str(port) in pins[-1] for port in (stubs[0].url[17:22], stubs[1].url[17:22]))
    assert pins[0] == pins[1] != pins[2]
    assert pins[0].startswith("drafted@")


def test_another_server_under_the_name_makes_new_cells(stubs, tmp_path, caplog):
    prompts = [Prompt(f"question {number}") for number in range(4)]
    counts = []
    for model in ("stub", "stub", "other"):
        stubs[1].set(models=["stub", "other"])
        engine = load(stubs, {"drafted": f"{stubs[1].url}#{model}"})
        engine.check_space = lambda space: None  # whose generations would be counted
        before = [len(bodies(stub)) for stub in stubs]
        given = {"samples": 1, "progress": False, "default": {"temperature": 0.7}, "out": tmp_path / "sweep"}
        with caplog.at_level(logging.WARNING):
            table = hag.sweep(engine, prompts, DecodingSpace([PLAIN, DRAFTED]), lambda *_: 0.5, **given)
        engine.close()
        counts.append([len(bodies(stub)) - asked for stub, asked in zip(stubs, before, strict=True)])
        assert table.space[1].endpoint == engine.pin(DRAFTED).endpoint
    assert counts == [[4, 4], [0, 0], [0, 4]]
    # It is no artefact that was made from prompts.
    assert "nobody knows" not in caplog.text


def test_each_server_has_its_own_kind_limits_and_refusals(stubs):
    engine = load(stubs, {"drafted": {"url": f"{stubs[1].url}#stub", "server": "compatible"}})
    assert engine.unsupported(DRAFTED.replace(min_p=0.1)) == ["min_p"]
    assert engine.unsupported(PLAIN.replace(min_p=0.1)) == []
    assert engine.refuse_constraint(Constraint(choices=("a", "b")), "mask").startswith("a plain OpenAI-compatible")
    assert engine.refuse_constraint(Constraint(choices=("a", "b")), "ask") == ""
    ask(engine, PLAIN, DRAFTED)
    engine.close()
    assert ["min_p" in bodies(stub)[0] for stub in stubs] == [True, False]


def test_a_server_that_is_lost_is_named_and_takes_no_other_with_it(stubs):
    gone = Client("http://127.0.0.1:9/v1", Key("HAG_NO_KEY", needed=False), timeout=5, connections=4)
    client = Client(stubs[0].url, Key("HAG_NO_KEY", needed=False), timeout=5, connections=4, thread=gone.thread)
    there = OpenAIEngine(gone, "stub", server="vllm", retry_policy=SHORT)
    engine = OpenAIEngine(client, "stub", server="vllm", endpoints={"drafted": there}, retry_policy=SHORT)
    with pytest.raises(hag.EngineError, match=r"127.0.0.1:9/v1 was given up"):
        ask(engine, DRAFTED)
    [done] = ask(engine, PLAIN)
    assert done.finish == "stop"
    engine.close()


def test_adapters_are_those_of_every_server(stubs):
    for stub in stubs:
        stub.set(models=["stub", "sql-lora"])
    engine = load(stubs, adapters={"sql": "sql-lora"})
    config = engine.pin(DRAFTED.replace(adapter="sql"))
    assert (engine.unsupported(config), config.adapter[:4]) == ([], "sql@")
    ask(engine, config)
    engine.close()
    assert [[body["model"] for body in bodies(stub)] for stub in stubs] == [[], ["sql-lora"]]


def test_what_the_engine_was_not_given_is_refused_before_a_token(stubs, tmp_path):
    engine = load(stubs)
    for endpoint in ("fast", pin_name("drafted", "0" * 16)):
        config = PLAIN.replace(endpoint=endpoint)
        assert engine.unsupported(config) == ["endpoint"]
        with pytest.raises(UnsupportedSetting, match=r"endpoint of .*was given: drafted@"):
            hag.sweep(engine, [Prompt("q")], [config], lambda *_: 0.5, out=tmp_path / "sweep")
        with pytest.raises(UnsupportedSetting, match="endpoint"):
            ask(engine, config)
    engine.close()
    assert [bodies(stub) for stub in stubs] == [[], []]


def test_the_check_tries_the_servers_that_the_space_names(stubs):
    for space, asked in (([PLAIN], (True, False)), ([DRAFTED], (False, True)), ([PLAIN, DRAFTED], (True, True))):
        for stub in stubs:
            stub.clear()
        engine = load(stubs)
        engine.check_space(space)
        engine.close()
        assert tuple(bool(bodies(stub)) for stub in stubs) == asked
    engine = load(stubs)
    stubs[1].set(every="400")
    with pytest.raises(hag.EngineError, match="got no answer"):
        engine.check_space([PLAIN, DRAFTED])
    engine.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_key_goes_to_the_host_that_it_is_for(host, stubs, monkeypatch):
    monkeypatch.setenv("HAG_OWN_KEY", "sk-own")
    monkeypatch.setenv("HAG_OTHER_KEY", "sk-other")
    monkeypatch.setenv("HAG_GATEWAY", "gw-own")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    there = stubs[1].url.replace("127.0.0.1", host)
    options = {"key_env": "HAG_OWN_KEY", "headers_env": {"X-Gateway": "HAG_GATEWAY"}}
    for said, key in ((there, "sk-own"), ({"url": there, "key_env": "HAG_OTHER_KEY"}, "sk-other")):
        stubs[1].clear()
        engine = load(stubs, {"drafted": said}, server="vllm", **options)
        ask(engine, PLAIN, DRAFTED)
        engine.close()
        headers = stubs[1].record()[0]["headers"]
        same = host == "127.0.0.1"
        wanted = key if same or key == "sk-other" else "none-needed"
        assert (headers["authorization"], headers.get("x-gateway")) == (f"Bearer {wanted}", "gw-own" if same else None)
        assert stubs[0].record()[-1]["headers"]["authorization"] == "Bearer sk-own"


def test_only_one_of_another_model_is_suggested_for_its_answers(stubs):
    stubs[1].set(models=["stub", "large"], owner="vllm")
    said = {"drafted": f"{stubs[1].url}#stub", "large": f"{stubs[1].url}#large"}
    engine = load(stubs, said)
    assert {config.endpoint for config in make_large_space(engine)} == {"", "large"}
    engine.close()


def test_what_does_not_fit_an_endpoint_names_it(stubs):
    stubs[1].set(models=["stub", "other"], owner="vllm")
    for said, words in (
        (stubs[1].url, r"endpoints\['drafted'\], model: .*stub, other"),
        ({"url": f"{stubs[1].url}#stub", "server": "vlm"}, r"endpoints\['drafted'\], server: .*vlm"),
    ):
        with pytest.raises(InvalidInput, match=words):
            load(stubs, {"drafted": said})
    assert own_threads() == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["drafted"], "a mapping of names to addresses"),
        ({"": "http://engine.invalid/v1"}, "a mapping of names"),
        ({"a@b": "http://engine.invalid/v1"}, "endpoints"),
        ({"drafted": "engine.invalid:8000"}, "an address such as"),
        ({"drafted": "http://engine.invalid/v1#"}, "an address such as"),
        ({"drafted": "http://user:secret@engine.invalid/v1"}, "an address such as"),
        ({"drafted": {"url": "http://engine.invalid/v1", "key": "sk-1"}}, r"expected url, server, key_env.*got key"),
        ({"drafted": {"server": "vllm"}}, "an address such as"),
    ],
)
def test_what_is_no_endpoint_is_refused_and_no_key_repeated(said, words, stubs):
    with pytest.raises(InvalidInput, match=words) as caught:
        load(stubs, said)
    assert "secret" not in str(caught.value)
    assert "sk-1" not in str(caught.value)
