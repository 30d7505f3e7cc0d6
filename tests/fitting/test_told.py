"""Tasks that are told pass a gate of their own, and nothing ships for them in a world without any."""

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.fitting.learners.linear import Ridge
from hagpolicy.fitting.told import Told

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0], top_p=[1.0, 0.9])
THINGS = ["sum", "city", "song", "code", "cake"]


def world(gain, seed=0, count=240):
    """Prompts whose text says nothing of their task, which decides the best config."""
    rng = np.random.default_rng(seed)
    tasks = np.arange(count) % 3
    prompts = [
        hag.Prompt(f"{' '.join(rng.choice(THINGS, 4))} {number}", task=("math", "json", "story")[task])
        for number, task in enumerate(tasks)
    ]
    chance = np.full((count, len(SPACE)), 0.5)
    chance[np.arange(count), tasks] += gain
    return hag.SweepTable.from_arrays(
        prompts, SPACE, (rng.random((*chance.shape, 4)) < chance[:, :, None]).astype(float)
    )


@pytest.fixture(scope="module")
def fitted():
    return hag.fit(world(0.3), learner="ridge")


def test_what_only_the_task_tells_ships_for_prompts_whose_task_is_told(fitted):
    assert fitted.dial.points[0].told_ships
    assert fitted.ships == "single_best"
    assert fitted.manifest.tasks == ("json", "math", "story")
    prompt = "song cake city sum 3"
    assert [fitted.decide(prompt, task=task).index for task in ("math", "json", "story")] == [0, 1, 2]
    assert fitted.decide(prompt).reason == "sbs_shipped"
    row = next(row for row in fitted.evaluation.rows if row.name == "told")
    assert row.gain_low > 0.1
    assert "ships where the task is told" in row.note
    assert hag.fit(world(0.3), learner="ridge", seed=0).decide(prompt, task="json").value == pytest.approx(
        fitted.decide(prompt, task="json").value
    )


def test_nothing_ships_where_tasks_do_not_differ():
    policy = hag.fit(world(0.0), learner="ridge")
    assert not policy.dial.points[0].told_ships
    assert policy.manifest.tasks == ()
    assert "before the gate" in next(row for row in policy.evaluation.rows if row.name == "told").note


def test_offsets_are_shrunk_by_their_evidence():
    rng = np.random.default_rng(1)
    tasks = np.repeat([1, 2], 100).astype(np.float32)
    features = np.column_stack([rng.normal(size=(200, 3)), tasks]).astype(np.float32)
    noise = rng.normal(0, 1, (200, 4))
    clear = np.where(tasks[:, None] == 1, [2.0, 0, 0, 0], [0, 0, 0, 2.0])
    none = Told(Ridge(), 2).fit(features, noise, np.arange(200), 0).offsets
    some = Told(Ridge(), 2).fit(features, noise + clear, np.arange(200), 0).offsets
    assert np.abs(none).max() < 0.15
    assert some[1, 0] - some[1, 3] == pytest.approx(2.0, abs=0.4)
    assert not some[0].any()
