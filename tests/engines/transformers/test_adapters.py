"""Adapters in the transformers engine: rows of several in one batch, and none where none is named."""

from __future__ import annotations

import json

import pytest

from hagpolicy import DecodingConfig, EngineError, Prompt, Request
from hagpolicy.artefacts import open_artefact
from tests.support.tiny_adapter import save_adapter
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

pytest.importorskip("torch")
pytest.importorskip("peft")

from hagpolicy.engines.transformers.engine import TransformersEngine

PROMPTS = [Prompt("name three red colours"), Prompt("why is the sky blue ? say hello again"), Prompt("count to ten")]
WAYS = [{"temperature": 0.0}, {}, {"temperature": 0.0, "num_beams": 3}, {"temperature": 0.7, "top_k": 5}]


def load(model, given=None, **options):
    return TransformersEngine(
        model.double(), tiny_tokenizer(), name="tiny", artifacts=given and {"adapter": given}, **options
    )


def make_cells(adapters, ways=WAYS):
    return [
        Request(prompt, DecodingConfig(**way, adapter=adapter), 0, seed, 10)
        for seed, prompt in enumerate(PROMPTS)
        for way in ways
        for adapter in adapters
    ]


def answer(engine, cells):
    completions = engine.generate(cells)
    assert [one.error for one in completions if one.error] == []
    return [(one.text, one.tokens, one.finish) for one in completions]


@pytest.fixture
def folders(tmp_path):
    model = tiny_model(seed=1)
    return {
        "loud": save_adapter(model, tmp_path / "loud", strength=1.0),
        "other": save_adapter(model, tmp_path / "other", strength=1.0, seed=7),
        "zero": save_adapter(model, tmp_path / "zero", strength=0.0),
    }


def test_a_mixed_batch_is_what_each_adapter_answers_alone_and_the_bare_model_is_as_it_was(folders):
    mixed = load(tiny_model(seed=1), folders)
    names = ["", *folders]
    together = dict(zip(make_cells(names), answer(mixed, make_cells(names)), strict=True))
    bare = answer(load(tiny_model(seed=1)), make_cells([""]))
    assert [together[cell] for cell in make_cells([""])] == bare
    for name, folder in folders.items():
        alone = load(tiny_model(seed=1), {name: folder})
        assert [together[cell] for cell in make_cells([name])] == answer(alone, make_cells([name]))
    # An adapter of zeros says nothing; two that differ say different things: which one answers matters.
    assert [together[cell] for cell in make_cells(["zero"])] == bare
    answers = {name: [together[cell] for cell in make_cells([name])] for name in names}
    assert answers["loud"] != answers["other"] != bare != answers["loud"]


def test_adapters_that_cannot_share_a_batch_are_decoded_apart(tmp_path):
    model = tiny_model(seed=1)
    folders = {
        "weighted": save_adapter(model, tmp_path / "weighted", strength=1.0, use_dora=True),
        "plain": save_adapter(model, tmp_path / "plain", strength=1.0),
    }
    engine = load(tiny_model(seed=1), folders)
    cells = make_cells(["", *folders])
    together = dict(zip(cells, answer(engine, cells), strict=True))
    assert [together[cell] for cell in make_cells([""])] == answer(load(tiny_model(seed=1)), make_cells([""]))
    for name, folder in folders.items():
        alone = load(tiny_model(seed=1), {name: folder})
        assert [together[cell] for cell in make_cells([name])] == answer(alone, make_cells([name]))


def test_rows_that_take_the_place_of_others_keep_their_own_adapter(folders, monkeypatch):
    monkeypatch.setattr("hagpolicy.engines.transformers.engine.CPU_ROWS", 4)
    cells = make_cells(["", *folders], [{"temperature": 0.0}, {}])
    few = answer(load(tiny_model(seed=1), folders), cells)
    monkeypatch.setattr("hagpolicy.engines.transformers.engine.CPU_ROWS", 64)
    assert few == answer(load(tiny_model(seed=1), folders), cells)


def test_the_fingerprint_is_that_of_the_bare_model(folders):
    assert load(tiny_model(seed=1), folders).fingerprint == load(tiny_model(seed=1)).fingerprint


def test_a_pinned_name_is_the_same_adapter_and_another_version_is_refused(folders):
    engine = load(tiny_model(seed=1), folders)
    pinned = open_artefact("adapter", "loud", folders["loud"]).pin
    assert answer(engine, make_cells([pinned])) == answer(engine, make_cells(["loud"]))
    [refused] = engine.generate(make_cells(["loud@0123456789abcdef"], [{}])[:1])
    assert refused.finish == "error"
    assert "cannot honour adapter" in refused.error


def test_a_config_that_names_a_module_is_not_followed(folders, tmp_path, monkeypatch):
    (tmp_path / "megatron").mkdir()
    (tmp_path / "megatron" / "core.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "megatron" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    path = folders["loud"] / "adapter_config.json"
    config = json.loads(path.read_text()) | {"megatron_config": {"x": 1}, "megatron_core": "megatron.core"}
    path.write_text(json.dumps(config))
    with pytest.raises(EngineError, match="has a megatron_config"):
        load(tiny_model(seed=1), {"loud": folders["loud"]})
    assert not (tmp_path / "ran").exists()
    path.write_text("[]")
    with pytest.raises(EngineError, match="cannot be read"):
        load(tiny_model(seed=1), {"loud": folders["loud"]})


def test_an_adapter_of_another_model_is_told_when_the_engine_is_made(folders, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    wider = LlamaForCausalLM(LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                                         num_attention_heads=2)).eval()  # fmt: skip
    with pytest.raises(EngineError, match="PEFT could not load the adapter 'loud'"):
        load(wider, {"loud": folders["loud"]})
