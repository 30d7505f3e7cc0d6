"""When an engine that fails on whole units is given up, and when it is not."""

import numpy as np
import pytest

from hagpolicy.errors import EngineError
from hagpolicy.sweeping.health import Health
from tests.support.sweeping_world import Counting, cells_of, run, same


class Poisoned(Counting):
    """Fails on every unit that holds one of some prompts, and on all after so many; takes several units at once and
    gives back what failed first, as an engine on a network does."""

    def __init__(self, *args, poison=(), alive=None, side_by_side=8, **options):
        super().__init__(*args, **options)
        self.poison, self.alive, self.side_by_side = set(poison), alive, side_by_side

    def generate(self, unit):
        if self.poison & {request.prompt for request in unit} or len(self.units) == self.alive:
            self.units.extend([] if self.alive is not None else [[request.seed for request in unit]])
            raise RuntimeError("cannot do this one")
        return super().generate(unit)

    def stream(self, units):
        source, flying = iter(enumerate(units)), []
        while True:
            while len(flying) < self.side_by_side and (taken := next(source, None)) is not None:
                number, unit = taken
                try:
                    flying.append((1, number, self.generate(unit)))
                except RuntimeError as error:
                    flying.append((0, number, error))
            if not flying:
                return
            flying.sort(key=lambda one: one[:2])
            _, number, outcome = flying.pop(0)
            yield number, outcome


@pytest.mark.parametrize("side_by_side", [1, 8])
def test_bad_units_among_good_ones_end_no_sweep(tmp_path, side_by_side):
    engine = Poisoned(seed=1, unit_cells=7, side_by_side=side_by_side)
    prompts = engine.prompts(60)
    bad = [7, 9, 11, 40, 57, 58, 59]  # after the last three nothing is left that could be spared
    engine.poison = {prompts[i] for i in bad}
    table = run(engine, tmp_path, prompts=prompts)
    assert np.flatnonzero(np.isnan(table.rewards).all(axis=(1, 2))).tolist() == bad
    assert sum(table.failures.values()) == 7 * len(bad)


@pytest.mark.parametrize("side_by_side", [1, 8])
def test_the_more_units_succeeded_the_more_bad_neighbours_are_borne(tmp_path, side_by_side):
    engine = Poisoned(seed=1, unit_cells=7, side_by_side=side_by_side)
    prompts = engine.prompts(120)
    engine.poison = set(prompts[100:103])
    assert run(engine, tmp_path, prompts=prompts).complete.sum() == 117


def test_where_only_bad_units_are_left_every_call_tries_each_once_and_ends(tmp_path):
    engine = Poisoned(seed=1, unit_cells=7)
    prompts = engine.prompts(60)
    engine.poison = set(prompts[::10])
    table = run(engine, tmp_path, prompts=prompts)
    again = Poisoned(seed=1, unit_cells=7, poison=engine.poison)
    assert same(run(again, tmp_path, prompts=prompts), table)
    assert len(again.units) == 6
    assert set(again.seeds.values()) == {1}


def test_a_bad_prompt_takes_no_good_one_along_when_it_is_tried_again(tmp_path):
    engine = Poisoned(seed=1, unit_cells=70)
    prompts = engine.prompts(60)
    engine.poison = {prompts[13]}
    first = run(engine, tmp_path, prompts=prompts)
    assert np.isnan(first.rewards[10:20]).all()  # the ten prompts of one unit
    table = run(engine, tmp_path, prompts=prompts)
    assert np.flatnonzero(~table.complete).tolist() == [13]


def test_cells_that_failed_are_tried_after_all_others(tmp_path):
    engine = Poisoned(seed=1, unit_cells=7)
    prompts = engine.prompts(9)
    engine.poison = {prompts[0]}
    run(engine, tmp_path, prompts=prompts[:3])
    failed = set(engine.units[0])
    again = Poisoned(seed=1, unit_cells=7)
    assert run(again, tmp_path, prompts=prompts).complete.all()
    assert set(again.units[-1]) == failed


@pytest.mark.parametrize("side_by_side", [1, 8])
def test_a_dead_engine_is_given_up_soon_wherever_it_dies(tmp_path, side_by_side):
    for alive in (0, 5, 100):
        out = tmp_path / str(alive)
        engine = Poisoned(seed=1, unit_cells=7, side_by_side=side_by_side, alive=alive)
        with pytest.raises(EngineError, match=r"units in a row.*cannot do this one"):
            run(engine, out, n=400)
        asked = len({row["prompt"] for row in cells_of(out)})
        # A good one of the last that it did comes back only when nothing else does, as one that hangs.
        assert alive + 3 <= asked <= alive + (5 if side_by_side == 1 else 60)


def test_each_call_gives_a_dead_engine_up_after_a_few_units(tmp_path):
    engine = Poisoned(seed=1, unit_cells=7, side_by_side=1)
    prompts = engine.prompts(40)
    engine.poison = set(prompts)
    for _ in range(2):
        engine.units.clear()
        with pytest.raises(EngineError, match="in a row"):
            run(engine, tmp_path, prompts=prompts)
        assert len(engine.units) == 3
    engine.poison = set()
    assert run(engine, tmp_path, prompts=prompts).complete.all()


def test_units_that_were_in_flight_are_waited_for():
    health = Health()
    for number in (1, 2, 3):
        health.record_end(number, RuntimeError("no"), {0, 4}, failed_before=False)
    assert not health.dead
    health.record_end(4, RuntimeError("no"), {0, 5}, failed_before=False)
    assert not health.dead
    health.record_end(0, None, {5}, failed_before=False)
    assert not health.dead
    assert health.failures == 0
    for number in (5, 6, 7):
        health.record_end(number, RuntimeError("no"), set(), failed_before=False)
    assert health.dead
    health.record_end(8, None, set(), failed_before=False)
    assert health.dead
