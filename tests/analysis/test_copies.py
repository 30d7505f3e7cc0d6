"""Copied samples are found whatever their number, honest ones never; they promise nothing; even and odd steps tell."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.copies import find_copies
from hagpolicy.analysis.ladders import estimate_even_odd, find_ladders
from tests.support.drawing import table_of
from tests.support.paths import DATA

TEMPERATURES = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
SPACE = hag.DecodingSpace.grid(temperature=TEMPERATURES)


def sample(truth: np.ndarray, samples: int, seed: int, copied: tuple[int, ...] = (), flips: float = 0.0) -> np.ndarray:
    """float64 (n, m, samples): outcomes of chances (n, m); a copied config repeats its first one but for flips."""
    rng = np.random.default_rng(seed)
    rewards = (rng.random((*truth.shape, samples)) < truth[:, :, None]).astype(float)
    for j in copied:
        flipped = rng.random(rewards[:, j].shape) < flips
        rewards[:, j] = np.where(flipped, 1.0 - rewards[:, j, :1], rewards[:, j, :1])
    return rewards


def smooth_truth(n: int, seed: int) -> np.ndarray:
    """float64 (n, 8): chances of prompts that differ, falling or rising with temperature a little."""
    rng = np.random.default_rng(seed)
    level, slope = rng.beta(0.8, 0.8, (n, 1)), rng.normal(0.0, 0.1, (n, 1))
    return np.clip(level + slope * np.linspace(-1.0, 1.0, 8), 0.02, 0.98)


@pytest.mark.parametrize("copied", [(3,), (0, 1, 2), tuple(range(8))])
@pytest.mark.parametrize("flips", [0.0, 0.02])
@pytest.mark.parametrize("truth", ["even", "smooth"])
def test_copies_are_found_although_all_configs_are_copied(copied: tuple[int, ...], flips: float, truth: str) -> None:
    chances = np.full((200, 8), 0.5) if truth == "even" else smooth_truth(200, 1)
    table = table_of(sample(chances, 10, 2, copied, flips), SPACE)
    found = find_copies(table)
    assert {agreement.config for agreement in found} == set(copied)
    assert all(agreement.reliability > 0.8 for agreement in found)
    warned = [text for text in hag.headroom(table).warnings if "copied" in text]
    assert len(warned) == len(copied)
    assert "hardly agree with those of temperature=" in warned[0]


@pytest.mark.parametrize("seed", range(8))
def test_honest_samples_are_no_copies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    smooth = smooth_truth(120, seed)
    always_fails = smooth.copy()
    always_fails[:, seed] = 0.0
    mostly_fails = smooth.copy()
    mostly_fails[:, seed] = np.where(rng.random(120) < 0.04, 0.97, 0.0)
    sure = np.where(rng.random((120, 1)) < 0.5, 0.97, 0.03) * np.ones(8)
    for truth in (smooth, always_fails, mostly_fails, sure, np.full((120, 8), 0.5)):
        assert find_copies(table_of(sample(truth, 4, seed), SPACE)) == []


def test_a_config_beside_which_none_stands_is_judged_by_what_is_usual() -> None:
    space = hag.DecodingSpace([hag.DecodingConfig(hint=hint) for hint in ("", "Be brief.", "Think.", "List.")])
    truth = np.random.default_rng(0).beta(1.0, 1.0, (150, 4))
    assert find_copies(table_of(sample(truth, 6, 1), space)) == []
    assert [found.config for found in find_copies(table_of(sample(truth, 6, 1, (2,)), space))] == [2]


def test_copies_promise_nothing_at_least() -> None:
    """No prompt has a best of its own; a copied config would be chosen and scored on one and the same outcome."""
    truth = np.full((250, 8), 0.5)
    for copied in ((3,), tuple(range(8))):
        found = hag.headroom(table_of(sample(truth, 10, 3, copied), SPACE))
        if len(copied) == 8:
            assert found.could_win_low is None
            assert "at least 0" not in found.sentence
        else:
            assert found.could_win_low is not None
            assert found.could_win_low.low <= 0.005
        assert found.even_odd is not None
        assert found.even_odd.low <= 0.0
        assert found.split_vbs is None or found.split_vbs.value > 0.55  # what believed in the copies


def test_ladders_are_of_one_field() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.7, 0.0, 0.3], hint=["", "Be brief."], max_tokens=[None, 8, 16])
    found = find_ladders(space)
    assert {ladder.field for ladder in found} == {"temperature", "max_tokens"}
    for ladder in found:
        assert list(ladder.values) == sorted(ladder.values)
        assert [getattr(space[j], ladder.field) for j in ladder.configs] == list(ladder.values)
        assert len({dataclasses.replace(space[j], **{ladder.field: 1.0 if ladder.field == "temperature" else 1})
                    for j in ladder.configs}) == 1  # fmt: skip
    middle = find_ladders(space, "temperature")[0]
    assert middle.find_neighbours(middle.configs[0]) == middle.configs[1:2]
    assert middle.find_neighbours(middle.configs[1]) == (middle.configs[0], middle.configs[2])


def test_even_and_odd_steps_see_what_lasts_over_neighbours_and_no_luck() -> None:
    boot = GroupBootstrap(np.arange(400))
    low, high = np.where(np.arange(8) < 4, 0.8, 0.2), np.where(np.arange(8) < 4, 0.2, 0.8)
    lasting = np.where(np.arange(400)[:, None] % 2, low, high)
    field, gain = estimate_even_odd(sample(lasting, 4, 0).mean(axis=2), SPACE, boot) or ("", None)
    assert field == "temperature"
    assert gain is not None
    assert 0.15 < gain.low < gain.high < 0.35  # of .3 by the truth, less what neighbours differ by
    for seed in range(5):
        luck = sample(np.full((400, 8), 0.5), 1, seed)[:, :, 0]
        _, gain = estimate_even_odd(luck, SPACE, boot) or ("", None)
        assert gain is not None
        assert gain.low <= 0.0
    three = hag.DecodingSpace.grid(temperature=[0.2, 0.5, 0.8])
    assert estimate_even_odd(np.zeros((400, 3)), three, boot) is None


def test_split_samples_that_believe_in_shared_luck_are_contradicted() -> None:
    """Samples of a cell share some luck that its neighbours do not have: less than copies, and all the same."""
    luck = np.random.default_rng(5).random((300, 8)) < 0.5
    table = table_of(sample(np.where(luck, 0.75, 0.25), 10, 6), SPACE)
    found = hag.headroom(table)
    assert found.could_win_low is not None
    assert found.could_win_low.low > 0.1
    assert any("choosing by every other temperature" in text for text in found.warnings)
    honest = hag.headroom(table_of(sample(smooth_truth(300, 7), 10, 8), SPACE))
    assert not any("every other" in text for text in honest.warnings)
    assert "chosen by every other temperature" in str(honest)


@pytest.mark.skipif(not (DATA / "jhu-gpt35").exists(), reason="the public data is not here (HAGPOLICY_DATA)")
def test_public_samples_are_none_and_their_copies_are_found() -> None:
    from benchmarks.sweeps import jhu

    table = jhu.load(DATA)
    assert find_copies(table) == []
    copies = np.array(table.rewards)
    copies[:, :, 1:] = copies[:, :, :1]
    assert [found.config for found in find_copies(dataclasses.replace(table, rewards=copies))] == list(range(1, 11))
