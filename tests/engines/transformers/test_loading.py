"""The transformers engine: loading, defaults and fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hagpolicy import DecodingConfig, load_engine
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.errors import EngineError, InvalidInput
from tests.engines.transformers.cells import QUESTION, SAMPLED, cell, same
from tests.support.tiny_llama import tiny_model, tiny_tokenizer


def test_without_a_template_the_text_goes_in_as_it_is() -> None:
    engine = TransformersEngine(tiny_model(), tiny_tokenizer(chat=False))
    assert engine.encode("red blue") == engine.tokenizer("red blue")["input_ids"]
    turns = ({"role": "user", "content": "red"}, {"role": "user", "content": "blue"})
    assert engine.encode(turns) == engine.encode("red\n\nblue")
    assert engine.fingerprint["chat_template"] == "none"


def test_default_config_is_what_generate_does() -> None:
    tokenizer = tiny_tokenizer()
    assert TransformersEngine(tiny_model(), tokenizer).default_config() == DecodingConfig(temperature=0.0)
    sampling = TransformersEngine(tiny_model(do_sample=True, temperature=0.6), tokenizer).default_config()
    assert sampling == DecodingConfig(temperature=0.6, top_k=50)
    both = TransformersEngine(tiny_model(do_sample=True, top_k=0, top_p=0.9, repetition_penalty=1.1), tokenizer)
    assert both.default_config() == DecodingConfig(top_p=0.9, repetition_penalty=1.1)


def test_settings_beyond_ours_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert TransformersEngine(tiny_model(), tiny_tokenizer()).ignored_settings() == []
    engine = TransformersEngine(tiny_model(suppress_tokens=[3], epsilon_cutoff=0.001), tiny_tokenizer())
    assert engine.ignored_settings() == ["epsilon_cutoff", "suppress_tokens"]
    assert "suppress_tokens" in caplog.text


def test_a_saved_folder_loads_with_the_same_answers(tmp_path: Path) -> None:
    model, tokenizer = tiny_model(seed=5), tiny_tokenizer()
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    unit = [cell(QUESTION, DecodingConfig(temperature=0.0)), cell(QUESTION, SAMPLED, 4)]
    loaded = load_engine(f"transformers:{tmp_path / 'tiny'}", device="cpu")
    assert same(loaded.generate(unit), TransformersEngine(model, tokenizer).generate(unit))
    assert loaded.name == "transformers:tiny"
    again = load_engine(tmp_path / "tiny", device="cpu", dtype="bfloat16")
    assert again.fingerprint["dtype"] == "bfloat16"
    assert again.fingerprint["weights"] == loaded.fingerprint["weights"]
    tiny_model(seed=6).save_pretrained(tmp_path / "tiny")
    other = load_engine(str(tmp_path / "tiny"), device="cpu")
    assert other.fingerprint["weights"] != loaded.fingerprint["weights"]


def test_a_model_given_as_an_object_is_known_by_its_weights() -> None:
    engines = [TransformersEngine(tiny_model(seed), tiny_tokenizer()) for seed in (1, 1, 2)]
    digests = [engine.fingerprint["weights"] for engine in engines]
    assert digests[0] == digests[1] != digests[2]


def test_a_changed_tokenizer_is_another_engine(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    engine = load_engine(tmp_path, device="cpu")
    before = engine.fingerprint
    engine.tokenizer("hello again", padding="max_length", truncation=True, max_length=4)
    assert load_engine(tmp_path, device="cpu").fingerprint == before
    del engine.__dict__["fingerprint"]  # padding of a call is not the tokenizer's identity
    assert engine.fingerprint == before
    path = tmp_path / "tokenizer.json"
    text = path.read_text("utf-8").replace('"red"', '"RED"').replace('"green"', '"red"').replace('"RED"', '"green"')
    path.write_text(text, "utf-8")
    assert load_engine(tmp_path, device="cpu").fingerprint["tokenizer"] != before["tokenizer"]


def test_a_truncated_weights_file_is_an_engine_error(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EngineError, match="could not load"):
        load_engine(tmp_path, device="cpu")


def test_half_precision_runs() -> None:
    engine = TransformersEngine(tiny_model().to(torch.bfloat16), tiny_tokenizer())
    assert engine.generate([cell(QUESTION, SAMPLED.replace(typical_p=0.9), 1, 6)])[0].tokens


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("./nowhere.gguf", {}, "exists"),
        ("transformers:./nowhere", {}, "exists"),
        ("transformers:x/y", {"colour": 1}, "colour"),
        ("transformers:x/y", {"dtype": "int8"}, "dtype"),
        ("transformers:x/y", {"device": "abacus"}, "device"),
        ("transformers:x/y", {"cache": "."}, "cache"),
    ],
)
def test_a_bad_spec_says_what_to_do(spec: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        load_engine(spec, **options)


def test_a_folder_without_a_model_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="could not load"):
        load_engine(tmp_path)


def test_a_closed_engine_holds_no_model() -> None:
    engine = TransformersEngine(tiny_model(), tiny_tokenizer())
    engine.close()
    engine.close()
    assert engine.model is None
