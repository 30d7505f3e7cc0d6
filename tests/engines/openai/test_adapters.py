"""Adapters of a server in a sweep: sent as the server names them, known by their folders."""

from __future__ import annotations

import logging

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput, Prompt, Request, UnsupportedSetting, load_engine
from hagpolicy.artefacts import Artefact, write_record
from hagpolicy.config.fields import pin_name
from hagpolicy.engines.openai.engine import OpenAIEngine
from hagpolicy.engines.spec import EngineSpec
from tests.support.adapter_folder import make_adapter_folder
from tests.support.stub_server import StubProcess

GREEDY = DecodingConfig(temperature=0.0)
TUNED = GREEDY.replace(adapter="sql")
LISTED = ["stub", "sql-lora", "chat-lora"]


@pytest.fixture(scope="module")
def process():
    pytest.importorskip("httpx2")
    with StubProcess() as made:
        yield made


@pytest.fixture
def stub(process):
    process.clear()
    process.set(models=LISTED, owner="vllm")
    return process


def ask(engine, *configs):
    done = engine.generate([Request(Prompt("q"), config, 0, 1, 16) for config in configs])
    engine.close()
    assert [one.error for one in done] == [None] * len(configs)
    return done


def bodies(stub):
    return [note["body"] for note in stub.record()]


def test_an_adapter_is_named_as_the_server_names_it(stub, tmp_path):
    folder = make_adapter_folder(tmp_path / "sql")
    engine = load_engine(
        f"openai:{stub.url}#stub", artifacts={"adapter": {"sql": folder}}, adapters={"sql": "sql-lora"}
    )
    assert isinstance(engine, OpenAIEngine)
    assert engine.unsupported(TUNED) == []
    ask(engine, GREEDY, engine.pin(TUNED))
    assert sorted(body["model"] for body in bodies(stub)) == ["sql-lora", "stub"]
    # By its own name where none is said; the one other model of the list is the bare one.
    stub.set(models=["stub", "sql"])
    ask(load_engine(f"openai:{stub.url}", artifacts={"adapter": {"sql": folder}}), GREEDY, TUNED)
    assert sorted(body["model"] for body in bodies(stub)[2:]) == ["sql", "stub"]


@pytest.mark.parametrize(
    ("server", "there", "asked"),
    [
        ("sglang", "sql-lora", {"model": "stub:sql-lora"}),
        ("sglang", "stub:sql-lora", {"model": "stub:sql-lora"}),
        ("compatible", "sql-lora", {"model": "sql-lora"}),
        ("llama_cpp", "1", {"model": "stub", "lora": [{"id": 1, "scale": 1.0}, {"id": 3, "scale": 0.0}]}),
    ],
)
def test_every_kind_of_server_is_told_in_its_own_way(server, there, asked, stub):
    other = "3" if server == "llama_cpp" else "chat-lora"
    engine = load_engine(f"openai:{stub.url}#stub", server=server, adapters={"sql": there, "chat": other})
    ask(engine, TUNED)
    assert {name: value for name, value in bodies(stub)[0].items() if name in ("model", "lora")} == asked
    engine = load_engine(f"openai:{stub.url}#stub", server=server, adapters={"sql": there, "chat": other})
    stub.clear()
    ask(engine, GREEDY)
    off = [{"id": 1, "scale": 0.0}, {"id": 3, "scale": 0.0}] if server == "llama_cpp" else None
    assert (bodies(stub)[0]["model"], bodies(stub)[0].get("lora")) == ("stub", off)


@pytest.mark.parametrize("server", ["vllm", "sglang", "llama_cpp", "compatible"])
def test_without_adapters_a_request_and_the_engine_are_what_they_were(server, stub):
    plain = load_engine(f"openai:{stub.url}#stub", server=server)
    fingerprint, handles = plain.fingerprint, plain.handles
    ask(plain, GREEDY)
    given = {"sql": "1" if server == "llama_cpp" else "sql-lora"}
    engine = load_engine(f"openai:{stub.url}#stub", server=server, adapters=given)
    assert (engine.fingerprint, engine.handles) == (fingerprint, handles | {"adapter"})
    ask(engine, GREEDY)
    first, second = bodies(stub)
    assert first == {key: value for key, value in second.items() if key != "lora"}


def test_a_retrained_adapter_makes_new_cells_and_leaves_the_others(stub, tmp_path):
    folder, out = make_adapter_folder(tmp_path / "sql", b"first"), tmp_path / "sweep"
    prompts = [Prompt(f"question {number}", reference="x") for number in range(4)]

    def sweep():
        stub.set(models=LISTED, owner="vllm")
        before = len(stub.record())
        engine = load_engine(
            f"openai:{stub.url}#stub", artifacts={"adapter": {"sql": folder}}, adapters={"sql": "sql-lora"}
        )
        engine.check_space = lambda space: None  # whose generations would be counted
        space = DecodingSpace([GREEDY, TUNED])
        table = hag.sweep(engine, prompts, space, "exact_match", samples=1, out=out, default="unset", progress=False)
        engine.close()
        return table.space[1].adapter, len(stub.record()) - before

    first, asked = sweep()
    assert (asked, first.startswith("sql@")) == (12, True)
    assert sweep() == (first, 0)
    make_adapter_folder(folder, b"second")
    second, asked = sweep()
    assert (asked, second != first) == (4, True)


def test_a_record_is_read_and_its_prompts_are_left_out(stub, tmp_path, caplog):
    folder = make_adapter_folder(tmp_path / "sql")
    prompts = [Prompt(f"question {number}", reference="x") for number in range(24)]
    write_record(folder, "adapter", prompts[:3])
    known = {"artifacts": {"adapter": {"sql": folder}}, "adapters": {"sql": "sql-lora"}}
    counts = []
    for options in (known, {"adapters": {"sql": "sql-lora"}}):
        engine = load_engine(f"openai:{stub.url}#stub", **options)
        given = {"samples": 1, "progress": False, "default": {"temperature": 0.0}, "out": tmp_path / str(len(counts))}
        with caplog.at_level(logging.WARNING):
            table = hag.sweep(engine, prompts, DecodingSpace([GREEDY, TUNED]), lambda completion, prompt: 0.5, **given)
        engine.close()
        counts.append(len(table.prompts))
        told = [line for line in caplog.messages if "nobody knows what adapter 'sql' was made from" in line]
        assert bool(told) == (options is not known)
    assert counts == [21, 24]


def test_without_a_folder_it_is_known_by_the_name_that_the_server_has_for_it(stub):
    pins = []
    for there in ("sql-lora", "chat-lora", "sql-lora"):
        engine = load_engine(f"openai:{stub.url}#stub", adapters={"sql": there})
        pins.append(engine.pin(TUNED).adapter)
        engine.close()
    assert pins[0] == pins[2] != pins[1]
    assert all(pin.startswith("sql@") for pin in pins)


def test_what_the_server_was_not_said_to_have_is_refused_before_a_token(stub, tmp_path):
    engine = load_engine(f"openai:{stub.url}#stub", adapters={"sql": "sql-lora"})
    assert engine.unsupported(GREEDY.replace(adapter="chat")) == ["adapter"]
    assert engine.unsupported(GREEDY.replace(adapter=pin_name("sql", "0" * 16))) == ["adapter"]
    assert engine.unsupported(GREEDY.replace(soft_prefix="qa")) == ["soft_prefix"]
    with pytest.raises(UnsupportedSetting, match=r"adapter of .*expected one that openai:stub was given: sql@"):
        hag.sweep(engine, [Prompt("q")], [GREEDY.replace(adapter="chat")], lambda *_: 0.5, out=tmp_path / "sweep")
    engine.close()
    engine = load_engine(f"openai:{stub.url}#stub")
    with pytest.raises(UnsupportedSetting, match="was given: none"):
        engine.pin(TUNED)
    engine.close()
    assert bodies(stub) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adapters": {"sql": "sql_lora"}}, r"adapters\['sql'\].*lists: stub, sql-lora, chat-lora.*sql-lora"),
        ({"adapters": ["sql"]}, "names of adapters"),
        ({"adapters": {"sql": "sql-lora", "chat": "sql-lora"}}, "another name for each"),
        ({"artifacts": {"soft_prefix": {}}}, "those of the field adapter"),
        ({"artifacts": {"adapter": {"sql": "nowhere"}}}, "a folder with adapter_config.json"),
        ({"server": "llama_cpp", "adapters": {"sql": "sql-lora"}}, "numbers of the server's adapters"),
    ],
)
def test_what_is_no_adapter_of_the_server_is_refused_as_the_engine_is_made(options, words, stub):
    with pytest.raises(InvalidInput, match=words):
        load_engine(f"openai:{stub.url}#stub", **options)


def test_folders_are_found_by_workers_in_another_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = EngineSpec.parse("openai:http://engine.invalid/v1#m", artifacts={"adapter": {"sql": "here/sql"}})
    assert spec.with_absolute_paths().options["artifacts"] == {"adapter": {"sql": str(tmp_path / "here" / "sql")}}


def test_what_a_server_has_is_no_folder_here():
    with pytest.raises(InvalidInput, match="expected a folder"):
        Artefact("adapter", "sql", None, "0" * 32).folder  # noqa: B018
