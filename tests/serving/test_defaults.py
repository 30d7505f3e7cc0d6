"""The proven single config in the place where each engine reads its defaults, on transformers' own classes."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput  # noqa: E402
from hagpolicy.config.fields import FIELDS, NEUTRAL, find_idle_fields  # noqa: E402
from hagpolicy.policy.policy import Policy  # noqa: E402
from hagpolicy.serving.default_formats import DEFAULT_FORMATS  # noqa: E402
from hagpolicy.serving.defaults import explain_unproven, export_defaults  # noqa: E402
from tests.support.bold_fields import BESIDE, BOLD  # noqa: E402
from tests.support.making import sums_against_lists  # noqa: E402
from tests.support.tiny_llama import tiny_model, tiny_tokenizer  # noqa: E402

OTHERS = [DecodingConfig(temperature=value) for value in (0.11, 0.12, 0.13, 0.14, 0.15)]
SAYABLE = {
    "greedy": DecodingConfig(temperature=0.0),
    "greedy_with_penalty": DecodingConfig(temperature=0.0, repetition_penalty=1.3),
    "greedy_beside_idle": DecodingConfig(temperature=0.0, top_p=0.5, top_k=3),
    "sampled": DecodingConfig(temperature=0.7, top_p=0.9),
    "cut": DecodingConfig(temperature=1.3, top_k=5, min_p=0.1, typical_p=0.9),
    "beams": DecodingConfig(temperature=0.0, num_beams=3, length_penalty=0.5, no_repeat_ngram_size=2),
    "drafted": DecodingConfig(temperature=0.0, prompt_lookup_num_tokens=3),
    "limited": DecodingConfig(temperature=0.5, max_tokens=5),
}
MODELS = {"modelfile": "llama3.2", "litellm": "hosted_vllm/qwen"}
TEXTS = [name for name in DEFAULT_FORMATS if name != "generation_config"]


@pytest.fixture(scope="module")
def proven() -> Policy:
    """A policy of a real graph, of which only the single best config is proven, +0.3 over what runs today."""
    return sums_against_lists(ships="single_best")


def standing(policy: Policy, config: DecodingConfig) -> Policy:
    """The policy with another config in the place of its reference."""
    return Policy(replace(policy.manifest, space=DecodingSpace([config, *OTHERS])), policy._model, policy._files)


def save_model(folder: Path) -> Path:
    tiny_model(temperature=0.6, top_k=7, do_sample=True).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def split(text: str) -> list[str]:
    """The arguments in a file of arguments, as xargs hands them to a server."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    done = subprocess.run(["xargs", "printf", r"%s\n"], input=lines, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", SAYABLE)
def test_transformers_reads_and_does_what_the_config_says(proven: Policy, name: str, tmp_path: Path) -> None:
    config, folder = SAYABLE[name], save_model(tmp_path)
    made = export_defaults(standing(proven, config), "generation_config", folder)
    assert made.not_said == ()
    traps = [note for note in made.notes if "transformers serve" in note]
    assert len(traps) == config.deterministic + (config.max_tokens is not None)
    read = transformers.GenerationConfig.from_pretrained(folder)
    assert {key: getattr(read, key) for key in config.to_transformers()} == config.to_transformers()
    assert (read.pad_token_id, read.eos_token_id) == (0, 2)
    ids = tiny_tokenizer()("the red sum", return_tensors="pt")["input_ids"]
    model, answers = transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), []
    for said in ({}, config.to_transformers()):
        torch.manual_seed(3)
        answers.append(model.generate(ids, **{"max_new_tokens": 12, **said}).tolist())
        model = tiny_model().eval()  # whose own generation config knows nothing of it
    assert answers[0][0][: len(answers[1][0])] == answers[1][0][: len(answers[0][0])]


def test_what_a_generation_config_held_is_kept_or_told(proven: Policy, tmp_path: Path) -> None:
    before = {"temperature": 0.6, "eos_token_id": [2, 5], "_from_model_config": True, "custom": {"a": 1}}
    (tmp_path / "generation_config.json").write_text(json.dumps(before))
    for config in (SAYABLE["sampled"], SAYABLE["greedy"]):  # twice: what is told is what the makers set
        path = export_defaults(standing(proven, config), "generation_config", tmp_path, command="hagpolicy …").path
        assert path == tmp_path / "generation_config.json"
        held = json.loads(path.read_text())
        assert (held["eos_token_id"], held["custom"]) == ([2, 5], {"a": 1})
        assert "_from_model_config" not in held  # or transformers may make it anew from config.json
        told = json.loads((tmp_path / "generation_config.hagpolicy.json").read_text())
        assert told["replaced"] == {"temperature": 0.6, "_from_model_config": True}
        assert told["config"] == config.to_dict()
        assert "+0.300 [+0.200, +0.400]" in told["proven"][0]
        assert told["command"] == "hagpolicy …"
    assert any("vLLM" in note for note in told["notes"])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "generation_config.hagpolicy.json",
        "generation_config.json",
    ]


def test_a_folder_or_the_file_itself_may_be_new(proven: Policy, tmp_path: Path) -> None:
    for given in (tmp_path / "a" / "b", tmp_path / "c" / "generation_config.json"):
        path = export_defaults(proven, "generation_config", given).path
        assert path is not None
        assert transformers.GenerationConfig.from_pretrained(path.parent).do_sample is False


@pytest.mark.parametrize("to", DEFAULT_FORMATS)
@pytest.mark.parametrize("field", [name for name in FIELDS if name != "unset"])
def test_no_field_is_lost_in_silence(proven: Policy, to: str, field: str) -> None:
    # Alone some fields do nothing, whatever an engine makes of them.
    ways = ({**beside, field: BOLD[field]} for beside in BESIDE.values() if field not in beside)
    config = next(one for one in map(DecodingConfig.from_dict, ways) if field not in find_idle_fields(one.fields()))
    beside = {name: value for name, value in config.to_dict().items() if name != field}
    made, neutral = (
        export_defaults(standing(proven, one), to, model=MODELS.get(to, ""), server="vllm")
        for one in (config, DecodingConfig(**beside))
    )
    lost = [line for line in made.not_said if line.startswith(f"{field}=")]
    changed = made.settings != neutral.settings
    assert bool(lost) != changed or any(note.startswith(f"{field}: nothing to be met") for note in made.notes), field
    assert getattr(config, field) != NEUTRAL[field]
    if to != "generation_config":
        assert all(line in made.text for line in lost)


def test_a_hint_and_penalties_are_named_where_no_default_says_them(proven: Policy) -> None:
    config = DecodingConfig(temperature=0.7, presence_penalty=0.5, hint="Be\nbrief.")
    lost = {
        to: [
            line.partition("=")[0]
            for line in export_defaults(standing(proven, config), to, model=MODELS.get(to, "")).not_said
        ]
        for to in DEFAULT_FORMATS
    }
    assert lost == {
        "generation_config": ["presence_penalty", "hint"],
        "modelfile": ["hint"],
        "llama-server": ["hint"],
        "vllm": ["presence_penalty", "hint"],
        "litellm": ["hint"],
    }
    text = export_defaults(standing(proven, config), "modelfile", model="m").text
    assert [line for line in text.splitlines() if line.startswith("PARAMETER presence")] == [
        "PARAMETER presence_penalty 0.5"
    ]
    assert {line.split()[0] for line in text.splitlines()} == {"#", "FROM", "PARAMETER"}


def test_no_default_fills_the_slots_of_a_hint(proven: Policy) -> None:
    config = DecodingConfig(temperature=0.7, hint="Cover: {keywords}")
    for to in DEFAULT_FORMATS:
        made = export_defaults(standing(proven, config), to, model=MODELS.get(to, ""))
        assert any(line.startswith("hint=") and line.endswith("or fills its slots") for line in made.not_said)
        assert "{keywords}" not in str(made.settings)


def test_ollama_reads_every_parameter_after_from(proven: Policy) -> None:
    text = export_defaults(standing(proven, SAYABLE["sampled"]), "modelfile", model="llama3.2:3b").text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0] == "FROM llama3.2:3b"
    assert {"PARAMETER temperature 0.7", "PARAMETER top_p 0.9", "PARAMETER top_k 0"} <= set(lines[1:])
    assert all(len(line.split()) == 3 for line in lines[1:])


def test_llama_server_gets_its_own_flags(proven: Policy) -> None:
    made = export_defaults(standing(proven, replace(SAYABLE["cut"], max_tokens=9)), "llama-server")
    words = split(made.text)
    said = dict(zip(words[::2], words[1::2], strict=True))
    # As common/arg.cpp of llama.cpp has them.
    flags = """--temp --top-k --top-p --min-p --typical --repeat-penalty --repeat-last-n --presence-penalty
    --frequency-penalty --predict --samplers --dry-multiplier --xtc-probability --top-nsigma --dynatemp-range
    --mirostat""".split()  # noqa: SIM905
    assert sorted(said) == sorted(flags)
    assert (said["--temp"], said["--top-k"], said["--predict"]) == ("1.3", "5", "9")
    assert said["--samplers"] == "penalties;temperature;top_k;top_p;min_p;typ_p"


def test_vllm_gets_the_keys_that_it_reads(proven: Policy) -> None:
    words = split(export_defaults(standing(proven, SAYABLE["limited"]), "vllm").text)
    assert words[0] == "--override-generation-config"
    assert len(words) == 2
    assert json.loads(words[1]) == {
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_new_tokens": 5,
    }
    greedy = split(export_defaults(proven, "vllm").text)
    assert json.loads(greedy[1])["temperature"] == 0.0


def test_litellm_gets_the_settings_of_the_server_behind_it(proven: Policy) -> None:
    yaml = pytest.importorskip("yaml")
    config = DecodingConfig(temperature=0.7, top_k=20, min_p=1e-05)
    for server, extra in (("vllm", {"top_k": 20, "min_p": 1e-05, "repetition_penalty": 1.0}), ("openai", None)):
        made = export_defaults(standing(proven, config), "litellm", model="hosted_vllm/qwen", server=server)
        (entry,) = yaml.safe_load(made.text)["model_list"]
        assert entry["model_name"] == "qwen"
        params = entry["litellm_params"]
        assert (params["model"], params["temperature"], params.get("extra_body")) == ("hosted_vllm/qwen", 0.7, extra)
        assert len(made.not_said) == 2 * (server == "openai")
        assert ("top_p" in params) is (server == "vllm")  # some models of OpenAI refuse it, neutral too
    with pytest.raises(InvalidInput, match="one by one"):
        export_defaults(proven, "litellm", model="openai/qwen", server="transformers_serve")


@pytest.mark.parametrize("to", TEXTS)
def test_the_file_says_what_was_proven_and_whether_it_was_run(proven: Policy, to: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "file"
    made = export_defaults(proven, to, out, model=MODELS.get(to, ""), command="hagpolicy export\nX")
    assert out.read_text() == made.text
    comments = "\n".join(line for line in made.text.splitlines() if line.startswith("#"))
    run = "run by LiteLLM's proxy" if to == "litellm" else "not run"
    for said in ("+0.300 [+0.200, +0.400] (95 % interval)", "60 prompts", "command: hagpolicy export?X", run):
        assert said in comments
    assert str(OTHERS[0]) not in made.text
    export_defaults(proven, to, out, model=MODELS.get(to, ""))  # an older export of ours is replaced


@pytest.mark.parametrize("to", DEFAULT_FORMATS)
def test_what_is_not_ours_is_not_replaced(proven: Policy, to: str, tmp_path: Path) -> None:
    path, given = tmp_path / "generation_config.json", {"model": MODELS.get(to, "")}
    path.write_text("# mine")
    with pytest.raises(InvalidInput, match="another file"):
        export_defaults(proven, to, path, **given)
    assert path.read_text() == "# mine"
    export_defaults(proven, to, path, **given, replace=True)
    assert path.read_text() != "# mine"
    (tmp_path / "blob").write_text("{}")
    path.unlink()
    path.symlink_to(tmp_path / "blob")  # as in the Hub's cache
    with pytest.raises(InvalidInput, match="got a link"):
        export_defaults(proven, to, path, **given, replace=True)
    assert (tmp_path / "blob").read_text() == "{}"


def test_a_foreign_sidecar_is_not_replaced(proven: Policy, tmp_path: Path) -> None:
    (tmp_path / "generation_config.hagpolicy.json").write_text('{"made_by": "me"}')
    with pytest.raises(InvalidInput, match="older export"):
        export_defaults(proven, "generation_config", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("to", ["modelfile", "litellm"])
@pytest.mark.parametrize("model", ["", " ", "a\nSYSTEM b"])
def test_a_model_is_asked_for(proven: Policy, to: str, model: str) -> None:
    with pytest.raises(InvalidInput, match="model: expected"):
        export_defaults(proven, to, model=model)


def test_nothing_is_written_where_no_single_config_is_proven(proven: Policy, tmp_path: Path) -> None:
    unset = standing(proven, DecodingConfig(unset=True))
    for policy, why in ((sums_against_lists(ships="default"), "over what runs today"), (unset, "no setting at all")):
        for to in DEFAULT_FORMATS:
            with pytest.raises(InvalidInput, match=why):
                export_defaults(policy, to, tmp_path / to, model=MODELS.get(to, ""))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidInput, match="Did you mean 'modelfile'"):
        export_defaults(proven, "model_file")


def test_a_choice_per_prompt_over_what_runs_today_is_no_default() -> None:
    today = DecodingConfig(temperature=0.7)
    policy = SimpleNamespace(reference_index=1, default_index=1, ships="per_prompt", reference=today)
    assert "hagpolicy.wrap" in explain_unproven(policy)
    policy.default_index = None
    assert explain_unproven(policy) == ""
