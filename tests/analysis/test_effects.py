"""What settings do: contrasts that say what they are made of, intervals, marks that chance does not earn, noise."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.contrasts import find_contrasts
from hagpolicy.analysis.effects import Effect
from hagpolicy.analysis.familywise import mark_differences
from hagpolicy.analysis.variance import share_variance
from hagpolicy.data.texts import CellAnswer, ScannedTexts, Texts
from hagpolicy.errors import InvalidInput

C = hag.DecodingConfig
GRID = hag.DecodingSpace.grid(temperature=[0.4, 0.7, 1.0], hint=["", "Be brief."])
HINT = "hint none → “Be brief.”"


def make(
    n: int, seed: int, *, space: hag.DecodingSpace = GRID, samples: int = 3, hint: float = 0.0, both: float = 0.0,
    tasks: int = 1, only_task: float = 0.0,
) -> hag.SweepTable:  # fmt: skip
    """A table of known truth: a hint adds `hint`, at temperature 1 also `both`, on the first task also `only_task`."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.25, 0.45, n)
    task = np.arange(n) % tasks
    hinted = np.array([bool(config.hint) for config in space])
    hot = np.array([config.temperature == 1.0 for config in space])
    truth = level[:, None] + hint * hinted + both * (hinted & hot) + only_task * hinted * (task == 0)[:, None]
    rewards = (rng.random((n, len(space), samples)) < truth[:, :, None]).astype(float)
    tokens = rng.poisson(20.0 + 30.0 * hinted[:, None], rewards.shape).astype(float)
    prompts = [f"question {number} of {seed}" for number in range(n)]
    return hag.SweepTable.from_arrays(prompts, space, rewards, tokens=tokens, tasks=[f"task {t}" for t in task])


def get(found: hag.Effects, setting: str, *, measure: str = "reward", task: str = "", kind: str = "setting") -> Effect:
    chosen = [e for e in found.effects if (e.measure, e.task, e.kind, e.setting) == (measure, task, kind, setting)]
    assert len(chosen) == 1, [e.setting for e in found.effects]
    return chosen[0]


def test_effects_are_told_as_they_are() -> None:
    found = hag.effects(make(300, 0, hint=0.2, both=0.2, tasks=2, only_task=0.1))
    hint = get(found, HINT)
    assert hint.basis == "3 pairs"
    truth = 0.2 + 0.2 / 3 + 0.1 / 2
    assert hint.estimate.low < truth < hint.estimate.high
    assert hint.estimate.high - hint.estimate.low < 0.12
    assert hint.marked
    # Temperature 1 is neutral, so it is what the others are compared with; what it adds to the hint is an interaction.
    both = get(found, f"temperature 1 → 0.4 × {HINT}", kind="interaction")
    assert both.basis == "1 square"
    assert both.estimate.low < -0.2 < both.estimate.high
    assert both.marked
    more = get(found, HINT, task="task 0", kind="task")
    assert more.estimate.low < 0.1 < more.estimate.high
    tokens = get(found, HINT, measure="tokens")
    assert tokens.estimate.low < 30.0 < tokens.estimate.high
    assert tokens.marked
    assert not get(found, "temperature 1 → 0.7", measure="tokens").marked
    assert not any(effect.measure == "loops" for effect in found.effects)


def test_results_are_values_with_names() -> None:
    found = hag.effects(make(80, 1, hint=0.5, tasks=2))
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["n_prompts"] == 80
    assert {"value", "low", "high"} <= values["effects"][0]["estimate"].keys()
    frame = found.to_frame()
    assert len(frame) == len(found.effects)
    assert frame.loc[frame.setting == HINT, "value"].max() > 0.3
    text = str(found)
    assert HINT in text
    assert "variance of single samples" in text
    assert "that are not marked" in text
    one = found.of_task("task 1")
    assert {effect.task for effect in one.effects} == {"task 1"}
    assert "that are not marked" not in str(one)
    with pytest.raises(InvalidInput, match="task 1"):
        found.of_task("task l")


def test_what_moves_with_other_settings_is_fitted_or_named() -> None:
    apart = hag.DecodingSpace([C(temperature=0), C(temperature=0.7, top_p=0.9), C(temperature=0, hint="Be brief.")])
    contrasts, unidentified = find_contrasts(apart)
    assert [(contrast.name, contrast.basis) for contrast in contrasts] == [(HINT, "1 pair")]
    assert {text.split(":")[0] for text in unidentified} == {"temperature 0 → 0.7", "top_p 1 → 0.9"}
    # No two of these differ in one field, and together they tell every effect, if effects add up.
    mixed = hag.DecodingSpace(
        [
            C(temperature=0.5),
            C(temperature=1.0, repetition_penalty=1.1),
            C(temperature=1.0, hint="Be brief."),
            C(temperature=0.5, repetition_penalty=1.1, hint="Be brief."),
        ]
    )
    contrasts, unidentified = find_contrasts(mixed)
    assert not unidentified
    assert {contrast.basis for contrast in contrasts} == {"additive fit"}
    truth = {"temperature 1 → 0.5": 0.3, "repetition_penalty 1 → 1.1": -0.2, HINT: 0.07}
    means = np.array([
        0.4 + 0.3 * (c.temperature == 0.5) - 0.2 * (c.repetition_penalty == 1.1) + 0.07 * bool(c.hint) for c in mixed
    ])  # fmt: skip
    for contrast in contrasts:
        assert means @ contrast.weights == pytest.approx(truth[contrast.name])
    found = hag.effects(make(60, 0, space=apart))
    assert "not told: top_p 1 → 0.9" in str(found)


def test_values_that_never_stand_beside_the_reference_are_compared_with_each_other() -> None:
    space = hag.DecodingSpace([C(unset=True), C(temperature=0.4), C(temperature=0.7), C(temperature=0.9)])
    contrasts, unidentified = find_contrasts(space, default=0)
    assert [contrast.name for contrast in contrasts] == ["temperature 0.4 → 0.7", "temperature 0.4 → 0.9"]
    assert contrasts[0].weights.tolist() == [0.0, -1.0, 1.0, 0.0]
    assert "temperature 1 → 0.4" in {text.split(":")[0] for text in unidentified}


def test_fields_that_do_nothing_are_no_settings() -> None:
    greedy = hag.DecodingSpace([C(temperature=0), C(temperature=0, num_beams=3), C(temperature=0.7, top_p=0.9)])
    names = [contrast.name for contrast in find_contrasts(greedy)[0]]
    assert names == ["num_beams 1 → 3"]
    assert find_contrasts(greedy, default=1)[0][0].name == "num_beams 3 → 1"
    assert hag.effects(make(40, 0, space=hag.DecodingSpace([C(temperature=0.5)]))).effects == ()


def test_chance_marks_next_to_none_and_no_best() -> None:
    tables = [make(60, seed, tasks=2) for seed in range(40)]
    tables = [replace(table, tokens=None) for table in tables]
    found = [hag.effects(table, seed=seed) for seed, table in enumerate(tables)]
    pointwise = sum(not e.estimate.low <= 0.0 <= e.estimate.high for one in found for e in one.effects)
    assert pointwise >= 20  # what a reader of intervals alone would take for effects
    assert sum(bool(one.marked) for one in found) <= 6  # of 40, where 2 are expected
    assert sum(any(cell.best for cell in one.grid) for one in found) <= 1


def test_marks_need_groups_and_copies_of_a_prompt_are_none() -> None:
    table = make(60, 3, hint=0.5)
    assert get(hag.effects(table), HINT).marked
    few = hag.SweepTable.from_arrays(
        list(table.prompts), GRID, np.array(table.rewards), groups=[str(number // 6) for number in range(60)]
    )
    found = hag.effects(few)
    assert not found.marked
    assert any("too few to prove" in text for text in found.warnings)
    wider = get(found, HINT)
    assert wider.n_groups == 10
    one = hag.effects(hag.SweepTable.from_arrays(list(table.prompts), GRID, np.array(table.rewards), groups=["a"] * 60))
    assert get(one, HINT).estimate.low == -1.0
    assert get(one, HINT).estimate.high == 1.0


def test_an_interval_over_few_groups_that_differ_says_so() -> None:
    rewards = np.zeros((100, 6, 1))
    rewards[:4, [j for j, config in enumerate(GRID) if config.hint]] = 1.0
    hint = get(hag.effects(hag.SweepTable.from_arrays([f"p {i}" for i in range(100)], GRID, rewards)), HINT)
    assert not hint.estimate.reliable
    assert not hint.marked
    assert get(hag.effects(make(60, 0, hint=0.3)), HINT).estimate.reliable


def test_the_rule_looks_at_the_whole_family() -> None:
    rng = np.random.default_rng(0)
    groups = np.full(200, 60)
    scores = rng.normal(size=(60, 200))
    scores[:, 0] += 1.0
    marked = mark_differences(scores, groups)
    assert marked[0]
    assert marked.sum() <= 2
    weak = rng.normal(0.32, 1.0, (60, 1))
    weak += 0.32 - weak.mean()  # 2.5 standard errors: enough alone, not among two hundred
    assert mark_differences(weak, groups[:1])[0]
    assert not mark_differences(np.concatenate([weak, scores], axis=1), np.full(201, 60))[0]
    assert not mark_differences(np.zeros((60, 3)), groups[:3]).any()
    assert not mark_differences(scores[:19], np.full(200, 19)).any()


def test_shares_of_variance() -> None:
    rng = np.random.default_rng(0)
    prompts, configs, both = rng.normal(0, 0.1, (2000, 1)), rng.normal(0, 0.1, (1, 6)), rng.normal(0, 0.1, (2000, 6))
    configs *= 0.1 / configs.std(ddof=1)
    cells = 0.5 + prompts + configs + both
    rewards = np.clip(cells[:, :, None] + rng.normal(0, 0.1, (2000, 6, 3)), 0.0, 1.0)
    space = hag.DecodingSpace.grid(temperature=[0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    names = [f"prompt {number}" for number in range(2000)]
    shares = share_variance(hag.SweepTable.from_arrays(names, space, rewards))
    assert (shares.prompts, shares.configs, shares.both, shares.noise) == pytest.approx((0.25,) * 4, abs=0.02)
    single = share_variance(hag.SweepTable.from_arrays(names, space, rewards[:, :, :1]))
    assert single.noise is None
    assert "one sample" in single.reason
    assert "one sample" in str(single)
    greedy = hag.DecodingSpace.grid(temperature=[0.0], repetition_penalty=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    found = hag.effects(hag.SweepTable.from_arrays(names[:50], greedy, rewards[:50, :, :1]))
    assert found.noise.noise is None
    assert "deterministic" in found.noise.reason


class HeldTexts(Texts):
    """Texts of an array, None where there is none."""

    def __init__(self, written: np.ndarray) -> None:
        self.written, self.shape = written, written.shape

    def scan(self):
        where = np.nonzero(self.written != None)  # noqa: E711 - of each
        texts = self.written[where].tolist()
        yield ScannedTexts(*where, texts, ["stop"] * len(texts))

    def _read(self, where):
        return [None if text is None else CellAnswer(text) for text in self.written[where]]

    def take(self, rows, columns):
        return HeldTexts(self.written[rows][:, columns])


def test_loops_are_counted_where_there_are_texts() -> None:
    """At temperature 0.4 half of the answers end in a loop, and of one answer the text is not known."""
    table = make(80, 4)
    cold = np.array([config.temperature == 0.4 for config in GRID])
    loops = (np.random.default_rng(0).random(table.rewards.shape) < 0.5) & cold[:, None]
    written = np.where(loops, "It is so. " * 20, "It is so.").astype(object)
    written[0, 0, 0] = None
    found = hag.effects(replace(table, texts=HeldTexts(written)))
    effect = get(found, "temperature 1 → 0.4", measure="loops")
    assert effect.estimate.low < 0.5 < effect.estimate.high
    assert effect.marked
    assert get(found, "temperature 1 → 0.7", measure="loops").estimate.value == 0.0
