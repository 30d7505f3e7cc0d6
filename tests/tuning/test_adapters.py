"""`tune_adapter` on a tiny model: it learns, on record, resumably, and leaves the model as it was."""

from __future__ import annotations

import itertools

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, InvalidInput, Prompt, Request, SimulatedEngine
from hagpolicy.artefacts import open_artefact
from tests.support.tiny_adapter import save_adapter
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

pytest.importorskip("torch")
pytest.importorskip("peft")

from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.tuning import training

WORDS = ["what", "is", "the", "sum", "of", "name", "three", "red", "green", "blue", "colours", "count", "to", "ten"]
ANSWER = "hello again brief"


def make_prompts(count=48, answer=ANSWER):
    pairs = itertools.islice(itertools.permutations(WORDS, 2), count)
    return [Prompt(" ".join(pair), reference=answer) for pair in pairs]


def load_tiny(**options):
    return TransformersEngine(tiny_model(seed=1), tiny_tokenizer(), name="tiny", **options)


def answer(engine, prompts, adapter=""):
    config = DecodingConfig(temperature=0.0, adapter=adapter)
    return [one.text for one in engine.generate([Request(prompt, config, 0, 0, 6) for prompt in prompts])]


def tune(engine, prompts, folder, **options):
    return hag.tune_adapter(engine, prompts, folder, **({"epochs": 6, "rate": 2e-2, "progress": False} | options))


def test_an_adapter_learns_its_answers_and_the_model_is_as_it_was(tmp_path):
    engine, prompts = load_tiny(), make_prompts()
    before = answer(engine, prompts), engine.fingerprint
    folder = tune(engine, prompts, tmp_path / "polite")
    assert (answer(engine, prompts), engine.fingerprint) == before
    tuned = load_tiny(artifacts={"adapter": {"polite": folder}})
    new = [Prompt("count blue ?"), Prompt("sum of ten")]
    assert answer(tuned, new, "polite") == [ANSWER] * 2
    assert answer(tuned, new) == answer(engine, new) != [ANSWER] * 2
    # The control: another adapter in its place does not say it.
    swapped = load_tiny(artifacts={"adapter": {"polite": save_adapter(tiny_model(), tmp_path / "noise", strength=0.1)}})
    assert answer(swapped, new, "polite") != [ANSWER] * 2


def test_the_record_says_how_and_of_what_it_was_made(tmp_path):
    prompts = make_prompts()
    artefact = open_artefact("adapter", "polite", tune(load_tiny(), prompts, tmp_path / "polite"))
    assert artefact.origin is not None
    assert all(artefact.origin.saw(prompt) for prompt in prompts)
    assert not artefact.origin.saw(Prompt("count blue ?"))
    about = artefact.about
    assert about["prompts"] == 48
    assert about["loss_last"] < about["loss_first"]
    assert len(about["held_out"]) == 7
    assert about["held_out"][about["best_epoch"]] == min(about["held_out"])
    # Nothing of this machine is in it, and the same call makes the same artefact.
    assert str(tmp_path) not in "".join(path.read_text("latin-1") for path in artefact.path.iterdir())
    assert open_artefact("adapter", "polite", tune(load_tiny(), prompts, tmp_path / "again")).digest == artefact.digest


def test_an_interrupted_run_goes_on_to_the_same_adapter(tmp_path, monkeypatch):
    prompts = make_prompts()
    whole = open_artefact("adapter", "a", tune(load_tiny(), prompts, tmp_path / "whole"))
    compute, calls = training.compute_answer_loss, itertools.count()

    def interrupt(*arguments):
        if next(calls) == 20:
            raise KeyboardInterrupt
        return compute(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "compute_answer_loss", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tune(load_tiny(), prompts, tmp_path / "new" / "part")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".part.tuning"]
    seen = itertools.count()
    monkeypatch.setattr(training, "compute_answer_loss", lambda *given: (next(seen), compute(*given))[1])
    resumed = open_artefact("adapter", "a", tune(load_tiny(), prompts, tmp_path / "new" / "part"))
    assert resumed.digest == whole.digest
    assert next(seen) < 30  # of 36 steps and 7 looks at what is held out: what was done was not done again
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["part"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": SimulatedEngine(1)}, "an engine of transformers without artefacts"),
        ({"rank": 0}, "rank"),
        ({"rate": -1.0}, "a number above 0"),
        ({"prompts": [Prompt("count to ten")]}, "a text, a number, or a list of such"),
        ({"answers": lambda prompt: ""}, "answers"),
        ({"most_tokens": 2}, "at most 2 tokens"),
        ({"folder": "."}, "not there yet"),
    ],
)
def test_what_cannot_be_tuned_is_refused_first(change, words, tmp_path):
    given = {"engine": load_tiny(), "prompts": make_prompts(4), "folder": tmp_path / "new"} | change
    with pytest.raises(InvalidInput, match=words):
        hag.tune_adapter(**given, progress=False)
    assert list(tmp_path.iterdir()) == []
