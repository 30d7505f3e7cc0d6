"""Budgets: what they read, what they count, and that they say when they ended a sweep."""

import math

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, SimulatedEngine, sweep
from hagpolicy.data.completion import UNKNOWN
from hagpolicy.errors import InvalidInput
from hagpolicy.sweeping.budget import Budget, BudgetMeter
from hagpolicy.sweeping.forecast.preview import preview
from hagpolicy.sweeping.forecast.progress import ProgressReporter
from tests.support.sweeping_world import cells_of

SPACE = DecodingSpace([DecodingConfig(), DecodingConfig(temperature=0.5)])


class Uncounted(SimulatedEngine):
    """Counts new tokens, and none of the prompts."""

    def generate(self, unit):
        from dataclasses import replace

        return [replace(one, prompt_tokens=UNKNOWN) for one in super().generate(unit)]


def run(out, budget, engine=None, reporter=None, **options):
    engine = engine or SimulatedEngine(seed=1, unit_cells=8)
    given = engine, engine.prompts(30), SPACE, engine.scorer
    reporter = reporter or ProgressReporter(False)
    table = sweep(*given, samples=2, max_tokens=20, out=out, progress=reporter, budget=budget, **options)
    return table, reporter.summary


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("5000", {"generations": 5000}),
        ("2e6 tokens", {"tokens": 2_000_000}),
        ("3e3 total tokens", {"total_tokens": 3000}),
        ("5 USD at 0.15/0.60", {"money": 5.0, "prices": (0.15, 0.6)}),
        ("0.5 eur @ 1/2", {"money": 0.5, "currency": "EUR", "prices": (1.0, 2.0)}),
        (
            "30 min, 2e6 tokens, 1 USD at 0/2",
            {"minutes": 30.0, "tokens": 2_000_000, "money": 1.0, "prices": (0.0, 2.0)},
        ),
    ],
)
def test_text_says_the_limits(text, limits):
    assert Budget.of(text) == Budget(**limits)
    assert Budget.of(Budget.of(text)) == Budget(**limits)
    assert len(Budget.of(text).describe()) == len(limits.keys() - {"currency", "prices"})


@pytest.mark.parametrize(
    "bad",
    ["5 USD", "5 USD at 1", "0 USD at 1/1", "5 USD at 0/0", "1 min, 2 min", "3 total", "", "5 parsecs", "-1", True,
     "5 USD at 1/1, 3 EUR at 1/1", "1e999 total tokens"],
)  # fmt: skip
def test_what_is_no_budget_is_refused(bad):
    with pytest.raises(InvalidInput, match=r"budget|prices"):
        Budget.of(bad)


def test_half_a_price_is_refused():
    for bad in ({"money": 5.0}, {"prices": (1.0, 1.0)}, {"money": 5.0, "prices": (1.0, -1.0)}):
        with pytest.raises(InvalidInput):
            Budget(**bad)


def spend(rows):
    """Tokens of prompts and new ones of stored cells."""
    return sum(row["prompt_tokens"] for row in rows), sum(row["tokens"] for row in rows)


def test_tokens_of_prompts_count_where_all_are_meant(tmp_path):
    _, new = run(tmp_path / "new", "300 tokens")
    _, every = run(tmp_path / "all", "300 total tokens")
    rows = {name: cells_of(tmp_path / name) for name in ("new", "all")}
    assert 0 < len(rows["all"]) < len(rows["new"]) < new.wanted
    prompts, made = spend(rows["all"])
    last = sum(row["prompt_tokens"] + row["tokens"] for row in rows["all"][-8:])
    assert prompts + made >= 300 > prompts + made - last
    assert every.ended_by == f"300 total tokens ({prompts + made} tokens, {prompts} of them of prompts spent)"
    assert f"300 tokens ({spend(rows['new'])[1]} new tokens spent)" in str(new)
    # The same call spends no more, and a larger one goes on.
    assert len(cells_of(tmp_path / "all")) == run(tmp_path / "all", "300 total tokens")[1].cells
    assert run(tmp_path / "all", "900 total tokens")[1].cells > len(rows["all"])


def test_money_is_spent_at_the_prices_given(tmp_path):
    table, summary = run(tmp_path, "0.001 USD at 1/4")
    prompts, made = spend(cells_of(tmp_path))
    assert summary.money == pytest.approx((prompts + 4 * made) / 1e6)
    assert 0.001 <= summary.money < 0.0015
    assert "ended by the budget of 0.001 USD at 1/4 per million prompt/new tokens (0.001" in str(summary)
    assert summary.to_json()["money"] == summary.money
    assert table.counts.sum() < summary.wanted
    _, whole = run(tmp_path, "1 USD at 1/4, 1e6 tokens")
    assert whole.ended_by == ""
    assert "ended by" not in str(whole)
    assert "USD for the stored cells" in str(whole)


def test_a_strategy_says_it_too(tmp_path):
    _, summary = run(tmp_path, "40 total tokens", strategy="racing")
    assert summary.ended_by.startswith("40 total tokens (")


def test_what_is_not_counted_is_not_free(tmp_path):
    for budget in ("300 total tokens", "5 USD at 1/1"):
        with pytest.raises(InvalidInput, match="without a count"):
            run(tmp_path / budget[:3], budget, Uncounted(seed=1, unit_cells=8))
    # What costs nothing need not be counted.
    _, summary = run(tmp_path / "new", "5 USD at 0/1", Uncounted(seed=1, unit_cells=8))
    assert summary.cells == summary.wanted
    assert summary.money > 0
    assert math.isnan(Budget.of("5 USD at 1/1").price(3, UNKNOWN))


def test_a_preview_says_what_it_comes_to(tmp_path):
    engine = SimulatedEngine(seed=1)
    given = engine, engine.prompts(30), SPACE, engine.scorer
    seen = preview(*given, samples=2, max_tokens=20, out=tmp_path, budget="50 USD at 1000/4000")
    expected = (1000 * seen.prompt_tokens + 4000 * seen.tokens.value) / 1e6
    assert seen.money.value == pytest.approx(expected)
    assert "USD, " in str(seen)
    capped = preview(*given, samples=2, max_tokens=20, out=tmp_path, budget="1 USD at 1000/4000")
    assert capped.money.high == 1.0


def test_the_rate_so_far_projects_every_limit():
    for budget in ("1000 tokens", "1250 total tokens", "0.01 USD at 2/9.5"):
        meter = BudgetMeter(Budget.of(budget))
        meter.set_stored(10, 40, 10)
        assert meter.project(10_000) == pytest.approx(250, abs=1)
        assert meter.project(100) == 100
