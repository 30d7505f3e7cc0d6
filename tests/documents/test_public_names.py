"""What a user reaches from `hagpolicy`: the list, what needs what, and that type checkers see real types."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from typing import Any

import pytest

import hagpolicy
from hagpolicy import errors
from tests.support.paths import ROOT

# A name that leaves this list, or joins it, is a change of the public interface: say so in CHANGELOG.md.
PUBLIC = """
Agreement Baseline BaselineChoices BestOf Budget BundleError Candidate Completion Decision DecodingConfig DecodingSpace
Encoder Engine EngineError Estimate Evaluation EvaluationRow FittedLearner ForeignSweep FunctionScorer GraphBuilder
HagError Headroom InvalidInput Learner Majority MissingExtra Objective Observation PassAtK Policy Portfolio Preview
Priced Progress Prompt Quantile RayEngine Receipt Rendering Request Reward Score Scorer SimulatedEngine StoreError
StrategyResult SweepLocked SweepTable UnsupportedSetting WrappedModel WrappedPipeline __version__ evaluate fit
get_scorer headroom judge_agreement load load_engine load_table portfolio preview read_prompts rescore reward_quantiles
sweep with_vectors wrap write_report
""".split()  # noqa: SIM905
# Reached where it is used, not from the root: what a new objective is made of, reporters of progress and labels.
BY_MODULE = {"EngineSpec", "Head", "Labels", "ProgressReporter"}
# Every package that some extra brings, but an onnxruntime.
OPTIONAL = """
accelerate fsspec gguf jinja2 lightgbm matplotlib onnx openai pyarrow ray sacrebleu safetensors scipy sklearn
snowballstemmer threadpoolctl torch tqdm transformers vllm
""".split()  # noqa: SIM905
MISUSES = {
    'hag.fit(3, lerner="ridge")': "call-arg",
    'hag.fit(3, learner="ridge")': "arg-type",
    "hag.nothing": "attr-defined",
    "hag.headroom(table).sbs_indx": "attr-defined",
    'hag.DecodingConfig(temperature="hot")': "arg-type",
    "hag.load(7)": "arg-type",
}


def test_the_list_of_public_names() -> None:
    assert sorted(PUBLIC) == hagpolicy.__all__


def test_every_error_is_public() -> None:
    assert set(errors.__all__) <= set(hagpolicy.__all__)


def test_type_checkers_see_the_names_that_are_imported_late() -> None:
    root = ast.parse((ROOT / "hagpolicy" / "__init__.py").read_text("utf-8"))
    block = next(node for node in root.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == hagpolicy._HOMES


def test_every_name_is_there_without_optional_packages_and_its_use_says_which_one_it_needs() -> None:
    code = f"""import json, sys
sys.modules |= dict.fromkeys({OPTIONAL!r})  # as if they were not installed
import hagpolicy
from hagpolicy.cli import main
for name in hagpolicy.__all__:
    getattr(hagpolicy, name)
table = hagpolicy.SweepTable.from_arrays(["a", "b"], hagpolicy.DecodingSpace.hag()[:2], [[0.0, 1.0], [1.0, 0.0]])
errors = []
for use in (lambda: hagpolicy.fit(table, "precomputed"), hagpolicy.GraphBuilder):
    try:
        use()
    except hagpolicy.MissingExtra as error:
        errors.append(str(error))
print(json.dumps([errors, main(["demo", "--json", "--quiet"])]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    errors, exit_code = json.loads(done.stdout)
    assert errors == [
        "fitting needs the package 'threadpoolctl': pip install 'hagpolicy[fit]'",
        "building a policy's graph needs the package 'onnx': pip install 'hagpolicy[fit]'",
    ]
    assert exit_code == 3
    assert done.stderr.startswith("hagpolicy: ")


def classes_of_the_package() -> set[str]:
    return {
        node.name
        for path in (ROOT / "hagpolicy").rglob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
    }


def test_what_a_subclass_or_a_caller_must_name_is_public_too() -> None:
    """The types in the signatures of public functions and of what subclasses of public classes must define."""
    known = classes_of_the_package()
    missing = set()
    for name in hagpolicy.__all__:
        thing = getattr(hagpolicy, name)
        functions = [thing] if inspect.isfunction(thing) else []
        for method in getattr(thing, "__abstractmethods__", ()):
            found = inspect.getattr_static(thing, method)
            functions.append(getattr(found, "fget", found))
        for function in functions:
            words = set(re.findall(r"\w+", " ".join(map(str, function.__annotations__.values()))))
            missing |= {f"{word} for {name}" for word in words & known - set(hagpolicy.__all__) - BY_MODULE}
    assert not missing


def own_docstrings(thing: Any) -> str:
    """The docstring of a function; those of a class and of its bases in this package."""
    bases = (
        [base for base in inspect.getmro(thing) if base.__module__.startswith("hagpolicy")]
        if inspect.isclass(thing)
        else []
    )
    return "\n".join(inspect.getdoc(part) or "" for part in bases or [thing])


@pytest.mark.parametrize("name", [name for name in hagpolicy.__all__ if name != "__version__"])
def test_docstrings_say_what_every_argument_and_attribute_is(name: str) -> None:
    thing, needed = getattr(hagpolicy, name), set()
    text = own_docstrings(thing)
    if found := re.search(r"^Args: see `(\w+)`", text, re.MULTILINE):  # those of another function
        text = own_docstrings(getattr(hagpolicy, found[1]))
    if inspect.isfunction(thing) or "__init__" in vars(thing):
        needed = {*inspect.signature(thing).parameters} - {"args", "kwargs"}
    assert needed <= {*re.findall(r"^    (\w+):", text, re.MULTILINE)}
    for member, value in vars(thing).items():
        value = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
        assert member.startswith("_") or not inspect.isfunction(value) or inspect.getdoc(value), member


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Messages of one run over right uses, wrong uses and the types of all names, by source line."""
    pytest.importorskip("mypy")
    lines = ["import hagpolicy as hag", "table = hag.load_table('folder')", "policy = hag.fit(table, learner='ridge')"]
    lines += ["print(policy.predict('Hello').temperature, hag.headroom(table).sbs.low)"]
    lines += [*MISUSES, *(f"reveal_type(hag.{name})" for name in hagpolicy.__all__)]
    snippet = tmp_path_factory.mktemp("typed") / "snippet.py"
    snippet.write_text("\n".join(lines), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", "--show-error-codes", str(snippet)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        match = re.match(rf".*{re.escape(snippet.name)}:(\d+): (.*)", line)
        assert match, done.stdout + done.stderr
        source = lines[int(match[1]) - 1]
        found[source] = f"{found.get(source, '')}{match[2]}\n"
    return found


def test_a_misuse_is_an_error_to_a_type_checker(mypy: dict[str, str]) -> None:
    for source, code in MISUSES.items():
        assert f"[{code}]" in mypy[source], source
    assert not [source for source, told in mypy.items() if told.startswith("error:") and source not in MISUSES]


def test_no_public_name_is_any_to_a_type_checker(mypy: dict[str, str]) -> None:
    for name in hagpolicy.__all__:
        told = mypy[f"reveal_type(hag.{name})"]
        assert "Revealed type is" in told
        assert 'is "Any"' not in told, name
