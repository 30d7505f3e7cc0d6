"""What a sweep says before, while and after it runs: estimates, rates, failures, the account."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

import hagpolicy as hag
from hagpolicy.analysis.rule import DETECTABLE_ERRORS
from hagpolicy.data.completion import Completion
from hagpolicy.data.store.cells import derive_stream_seed
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.errors import EngineError, ForeignSweep, InvalidInput, UnsupportedSetting
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.sweeping.budget import Budget
from hagpolicy.sweeping.forecast.estimate import compute_student_quantile, estimate_per_cell
from hagpolicy.sweeping.forecast.preview import preview
from hagpolicy.sweeping.forecast.progress import Pace, Progress, ProgressReporter, classify_failure, format_failures
from hagpolicy.sweeping.forecast.projection import split_probe
from hagpolicy.sweeping.plan import plan_work
from tests.support.sweeping_world import SPACE, Counting, cells_of, run


def seen(engine, out, n=60, **options):
    options = {"samples": 2, "max_tokens": 8, "scorer": engine.scorer, **options}
    return preview(engine, engine.prompts(n), SPACE, out=out, **options)


def test_counts_are_those_of_the_sweep(tmp_path):
    engine = Counting(seed=1, unit_cells=14)
    before = seen(engine, tmp_path / "s")
    assert (before.wanted, before.stored, before.to_generate, before.units) == (420, 0, 420, 30)
    assert (before.prompts, before.configs, before.samples) == (60, 4, 2)
    table = run(engine, tmp_path / "s", n=60)
    after = seen(engine, tmp_path / "s", samples=3)
    assert (after.wanted, after.stored, after.to_generate) == (600, 420, 180)
    assert seen(engine, tmp_path / "s").to_generate == 0
    assert seen(engine, tmp_path / "s").costs == ""
    assert np.isfinite(table.rewards).sum() == 420


def test_a_probe_is_small_of_all_kinds_and_leaves_nothing(tmp_path):
    engine = Counting(seed=1)
    asked = []
    engine.generate = lambda unit, inner=engine.generate: (asked.extend(unit), inner(unit))[1]
    found = seen(engine, tmp_path / "s")
    assert len(asked) == 16
    assert len({request.prompt for request in asked}) == 16
    assert {request.prompt.task for request in asked} == set(engine.tasks)
    assert len({request.config for request in asked}) == 4
    assert found.source == "a probe of 16 cells"
    assert found.upper  # the sweep generates 64 at once
    assert list(tmp_path.iterdir()) == []


def test_a_slow_probe_ends_after_its_first_cells(tmp_path, monkeypatch):
    engine = Counting(seed=1)
    monkeypatch.setattr("hagpolicy.sweeping.forecast.preview.FIRST_SECONDS", 0.0)
    assert seen(engine, tmp_path / "s").source == "a probe of 16 cells"
    assert [len(unit) for unit in engine.units] == [4, 4, 4, 4]
    monkeypatch.setattr("hagpolicy.sweeping.forecast.preview.PROBE_SECONDS", 0.0)
    assert seen(engine, tmp_path / "s").source == "a probe of 4 cells"


def test_the_interval_holds_the_true_cost(tmp_path):
    """Over many worlds: the tokens that a sweep then takes are within its forecast nearly always."""
    inside = 0
    for seed in range(24):
        engine = Counting(seed=seed)
        forecast = seen(engine, tmp_path / "never", n=100)
        fills = hag.sweep(
            engine, engine.prompts(100), SPACE, engine.scorer,
            samples=2, max_tokens=8, out=tmp_path / str(seed), progress=False,
        ).tokens  # fmt: skip
        inside += forecast.tokens.low <= np.nansum(fills) <= forecast.tokens.high
        assert forecast.tokens.high <= 8 * 700
    assert inside >= 20


def test_stored_cells_serve_as_the_probe(tmp_path):
    engine = Counting(seed=1)
    run(engine, tmp_path, n=60)
    calls = len(engine.units)
    found = seen(engine, tmp_path, samples=4)
    assert len(engine.units) == calls
    assert found.source == "420 stored cells"
    assert found.tokens.value == pytest.approx(np.mean([cell["tokens"] for cell in cells_of(tmp_path)]) * 360)
    assert found.prompt_tokens == pytest.approx(
        360 * np.mean([c["prompt_tokens"] for c in cells_of(tmp_path)]), rel=0.1
    )
    assert seen(engine, tmp_path, max_tokens=5).source.startswith("a probe")  # other cells than these


def test_a_failing_engine_leaves_the_counts(tmp_path):
    dead = seen(Counting(seed=1, stop_at=0, error=EngineError("no memory")), tmp_path / "s")
    assert dead.tokens is None
    assert dead.to_generate == 420
    assert "no estimate of tokens and time: the engine failed on the probe: EngineError: no memory" in str(dead)
    failed = seen(Counting(seed=1, fail_rate=1.0), tmp_path / "s")
    assert "all 16 cells of the probe failed: simulated failure" in str(failed)
    some = seen(Counting(seed=1, fail_rate=0.4), tmp_path / "s")
    assert some.tokens is not None
    assert " failed" in some.source


def test_preview_refuses_what_the_sweep_refuses(tmp_path):
    run(Counting(seed=1), tmp_path)
    with pytest.raises(ForeignSweep):
        seen(Counting(seed=2), tmp_path)
    with pytest.raises(UnsupportedSetting):
        seen(Counting(seed=1, lacks=["top_p"]), tmp_path / "new")
    with pytest.raises(InvalidInput, match="samples"):
        seen(Counting(seed=1), tmp_path / "new", samples=0)


def test_budgets_bound_the_forecast(tmp_path):
    engine = Counting(seed=1)
    assert seen(engine, tmp_path / "s", budget=100).to_generate == 100
    assert "at most 100 to generate" in str(seen(engine, tmp_path / "s", budget=100))
    assert seen(engine, tmp_path / "s", budget="300 tokens").tokens.high == 300
    run(engine, tmp_path / "s", n=60, budget=100)
    stored = seen(engine, tmp_path / "s", budget=100).stored
    assert 0 < stored <= 100
    assert seen(engine, tmp_path / "s", budget=100).to_generate == 100 - stored
    one = lambda view, budget, seed: iter(())  # noqa: E731
    assert seen(engine, tmp_path / "new", strategy=one).to_generate == int(0.35 * 420)


class Judged(Scorer):
    """Costs two calls a completion."""

    name, version, calls = "judged", "1", 2

    def score(self, items):
        return [Score(0.5) for _ in items]

    def report(self):
        return {"flips": 0.25}


def test_judge_calls_are_counted_for_what_is_not_scored_yet(tmp_path):
    engine = Counting(seed=1)
    assert seen(engine, tmp_path / "s", scorer=Judged()).judge_calls == 840
    said = str(seen(engine, tmp_path / "s", scorer=Judged()))
    assert "840 calls of a judge" in said
    assert " without the judge's (from " in said  # the time is the engine's alone
    assert "the judge's" not in str(seen(engine, tmp_path / "s"))
    run(engine, tmp_path / "s", n=60)
    assert seen(engine, tmp_path / "s", scorer=Judged(), samples=3).judge_calls == 2 * 600  # none is judged
    run(engine, tmp_path / "s", n=60, scorer=Judged())
    assert seen(engine, tmp_path / "s", scorer=Judged(), samples=3).judge_calls == 2 * 180


def test_the_first_units_are_of_all_kinds_and_stored(tmp_path):
    engine = Counting(seed=1, unit_cells=7)
    reporter = ProgressReporter(False)
    run(engine, tmp_path, n=60, progress=reporter)
    assert len({tuple(unit) for unit in engine.units}) == len(engine.units) == 60
    with SweepStore(tmp_path) as store:
        view = store.plans[0].view
        first = engine.units[:3]
        position = {seed: i for i, unit in enumerate(view.keys) for seed in map(derive_stream_seed, unit)}
        assert len({view.prompts[position[unit[0]]].task for unit in first}) == 3
    assert reporter.preview.source == "21 cells generated first"
    assert reporter.preview.tokens.low <= reporter.summary.tokens <= reporter.preview.tokens.high


def test_a_short_sweep_has_no_first_units(tmp_path):
    engine = Counting(seed=1, unit_cells=64)
    run(engine, tmp_path / "s", n=2)
    with SweepStore(tmp_path / "s") as store:
        work = plan_work(store, store.plans[0].view, 64)
        assert split_probe(work, 64, Budget()) == ([], [])
    reporter = ProgressReporter(False)
    run(engine, tmp_path / "t", n=6, progress=reporter)
    assert reporter.preview.tokens is None
    assert reporter.state.done == 42


def test_the_forecast_and_the_account_go_to_stderr(tmp_path, capsys):
    engine = Counting(seed=1, unit_cells=7, fail_rate=0.1)
    run(engine, tmp_path, n=60, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.index("420 to generate in 60 units") < said.err.index("new tokens after")
    assert said.err.index("cells generated first") < said.err.index("this run: 420 cells")
    assert "failed: " in said.err
    run(engine, tmp_path / "quiet", progress=False)
    assert capsys.readouterr().err == ""


def test_summary_counts_run_and_folder(tmp_path):
    engine = Counting(seed=1)
    run(engine, tmp_path, n=60, scorer=Judged())
    reporter = ProgressReporter(False)
    run(engine, tmp_path, n=60, samples=3, scorer=Judged(), progress=reporter)
    found = reporter.summary
    cells = cells_of(tmp_path)
    assert (found.run.done, found.cells, found.wanted) == (180, 600, 600)
    assert found.tokens == sum(cell["tokens"] for cell in cells)
    assert found.bytes["cells"] == sum(path.stat().st_size for path in (tmp_path / "cells").iterdir())
    assert set(found.bytes) == {"cells", "rewards", "plans", "prompts"}
    assert found.scorers == {"judged@1": {"flips": 0.25}}
    values = json.loads(json.dumps(found.to_json()))
    assert values["run"]["prompt_tokens"] == found.run.prompt_tokens > 0
    assert "judged@1: flips 0.25" in str(found)
    assert "of 600 cells" in str(found)


def test_failures_are_counted_by_kind():
    reporter = ProgressReporter(False)
    reporter.expect(4)
    reasons = ["engine error: the prompt has 512 tokens", "engine error: the prompt has 9,001 tokens", "KeyError: 'x'"]
    reporter.add([Completion("a", tokens=3, prompt_tokens=5, seconds=0.5)] * 4, reasons)
    assert dict(reporter.state.failures) == {"engine error: the prompt has … tokens": 2, "KeyError: …": 1}
    assert (reporter.state.failed, reporter.state.tokens, reporter.state.prompt_tokens) == (3, 12, 20)
    assert reporter.state.cell_seconds == 2.0
    assert format_failures({"a": 5, "b": 3, "c": 2, "d": 1, "e": 1}) == "12 failed: 5 × a; 3 × b; 2 × c; 2 × other"
    assert classify_failure("") == "no reason given"
    assert classify_failure("engine error: HTTP 429: 17 tries, 3.5 s") == "engine error: HTTP 429: … tries, … s"
    assert classify_failure("it says 'a key'") == "it says …"
    assert len(classify_failure("x" * 1000)) == 100


def test_time_left_is_that_of_the_latter_half():
    pace = Pace()
    assert math.isnan(pace.rate)
    for second in range(1, 11):  # one cell a second, then ten a second
        pace.add(float(second), second)
    for second in range(11, 41):
        pace.add(float(second), 10 + 10 * (second - 10))
    assert pace.rate == pytest.approx(10.0)
    state = Progress(310, 410, 0, 0, 40.0, pace=pace.rate)
    assert state.seconds_left == pytest.approx(10.0)
    assert Progress(10, 20, 0, 0, 5.0).seconds_left == 5.0  # without a pace: the rate so far
    assert math.isnan(Progress(0, 20, 0, 0, 0.0).seconds_left)


def test_the_interval_is_that_of_a_ratio_estimate():
    for degrees in (1, 2, 3, 4, 10, 60):
        assert compute_student_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.01)
    draw = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        means = draw.normal(50.0, 10.0, size=12)  # prompts differ, and the cells of one are alike
        owners = np.repeat(np.arange(12), draw.integers(1, 4, size=12))
        span = estimate_per_cell(owners.tolist(), (means[owners] + draw.normal(0, 3, len(owners))).tolist())
        hits += span.low <= 50.0 <= span.high
    assert 360 <= hits <= 395
    assert estimate_per_cell(["a", "a"], [3, 5]).high == math.inf


def test_a_preview_says_what_the_prompts_can_prove_and_follows_stored_rewards(tmp_path):
    engine = Counting(seed=1)
    proof = seen(engine, tmp_path / "s").proof
    assert proof.n_prompts == 60
    assert "assumed" in proof.source
    assert proof.gain == pytest.approx(DETECTABLE_ERRORS * proof.spread / 60**0.5)
    assert "60 independent prompts prove a gain of about" in str(seen(engine, tmp_path / "s"))
    # Four times the prompts prove half the gain, and each example takes what that says.
    assert seen(engine, tmp_path / "s", n=240).proof.gain == pytest.approx(proof.gain / 2)
    gain, needed = proof.needed[0]
    assert needed == pytest.approx(60 * (proof.gain / gain) ** 2, abs=1.0)
    # Samples average out what is drawn; the same answers of deterministic configs are told.
    assert seen(engine, tmp_path / "s", samples=8).proof.spread < proof.spread
    configs, prompts, other = proof.other
    assert configs * prompts <= proof.answers == 420
    assert other < proof.gain
    assert "prove nothing" in str(seen(engine, tmp_path / "s", n=12).proof)
    table = run(engine, tmp_path / "s", n=60)
    measured = seen(engine, tmp_path / "s", n=120).proof
    assert "measured on 60 stored prompts" in measured.source
    assert measured.gain == pytest.approx(hag.headroom(table).detectable / 2**0.5, rel=0.35)
    assert seen(engine, tmp_path / "s").to_json()["proof"]["n_prompts"] == 60
    assert seen(engine, tmp_path / "s", strategy="racing").proof is None


def test_a_space_by_its_name_is_what_the_engine_can_run_of_it(tmp_path, caplog):
    engine = Counting(seed=1, lacks=["num_beams"])
    inputs = {"samples": 2, "max_tokens": 8, "out": tmp_path / "s", "default": {"temperature": 0.0}}
    found = preview(engine, engine.prompts(30), None, engine.scorer, **inputs)
    assert (found.configs, found.wanted) == (7, 210)
    assert "num_beams" in caplog.text
    assert found.proof.deterministic
    assert found.proof.other is None
    with pytest.raises(InvalidInput, match="preset"):
        preview(engine, engine.prompts(30), "deterministc", engine.scorer, **inputs)
