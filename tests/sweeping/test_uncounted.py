"""Tokens that were not counted are unknown, wherever they would be a price, a budget or a figure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hagpolicy import (
    DecodingConfig,
    DecodingSpace,
    Prompt,
    Request,
    SweepTable,
    headroom,
    load_engine,
    load_table,
    sweep,
)
from hagpolicy.data.completion import Completion, sum_tokens
from hagpolicy.data.store import segments
from hagpolicy.engines.ray.actor import EngineActor
from hagpolicy.engines.spec import EngineSpec
from hagpolicy.errors import InvalidInput
from hagpolicy.reporting.rows import list_left_out, tabulate_costs
from hagpolicy.scorers.registry import get_scorer
from hagpolicy.sweeping.budget import Budget, BudgetMeter
from hagpolicy.sweeping.forecast.preview import preview
from hagpolicy.sweeping.forecast.progress import ProgressReporter
from tests.support.answering_server import AnsweringServer, say
from tests.support.tiny_llama import tiny_tokenizer

SPACE = DecodingSpace.grid(temperature=[0.0, 1.0], top_p=[1.0])
PROMPTS = [Prompt(f"{at} + 1 = ?", reference=str(at + 1)) for at in range(12)]


def answer(body: dict[str, Any], tokens: int | None = None) -> dict[str, Any]:
    text = body["messages"][-1]["content"]
    text += f" {body['seed']}" if body.get("temperature", 1.0) and body.get("top_p", 1.0) > 1e-3 else ""
    text += " penalised" if body.get("frequency_penalty") else ""
    return say(text, tokens=tokens)


@pytest.fixture
def silent():
    """A server that never says how many tokens it used."""
    with AnsweringServer(answer) as server:
        engine = load_engine(f"openai:{server.url}")
        yield engine
        engine.close()


def run(engine: Any, out: Path, **options: Any) -> SweepTable:
    scorer = get_scorer("numeric_match")
    return sweep(engine, PROMPTS, SPACE, scorer, samples=2, out=out, progress=False, **options)


def test_a_sweep_of_a_server_that_counts_nothing_says_unknown_everywhere(silent, tmp_path: Path) -> None:
    reporter = ProgressReporter(False)
    table = sweep(silent, PROMPTS, SPACE, get_scorer("numeric_match"), samples=2, out=tmp_path, progress=reporter)
    assert table.counts.sum() == 60  # one greedy config, one that samples, and what the server does unasked
    assert table.tokens is not None
    assert np.isnan(table.tokens).all()
    assert not np.isnan(table.seconds[:, :, 0]).any()
    assert "unknown new tokens" in str(reporter.summary)
    assert " 0 new tokens" not in str(reporter.summary)
    written = json.loads(json.dumps(reporter.summary.to_json(), allow_nan=False))
    assert (written["tokens"], written["run"]["tokens"], written["run"]["prompt_tokens"]) == (None, None, None)
    found = headroom(load_table(tmp_path))
    assert "60 scored answers are unknown" in " ".join(list_left_out(table, found))
    assert not any("tokens" in row for row in tabulate_costs(table))
    with pytest.raises(InvalidInput, match=r"tokens of every scored cell.*tokenizer"):
        headroom(table, objective="price/token@0.001")
    assert headroom(table, objective="price/second@0.001").n_prompts == 12


@pytest.mark.parametrize("strategy", ["full", "racing"])
def test_a_budget_in_tokens_ends_with_what_to_do_and_before_it_is_spent(silent, tmp_path: Path, strategy) -> None:
    with pytest.raises(InvalidInput, match=r"budget in tokens.*generations or minutes.*tokenizer="):
        run(silent, tmp_path, budget="500 tokens", strategy=strategy)
    assert load_store_cells(tmp_path) == 0
    table = run(silent, tmp_path, budget=8)
    assert (table.counts > 0).sum() > 0
    with pytest.raises(InvalidInput, match="budget in tokens"):
        run(silent, tmp_path, budget="500 tokens")


def test_a_worker_tells_that_its_engine_counts_nothing(silent) -> None:
    actor = EngineActor(EngineSpec.parse(f"openai:{silent._client.base_url}"), 1)
    assert actor.counts_tokens()
    actor.generate([Request(PROMPTS[0], SPACE[0], 0, 1, 8)])
    assert not actor.counts_tokens()
    actor.close()


def load_store_cells(folder: Path) -> int:
    return sum(segments.decode_segment(path.read_bytes()).num_rows for path in folder.glob("cells/*.parquet"))


def test_a_budget_in_tokens_ends_at_the_first_answer_without_a_count(tmp_path: Path) -> None:
    def sometimes(body: dict[str, Any]) -> dict[str, Any]:
        return answer(body, None if body["messages"][-1]["content"].startswith("7 ") else 3)

    with AnsweringServer(sometimes) as server:
        engine = load_engine(f"openai:{server.url}")
        try:
            with pytest.raises(InvalidInput, match="budget in tokens"):
                run(engine, tmp_path, budget="500 tokens")
        finally:
            engine.close()
    assert 8 <= load_store_cells(tmp_path) < 60


def test_a_forecast_says_that_tokens_are_not_counted(silent, tmp_path: Path) -> None:
    found = preview(silent, PROMPTS, SPACE, get_scorer("numeric_match"), samples=2, out=tmp_path)
    assert found.tokens is None
    assert found.prompt_tokens is None
    assert found.seconds is not None
    assert 0.0 < found.seconds.high < 600.0
    assert "an unknown number of new tokens" in found.costs
    json.dumps(found.to_json(), allow_nan=False)
    with pytest.raises(InvalidInput, match="budget in tokens"):
        preview(silent, PROMPTS, SPACE, get_scorer("numeric_match"), samples=2, out=tmp_path, budget="500 tokens")


def test_tokens_of_earlier_sweeps_that_nobody_counted_are_read_as_unknown(silent, tmp_path: Path) -> None:
    import pyarrow

    run(silent, tmp_path)
    for path in tmp_path.glob("cells/*.parquet"):
        table = segments.decode_segment(path.read_bytes())
        at = table.schema.get_field_index("tokens")
        zero = pyarrow.array([0] * table.num_rows, pyarrow.int32())
        old = table.set_column(at, "tokens", zero)
        path.write_bytes(segments.encode_segment(old, segments.read_engine(table) or ""))
    assert np.isnan(load_table(tmp_path).tokens).all()


def test_what_a_completion_does_not_say_is_unknown() -> None:
    made = Completion("text")
    assert all(math.isnan(value) for value in (made.tokens, made.prompt_tokens, made.seconds))
    assert math.isnan(Completion("text", tokens=0).tokens)
    assert Completion("", tokens=0).tokens == 0
    assert sum_tokens([Completion("a", 3), Completion("", finish="error")]) == 3
    assert math.isnan(sum_tokens([Completion("a", 3), Completion("b")]))


def test_a_meter_of_generations_takes_unknown_tokens_and_one_of_tokens_does_not() -> None:
    meter = BudgetMeter(Budget(generations=5))
    meter.add_tokens(math.nan)
    assert meter.admit(9) == 5
    with pytest.raises(InvalidInput, match="budget in tokens"):
        BudgetMeter(Budget(tokens=5)).set_stored(3, math.nan)


def test_imported_tables_may_lack_some_tokens(tmp_path: Path) -> None:
    tokens = np.full((2, 2, 1), 5.0)
    tokens[0, 1] = np.nan
    space = DecodingSpace([DecodingConfig(), DecodingConfig(temperature=0.5)])
    table = SweepTable.from_arrays(["a", "b"], space, np.ones((2, 2, 1)), tokens=tokens)
    with pytest.raises(InvalidInput, match="tokens of every scored cell"):
        headroom(table, objective="price/token@0.001")
    assert [row["tokens"] for row in tabulate_costs(table)] == ["5.0", "unknown"]
    for wrong in (-1.0, np.inf):
        with pytest.raises(InvalidInput, match=r"tokens.*at least 0"):
            SweepTable.from_arrays(["a", "b"], space, np.ones((2, 2, 1)), tokens=np.full((2, 2, 1), wrong))
    lines = [
        {"prompt": p, "config": {"temperature": t}, "reward": 1.0, **({"tokens": 5} if p == "a" else {})}
        for p in ("a", "b")
        for t in (0.5, 1.0)
    ]
    path = tmp_path / "outcomes.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert np.isnan(SweepTable.from_jsonl(path).tokens).sum() == 2


def test_a_tokenizer_that_the_user_names_counts_what_the_server_does_not(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "model")
    with AnsweringServer(answer) as server:
        engine = load_engine(f"openai:{server.url}", tokenizer=str(tmp_path / "model"))
        try:
            table = run(engine, tmp_path / "sweep", budget="100000 tokens")
            unit = [Request(Prompt("say this"), DecodingConfig(temperature=0.0), 0, 5, 16)]
            [completion] = engine.generate(unit)
        finally:
            engine.close()
    assert completion.tokens == len(tokenizer(completion.text, add_special_tokens=False)["input_ids"]) + 1
    assert completion.receipt["tokens"].startswith("counted by the tokenizer model/tokenizer.json ")
    assert table.tokens is not None
    assert (table.tokens[:, :, 0] > 0).all()
    assert headroom(table, objective="price/token@0.001").n_prompts == 12


@pytest.mark.parametrize("content", [None, b"{}", b"\xff", b'{"model": {"type": "BPE"}}'])
def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path, content) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"tokenizer.*tokenizer\.json"):
        load_engine("openai:http://127.0.0.1:9/v1#m", tokenizer=tmp_path)
