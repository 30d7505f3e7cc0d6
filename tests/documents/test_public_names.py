"""What a user reaches from `hagpolicy`: the list, what needs what, and that type checkers see real types."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hagpolicy
from hagpolicy import errors
from tests.support.paths import ROOT

# A name that leaves this list, or joins it, is a change of the public interface: say so in CHANGELOG.md.
PUBLIC = """
Agreement Baseline BaselineChoices BestOf Budget BundleError Candidate Completion Constraint Decision
DecodingConfig DecodingSpace DistilledRules Effect Effects Encoder Engine EngineError Estimate Evaluation
EvaluationRow Explanation
FittedLearner ForeignSweep FunctionScorer GraphBuilder HagError Headroom InvalidInput Learner Look Majority MissingExtra
Objective Observation PairedComparison PassAtK Policy Portfolio PrecomputedEncoder Preview Priced Progress Prompt
PromptValues Quantile RayEngine Receipt Rendering Request RequestReceipt Reward RewriteRules RuleLine Score Scorer
ScorerError SimulatedEngine SpaceSuggestion StoreError StrategyResult SuggestedConfig SweepLocked SweepTable
TransformerEncoder TunedHints UnsupportedSetting WrappedLLM WrappedModel WrappedPipeline __version__ build_draft_memory
build_references compare distill_rules effects evaluate fit
get_scorer headroom judge_agreement load load_engine load_table portfolio preview read_prompts rescore
reward_quantiles suggest_space sweep tune_adapter tune_hints tune_prefix until_proven with_vectors wrap write_report
""".split()  # noqa: SIM905
# Reached where it is used, not from the root: what a new objective is made of, reporters, checks, labels.
BY_MODULE = {"Check", "EngineSpec", "Head", "Labels", "ProgressReporter", "UntilProven"}
# Every package that some extra brings, but an onnxruntime.
OPTIONAL = """
accelerate fsspec gguf jinja2 lightgbm matplotlib onnx openai pyarrow ray sacrebleu safetensors scipy sklearn
snowballstemmer threadpoolctl torch tqdm transformers vllm
""".split()  # noqa: SIM905
# What mypy and pyright call it.
MISUSES = {
    'hag.fit(table, lerner="ridge")': ("call-arg", "reportCallIssue"),
    'hag.fit(3, learner="ridge")': ("arg-type", "reportArgumentType"),
    "print(hag.nothing)": ("attr-defined", "reportAttributeAccessIssue"),
    "print(hag.headroom(table).sbs_indx)": ("attr-defined", "reportAttributeAccessIssue"),
    'hag.DecodingConfig(temperature="hot")': ("arg-type", "reportArgumentType"),
    "hag.load(7)": ("arg-type", "reportArgumentType"),
}
USES = [
    "import hagpolicy as hag",
    "table = hag.load_table('folder')",
    "policy = hag.fit(table, learner='ridge')",
    "print(policy.predict('Hello').temperature, hag.headroom(table).sbs.low)",
]


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


# Messages by source line, each with its severity and code.
Messages = dict[str, list[tuple[str, str]]]


def run_mypy(snippet: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, severity and message of everything that mypy says of a file."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", "--show-error-codes", str(snippet)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    for line in done.stdout.splitlines():
        match = re.match(rf".*{re.escape(snippet.name)}:(\d+): (\w+): (.*)", line)
        assert match, done.stdout + done.stderr
        yield int(match[1]), match[2], match[3]


def run_pyright(snippet: Path) -> Iterator[tuple[int, str, str]]:
    """The same of pyright, as the editors that are built on it say it."""
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, str(snippet)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        if found["severity"] != "warning":
            yield found["range"]["start"]["line"] + 1, found["severity"], f"{found['message']} [{found.get('rule')}]"


CHECKERS = {"mypy": run_mypy, "basedpyright": run_pyright}


@pytest.fixture(scope="module", params=CHECKERS)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Messages]:
    """Number of the checker; its messages of right uses, wrong uses and the types of all names, by source line."""
    pytest.importorskip(request.param)
    lines = [*USES, *MISUSES, *(f"reveal_type(hag.{name})" for name in hagpolicy.__all__)]
    snippet = tmp_path_factory.mktemp("typed") / "snippet.py"
    snippet.write_text("\n".join(lines), "utf-8")
    found: Messages = {}
    for number, severity, message in CHECKERS[request.param](snippet):
        found.setdefault(lines[number - 1], []).append((severity, message))
    return list(CHECKERS).index(request.param), found


def test_a_misuse_is_an_error_to_a_type_checker(told: tuple[int, Messages]) -> None:
    checker, messages = told
    for source, codes in MISUSES.items():
        assert any(f"[{codes[checker]}]" in message for _, message in messages[source]), source
    errors = {source for source, found in messages.items() if any(severity == "error" for severity, _ in found)}
    assert errors == set(MISUSES)


def test_no_public_name_is_any_to_a_type_checker(told: tuple[int, Messages]) -> None:
    for name in hagpolicy.__all__:
        ((_, message),) = told[1][f"reveal_type(hag.{name})"]
        assert re.search("Revealed type is|Type of ", message)
        assert not re.search(r'is "(builtins\.)?(Any|Unknown)"', message), name
