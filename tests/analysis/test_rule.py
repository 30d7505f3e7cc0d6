"""The numbers of the gate stand in one place, and every text that names one names that one."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis import rule
from hagpolicy.analysis.bootstrap import GroupBootstrap

ROOT = Path(hag.__file__).parent
# What a text says around a number of the rule, and which number that is.
SAID = {
    r"at least (\d+) groups depart": rule.MIN_DEPARTING,
    r"fewer than (\d+) independent groups depart": rule.MIN_DEPARTING,
    r"\b(1\.3\d*) times as wide": rule.WIDER,
}


@pytest.mark.parametrize(
    ("low", "departing", "ships"),
    [
        (0.001, rule.MIN_DEPARTING, True),
        (0.001, rule.MIN_DEPARTING - 1, False),
        (0.0, 100, False),
        (float("nan"), 100, False),
    ],
)
def test_ships_above_zero_and_where_enough_groups_depart(low: float, departing: int, ships: bool) -> None:
    assert rule.may_ship(low, departing) is ships


def test_the_width_is_that_of_a_mean_over_the_groups_that_a_draw_leaves_out() -> None:
    boot = GroupBootstrap(np.arange(400))
    share = (boot.counts == 0.0).mean()
    assert pytest.approx(np.sqrt((1.0 - share) / share), abs=0.01) == rule.WIDER
    width = np.quantile(boot.out_of_bag_means(np.random.default_rng(0).normal(size=(400, 1))), [0.025, 0.975])
    assert np.diff(width)[0] == pytest.approx(2 * rule.ERRORS * rule.WIDER / np.sqrt(400), rel=0.1)


@pytest.mark.parametrize("number", [rule.WIDER, rule.ERRORS])
def test_no_other_module_writes_a_number_of_the_rule(number: float) -> None:
    found = [
        path.name
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value == number
    ]
    assert found == ["rule.py"]


def test_texts_name_the_numbers_of_the_rule() -> None:
    root = ROOT.parent
    paths = [*ROOT.rglob("*.py"), *root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("benchmarks/**/*.md")]
    found = set()
    for text in (path.read_text("utf-8") for path in paths):
        for pattern, number in SAID.items():
            for said in re.findall(pattern, text):
                assert float(said) == number
                found.add(number)
    assert found == set(SAID.values())  # else the patterns are of words that no text uses any more


def test_the_rule_is_in_the_docstring_of_fit() -> None:
    assert f"at least {rule.MIN_DEPARTING} groups depart" in inspect.getdoc(hag.fit)
