"""References in the transformers engine: a share of a store's tokens, in the batch, beside beams and beside drafts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hagpolicy import DecodingConfig, EngineError, Prompt, Request
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.engines.transformers.references import ReferenceProcessor, ReferenceStore
from tests.support.tiny_artefacts import save_references
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

PROMPTS = [Prompt("name three red colours"), Prompt("why is the sky blue ? say hello again"), Prompt("count to ten")]
WAYS = [
    {"temperature": 0.0},
    {},
    {"temperature": 0.7, "top_k": 5, "repetition_penalty": 1.3},
    {"temperature": 0.0, "num_beams": 3, "repetition_penalty": 1.3},
    {"temperature": 0.0, "prompt_lookup_num_tokens": 4},
]
SAID = [{}, {"reference": "one", "reference_weight": 0.5}, {"reference": "two", "reference_weight": 0.9}]


def load(folders=None):
    given = folders and {"reference": folders}
    return TransformersEngine(tiny_model(seed=1).double(), tiny_tokenizer(), name="tiny", artifacts=given)


def make_cells(said, ways=WAYS):
    return [
        Request(prompt, DecodingConfig(**way, **fields), 0, seed, 10)
        for seed, prompt in enumerate(PROMPTS)
        for way in ways
        for fields in said
    ]


def answer(engine, cells):
    completions = engine.generate(cells)
    assert [one.error for one in completions if one.error] == []
    return [(one.text, one.tokens, one.finish) for one in completions]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    model, root = tiny_model(seed=1), tmp_path_factory.mktemp("stores")
    return {name: save_references(model, root / name, seed=seed) for seed, name in enumerate(("one", "two"))}


def test_a_mixed_batch_is_what_each_store_answers_alone_and_the_bare_model_is_as_it_was(folders):
    together = dict(zip(make_cells(SAID), answer(load(folders), make_cells(SAID)), strict=True))
    bare = answer(load(), make_cells([{}]))
    assert [together[cell] for cell in make_cells([{}])] == bare
    for said in SAID[1:]:
        alone = load({said["reference"]: folders[said["reference"]]})
        for cell in make_cells([said]):
            assert [together[cell]] == answer(alone, [cell])
    answers = [[together[cell] for cell in make_cells([said])] for said in SAID]
    assert all(one != other for at, one in enumerate(answers) for other in answers[:at])


def test_a_share_of_nothing_and_a_store_without_a_share_are_the_bare_model(folders):
    engine, bare = load(folders), answer(load(), make_cells([{}]))
    for idle in ({"reference": "one"}, {"reference_weight": 0.7}):
        assert answer(engine, make_cells([idle])) == bare
    configs = [DecodingConfig(**fields) for fields in ({}, {"reference": "one"}, {"reference_weight": 0.7})]
    assert len({engine.pin(config).canonical().digest for config in configs}) == 1


def test_greedy_tokens_are_those_of_the_published_mixture(folders):
    """Step by step in numpy: softmax of negative distances over the nearest entries, mixed with the model's."""
    engine, weight = load(folders), 0.6
    said = {"reference": "one", "reference_weight": weight}
    cells = make_cells([said], [{"temperature": 0.0}])
    store = ReferenceStore.load(folders["one"])
    states, tokens = store.states.numpy().astype(float), store.tokens.numpy()
    for cell, (text, *_) in zip(cells, answer(engine, cells), strict=True):
        ids, length = engine.encode(cell.prompt.content), 0
        for _ in range(10):
            with torch.no_grad():
                out = engine.model(torch.tensor([ids]), output_hidden_states=True)
            hidden = out.hidden_states[-1][0, -1].numpy()
            distances = ((states - hidden) ** 2).sum(axis=1)
            nearest = np.argsort(distances)[: store.neighbours]
            share = np.exp(-(distances[nearest] - distances.min()) / store.temperature)
            chances = (1 - weight) * out.logits[0, -1].softmax(-1).numpy()
            np.add.at(chances, tokens[nearest], weight * share / share.sum())
            ids, length = [*ids, int(chances.argmax())], length + 1
            if ids[-1] in engine.end_tokens:
                break
        assert text == engine.tokenizer.decode(ids[-length:], skip_special_tokens=True)


def test_the_whole_weight_says_what_the_references_say_and_shuffled_ones_do_not(tmp_path, folders):
    """The control that must fail: the same states with other tokens behind them."""
    engine = load()
    cell = make_cells([{}], [{"temperature": 0.0}])[0]
    wanted = engine.tokenizer("hello again brief", add_special_tokens=False)["input_ids"] + engine.end_tokens[:1]
    ids = engine.encode(cell.prompt.content)
    with torch.no_grad():
        out = engine.model(torch.tensor([ids + wanted[:-1]]), output_hidden_states=True)
    states = out.hidden_states[-1][0, len(ids) - 1 :].float()
    told = {}
    for name, tokens in (("said", wanted), ("shuffled", [wanted[at] for at in (1, 2, 3, 0)])):
        (tmp_path / name).mkdir()
        ReferenceStore(states, torch.tensor(tokens), 1, 1.0).save(tmp_path / name)
        told[name] = tmp_path / name
    fields = [{"reference": name, "reference_weight": 1.0} for name in told]
    cells = [Request(cell.prompt, DecodingConfig(temperature=0.0, **one), 0, 0, 10) for one in fields]
    said, shuffled = answer(load(told), cells)
    assert said[0] == "hello again brief"
    assert shuffled[0] != said[0]


def test_a_processor_gives_what_the_engine_gives(folders):
    engine, store = load(folders), ReferenceStore.load(folders["one"])
    said = {"reference": "one", "reference_weight": 0.5}
    for way in ({"temperature": 0.0}, {"temperature": 0.0, "num_beams": 3}):
        for cell, (text, *_) in zip(make_cells([said], [way]), answer(engine, make_cells([said], [way])), strict=True):
            ids = torch.tensor([engine.encode(cell.prompt.content)])
            kwargs = {"do_sample": False, "max_new_tokens": 10, "num_beams": way.get("num_beams", 1)}
            with ReferenceProcessor(engine.model, store, 0.5) as processor:
                out = engine.model.generate(ids, logits_processor=[processor], **kwargs)
            assert engine.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True) == text
    assert not engine.model.get_output_embeddings()._forward_pre_hooks
    assert not engine.model._forward_hooks


def test_rows_that_take_the_place_of_others_keep_their_own_store(folders, monkeypatch):
    cells = make_cells(SAID, [{"temperature": 0.0}, {}])
    monkeypatch.setattr("hagpolicy.engines.transformers.engine.CPU_ROWS", 4)
    few = answer(load(folders), cells)
    monkeypatch.setattr("hagpolicy.engines.transformers.engine.CPU_ROWS", 64)
    assert few == answer(load(folders), cells)


def test_a_search_in_parts_finds_the_same_entries(folders, monkeypatch):
    store = ReferenceStore.load(folders["one"])
    hidden = torch.randn(5, store.states.shape[1], generator=torch.Generator().manual_seed(3))
    whole = store.find(hidden)
    monkeypatch.setattr("hagpolicy.engines.transformers.references.CHUNK", 7)
    parts = store.find(hidden)
    assert torch.equal(whole[1], parts[1])
    assert torch.allclose(whole[0], parts[0])


def test_what_is_no_store_of_this_model_is_told_when_the_engine_is_made(folders, tmp_path):
    store = ReferenceStore.load(folders["one"])
    bad = {
        "narrow": ReferenceStore(store.states[:, :8], store.tokens, 4, 1.0),
        "foreign": ReferenceStore(store.states, store.tokens + 1000, 4, 1.0),
        "still": ReferenceStore(store.states, store.tokens, 4, 0.0),
    }
    for name, one in bad.items():
        (tmp_path / name).mkdir()
        one.save(tmp_path / name)
        with pytest.raises(EngineError, match=f"the references '{name}' of .* (of another model|cannot be read)"):
            load({name: tmp_path / name})
