"""The pinned versions install on every Python that the project says it runs on."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, metadata, version

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.support.paths import ROOT

PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]


def test_no_pin_needs_a_later_python_than_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (least,) = SpecifierSet(project["requires-python"])
    found = {}
    for pin in PINS:
        try:
            installed, needs = version(pin.name), metadata(pin.name).get("Requires-Python") or ""
        except PackageNotFoundError:
            continue
        if pin.specifier.contains(installed, prereleases=True):
            found[pin.name] = SpecifierSet(needs).contains(f"{least.version}.0")
    assert len(found) > len(PINS) // 2
    assert all(found.values()), sorted(name for name, holds in found.items() if not holds)


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.name)
def test_a_pin_names_one_version(pin: Requirement) -> None:
    (one,) = pin.specifier
    assert one.operator == "=="
