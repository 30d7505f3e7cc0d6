import subprocess
import sys

import numpy as np
import pytest

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.completion import Request
from hagpolicy.errors import InvalidInput
from hagpolicy.simulated import THEMES, SimulatedEngine

SPACE = DecodingSpace.preset("standard")


def unit(world, prompts, space, samples=1, max_tokens=64):
    """Requests of every cell, with seeds that differ."""
    cells = [(p, c, s) for p in prompts for c in space for s in range(samples)]
    return [Request(p, c, s, 1000 + number, max_tokens) for number, (p, c, s) in enumerate(cells)]


def test_prompts_are_distinct_balanced_and_told_apart_by_their_words():
    world = SimulatedEngine(seed=3, n_tasks=4)
    prompts = world.prompts(200, seed=1)
    assert len({prompt.text for prompt in prompts}) == 200
    tasks = [prompt.task for prompt in prompts]
    assert all(tasks.count(task) == 50 for task in world.tasks)
    assert prompts == world.prompts(200, seed=1)
    assert prompts != world.prompts(200, seed=2)
    for prompt in prompts:
        words = set(prompt.text.lower().replace(",", " ").replace(".", " ").replace("?", " ").split())
        assert {theme for theme in world.tasks if words & set(THEMES[theme])} == {prompt.task}


def test_vocabularies_share_no_word():
    words = [word for theme in THEMES.values() for word in theme]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("predictable", [True, False])
def test_gap_is_the_one_asked_for(predictable):
    world = SimulatedEngine(seed=1, gap=0.15, space=SPACE, predictable=predictable)
    space = SPACE.with_config(world.default_config())[0]
    truth = world.truth(world.prompts(1000), space)
    reached = truth.max(axis=1).mean() - truth.mean(axis=0).max()
    assert reached == pytest.approx(0.15, abs=1e-9 if predictable else 0.01)


def test_without_a_space_the_gap_is_about_right():
    gaps = []
    for seed in range(20):
        world = SimulatedEngine(seed=seed, gap=0.15)
        truth = world.truth(world.prompts(80), SPACE)
        gaps.append(truth.max(axis=1).mean() - truth.mean(axis=0).max())
    assert 0.11 < np.mean(gaps) < 0.19


def test_best_config_follows_the_task_only_where_it_is_predictable():
    def best_per_task(world):
        prompts = world.prompts(400)
        best = world.truth(prompts, SPACE).argmax(axis=1)
        return [set(best[[p.task == task for p in prompts]]) for task in world.tasks]

    assert all(len(best) == 1 for best in best_per_task(SimulatedEngine(seed=1)))
    assert all(len(best) > 4 for best in best_per_task(SimulatedEngine(seed=1, predictable=False)))


def test_without_gap_one_config_is_best_for_all():
    world = SimulatedEngine(seed=1, gap=0.0)
    truth = world.truth(world.prompts(50), SPACE)
    assert len(set(truth.argmax(axis=1))) == 1
    assert np.ptp(truth.mean(axis=0)) > 0.02


def test_truth_is_the_expectation_of_the_rewards():
    world = SimulatedEngine(seed=5, noise=0.1)
    prompts = world.prompts(4)
    space = [config for config in SPACE if not config.deterministic]
    requests = unit(world, prompts, space, samples=400)
    scores = world.scorer.score([(r.prompt, c) for r, c in zip(requests, world.generate(requests), strict=True)])
    means = np.array([score.value for score in scores]).reshape(4, len(space), 400).mean(axis=2)
    # Standard error of a cell is at most .025; of the mean over all cells .004.
    truth = world.truth(prompts, space)
    assert np.abs(means - truth).max() < 0.11
    assert abs((means - truth).mean()) < 0.015


def test_deterministic_configs_repeat_one_outcome_and_others_do_not():
    world = SimulatedEngine(seed=2)
    prompt = world.prompts(1)[0]
    for config, n_texts in ((DecodingConfig(temperature=0), 1), (DecodingConfig(temperature=0.7), 10)):
        texts = {completion.text for completion in world.generate(unit(world, [prompt], [config], samples=30))}
        assert len(texts) == 1 if n_texts == 1 else len(texts) > n_texts


def test_limit_on_tokens():
    world = SimulatedEngine(seed=2)
    for completion in world.generate(unit(world, world.prompts(5), SPACE, max_tokens=4)):
        assert completion.tokens <= 4
        assert completion.finish == ("stop" if len(completion.text.split()) < 4 else "length")


def test_another_process_sees_the_same_world():
    code = (
        "from hagpolicy import SimulatedEngine, DecodingSpace as S; w = SimulatedEngine(seed=9, noise=.1);"
        "import sys; sys.stdout.write(repr(w.truth(w.prompts(5), S.preset('standard')).tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    world = SimulatedEngine(seed=9, noise=0.1)
    assert done.stdout == repr(world.truth(world.prompts(5), SPACE).tolist())


def test_failures_are_marked_cells():
    world = SimulatedEngine(seed=2, fail_rate=0.3)
    completions = world.generate(unit(world, world.prompts(20), SPACE))
    failed = [completion for completion in completions if completion.finish == "error"]
    assert 0.2 < len(failed) / len(completions) < 0.4
    whole = SimulatedEngine(seed=2).generate(unit(world, world.prompts(20), SPACE))
    assert all(a == b for a, b in zip(completions, whole, strict=True) if a.finish != "error")


BAD = [{"n_tasks": 1}, {"gap": 0.5}, {"noise": -1}, {"fail_rate": 2}, {"gap": 0.2, "space": SPACE[:1]}]


@pytest.mark.parametrize("bad", BAD)
def test_bad_worlds_are_refused(bad):
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        SimulatedEngine(**bad)


def test_fingerprint_tells_worlds_apart_and_ignores_what_changes_no_cell():
    assert SimulatedEngine(0).fingerprint == SimulatedEngine(0, delay=1.0, fail_rate=0.1).fingerprint
    assert len({SimulatedEngine(0).fingerprint["revision"], SimulatedEngine(0, gap=0.1).fingerprint["revision"]}) == 2
