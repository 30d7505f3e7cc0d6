"""How many threads a model computes with, and cells that leave the engine as they end."""

import pytest
import torch

from hagpolicy import DecodingConfig, InvalidInput, SimulatedEngine, sweep
from hagpolicy.data.completion import Request
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.transformers import decode, threads
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.engines.transformers.threads import ThreadChooser, count_usable_cores, measure_threads
from tests.support.sweeping_world import cells_of


@pytest.fixture(autouse=True)
def four_threads():
    """As many as the choice is tried among, whatever this machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def chooser(tiny, monkeypatch):
    """Of a machine of four cores, whose passes take what `chooser.cost` says by number of threads."""
    monkeypatch.setattr(threads, "count_usable_cores", lambda: 4)
    chooser = ThreadChooser(tiny.model)
    chooser.cost = {1: 0.004, 2: 0.002, 4: 0.001}
    monkeypatch.setattr(chooser, "_time_pass", lambda: chooser.cost[torch.get_num_threads()])
    return chooser


def test_the_number_follows_the_machine(chooser, monkeypatch):
    with chooser.computing():
        assert chooser.now == torch.get_num_threads() == 4
        chooser.cost = {1: 0.004, 2: 0.02, 4: 0.04}  # a neighbour has come
        chooser.review()
        assert chooser.now == 4  # looked at a moment ago
        chooser._watch_at = 0.0
        chooser.review()
        assert chooser.now == torch.get_num_threads() == 1
        chooser.cost = {1: 0.004, 2: 0.002, 4: 0.003}  # and has gone: one thread tells nothing of that
        chooser._watch_at = 0.0
        chooser.review()
        assert chooser.now == 1
        chooser._watch_at = chooser._choose_at = 0.0
        chooser.review()
        assert (chooser.now, chooser.changes) == (2, 2)
    assert torch.get_num_threads() == 4


def test_a_given_number_stays(chooser):
    chooser.fix(3)
    with chooser.computing():
        assert chooser.now == torch.get_num_threads() == 3
        chooser._watch_at = chooser._choose_at = 0.0
        chooser.review()
        assert chooser.now == 3
    with pytest.raises(InvalidInput, match="threads"):
        chooser.fix(0)


def test_a_real_pass_is_timed(tiny):
    seconds = measure_threads([1, 2], ThreadChooser(TransformersEngine(tiny.model, tiny.tokenizer).model)._time_pass)
    assert set(seconds) == {1, 2}
    assert all(0.0 < one < 5.0 for one in seconds.values())


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_limits_of_containers_hold(tmp_path, files, most):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert count_usable_cores(tmp_path) == (most or count_usable_cores(tmp_path / "none"))


CONFIGS = [DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.9), DecodingConfig(num_beams=2)]


def unit_of(cells):
    return [Request(Prompt(f"w{at} w2"), CONFIGS[at % 3], 0, 100 + at, 3 + 2 * (at % 5)) for at in range(cells)]


def test_cells_leave_as_they_end_and_are_what_they_would_be(tiny, monkeypatch):
    unit = unit_of(24)
    whole = tiny.generate(unit)
    monkeypatch.setattr(decode, "PART_SECONDS", 0.0)
    *parts, (number, outcome) = tiny.stream_parts([unit])
    assert number == 0
    texts = [one.text for one in whole]
    assert [one.text for one in outcome] == texts
    seen = [index for _, part in parts for index in part]
    assert sorted(seen) == list(range(24))
    assert all(one.text == texts[index] for _, part in parts for index, one in part.items())
    sampled = [len(part) for _, part in parts if any(index % 3 < 2 for index in part)]
    assert len(sampled) >= 3
    assert {one.threads for one in outcome} == {1}
    assert all(one.seconds > 0.0 for one in outcome)


def test_the_number_is_stored_and_that_of_engines_elsewhere_refused(tiny, tmp_path):
    engine = TransformersEngine(tiny.model, tiny.tokenizer, name="tiny")
    prompts = ["w1 w2", "w3"]
    options = {"samples": 1, "max_tokens": 3, "progress": False}
    sweep(engine, prompts, CONFIGS, "brevity", threads=2, out=tmp_path / "two", **options)
    assert {row["threads"] for row in cells_of(tmp_path / "two")} == {2}
    with pytest.raises(InvalidInput, match="threads"):
        sweep(SimulatedEngine(1), prompts, CONFIGS[:1], "brevity", threads=2, out=tmp_path / "other", **options)


def test_a_number_that_changes_in_the_midst_of_a_unit_is_not_told(tiny, monkeypatch):
    engine = TransformersEngine(tiny.model, tiny.tokenizer, name="tiny", threads=1)
    monkeypatch.setattr(decode, "PART_SECONDS", 0.0)
    parts, found = engine.stream_parts([unit_of(24)]), []
    for _, outcome in parts:
        found.append(outcome)
        engine.threads.changes += 1
    assert {one.threads for one in found[-1]} == {None}
