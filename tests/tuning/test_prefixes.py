"""`tune_prefix` on a tiny model: any first rows of it are of use, on record, resumably; the model stays as it was."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, InvalidInput, Prompt, Request, SimulatedEngine
from hagpolicy.artefacts import open_artefact
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

pytest.importorskip("torch")

from hagpolicy.artefacts.soft_prefix import read_soft_prefix
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.tuning import prefixes, training
from hagpolicy.tuning.examples import read_examples
from tests.tuning.test_adapters import make_prompts

ANSWER, TOKENS = "hello", 3
ALL = random.Random(0).sample(make_prompts(182, ANSWER), 182)
TUNED, NEW = ALL[:96], ALL[96:120]


def load_tiny(prefix=None, **options):
    given = None if prefix is None else {"soft_prefix": {"polite": prefix}}
    return TransformersEngine(tiny_model(seed=1), tiny_tokenizer(), name="tiny", artifacts=given, **options)


def answer(engine, prefix="", count=None):
    config = DecodingConfig(temperature=0.0, soft_prefix=prefix, soft_tokens=count)
    return [one.text for one in engine.generate([Request(prompt, config, 0, 0, 6) for prompt in NEW])]


def tune(engine, prompts, folder, **options):
    given = {"epochs": 3, "rate": 0.5, "tokens": TOKENS, "progress": False} | options
    return hag.tune_prefix(engine, prompts, folder, **given)


def test_every_first_k_rows_make_the_answer_likelier_and_random_rows_of_equal_norm_do_not(tmp_path):
    import torch

    engine = load_tiny()
    rows = read_soft_prefix(tune(engine, TUNED, tmp_path / "polite", epochs=5))
    noise = np.random.default_rng(0).normal(size=rows.shape).astype(np.float32)
    noise *= np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    new = read_examples(engine, NEW, None, 64)
    places = prefixes.find_places(engine, new)
    with torch.inference_mode():
        bare = training.compute_answer_loss(engine.model, new)
        for count in range(1, TOKENS + 1):
            trained, random_ = (
                prefixes.compute_spliced_loss(engine.model, new, places, torch.from_numpy(some[:count]))
                for some in (rows, noise)
            )
            assert trained < min(bare, random_) - 0.2, count  # nats a token


def test_the_model_is_as_it_was(tmp_path):
    engine = load_tiny()
    before = answer(engine), engine.fingerprint
    tune(engine, TUNED, tmp_path / "polite", epochs=1)
    assert (answer(engine), engine.fingerprint) == before
    assert all(weight.grad is None for weight in engine.model.parameters())


def test_the_record_says_how_and_of_what_it_was_made(tmp_path):
    prompts = TUNED[:48]
    folder = tune(load_tiny(), prompts, tmp_path / "polite")
    artefact = open_artefact("soft_prefix", "polite", folder)
    assert artefact.origin is not None
    assert all(artefact.origin.saw(prompt) for prompt in prompts)
    assert not artefact.origin.saw(NEW[0])
    about = artefact.about
    assert (about["prompts"], about["tokens"], len(about["held_out"])) == (48, TOKENS, 4)
    assert about["held_out"][about["best_epoch"]] == min(about["held_out"]) < about["held_out"][0]
    assert str(folder.parent) not in "".join(path.read_text("latin-1") for path in folder.iterdir())
    again = tune(load_tiny(), prompts, tmp_path / "again")
    assert open_artefact("soft_prefix", "polite", again).digest == artefact.digest
    # A sweep leaves out what it was made from.
    mixed = [*prompts[:10], *(Prompt(f"say {word} {n}", reference=ANSWER) for n, word in enumerate(["red"] * 24))]
    space = [DecodingConfig(temperature=0.0, soft_prefix=name) for name in ("", "polite")]
    table = hag.sweep(
        load_tiny(folder), mixed, space, "exact_match", max_tokens=6, out=tmp_path / "sweep", progress=False
    )
    assert [prompt.text for prompt in table.prompts] == [prompt.text for prompt in mixed[10:]]


def test_an_interrupted_run_goes_on_to_the_same_prefix(tmp_path, monkeypatch):
    prompts = TUNED[:48]
    whole = open_artefact("soft_prefix", "a", tune(load_tiny(), prompts, tmp_path / "whole", epochs=4))
    compute, calls = prefixes.compute_spliced_loss, itertools.count()

    def interrupt(*arguments):
        if next(calls) == 12:
            raise KeyboardInterrupt
        return compute(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prefixes, "compute_spliced_loss", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tune(load_tiny(), prompts, tmp_path / "part", epochs=4)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == [".part.tuning"]
    seen = itertools.count()
    monkeypatch.setattr(prefixes, "compute_spliced_loss", lambda *given: (next(seen), compute(*given))[1])
    resumed = open_artefact("soft_prefix", "a", tune(load_tiny(), prompts, tmp_path / "part", epochs=4))
    assert resumed.digest == whole.digest
    assert next(seen) < 20  # of 24 steps and 5 looks at what is held out: what was done was not done again


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": SimulatedEngine(1)}, "an engine of transformers without artefacts"),
        ({"tokens": 0}, "tokens"),
        ({"rate": 0.0}, "a number above 0"),
        ({"prompts": [Prompt([{"role": "system", "content": "brief"}], reference="x")]}, "text of a user"),
        ({"folder": "."}, "not there yet"),
    ],
)
def test_what_cannot_be_tuned_is_refused_first(change, words, tmp_path):
    given = {"engine": load_tiny(), "prompts": make_prompts(4), "folder": tmp_path / "new"} | change
    with pytest.raises(InvalidInput, match=words):
        hag.tune_prefix(**given, progress=False)
    assert list(tmp_path.iterdir()) == []
