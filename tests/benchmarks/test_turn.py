"""TURN: turning points that are known, entropies that are computed another way, and the config it becomes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from benchmarks.baselines.entropy import EntropyCurve, measure_entropy
from benchmarks.baselines.turn import BEST_OF, TEMPERATURES, Turn, nearest_sampled, turning_point
from benchmarks.claims.fitting import turn as benchmark
from hagpolicy.errors import InvalidInput

FINE = tuple(np.round(np.arange(0.1, 1.55, 0.1), 1).tolist())


def cubic(temperatures: tuple[float, ...], turn: float) -> np.ndarray:
    """An entropy whose logarithm is concave below `turn` and convex above."""
    at = np.array(temperatures)
    return np.exp((at - turn) ** 3 + at)


@pytest.mark.parametrize("turn", [0.45, 0.85, 1.15])
def test_the_turning_point_of_a_known_curve(turn: float) -> None:
    assert turning_point(FINE, cubic(FINE, turn)) == pytest.approx(turn + 0.05)
    # Entropies in bits, or scaled in any other way, turn at the same place.
    assert turning_point(FINE, 7.0 * cubic(FINE, turn)) == pytest.approx(turn + 0.05)


def test_an_uneven_grid_turns_where_the_curve_does() -> None:
    uneven = (0.2, 0.3, 0.5, 0.8, 0.95, 1.2, 1.6)
    assert turning_point(uneven, cubic(uneven, 0.9)) == pytest.approx(0.95, abs=0.16)


def test_ends_of_the_curve() -> None:
    grid = np.array(TEMPERATURES)
    assert turning_point(TEMPERATURES, np.exp(grid**2)) == TEMPERATURES[1]
    assert turning_point(TEMPERATURES, np.exp(-(grid**2))) == TEMPERATURES[-2]
    with pytest.raises(InvalidInput, match="above 0"):
        turning_point(TEMPERATURES, np.zeros(len(TEMPERATURES)))


SPACE = hag.DecodingSpace(
    hag.DecodingConfig(**values)
    for values in (
        {"temperature": 0.0},
        {"temperature": 0.8, "top_p": 0.9},
        {"temperature": 0.3, "min_p": 0.1},
        {"temperature": 0.3},
        {"temperature": 0.6},
        {"temperature": 0.8, "hint": "Think step by step."},
        {"temperature": 0.9, "repetition_penalty": 1.1},
        {},
    )
)


def test_the_nearest_sampled_config() -> None:
    wanted = {0.1: 3, 0.44: 3, 0.46: 4, 0.69: 4, 0.71: 1, 0.89: 1, 0.91: 7, 1.5: 7}
    assert {temperature: nearest_sampled(SPACE, temperature) for temperature in wanted} == wanted
    plain = {0.1: 3, 0.46: 4, 0.79: 4, 0.81: 7}
    assert {temperature: nearest_sampled(SPACE, temperature, cut=False) for temperature in plain} == plain
    for space, cut in ((SPACE[:2], False), (SPACE[5:7], True)):
        with pytest.raises(InvalidInput, match="a sampled config that sets nothing but the temperature"):
            nearest_sampled(space, 0.7, cut=cut)


def test_the_baseline_is_one_config_for_all() -> None:
    table = hag.SweepTable.from_arrays(["a", "b"], SPACE, np.zeros((2, len(SPACE))), default=0)
    mask = np.ones(2, dtype=bool)
    # The paper's shift for the best of several samples may reach the next one.
    found = [Turn(0.65, shift=shift).choose(table, table.means, mask, mask, 0).indices for shift in (0.0, BEST_OF)]
    assert [indices.tolist() for indices in found] == [[4, 4], [1, 1]]


def test_curves_are_checked_and_stored(tmp_path: Path) -> None:
    entropies = np.tile(cubic(FINE, 0.85), (3, 1)) * [[0.5], [1.0], [1.5]]
    path = tmp_path / "curve.json"
    stored = {"temperatures": FINE, "entropies": entropies.tolist(), "tokens": 600, "seconds": 2.5, "model": "toy"}
    path.write_text(json.dumps(stored))
    turn = Turn.from_results(path, shift=BEST_OF)
    assert (turn.temperature, turn.shift, turn.tokens, turn.seconds) == (pytest.approx(0.9), BEST_OF, 600, 2.5)
    for bad in ({"temperatures": FINE}, [], {**stored, "entropies": [[1.0]]}, {**stored, "temperatures": FINE[::-1]}):
        path.write_text(json.dumps(bad))
        with pytest.raises(InvalidInput, match=r"curve file|entropies: expected shape|increasing numbers"):
            Turn.from_results(path)
    with pytest.raises(InvalidInput, match="curve file"):
        Turn.from_results(tmp_path / "none.json")
    with pytest.raises(InvalidInput, match="none below 0"):
        EntropyCurve(FINE, -entropies)
    with pytest.raises(InvalidInput, match="at least five"):
        EntropyCurve((0.1, 0.2), np.ones((1, 2)))
    with pytest.raises(InvalidInput, match="a number above 0"):
        Turn(0.0)


def tiny_engine() -> hag.Engine:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from hagpolicy.engines.transformers.engine import TransformersEngine
    from tests.support.tiny_llama import tiny_model, tiny_tokenizer

    return TransformersEngine(tiny_model(), tiny_tokenizer())


def test_entropies_are_those_of_the_distributions_that_were_drawn_from() -> None:
    import torch

    from hagpolicy.engines.transformers.decode import decode

    engine = tiny_engine()
    prompts = ["what is the sum of three", "say hello to red"]
    curve = measure_entropy(engine, prompts, TEMPERATURES, 12, seed=3)
    assert curve.entropies.shape == (2, len(TEMPERATURES))
    tokens = 0
    for row, text in enumerate(prompts):
        for column, temperature in enumerate(TEMPERATURES):
            # The same answer alone, its distributions token by token from the text before it.
            config, ids = hag.DecodingConfig(temperature=temperature), engine.encode(text)
            done = decode(engine.model, [ids], [0], [config], [3 + row], [12], engine.end_tokens)
            answer = done.tokens[0, : int(done.lengths[0])].tolist()
            tokens += len(answer)
            found = []
            for place in range(len(answer)):
                with torch.inference_mode():
                    logits = engine.model(torch.tensor([ids + answer[:place]])).logits[0, -1]
                shares = (logits.double() / temperature).softmax(-1)
                found.append(-float((shares * shares.log()).nan_to_num().sum()))
            assert curve.entropies[row, column] == pytest.approx(np.mean(found), abs=1e-5)
    assert curve.tokens == tokens
    assert curve.seconds > 0.0


def test_measuring_is_repeatable_and_makes_a_baseline() -> None:
    engine = tiny_engine()
    first, second = (measure_entropy(engine, ["say hello"], TEMPERATURES, 8, seed=0) for _ in range(2))
    np.testing.assert_array_equal(first.entropies, second.entropies)
    turn = Turn.measure(engine, ["say hello"], max_tokens=8)
    assert turn.temperature == turning_point(TEMPERATURES, first.mean)
    assert turn.tokens == first.tokens
    # A model is surer of its next token at a low temperature.
    assert first.mean[0] < first.mean[-1]
    with pytest.raises(InvalidInput, match="prompts: expected at least one"):
        Turn.measure(engine, [])


def test_the_benchmark_takes_tasks_alike_and_stores_what_the_baseline_reads(tmp_path: Path) -> None:
    prompts = [hag.Prompt(f"{task} {i}", task=task) for task, n in (("a", 50), ("b", 9), ("c", 3)) for i in range(n)]
    chosen = benchmark.spread_over_tasks(prompts, 20)
    assert len({prompt.text for prompt in chosen}) == 20
    assert Counter(prompt.task for prompt in chosen) == {"a": 9, "b": 8, "c": 3}
    rows = np.tile(cubic(TEMPERATURES, 0.8), (20, 1)) * np.random.default_rng(0).uniform(0.9, 1.1, (20, 8))
    curve = EntropyCurve(TEMPERATURES, rows, tokens=700, seconds=3.0)
    figures = {item.name: item for item in benchmark.figures_of(curve, hag.DecodingSpace.grid(temperature=[0.3, 0.9]))}
    turn = figures["entropy turning point"]
    assert turn.low <= turn.value == 0.9 <= turn.high
    assert figures["nearest config, temperature=0.9"].value == 0.9
    assert 0.5 < figures["the same config in draws of the prompts"].value <= 1.0
    assert figures["new tokens, once"].value == 700


def test_the_benchmark_keeps_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, path, asked = [hag.Prompt("a secret text"), hag.Prompt("b")], tmp_path / "turn" / "curve.json", []

    def measured(prompts: list[hag.Prompt], max_tokens: int) -> tuple[EntropyCurve, float]:
        asked.append(len(prompts))
        rows = np.tile(cubic(TEMPERATURES, 0.8), (len(prompts), 1))
        return EntropyCurve(TEMPERATURES, rows, tokens=700, seconds=3.0), 2.0

    monkeypatch.setattr(benchmark, "measured", measured)
    for given, max_tokens, calls in ((prompts, 48, 1), (prompts, 48, 1), (prompts, 40, 2), (prompts[:1], 40, 3)):
        curve, processor = benchmark.kept(given, max_tokens, path)
        assert (curve.entropies.shape[0], curve.tokens, processor) == (len(given), 700, 2.0)
        assert len(asked) == calls
    # What is stored makes the baseline, and holds no prompt.
    assert Turn.from_results(path).temperature == 0.9
    assert "secret" not in path.read_text()
