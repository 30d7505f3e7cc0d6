"""A transformer that learns too: nothing of the prompts that it is compared on reaches it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.fitting.encoders import tuning
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.encoders.transformer import TransformerEncoder
from hagpolicy.fitting.prepare import prepare_fit
from hagpolicy.fitting.training import TunedTraining
from tests.support.making import LISTS, SUMS
from tests.support.tiny_bert import WORDS, write_bert

pytest.importorskip("torch")
pytest.importorskip("transformers")
SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.7])
# What suits a prompt hangs on one of its twelve words, of which random states say some, and tuned ones more.
_words = np.random.default_rng(0).integers(0, len(WORDS), (300, 12))
TEXTS = [" ".join(WORDS[number] for number in row) for row in _words]
HOLDS = (_words == 4).any(axis=1).astype(np.float64)
REWARDS = np.column_stack([HOLDS, 1.0 - HOLDS])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("models") / "tiny", max_position_embeddings=256)


def train(folder: Path, rewards: np.ndarray) -> TunedTraining:
    table = hag.SweepTable.from_arrays(TEXTS, SPACE, rewards)
    (training,) = prepare_fit(
        table, [TransformerEncoder(folder, tuned=True, window=40)], get_objectives("reward"), 0, None
    ).trainings
    assert isinstance(training, TunedTraining)
    return training


def test_rewards_of_other_prompts_change_no_feature(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "EPOCHS", 2)
    monkeypatch.setattr(tuning, "RATE", 3e-4)
    first = train(folder, REWARDS)
    inside, _ = next(first.split_folds())
    others = np.where(inside[:, None], REWARDS, np.random.default_rng(1).random(REWARDS.shape))
    second = replace(train(folder, others), folds=first.folds)
    np.testing.assert_array_equal(first.scale_features(inside), second.scale_features(inside))
    whole = np.ones(len(inside), dtype=bool)
    assert np.abs(first.scale_features(whole) - second.scale_features(whole)).max() > 1e-3
    # The same prompts again are a look into what was kept, in every folding.
    assert first.refold(second.folds).scale_features(inside) is first.scale_features(inside)
    assert not np.array_equal(first.scale_features(inside), first.features)


def test_it_learns_what_the_frozen_mean_does_not_say(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "RATE", 3e-4)
    encoder = TransformerEncoder(folder, tuned=True)
    given = encoder._loaded.model, encoder._inputs.ordered(TEXTS), REWARDS - 0.5, np.arange(len(TEXTS)), 0
    tuned = tuning.tune_model(*given)
    assert tuned.losses[0] > 0.5
    assert min(tuned.losses) < 0.85 * tuned.losses[0]
    assert tuning.tune_model(*given).losses == tuned.losses


def test_noise_leaves_the_transformer_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "RATE", 3e-4)
    encoder = TransformerEncoder(folder, tuned=True)
    inputs = encoder._inputs.ordered([*SUMS, *LISTS])
    noise = np.random.default_rng(1).normal(size=(len(inputs), 3))
    tuned = tuning.tune_model(encoder._loaded.model, inputs, noise, np.arange(len(inputs)), 0)
    best = int(np.argmin(tuned.losses))
    assert len(tuned.losses) - 1 - best <= tuning.PATIENCE
    state, start = tuned.model.state_dict(), encoder._loaded.model.state_dict()
    assert best > 0 or all(np.array_equal(part, start[name]) for name, part in state.items())
    assert all(np.array_equal(state[name], start[name]) for name in state if "word_embeddings" in name)


def test_a_policy_ships_the_transformer_that_learned_from_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "EPOCHS", 1)
    monkeypatch.setattr(tuning, "RATE", 3e-4)
    calls: list[int] = []
    made = TransformerEncoder.tune

    def count(self: TransformerEncoder, prompts: list[str], *rest: object) -> TransformerEncoder:
        calls.append(len(prompts))
        return made(self, prompts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(TransformerEncoder, "tune", count)
    table = hag.SweepTable.from_arrays(TEXTS, SPACE, REWARDS)
    encoder = get_encoder(f"transformer-tuned:{folder}")
    policy = hag.fit(table, encoder, ["ridge", "constant"])
    assert (policy.ships, policy.encoder["tuned"], policy.encoder["name"]) == ("per_prompt", True, "tiny tuned")
    # 5 folds in each of 5 foldings, and all prompts once, whatever the number of learners.
    assert (len(calls), max(calls)) == (26, len(TEXTS))
    assert policy.encoder["weights"] != encoder.spec()["weights"]
    policy.save(tmp_path / "bundle")
    np.testing.assert_array_equal(hag.load(tmp_path / "bundle").values(TEXTS), policy.values(TEXTS))
