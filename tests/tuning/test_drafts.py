"""`build_draft_memory`: from a table's texts or from texts, on record, and drafted from."""

from __future__ import annotations

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput, Prompt, Request, SimulatedEngine, SweepTable
from hagpolicy.artefacts import open_artefact
from hagpolicy.engines.transformers.drafts import DraftMemory
from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

PROMPTS = [
    Prompt(f"{one} {two} ?", ["hello"], group=one)
    for one in ("red", "green", "blue")
    for two in ("count", "say", "why")
]
DRAFTED = DecodingConfig(temperature=0.0, prompt_lookup_num_tokens=6)


def load_tiny(folder=None):
    given = folder and {"draft_source": {"memory": folder}}
    return TransformersEngine(tiny_model(seed=5), tiny_tokenizer(), name="tiny", artifacts=given)


def count_passes(engine, prompt, config):
    [done] = engine.generate([Request(prompt, config, 0, 0, 24)])
    return done.text, done.passes


def test_a_table_is_remembered_its_prompts_on_record_and_its_answers_drafted_at_once(tmp_path):
    engine, space = load_tiny(), DecodingSpace([DecodingConfig(temperature=0.0)])
    options = {"samples": 1, "max_tokens": 24, "default": None, "progress": False}
    table = hag.sweep(engine, PROMPTS, space, "contains_all", out=tmp_path / "sweep", **options)
    folder = hag.build_draft_memory(engine, table, tmp_path / "memory")
    artefact = open_artefact("draft_source", "memory", folder)
    assert artefact.origin is not None
    assert all(artefact.origin.saw(prompt) for prompt in PROMPTS)
    assert not artefact.origin.saw(Prompt("ten ?"))
    assert artefact.about["answers"] == table.counts.sum()
    remembering = load_tiny(folder)
    for prompt in PROMPTS:
        text, passes = count_passes(engine, prompt, DRAFTED)
        again, fewer = count_passes(remembering, prompt, DRAFTED.replace(draft_source="memory"))
        assert again == text
        assert fewer <= passes
    sums = [
        sum(count_passes(one, prompt, config)[1] for prompt in PROMPTS)
        for one, config in ((engine, DRAFTED), (remembering, DRAFTED.replace(draft_source="memory")))
    ]
    assert sums[1] < 0.9 * sums[0]


def test_texts_lead_from_the_end_of_the_template_to_their_end(tmp_path):
    engine = load_tiny()
    words = engine.tokenizer.get_vocab()
    memory = DraftMemory.load(hag.build_draft_memory(engine, ["red blue", "red green green"], tmp_path / "memory"))
    lead = engine.encode("why ?")[-2:]
    assert memory.propose(lead, 1) == [words["red"]]
    assert memory.propose([words["red"], words["blue"]], 3) == engine.end_tokens[:1]
    assert open_artefact("draft_source", "m", tmp_path / "memory").origin is None  # nobody knows
    told = hag.build_draft_memory(engine, ["red"], tmp_path / "told", prompts=["say red"])
    assert open_artefact("draft_source", "m", told).origin.saw(Prompt("say red"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": SimulatedEngine(1)}, "an engine of transformers"),
        ({"answers": []}, "at least one text"),
        ({"answers": "red"}, "a table, or a list of texts"),
        ({"prompts": ["one", "two"]}, "one a text, 1"),
        ({"folder": "."}, "not there yet"),
    ],
)
def test_what_cannot_be_remembered_is_refused_first(change, words, tmp_path):
    given = {"engine": load_tiny(), "answers": ["red"], "folder": tmp_path / "new"} | change
    with pytest.raises(InvalidInput, match=words):
        hag.build_draft_memory(**given)
    assert list(tmp_path.iterdir()) == []


def test_a_table_without_texts_is_refused(tmp_path):
    table = SweepTable.from_arrays(PROMPTS, DecodingSpace([DecodingConfig(temperature=0.0)]), [[0.0]] * len(PROMPTS))
    with pytest.raises(InvalidInput, match="whose texts are stored"):
        hag.build_draft_memory(load_tiny(), table, tmp_path / "new")
