"""Sweeps of configs that name artefacts: their cells by digest, and no proof by prompts they were made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput, SimulatedEngine, SweepTable, UnsupportedSetting
from hagpolicy.artefacts import write_record
from tests.support.adapter_folder import make_adapter_folder

GREEDY = DecodingConfig(temperature=0.0)
TUNED = DecodingConfig(temperature=0.0, adapter="sql")


def load_world(folder, **options):
    return SimulatedEngine(5, artifacts={"adapter": {"sql": folder}}, **options)


def run(engine, prompts, out, space=(GREEDY, TUNED)):
    return hag.sweep(engine, prompts, DecodingSpace(space), engine.scorer, samples=1, out=out, progress=False)


def count_cells(out):
    from hagpolicy.data.store.folder import SweepStore

    with SweepStore(out) as store:
        return len(store.cells.rows)


def test_a_retrained_artefact_makes_new_cells_and_leaves_the_others(tmp_path):
    folder, out = make_adapter_folder(tmp_path / "sql", b"first"), tmp_path / "sweep"
    prompts = SimulatedEngine(5).prompts(30)
    bare = run(SimulatedEngine(5), prompts, out, [GREEDY, DecodingConfig()])
    first = run(load_world(folder), prompts, out)
    assert count_cells(out) == 90  # the bare model's cells are valid as they were
    assert run(load_world(folder), prompts, out).rewards.tolist() == first.rewards.tolist()
    assert count_cells(out) == 90
    make_adapter_folder(folder, b"second")
    second = run(load_world(folder), prompts, out)
    assert count_cells(out) == 120
    pins = [table.space[1].adapter for table in (first, second)]
    assert pins[0] != pins[1]
    assert all(pin.startswith("sql@") for pin in pins)
    assert first.rewards[:, 0].tolist() == second.rewards[:, 0].tolist() == bare.rewards[:, 0].tolist()
    assert first.rewards[:, 1].tolist() != second.rewards[:, 1].tolist()
    # What was swept earlier can still be read, by its digest.
    again = hag.load_table(out, space=list(first.space))
    assert again.rewards.tolist() == first.rewards.tolist()


def test_what_was_swept_is_found_by_the_bare_name_while_there_is_one_version(tmp_path):
    folder, out = make_adapter_folder(tmp_path / "sql", b"first"), tmp_path / "sweep"
    prompts = SimulatedEngine(5).prompts(30)
    table = run(load_world(folder), prompts, out)
    found = hag.load_table(out, space=[TUNED, GREEDY], default=TUNED)
    assert found.space[0] == found.space[found.default] == table.space[1]
    assert table.in_space(DecodingSpace([TUNED])).rewards.tolist() == found.rewards[:, :1].tolist()
    assert table.with_default({"temperature": 0.0, "adapter": "sql"}).default == 1
    make_adapter_folder(folder, b"second")
    run(load_world(folder), prompts, out)
    with pytest.raises(InvalidInput, match=r"one of its versions: sql@[0-9a-f]{16}, sql@[0-9a-f]{16}, got sql"):
        hag.load_table(out, space=[TUNED])
    with pytest.raises(InvalidInput, match="a config of the table"):
        table.with_default({"temperature": 0.0, "adapter": "qa"})


def test_a_config_that_names_what_the_engine_was_not_given_is_refused_at_planning(tmp_path):
    engine = load_world(make_adapter_folder(tmp_path / "sql"))
    prompts = engine.prompts(30)
    for name in ("qa", "sql@0123456789abcdef"):
        with pytest.raises(UnsupportedSetting, match=r"adapter of .*was given: sql@[0-9a-f]{16}"):
            run(engine, prompts, tmp_path / "sweep", [GREEDY, DecodingConfig(adapter=name)])
    assert not (tmp_path / "sweep").exists()
    assert engine.unsupported(DecodingConfig(adapter="qa")) == ["adapter"]
    assert engine.unsupported(engine.pin(TUNED)) == []


def test_prompts_that_an_artefact_was_made_from_are_left_out_for_every_config(tmp_path, caplog):
    folder = make_adapter_folder(tmp_path / "sql")
    prompts = SimulatedEngine(5).prompts(60)
    write_record(folder, "adapter", prompts[:12])
    table = run(load_world(folder), prompts, tmp_path / "sweep")
    assert set(table.prompts) == set(prompts[12:])
    assert "12 prompts left out, for every config" in caplog.text
    # The folder's earlier cells of them stay, and are left out of every analysis too.
    out = tmp_path / "earlier"
    run(SimulatedEngine(5), prompts, out, [GREEDY])
    run(load_world(folder), prompts, out)
    whole = hag.load_table(out, all_prompts=True)
    assert len(whole.prompts) == 60
    assert [origin.pin for origin in whole.origins] == [table.space[1].adapter]
    found = hag.headroom(whole)
    assert found.n_prompts == 48
    assert any("12 prompts left out of every comparison" in warning for warning in found.warnings)
    # Without the config that names it nothing was seen.
    assert hag.headroom(whole.in_space(DecodingSpace([GREEDY, DecodingConfig()]))).n_prompts == 60


def test_too_few_unseen_groups_are_refused_before_a_token(tmp_path):
    folder = make_adapter_folder(tmp_path / "sql")
    prompts = SimulatedEngine(5).prompts(60)
    write_record(folder, "adapter", prompts[:45])
    with pytest.raises(InvalidInput, match="at least 20 groups that no artefact of the space was made from, got 15"):
        run(load_world(folder), prompts, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_fit_leaves_out_what_was_seen_and_a_saved_table_remembers_it(tmp_path):
    """The trap itself: on the prompts it was made from an artefact is right by heart, elsewhere it gains nothing."""
    folder = make_adapter_folder(tmp_path / "sql")
    prompts = SimulatedEngine(5).prompts(120)
    write_record(folder, "adapter", prompts[:60])
    engine = load_world(folder)
    pinned = engine.pin(TUNED)
    draw = np.random.default_rng(0)
    rewards = np.stack([draw.random(120), draw.random(120)], axis=1)
    rewards[:60, 1] = 1.0
    origins = tuple(one.origin for one in engine.artefacts["adapter"].values() if one.origin is not None)
    table = SweepTable.from_arrays(prompts, DecodingSpace([GREEDY, pinned]), rewards, default=0)
    table = replace(table, origins=origins)
    leaky = hag.fit(replace(table, origins=()), learner="ridge")
    assert leaky.predict(prompts[0].text) == pinned
    loaded = hag.load_table(table.save(tmp_path / "table.parquet"))
    assert loaded.origins == table.origins
    policy = hag.fit(loaded, learner="ridge")
    assert policy.evaluation.n_prompts == 60
    assert policy.predict(prompts[0].text) == GREEDY


def test_an_artefact_without_a_record_is_told_of_wherever_something_is_proven(tmp_path, caplog):
    """Someone else's adapter, and a memory of texts whose prompts are on no record: no proof by heart in silence."""
    folder = make_adapter_folder(tmp_path / "sql")
    prompts = SimulatedEngine(5).prompts(40)
    for out in ("bare", "empty"):
        caplog.clear()
        table = run(load_world(folder), prompts, tmp_path / out)
        assert "nobody knows what adapter 'sql' was made from" in caplog.text
        for warnings in (hag.headroom(table).warnings, hag.fit(table, learner="ridge").evaluation.warnings):
            assert any("nobody knows what adapter 'sql' was made from" in warning for warning in warnings)
        write_record(folder, "adapter", [])  # a record that names no prompt says no more than none
    caplog.clear()
    write_record(folder, "adapter", [prompts[0]])
    known = hag.headroom(run(load_world(folder), prompts, tmp_path / "known"))
    assert not any("nobody knows" in line for line in (caplog.text, *known.warnings))


def test_raced_sweeps_and_previews_know_artefacts_too(tmp_path):
    folder = make_adapter_folder(tmp_path / "sql")
    engine = load_world(folder)
    prompts = engine.prompts(40)
    write_record(folder, "adapter", prompts[:10])
    engine = load_world(folder)
    space = DecodingSpace([GREEDY, TUNED])
    counts = hag.preview(engine, prompts, space, engine.scorer, samples=1, out=tmp_path / "sweep")
    assert counts.prompts == 30
    raced = hag.sweep(
        engine,
        prompts,
        space,
        engine.scorer,
        samples=2,
        out=tmp_path / "sweep",
        strategy="racing",
        budget=120,
        progress=False,
    )
    assert len(raced.prompts) == 30
    assert all(origin.pin.startswith("sql@") for origin in raced.origins)
