"""Every registry: its names load, an unknown one is refused with the nearest, and a thing of one's own can be added."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from typing import Any

import pytest

from hagpolicy._names import Registry, suggest
from hagpolicy.config.dialects import DIALECTS
from hagpolicy.config.servers import SERVERS
from hagpolicy.config.space import PRESETS
from hagpolicy.engines.spec import ENGINES
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.registry import BASELINES
from hagpolicy.fitting.encoders.registry import ENCODERS
from hagpolicy.fitting.learners.registry import LEARNERS
from hagpolicy.scorers.registry import SCORERS
from hagpolicy.sweeping.strategies.base import STRATEGIES

REGISTRIES: list[Registry[Any]] = [
    DIALECTS, SERVERS, PRESETS, ENGINES, ENCODERS, LEARNERS, BASELINES, SCORERS, STRATEGIES,
]  # fmt: skip


@pytest.mark.parametrize("registry", REGISTRIES, ids=repr)
def test_every_name_loads_and_an_unknown_one_is_refused(registry):
    assert all(registry[name] is not None for name in registry)
    assert list(registry.items()) == [(name, registry[name]) for name in registry]
    for name in registry:
        with pytest.raises(InvalidInput) as caught:
            registry[f"{name}x"]
        assert caught.value.field == registry.kind
        assert all(known in caught.value.expected for known in registry)
        assert "Did you mean" in str(caught.value)
        assert name in str(caught.value).split("Did you mean")[1]


def test_a_thing_is_loaded_when_it_is_read_and_not_before():
    code = """import sys
from hagpolicy._names import Registry
words = Registry("word", {"plain": 1, "late": "colorsys:rgb_to_hsv"})
assert list(words) == ["plain", "late"] and "late" in words and len(words) == 2
assert "colorsys" not in sys.modules
assert words["late"] is sys.modules["colorsys"].rgb_to_hsv and words.get("late") is words["late"]
assert words.get("nothing") is None"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_things_of_ones_own():
    words: Registry[Any] = Registry("word", {"one": 1}, expected="'all' or one of {names}", also=("all",))
    words.register("mine", "collections:OrderedDict")
    words.register("object", OrderedDict)
    assert words["mine"] is words["object"] is OrderedDict
    assert words.choices == ("all", "one", "mine", "object")
    for name in ("one", "all", ""):
        with pytest.raises(InvalidInput, match="name of a word: expected a new one beside all, one, mine"):
            words.register(name, 2)
    with pytest.raises(InvalidInput, match="word other: expected the thing or"):
        words.register("other", "collections.OrderedDict")


def test_messages():
    words: Registry[int] = Registry("word", {"one": 1, "two": 2}, expected="'all' or one of {names}", also=("all",))
    with pytest.raises(InvalidInput) as caught:
        words["ones"]
    assert str(caught.value) == "word: expected 'all' or one of one, two, got ones. Did you mean 'one'?"
    assert str(words.unknown("al")).endswith("Did you mean 'all'?")
    assert str(words.unknown("xyz")) == "word: expected 'all' or one of one, two, got xyz."
    assert str(words.unknown("xyz", expected="a word", do="Say one.")) == "word: expected a word, got xyz. Say one."
    assert str(words.unknown(["one"])).startswith("word: expected")
    assert suggest("top", ["top_p", "top_k", "min_p"], most=2) == "Did you mean top_p or top_k?"
    with pytest.raises(InvalidInput):
        words[["one"]]  # type: ignore[index]
