"""Strings that end an answer: cut before them, and part of what a cell is."""

import dataclasses

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, SimulatedEngine, load_table, sweep
from hagpolicy.data.completion import Completion
from hagpolicy.data.stopping import count_to_stop, cut_at_stop, find_stop, parse_stop
from hagpolicy.data.store.cells import Plan
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.errors import InvalidInput
from hagpolicy.sweeping.forecast.preview import preview
from tests.support.sweeping_world import cells_of

SPACE = DecodingSpace([DecodingConfig(), DecodingConfig(temperature=0.5)])


class Deaf(SimulatedEngine):
    """Knows nothing of stop strings, as an engine of one's own may."""

    def generate(self, unit):
        return super().generate([dataclasses.replace(request, stop=()) for request in unit])


def run(out, stop, engine=None):
    engine = engine or SimulatedEngine(seed=1)
    given = engine, engine.prompts(4), SPACE, engine.scorer
    return sweep(*given, samples=2, max_tokens=20, out=out, progress=False, stop=stop)


@pytest.mark.parametrize("kind", [SimulatedEngine, Deaf])
def test_answers_are_cut_whatever_the_engine_knows(tmp_path, kind):
    run(tmp_path / "whole", None)
    whole = {row["seed"]: row for row in cells_of(tmp_path / "whole")}
    first = sorted(row["text"].split()[2] for row in whole.values() if len(row["text"].split()) > 2)[0]
    run(tmp_path / "cut", [first], kind(seed=1))
    rows = cells_of(tmp_path / "cut")
    assert len(rows) == len(whole)
    assert not [row for row in rows if first in row["text"]]
    assert all(row["text"].startswith(("right", "wrong")) for row in rows)


def test_it_is_part_of_what_a_cell_is(tmp_path):
    plain = run(tmp_path, None)
    keys = {row["cell"] for row in cells_of(tmp_path)}
    stopped = run(tmp_path, ["b", "a"])
    more = {row["cell"] for row in cells_of(tmp_path)} - keys
    assert len(more) == len(keys) == plain.counts.sum() == stopped.counts.sum()
    run(tmp_path, ("a", "b", "a"))  # the order means nothing
    assert len(cells_of(tmp_path)) == 2 * len(keys)
    with SweepStore(tmp_path) as store:
        plans = store.plans
    assert [plan.view.stop for plan in plans] == [(), ("a", "b")]
    assert "stop" not in plans[0].to_json()  # as plans were before
    prompts = {prompt.digest: prompt for prompt in plans[1].view.prompts}
    assert Plan.from_json(plans[1].to_json(), prompts).view == plans[1].view
    assert load_table(tmp_path, prompts=plain.prompts[:2]).counts.sum() == plain.counts[:2].sum()


def test_a_preview_knows_the_cells(tmp_path):
    run(tmp_path, "a")
    engine = SimulatedEngine(seed=1)
    given = engine, engine.prompts(4), SPACE, engine.scorer
    asked = {stop: preview(*given, samples=2, max_tokens=20, out=tmp_path, stop=stop) for stop in ("a", "b")}
    assert (asked["a"].to_generate, asked["b"].to_generate) == (0, 16)


def test_what_is_no_string_is_refused(tmp_path):
    for bad in ("", [""], [1], 3, ["a", None]):
        with pytest.raises(InvalidInput, match="stop"):
            run(tmp_path, bad)
    assert parse_stop("x") == ("x",)
    assert parse_stop(["b", "a", "b"]) == ("a", "b")


def test_the_first_string_of_the_text_ends_it():
    assert find_stop("one two three", ["three", "two"]) == 4
    done = Completion("one two three", 3, finish="length")
    assert cut_at_stop(done, ("two",)) == Completion("one ", 3, finish="stop")
    assert cut_at_stop(done, ("four",)) == cut_at_stop(done, ()) == done
    failed = Completion("", finish="error", error="lost")
    assert cut_at_stop(failed, ("two",)) == failed
    words = ["a", "b", "STOP", "c", "d"]
    assert [count_to_stop(lambda ids: " ".join(words[i] for i in ids), range(n), ["STOP"]) for n in range(6)] == [
        0, 1, 2, 3, 3, 3,
    ]  # fmt: skip
