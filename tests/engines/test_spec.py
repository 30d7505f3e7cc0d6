"""What an engine is made from: every way in which a user may give it, and its way to another process."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from hagpolicy import DecodingConfig, SimulatedEngine, load_engine, sweep
from hagpolicy.engines.loading import open_engine
from hagpolicy.engines.spec import ENGINES, EngineKind, EngineSpec
from hagpolicy.errors import EngineError, InvalidInput
from tests.support.sweeping_world import same
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

WITH_PATHS = [kind.name for kind in ENGINES.values() if kind.takes_path]


class Own(SimulatedEngine):
    """An engine of one's own, made from options alone."""


def make_nothing() -> None:
    """No engine."""


@pytest.mark.parametrize(
    ("given", "kind", "name"),
    [
        ("transformers:HuggingFaceTB/SmolLM2-135M-Instruct", "transformers", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("smollm2", "transformers", "smollm2"),
        ("model.gguf", "transformers", "model.gguf"),
        (Path("model.gguf"), "transformers", "model.gguf"),
        ("vllm:model.gguf", "vllm", "model.gguf"),
        ("openai:http://localhost:8000/v1#model", "openai", "http://localhost:8000/v1#model"),
        ("openai:gpt-x", "openai", "gpt-x"),
        ("simulated:7", "simulated", "7"),
        ("simulated", "simulated", ""),
    ],
)
def test_a_spec_is_a_kind_and_a_name(given: Any, kind: str, name: str) -> None:
    spec = EngineSpec.parse(given, unit_cells=3)
    assert (spec.kind.name, spec.name, spec.options) == (kind, name, {"unit_cells": 3})
    assert EngineSpec.parse({"engine": given, "unit_cells": 3}) == spec
    assert EngineSpec.parse({"engine": given}, unit_cells=3) == spec
    assert EngineSpec.parse(spec) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_folder_is_a_model_of_transformers_unless_a_kind_stands_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "openai"):  # a folder may bear the name of a kind
        (tmp_path / name).mkdir()
        assert EngineSpec.parse(name) == EngineSpec.parse(f"transformers:{name}")
    assert EngineSpec.parse("vllm:tiny").kind.name == "vllm"


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        ("transfomers:x", {}, "Did you mean 'transformers'"),
        ("smolm2", {}, "Did you mean 'smollm2'"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", {}, "'transformers:HuggingFaceTB"),
        ("transformers:", {}, "KIND:NAME"),
        ("nothing at all", {}, "Kinds: transformers, openai, vllm, simulated"),
        ("long " * 2000, {}, "KIND:NAME"),
        ("simulated:many", {}, "whole number"),
        ({"delay": 1.0}, {}, "a mapping with the key 'engine', got \\['delay'\\]"),
        ({"engine": "simulated:1", "delay": 1.0}, {"delay": 2.0}, "options: expected each once, got delay both in"),
        (7, {}, "a spec, a mapping with 'engine' and options, or a class, got 7"),
    ],
)
def test_what_is_no_spec_is_refused_with_what_to_do(given: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        load_engine(given, **options)


def test_a_finished_engine_is_given_back_as_it_is() -> None:
    engine = SimulatedEngine(7)
    assert load_engine(engine) is engine
    with pytest.raises(InvalidInput, match="no options beside a finished engine"):
        load_engine(engine, device="cpu")


def test_every_kind_makes_an_engine_or_says_what_is_wrong() -> None:
    """A wrong option reaches the caller as such, whichever kind was asked."""
    assert EngineSpec.parse({"engine": "simulated:7", "unit_cells": 3}).make().unit_cells == 3
    for given in ("simulated:7", "transformers:x/y", "openai:m"):
        with pytest.raises(InvalidInput, match=r"expected one of .*unit_cells|expected one of base_url.*, got colour"):
            EngineSpec.parse(given, colour="red").make()


def test_a_class_or_function_makes_an_engine_of_ones_own() -> None:
    assert isinstance(load_engine(Own, seed=3), Own)
    assert load_engine({"engine": Own, "seed": 3}).name == "simulated:3"
    assert pickle.loads(pickle.dumps(EngineSpec.parse(Own, seed=3))).make().name == "simulated:3"
    with pytest.raises(EngineError, match="make_nothing made no Engine, but NoneType"):
        load_engine(make_nothing)


def test_a_kind_of_ones_own_is_one_row_and_is_sent_with_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINES, "_entries", dict(ENGINES._entries))  # what is registered here ends with the test
    ENGINES.register("own", EngineKind("own", "hagpolicy.simulated:SimulatedEngine"))
    sent = pickle.dumps(EngineSpec.parse("own:7", unit_cells=3))
    assert load_engine("own:7").name == "simulated:7"
    monkeypatch.undo()  # as in a process in which nothing was registered
    assert pickle.loads(sent).make().unit_cells == 3
    with pytest.raises(InvalidInput, match="Kinds"):
        load_engine("own:7")


@pytest.mark.parametrize("kind", WITH_PATHS)
def test_paths_hold_in_a_process_in_another_folder(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "tiny").mkdir()
    expected = {
        "tiny": tmp_path / "tiny",
        "./tiny": tmp_path / "tiny",
        "./not_yet": tmp_path / "not_yet",
        "models/m.gguf": tmp_path / "models" / "m.gguf",
        "~/m.gguf": tmp_path / "home" / "m.gguf",
        str(tmp_path / "tiny"): tmp_path / "tiny",
        "owner/name": "owner/name",  # of the hub
    }
    for name, path in expected.items():
        spec = EngineSpec.parse(f"{kind}:{name}").with_absolute_paths()
        assert (spec.kind.name, spec.name) == (kind, str(path))
    options = dict.fromkeys(ENGINES[kind].path_options, "not_yet") | dict.fromkeys(
        ENGINES[kind].path_or_name_options, "tiny"
    )
    kept = EngineSpec.parse(f"{kind}:tiny", **options, dtype="tiny").with_absolute_paths().options
    assert kept == {name: str(tmp_path / value) for name, value in options.items()} | {"dtype": "tiny"}


def test_folders_by_their_names_hold_in_another_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"adapter": {"sql": "adapters/sql", "chat": Path("chat"), "far": "/far"}}
    for kind in ("transformers:./tiny", "simulated:5"):
        kept = EngineSpec.parse(kind, artifacts=given).with_absolute_paths().options["artifacts"]
        assert {name: str(path) for name, path in kept["adapter"].items()} == {
            "sql": str(tmp_path / "adapters" / "sql"), "chat": str(tmp_path / "chat"), "far": "/far",
        }  # fmt: skip
    # What names no files keeps what reads like one.
    words = {"chat_template_kwargs": {"mode": "./x"}}
    assert EngineSpec.parse("openai:m", extra_body=words).with_absolute_paths().options == {"extra_body": words}


def test_what_is_no_path_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("7", "smollm2", "gpt-x"):
        (tmp_path / name).mkdir()  # folders that happen to bear these names
    for given in ("simulated:7", "smollm2", "transformers:smollm2", "openai:gpt-x", "openai:http://host/v1#m"):
        spec = EngineSpec.parse(given)
        assert spec.with_absolute_paths() == spec


def test_a_path_among_the_options_of_ones_own_engine_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = EngineSpec.parse(Own, folder=Path("kept"), mode="kept").with_absolute_paths()
    assert spec.options == {"folder": tmp_path / "kept", "mode": "kept"}


def test_a_loaded_model_is_taken_with_its_tokenizer() -> None:
    from transformers import pipeline

    model, tokenizer = tiny_model(seed=3), tiny_tokenizer()
    engine = load_engine(model, tokenizer=tokenizer, unit_cells=5)
    assert (engine.name, engine.unit_cells) == ("transformers:model", 5)
    whole = pipeline("text-generation", model=model, tokenizer=tokenizer)
    assert load_engine(whole).fingerprint == engine.fingerprint
    assert load_engine({"engine": "simulated:1"}).fingerprint != engine.fingerprint


def test_a_loaded_model_that_cannot_be_taken_says_why() -> None:
    model = tiny_model()
    for given, options, says in (
        (model, {}, "the tokenizer beside a loaded model, got a LlamaForCausalLM alone"),
        (model, {"tokenizer": tiny_tokenizer(), "colour": 1}, "colour"),
        (tiny_model().train(), {"tokenizer": tiny_tokenizer()}, r"Call model.eval\(\)"),
    ):
        with pytest.raises(InvalidInput, match=says) as caught:
            load_engine(given, **options)
        assert len(str(caught.value)) < 300
    # What is in this process cannot be sent to another.
    with pytest.raises(InvalidInput, match=r"the live LlamaForCausalLM\. Give the spec"):
        EngineSpec.parse(model)


def test_what_is_opened_here_is_closed_here_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(SimulatedEngine, "close", lambda self: closed.append(self.name))
    with open_engine({"engine": "simulated:7", "unit_cells": 3}) as engine:
        assert (engine.name, engine.unit_cells) == ("simulated:7", 3)
    assert closed == ["simulated:7"]
    with open_engine(engine) as again:
        assert again is engine
    assert closed == ["simulated:7"]
    for options, says in (({"on": "mars"}, "'ray', or None"), ({"workers": 2}, "on='ray' beside it")):
        with pytest.raises(InvalidInput, match=says), open_engine("simulated:7", **options):
            pass


def test_a_sweep_takes_all_that_load_engine_takes(tmp_path: Path) -> None:
    prompts = SimulatedEngine(3).prompts(4)
    tables = [
        sweep(
            given,
            prompts,
            [DecodingConfig(temperature=0.0)],
            SimulatedEngine(3).scorer,
            out=tmp_path / str(at),
            progress=False,
        )
        for at, given in enumerate(["simulated:3", EngineSpec.parse("simulated:3"), {"engine": Own, "seed": 3}, Own(3)])
    ]
    assert all(same(table, tables[0]) for table in tables[1:])
