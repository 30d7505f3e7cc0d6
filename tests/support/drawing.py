"""Tables for the tests of headroom, fit and evaluate: of worlds whose truth is known, and of coins."""

from __future__ import annotations

from typing import Any

import numpy as np

import hagpolicy as hag

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.4, 0.7, 1.0, 1.3], repetition_penalty=[1.0, 1.1])


# Prompts, features and configs of `draw_features`.
N, D, M = 150, 24, 5


def draw(world: hag.SimulatedEngine, n: int, samples: int, seed: int = 1) -> hag.SweepTable:
    """A table of a world, deterministic configs drawn once."""
    prompts = world.prompts(n, seed)
    truth = world.truth(prompts, SPACE)
    rng = np.random.default_rng(seed)
    rewards = (rng.random((*truth.shape, samples)) < truth[:, :, None]).astype(float)
    rewards[:, SPACE.deterministic, 1:] = np.nan
    return hag.SweepTable.from_arrays(prompts, SPACE, rewards, default=SPACE.index(hag.DecodingConfig()))


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < 0.5).astype(float)


def table_of(rewards: np.ndarray, space: hag.DecodingSpace, **more: Any) -> hag.SweepTable:
    prompts = [prompt.text for prompt in hag.SimulatedEngine(0).prompts(len(rewards))]
    return hag.SweepTable.from_arrays(prompts, space, rewards, **more)


def draw_features(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, noisy targets and their expectation; the best config depends on the first feature."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N, D)).astype(np.float32)
    truth = np.full((N, M), 0.5)
    truth[:, 1] += np.where(features[:, 0] > 0, 0.3, -0.3)
    return features, rng.binomial(8, truth) / 8, truth
