"""`hagpolicy tune …` makes what the library's own calls make, and goes on from where it was interrupted."""

from __future__ import annotations

import inspect
import itertools
import json

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace, Prompt
from hagpolicy.artefacts import open_artefact
from hagpolicy.cli import main
from hagpolicy.cli.options import parse_engine_options
from hagpolicy.cli.parser import build_parser
from tests.cli.running import write_prompts
from tests.support.tiny_llama import WORDS, tiny_model, tiny_tokenizer

pytest.importorskip("torch")
pytest.importorskip("peft")

from hagpolicy.tuning import training

BUILDERS = {
    "adapter": ("adapter", hag.tune_adapter, ["--rank", "2", "--epochs", "2", "--layers", "q_proj,v_proj"]),
    "prefix": ("soft_prefix", hag.tune_prefix, ["--tokens", "3", "--epochs", "2", "--rate", "0.05"]),
    "references": ("reference", hag.build_references, ["--seed", "4"]),
}
OPTIONS = {
    "adapter": {"rank": 2, "epochs": 2, "layers": ["q_proj", "v_proj"]},
    "prefix": {"tokens": 3, "epochs": 2, "rate": 0.05},
    "references": {"seed": 4},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model(seed=1).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def prompts():
    pairs = itertools.islice(itertools.permutations(WORDS, 2), 24)
    return [Prompt(" ".join(pair), reference=f"{pair[0]} again") for pair in pairs]


@pytest.fixture
def run(model, prompts, tmp_path, capsys):
    """A function that runs a verb on the prompts: its exit code, and what it prints."""
    write_prompts(tmp_path / "prompts.jsonl", prompts)

    def call(*words, engine=model, file="prompts.jsonl"):
        given = ["--engine", engine, *([] if file is None else ["--prompts", str(tmp_path / file)])]
        code = main(["tune", *words, *given])
        return code, capsys.readouterr()

    return call


@pytest.mark.parametrize("verb", BUILDERS)
def test_the_artefact_is_that_of_the_librarys_own_call(verb, run, model, prompts, tmp_path):
    kind, build, words = BUILDERS[verb]
    out = tmp_path / "made"
    code, said = run(verb, "--out", str(out), "--quiet", *words)
    assert code == 0
    assert "step" not in said.err  # no bar
    assert "prompt" not in said.err
    own = build(hag.load_engine(model), prompts, tmp_path / "own", progress=False, **OPTIONS[verb])
    assert open_artefact(kind, "a", out).digest == open_artefact(kind, "a", own).digest
    assert f"saved: {out}" in said.out
    # What it says to be next can be typed.
    option = said.out.partition("--engine-option ")[2].rpartition(" …")[0].strip("'")
    artifacts = parse_engine_options([option])["artifacts"]
    assert artifacts == {kind: {"NAME": str(out)}}
    hag.load_engine(model, artifacts=artifacts).close()
    assert run(verb, "--out", str(out))[0] == 2  # not a second time into the same folder


@pytest.mark.parametrize("verb", [*BUILDERS, "hints"])
def test_every_option_of_a_builder_can_be_typed_and_has_its_default(verb):
    build = hag.tune_hints if verb == "hints" else BUILDERS[verb][1]
    given = ["--engine", "smollm2", "--prompts", "p.jsonl", "--out", "made"]
    arguments = vars(build_parser().parse_args(["tune", verb, *given]))
    names = {"folder": "out", "progress": "quiet", "hints": "hint"}
    differing = {}
    for name, parameter in inspect.signature(build).parameters.items():
        assert names.get(name, name) in arguments, name
        default = parameter.default
        if default is not parameter.empty and name not in ("progress", "hints") and arguments[name] != default:
            differing[name] = arguments[name]
    assert differing == {}


def test_an_interrupted_call_goes_on(run, tmp_path, monkeypatch):
    words = ("--epochs", "4", "--quiet")
    assert run("adapter", "--out", str(tmp_path / "whole"), *words)[0] == 0
    compute, calls = training.compute_answer_loss, itertools.count()

    def interrupt(*given):
        if next(calls) == 8:
            raise KeyboardInterrupt
        return compute(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training, "compute_answer_loss", interrupt)
        code, said = run("adapter", "--out", str(tmp_path / "part"), *words)
    assert code == 130
    assert "the same command goes on from there" in said.err
    seen = itertools.count()
    monkeypatch.setattr(training, "compute_answer_loss", lambda *given: (next(seen), compute(*given))[1])
    assert run("adapter", "--out", str(tmp_path / "part"), *words)[0] == 0
    assert next(seen) < 12  # of 12 steps and 5 looks at what is held out
    made = [open_artefact("adapter", "a", tmp_path / name) for name in ("part", "whole")]
    assert made[0].digest == made[1].digest


def test_drafts_are_of_a_table_or_of_answers(run, model, prompts, tmp_path):
    engine = hag.load_engine(model)
    space = DecodingSpace([DecodingConfig(temperature=0.0)])
    table = hag.sweep(
        engine, prompts, space, "exact_match", out=tmp_path / "sweep", max_tokens=4, samples=1, progress=False
    )
    code, said = run("drafts", "--table", str(tmp_path / "sweep"), "--out", str(tmp_path / "a"), "--json", file=None)
    assert code == 0
    own = hag.build_draft_memory(engine, table, tmp_path / "own")
    assert json.loads(said.out)["digest"] == open_artefact("draft_source", "a", own).digest
    assert json.loads(said.out)["about"]["answers"] == len(prompts)
    assert run("drafts", "--out", str(tmp_path / "b"))[0] == 0
    texts = [one.reference for one in prompts]
    own = hag.build_draft_memory(engine, texts, tmp_path / "other", prompts=prompts)
    made = open_artefact("draft_source", "a", tmp_path / "b")
    assert made.digest == open_artefact("draft_source", "a", own).digest
    assert made.origin is not None
    assert all(map(made.origin.saw, prompts))


def test_hints_are_kept_and_swept(run, tmp_path):
    hint = "think step by step ."
    out = tmp_path / "hints"
    words = ("--scorer", "exact_match", "--hint", hint, "--proposals", "2", "--keep", "2", "--max-tokens", "3")
    base = ("--base", "temperature=0,repetition_penalty=1.2")
    code, said = run("hints", *words, *base, "--out", str(out), "--json", "--quiet")
    assert code == 0
    tuned = hag.TunedHints.load(out)
    assert json.loads(said.out)["hints"] == list(tuned.hints)
    raced = hag.load_table(out / "scores").space
    assert hint in [config.hint for config in raced]
    assert {config.repetition_penalty for config in (*raced, *tuned)} == {1.2}
    assert run("hints", *words, "--base", "unset", "--out", str(out))[0] == 2


def test_answers_come_from_a_function_of_ones_own(run, tmp_path):
    (tmp_path / "mine.py").write_text("def answer(prompt):\n    return 'hello again'\n\nWORD = 1\n")
    made = []
    for number, words in enumerate(([], ["--answers", f"{tmp_path / 'mine.py'}:answer"])):
        code, _ = run("drafts", "--out", str(tmp_path / str(number)), *words)
        assert code == 0
        made.append(open_artefact("draft_source", "a", tmp_path / str(number)).digest)
    assert made[0] != made[1]
    for wrong in (f"{tmp_path / 'mine.py'}:WORD", "mine"):
        code, said = run("prefix", "--out", str(tmp_path / "new"), "--answers", wrong)
        assert code == 2
        assert "a function from a prompt to its answer" in said.err


@pytest.mark.parametrize("verb", [*BUILDERS, "drafts"])
def test_another_engine_and_a_folder_that_is_there_are_refused(verb, run, tmp_path):
    code, said = run(verb, "--out", str(tmp_path / "new"), engine="simulated:1")
    assert code == 2
    assert "an engine of transformers" in said.err
    code, said = run(verb, "--out", str(tmp_path), engine="nothing-like-this")
    assert code == 2
    assert "not there yet" in said.err  # before anything is loaded
