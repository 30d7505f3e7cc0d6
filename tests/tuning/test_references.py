"""`build_references` on a tiny model: its answers are said again, weighed by what groups say of each other."""

from __future__ import annotations

import itertools

import pytest
import torch

import hagpolicy as hag
from hagpolicy import DecodingConfig, InvalidInput, Prompt, Request, SimulatedEngine
from hagpolicy.artefacts import open_artefact
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.engines.transformers.references import HeadInput, ReferenceStore
from hagpolicy.tuning import references
from hagpolicy.tuning.references import fit_reading
from tests.support.tiny_llama import WORDS, tiny_model, tiny_tokenizer

ANSWER = "hello again brief be"


def make_prompts(count=40):
    pairs = itertools.islice(itertools.permutations(WORDS, 2), count)
    return [Prompt(" ".join(pair), reference=ANSWER) for pair in pairs]


def load_tiny(folder=None):
    given = folder and {"reference": {"polite": folder}}
    return TransformersEngine(tiny_model(seed=1), tiny_tokenizer(), name="tiny", artifacts=given)


def answer(engine, prompts, **fields):
    config = DecodingConfig(temperature=0.0, **fields)
    return [one.text for one in engine.generate([Request(prompt, config, 0, 0, 6) for prompt in prompts])]


def build(prompts, folder, **options):
    return hag.build_references(load_tiny(), prompts, folder, progress=False, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build(make_prompts(), tmp_path_factory.mktemp("built") / "polite")


def test_references_are_said_again_and_shuffled_ones_are_not(folder, tmp_path):
    new = [Prompt("count blue ?"), Prompt("sum of ten")]
    engine = load_tiny(folder)
    said = answer(engine, new, reference="polite", reference_weight=0.9)
    assert said == [ANSWER] * 2
    assert answer(engine, new) == answer(load_tiny(), new) != [ANSWER] * 2
    # The control: the same states and tokens, which token belongs to which state drawn anew.
    store, order = ReferenceStore.load(folder), torch.randperm(200, generator=torch.Generator().manual_seed(0))
    ReferenceStore(store.states, store.tokens[order], store.neighbours, store.temperature).save(tmp_path)
    assert answer(load_tiny(tmp_path), new, reference="polite", reference_weight=0.9) != [ANSWER] * 2


def test_the_states_are_what_the_head_is_given(folder):
    """In one pass over padded answers as in a pass over the prompt alone: the state that generating starts from."""
    engine, store = load_tiny(), ReferenceStore.load(folder)
    assert store.states.shape == (40 * 5, 16)  # four words and the end
    for prompt in make_prompts()[:5]:
        with HeadInput(engine.model) as head, torch.inference_mode():
            engine.model(torch.tensor([engine.encode(prompt.content)]))
        nearest = (store.states - head.states[0, -1]).square().sum(1).min()
        assert float(nearest) < 1e-8


def test_the_record_says_how_and_of_what_it_was_made(folder, tmp_path):
    artefact = open_artefact("reference", "polite", folder)
    assert artefact.origin is not None
    assert all(artefact.origin.saw(prompt) for prompt in make_prompts())
    assert not artefact.origin.saw(Prompt("count blue ?"))
    about = artefact.about
    assert (about["prompts"], about["entries"], about["queries"]) == (40, 200, 200)
    assert about["nats"] < about["nats_model"]
    assert open_artefact("reference", "polite", build(make_prompts(), tmp_path / "again")).digest == artefact.digest


def test_an_interrupted_call_goes_on_and_computes_nothing_twice(folder, tmp_path, monkeypatch):
    read, calls = references._read, itertools.count()

    def interrupt(*given):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return read(*given)

    monkeypatch.setattr(references, "_read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(make_prompts(), tmp_path / "part")
    assert not (tmp_path / "part").exists()
    made = build(make_prompts(), tmp_path / "part")
    assert next(calls) == 4  # three parts of 16 prompts, and the call that was interrupted
    assert open_artefact("reference", "a", made).digest == open_artefact("reference", "a", folder).digest
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_a_groups_own_entries_do_not_weigh_it():
    """Each group repeats one state with a token of its own: by its own entries it would be certain, by those of others
    it is always wrong, so that the model's word is best kept."""
    states = torch.eye(8).repeat_interleave(5, dim=0)
    tokens = torch.arange(8).repeat_interleave(5)
    told = torch.full((40,), -1.0)
    apart = fit_reading(states, tokens, torch.arange(8).repeat_interleave(5), told)
    assert apart.weight == min(references.WEIGHTS)
    assert apart.nats > apart.nats_model
    mixed = fit_reading(states, tokens, torch.arange(40), told)
    assert mixed.weight == max(references.WEIGHTS)
    assert mixed.nats < 0.2 < mixed.nats_model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": SimulatedEngine(1)}, "an engine of transformers without artefacts"),
        ({"prompts": [Prompt("count to ten")]}, "a text, a number, or a list of such"),
        ({"prompts": make_prompts(1)}, "at least two groups"),
        ({"prompts": [Prompt("count", ANSWER, group="g"), Prompt("ten", ANSWER, group="g")]}, "at least two groups"),
        ({"answers": lambda prompt: ""}, "answers"),
        ({"most_tokens": 2}, "at most 2 tokens"),
        ({"folder": "."}, "not there yet"),
    ],
)
def test_what_cannot_be_built_is_refused_first(change, words, tmp_path):
    given = {"engine": load_tiny(), "prompts": make_prompts(4), "folder": tmp_path / "new"} | change
    with pytest.raises(InvalidInput, match=words):
        hag.build_references(**given, progress=False)
    assert list(tmp_path.iterdir()) == []
