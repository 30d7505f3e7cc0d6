"""The task that is told: an input of the graph, held to the manifest, alike in Python and in other languages."""

import json
import warnings
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from hagpolicy import load
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.policy.policy import Policy
from tests.support import making
from tests.support.paths import FIXTURES

SUM, LIST = making.SUMS[0], making.LISTS[0]


@pytest.fixture(scope="module")
def told():
    return making.sums_against_lists(told="reads")


@pytest.fixture(scope="module")
def alone():
    return making.sums_against_lists(told="alone")


@pytest.fixture(scope="module")
def plain():
    return making.sums_against_lists()


def test_untold_it_decides_as_one_that_cannot_be_told(told, plain):
    prompts = [*making.SUMS, *making.LISTS, making.CHINESE, "", [{"role": "user", "content": LIST}]]
    assert told.decide_batch(prompts) == plain.decide_batch(prompts)
    assert [told.predict(prompt) for prompt in prompts] == plain.predict_batch(prompts)


def test_a_told_task_moves_the_values(told):
    for task, index in (("sums", 2), ("lists", 5)):
        for prompt in (SUM, LIST):
            found = told.decide(prompt, task=task)
            assert (found.index, found.task, found.reason) == (index, task, "best_by_margin")
            assert told.predict(prompt, task=task) == found.config
            assert told.decide_batch([prompt], task=task) == told.decide_batch([prompt], task=[task]) == [found]
            assert told.predict_batch([prompt], task=task) == [found.config]
            assert told.values([prompt], task=[task])[0, index] == np.float32(found.value)
    mixed = told.decide_batch([SUM, LIST, LIST], task=["lists", None, "nope"])
    assert [one.index for one in mixed] == [5, 4, 4]
    assert [one.task for one in mixed] == ["lists", None, None]
    assert told.decide(making.CHINESE, task="lists").reason == "unlike_training"
    for bad in (["lists"], 5, [5, None]):
        with pytest.raises(InvalidInput, match="task"):
            told.decide_batch([SUM, LIST], task=bad)
    with pytest.raises(InvalidInput, match="task"):
        told.predict(SUM, task=5)


def test_where_only_the_task_matters_any_prompt_will_do(alone):
    follow_up = [{"role": "user", "content": SUM}, {"role": "user", "content": "shorter, please"}]
    for prompt in (SUM, LIST, making.CHINESE, "", follow_up, [{"role": "user", "content": None}]):
        assert alone.decide(prompt, task="lists").index == 5
        assert alone.decide_batch([prompt], task="sums")[0].index == 2
    assert alone.decide(making.CHINESE).reason == "unlike_training"
    assert alone.decide(follow_up).reason == "needs_context"


def test_an_unknown_task_is_none_with_one_warning(plain):
    told = making.sums_against_lists(told="reads")
    for policy, knows in ((told, "'sums', 'lists'"), (plain, "it knows none")):
        with pytest.warns(UserWarning, match=f"task 'story'.*{knows}"):
            found = policy.decide(LIST, task="story")
        assert found == policy.decide(LIST)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            policy.predict(LIST, task="story")
            policy.decide_batch([LIST] * 3, task="story")


def test_a_prompts_own_task_is_not_told(told):
    assert told.decide(making.Prompt(LIST, task="sums")).index == 4


@pytest.mark.parametrize("kind", ["reads", "alone"])
def test_the_choice_of_the_graph_is_the_decision(kind, request, tmp_path):
    policy = request.getfixturevalue("told" if kind == "reads" else "alone")
    session = onnxruntime.InferenceSession(str(policy.save(tmp_path / "policy") / "policy.onnx"))
    assert {one.name for one in session.get_inputs()} == {"ids", "mask", "task"}
    prompts = [SUM, LIST, making.CHINESE]
    for number, task in enumerate((None, "sums", "lists")):
        for prompt in prompts:
            arrays = policy._inputs.one(prompt)
            (choice,) = session.run(["choice"], {**arrays, "task": np.array([number])})
            assert choice[0] == policy.decide(prompt, task=task).index


def test_a_saved_one_decides_alike(told, alone, tmp_path):
    for number, policy in enumerate((told, alone)):
        again = load(policy.save(tmp_path / str(number)))
        for task in (None, "sums", "lists"):
            assert again.decide_batch([SUM, LIST, making.CHINESE], task=task) == policy.decide_batch(
                [SUM, LIST, making.CHINESE], task=task
            )


def test_the_card_says_how_other_languages_ask(told, alone, plain, tmp_path):
    cards = [
        (one.save(tmp_path / str(n)) / "README.md").read_text("utf-8") for n, one in enumerate((told, alone, plain))
    ]
    for card in cards:
        for said in (
            "its last user message",
            "`ids`",
            "add_special_tokens=False",
            "6,000",
            "2,000",
            "`novelty`",
            "`choice`",
        ):
            assert said in card
    assert ["1 `sums`, 2 `lists`" in card for card in cards] == [True, True, False]
    assert ["The text does not matter then." in card for card in cards] == [False, True, False]


def changed_point(manifest, **values):
    return replace(manifest, dial=type(manifest.dial).from_json(
        {**manifest.dial.to_json(), "points": [{**manifest.dial.points[0].to_json(), **values}]}, manifest.default
    ))  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: changed_point(manifest, told_margin=0.03),
        lambda manifest: changed_point(manifest, margin=0.06),
        lambda manifest: changed_point(manifest, told_ships=False),
        lambda manifest: replace(manifest, tasks=("sums",)),
        lambda manifest: replace(manifest, tasks=("sums", "lists", "more")),
    ],
)
def test_a_manifest_that_says_otherwise_than_the_graph_is_refused(told, change):
    with pytest.raises(BundleError):
        Policy(change(told.manifest), told._model, told._files)


def test_parts_that_cannot_be_are_refused(told):
    for change in ({"tasks": ()}, {"tasks": ("a", "a")}):
        with pytest.raises(BundleError, match="tasks"):
            replace(told.manifest, **change)
    content = json.loads(json.dumps(told.manifest.to_json()))
    content["dial"]["points"][0]["told_margin"] = -1.0
    with pytest.raises(BundleError, match="told_margin"):
        type(told.manifest).from_json(content)


def test_the_fixture_of_a_policy_that_can_be_told_stays_readable():
    policy = load(FIXTURES / "bundle_v3_told")
    assert policy.manifest.tasks == ("sums", "lists")
    for task, index in ((None, 4), ("sums", 2), ("lists", 5)):
        assert policy.decide(making.vector(-1.0), task=task).index == index
