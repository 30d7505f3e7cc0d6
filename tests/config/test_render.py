"""Dialects: every field said in each engine's words, and accounted for."""

import logging
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest

from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.config.dialects import DIALECTS
from hagpolicy.config.fields import SPECS
from hagpolicy.config.render import apply_hint, keywords, render, render_as
from hagpolicy.errors import InvalidInput, MissingExtra, UnsupportedSetting
from tests.support.bold_fields import BOLD

ENGINES = ["transformers", "vllm", "sglang", "openai", "llama_cpp", "ollama"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_field_is_sent_explicitly_but_a_limit_that_is_not_set(engine):
    settings = DIALECTS[engine].settings
    neutral = render({}, engine)
    unsaid = {name for name in settings if SPECS[name].unsaid}
    assert {settings[name].key for name in settings if name not in unsaid} <= set(neutral.kwargs)
    assert set(neutral.kwargs).isdisjoint(setting.under or setting.key for setting in map(settings.get, unsaid))
    assert not neutral.beside
    assert render({"max_tokens": 9}, engine).kwargs[settings["max_tokens"].key] == 9
    assert neutral.receipt.exact
    assert not neutral.receipt.notes


def test_what_an_engine_lacks_is_an_error_a_warning_or_on_the_receipt_alone():
    fields = {"typical_p": 0.5}
    with pytest.raises(UnsupportedSetting, match="typical_p on vllm"):
        render(fields, "vllm")
    with pytest.warns(UserWarning, match="^vllm: left out, since it has no such setting: typical_p=0.5$"):
        warned = render(fields, "vllm", unsupported="warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dropped = render(fields, "vllm", unsupported="drop")
    assert dropped == warned
    assert dropped.receipt.dropped == fields
    assert dropped.kwargs == render({}, "vllm").kwargs


def test_all_that_an_engine_lacks_is_named_at_once():
    fields = {"typical_p": 0.5, "no_repeat_ngram_size": 3, "num_beams": 2, "temperature": 2.5, "length_penalty": 1.0}
    with pytest.raises(UnsupportedSetting, match=r"typical_p=0.5, no_repeat_ngram_size=3, num_beams=2, temp") as caught:
        render(fields, "vllm")
    assert caught.value.expected == "settings that the engine has, temperature in [0, 2]"
    with pytest.warns(UserWarning, match="typical_p") as warned:
        render(fields, "vllm", unsupported="warn")
    assert len(warned) == 1


@pytest.mark.parametrize("engine", DIALECTS)
def test_what_is_unset_is_not_sent(engine):
    config = DecodingConfig(unset=True)
    rendering = config.render(engine, "Hi")
    assert (rendering.kwargs, rendering.prompt, rendering.processors) == ({}, "Hi", [])
    assert rendering.receipt.applied == {"hint": "", "unset": True}
    assert rendering.receipt.exact
    limited = DecodingConfig(unset=True, max_tokens=7, hint="be brief").render(engine, "Hi")
    assert limited.kwargs == {DIALECTS[engine].settings["max_tokens"].key: 7}
    assert limited.prompt == "Hi\n\nbe brief"


def test_temperature_zero_is_greedy_as_each_engine_says_it():
    said = {engine: render({"temperature": 0.0, "top_p": 0.5, "top_k": 7}, engine).kwargs for engine in ENGINES}
    assert said["transformers"]["do_sample"] is False
    assert said["transformers"]["temperature"] == 1.0
    for engine in ENGINES[1:]:
        assert said[engine]["temperature"] == 0.0
        assert said[engine]["top_p"] == 1.0
    assert said["sglang"]["top_k"] == -1
    assert said["vllm"]["top_k"] == said["llama_cpp"]["top_k"] == said["ollama"]["top_k"] == 0
    assert "top_k" not in said["openai"]


def test_an_idle_setting_needs_no_support():
    # Greedy decoding does not read typical_p, so an engine without it loses nothing.
    rendering = render({"temperature": 0.0, "typical_p": 0.5}, "vllm")
    assert rendering.receipt.exact
    assert rendering.receipt.idle == {"typical_p": 0.5}
    with pytest.raises(UnsupportedSetting, match="typical_p on vllm"):
        render({"temperature": 0.5, "typical_p": 0.5}, "vllm")


def test_values_beyond_an_engines_range():
    for engine in ("vllm", "openai"):
        with pytest.raises(UnsupportedSetting, match=rf"temperature on {engine}.*\[0, 2\].*2.5"):
            render({"temperature": 2.5}, engine)
        clamped = render({"temperature": 2.5}, engine, unsupported="drop")
        assert clamped.receipt.clamped == {"temperature": (2.5, 2.0)}
        assert clamped.kwargs["temperature"] == 2.0
        assert not clamped.receipt.exact
    with pytest.warns(UserWarning, match=r"^sglang: repetition_penalty=3.0 sent as 2, since it takes \[0, 2\]$"):
        assert render({"repetition_penalty": 3.0}, "sglang", unsupported="warn").kwargs["repetition_penalty"] == 2.0
    # vLLM lifts tiny temperatures by itself: no choice of the caller's, so no error, but it is on the receipt.
    tiny = render({"temperature": 0.001}, "vllm")
    assert tiny.receipt.clamped == {"temperature": (0.001, 0.01)}
    assert tiny.kwargs["temperature"] == 0.01
    assert render({"temperature": 0.01}, "vllm").receipt.exact


def test_what_an_engine_understands_differently_is_noted():
    fields = {"repetition_penalty": 1.2, "presence_penalty": 0.5}
    assert not render(fields, "vllm").receipt.notes
    assert "answer only" in render(fields, "sglang").receipt.notes["repetition_penalty"]
    assert "prompt" in render(fields, "llama_cpp").receipt.notes["presence_penalty"]
    assert set(render(fields, "ollama").receipt.notes) == set(fields)


def test_llama_cpp_has_its_own_samplers_switched_off():
    sent = render({}, "llama_cpp").kwargs
    off = {"dry_multiplier": 0.0, "xtc_probability": 0.0, "mirostat": 0, "top_n_sigma": -1.0, "dynatemp_range": 0.0}
    assert off.items() <= sent.items()
    # The temperature comes before the truncations, as in transformers and vLLM.
    order = {name: place for place, name in enumerate(sent["samplers"])}
    assert order["penalties"] < order["temperature"] < min(order["top_k"], order["top_p"], order["min_p"])
    assert not {"dry", "xtc"} & set(sent["samplers"])
    assert sent["repeat_last_n"] > 10_000


def test_keywords_refuse_what_only_render_can_say():
    assert keywords({"temperature": 0.5}, "openai")["temperature"] == 0.5
    for engine in ENGINES:
        with pytest.raises(UnsupportedSetting, match=f"hint on {engine}.*render"):
            keywords({"hint": "Be brief."}, engine)
    for name in ("presence_penalty", "frequency_penalty"):
        with pytest.raises(UnsupportedSetting, match=f"{name} on transformers.*render"):
            keywords({name: 0.5}, "transformers")
        assert keywords({name: 0.5}, "vllm")[name] == 0.5


def test_a_config_speaks_every_dialect():
    config = DecodingConfig(temperature=0.5, max_tokens=9)
    assert config.to_transformers()["max_new_tokens"] == 9
    assert config.to_vllm()["max_tokens"] == 9
    assert config.to_sglang()["max_new_tokens"] == 9
    assert config.to_openai()["max_completion_tokens"] == 9
    assert config.to_llama_cpp()["n_predict"] == 9
    assert config.to_ollama()["num_predict"] == 9
    with pytest.raises(UnsupportedSetting, match="render"):
        DecodingConfig(hint="Be brief.").to_vllm()
    assert DecodingConfig(hint="Be brief.").render("vllm", "Hi").prompt == "Hi\n\nBe brief."


def test_bad_calls_are_refused():
    with pytest.raises(InvalidInput, match="Did you mean 'vllm'"):
        render({}, "vlm")
    with pytest.raises(InvalidInput, match="unsupported"):
        render({}, "vllm", unsupported="ignore")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="topp"):
        render({"topp": 1}, "vllm")


def test_a_hint_goes_to_the_end_of_the_last_user_message():
    assert apply_hint("Why?", "") == "Why?"
    assert apply_hint("Why?", "Be brief.") == "Why?\n\nBe brief."
    chat = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C", "name": "kim"},
        {"role": "assistant", "content": "D"},
    ]
    hinted = apply_hint(chat, "H")
    assert [m["content"] for m in hinted] == ["S", "A", "B", "C\n\nH", "D"]
    assert hinted[3]["name"] == "kim"
    assert chat[3]["content"] == "C", "the caller's messages are untouched"
    assert apply_hint([{"role": "system", "content": "S"}], "H")[-1] == {"role": "user", "content": "H"}
    parts = apply_hint([{"role": "user", "content": [{"type": "text", "text": "A"}]}], "H")
    assert parts[0]["content"] == [{"type": "text", "text": "A\n\nH"}]


def test_dialects_need_nothing_installed():
    loaded = "import sys, hagpolicy.config.render; print(sorted({'numpy', 'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture(scope="module")
def contrary():
    """A model whose own generation_config contradicts every neutral value."""
    pytest.importorskip("torch")
    from tests.support.tiny_llama import tiny_model

    return tiny_model(
        do_sample=True,
        temperature=0.3,
        top_p=0.5,
        top_k=3,
        min_p=0.2,
        typical_p=0.6,
        repetition_penalty=1.7,
        no_repeat_ngram_size=2,
        num_beams=2,
        length_penalty=2.0,
        epsilon_cutoff=0.1,
        eta_cutoff=0.1,
        early_stopping=True,
        top_h=0.5,
    )


def test_processors_are_new_at_every_access_and_name_the_missing_extra(monkeypatch):
    pytest.importorskip("torch")
    rendering = render({"presence_penalty": 0.5}, "transformers")
    assert rendering.processors[0] is not rendering.processors[0]
    assert render({}, "transformers").processors == []
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"hagpolicy\[sweep\]"):
        rendering.processors  # noqa: B018


STANDARD = [
    *DecodingSpace.preset("standard"),
    *DecodingSpace.hag()[::7],
    DecodingConfig(
        **{name: BOLD[name] for name in DIALECTS["transformers"].handles} | {"num_beams": 1, "unset": False}
    ),
]


@pytest.mark.parametrize("config", STANDARD, ids=str)
def test_transformers_own_generation_config_accepts_every_rendering(config):
    from transformers import GenerationConfig

    sent = config.render("transformers").kwargs
    generation = GenerationConfig(**sent)
    generation.validate(strict=True)
    assert {name: getattr(generation, name) for name in sent} == sent


@pytest.mark.parametrize("config", STANDARD, ids=str)
def test_transformers_generate_obeys_without_a_warning(config, contrary, caplog):
    """Against a model whose own generation_config says otherwise in every field."""
    import torch
    from transformers.utils import logging as transformers_logging

    seen = {}
    original = type(contrary)._get_logits_processor

    def spy(self, generation_config, *args, **kwargs):
        seen.update(vars(generation_config))
        return original(self, generation_config, *args, **kwargs)

    rendering = config.render("transformers")
    transformers_logging.warning_once.cache_clear()
    transformers_logging.enable_propagation()
    type(contrary)._get_logits_processor = spy
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            out = contrary.generate(
                torch.tensor([[9, 10, 11]]),
                **{**rendering.kwargs, "max_new_tokens": 3, "min_new_tokens": 3},
                logits_processor=rendering.processors,
            )
    finally:
        type(contrary)._get_logits_processor = original
        transformers_logging.disable_propagation()
    assert out.shape[1] == 6
    assert not caplog.records, caplog.text
    for name, value in rendering.kwargs.items():
        if name != "max_new_tokens":
            assert seen[name] == value, name
    assert not seen["top_h"]
    assert not seen["epsilon_cutoff"]
    assert not seen["eta_cutoff"]
    assert not seen["early_stopping"]


def test_a_dialect_can_leave_neutral_values_out():
    dialect = replace(DIALECTS["openai"], optional=frozenset({"temperature", "top_p"}))
    for fields, keys in (({"temperature": 0.5}, {"temperature"}), ({"top_p": 0.5}, {"top_p"}), ({}, set())):
        rendering = render_as(dialect, fields, "a model")
        assert rendering.kwargs.keys() & {"temperature", "top_p"} == keys
        assert rendering.receipt.exact
        assert rendering.receipt.notes.keys() == {"temperature", "top_p"} - keys
