"""What a policy reads of a chat, and what it falls back for: real chats never raise."""

import json

import numpy as np
import pytest

from hagpolicy import Prompt, load
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.policy.forms import MAX_SYSTEMS, Forms
from hagpolicy.policy.reading import PromptReader, check_reads, read_for_training
from tests.support import making

LIST, SUM = making.LISTS[0], making.SUMS[0]
SYSTEM = {"role": "system", "content": "Be brief."}
HISTORY = [{"role": "user", "content": SUM}, {"role": "assistant", "content": "Five."}]


def user(content):
    return {"role": "user", "content": content}


class Message:
    """A message as clients give it back: an object."""

    def __init__(self, role, content):
        self.role, self.content = role, content


class Dumped(Message):
    def model_dump(self):
        return {"role": self.role, "content": self.content, "refusal": None}


@pytest.fixture(scope="module")
def policies():
    return {reads: making.sums_against_lists(reads=reads) for reads in ("last_user", "system+last_user", "all")}


@pytest.mark.parametrize(
    ("reads", "text"),
    [
        ("last_user", LIST),
        ("system+last_user", f"Be brief.\n\n{LIST}"),
        ("all", f"Be brief.\n\n{SUM}\n\nFive.\n\n{LIST}\n\nSure:"),
    ],
)
def test_each_choice_reads_its_turns(reads, text):
    chat = [SYSTEM, *HISTORY, user(LIST), {"role": "assistant", "content": "Sure:"}]
    assert PromptReader(reads).read(chat).item == text
    assert PromptReader(reads).read(LIST).item == PromptReader(reads).read([user(LIST)]).item == LIST


def test_history_and_system_do_not_change_the_decision_by_default(policies):
    policy = policies["last_user"]
    alone = policy.decide(LIST)
    for chat in ([*HISTORY, user(LIST)], [SYSTEM, user(LIST)], [SYSTEM, *HISTORY * 5, user(LIST)]):
        found = policy.decide(chat)
        assert (found.value, found.reason, found.index) == (alone.value, alone.reason, alone.index)
        assert found.prompt == tuple(chat)
    assert policies["all"].decide([*HISTORY, user(LIST)]).value != alone.value


@pytest.mark.parametrize(
    "last",
    [
        user([{"type": "text", "text": LIST}, {"type": "image_url", "image_url": {"url": "data:,"}}]),
        user([{"type": "image", "image": object()}, {"type": "text", "text": LIST}]),
        user([LIST]),
        user([{"text": LIST}]),
        Message("user", LIST),
        Dumped("user", LIST),
        {"role": "human", "content": LIST},
    ],
)
def test_messages_of_every_make_are_read(policies, last):
    policy = policies["last_user"]
    tools = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
    ]
    for chat in ([last], [*HISTORY, last], [last, *tools]):
        assert policy.decide(chat).value == policy.decide(LIST).value
        assert policy.predict(chat) == policy.predict_batch([SUM, chat])[1] == policy.decide_batch([chat])[0].config


UNREADABLE = [
    "",
    " \n",
    [user("")],
    [user(None)],
    [{"role": "user"}],
    [user([])],
    [user([{"type": "image_url", "image_url": {"url": "x"}}])],
    [*HISTORY, user(" ")],
    [{"role": "assistant", "content": "Hello!"}],
    [{"role": "assistant", "content": None, "tool_calls": []}],
    [SYSTEM],
]


@pytest.mark.parametrize("prompt", UNREADABLE)
def test_a_prompt_without_anything_to_read_gets_the_reference(policies, prompt):
    policy = policies["last_user"]
    found = policy.decide(prompt)
    assert (found.reason, found.config, found.advantage) == ("unreadable", policy.reference, 0.0)
    assert found.value == float(np.float32(policy.training_means[policy.reference_index]))
    assert "nothing to read" in str(found)
    assert policy.predict(prompt) == policy.reference
    assert policy.decide_batch([LIST, prompt, SUM])[1] == found
    assert policy.predict_batch([LIST, prompt])[1] == policy.reference
    fixed = policy.decide(prompt, fixed={"temperature": 0.7})
    assert (fixed.reason, fixed.config.temperature) == ("unreadable", 0.7)
    assert np.array_equal(policy.values([prompt])[0], policy.training_means.astype(np.float32))


@pytest.mark.parametrize("prompt", [[], 3, None, b"x", [3], [{"content": "x"}], [["a"]], {}])
def test_what_is_no_prompt_is_refused(policies, prompt):
    for call in (policies["last_user"].predict, lambda one: policies["last_user"].decide_batch([SUM, one])):
        with pytest.raises(InvalidInput):
            call(prompt)


def test_a_follow_up_needs_its_context_where_that_is_not_read(policies):
    for reads, policy in policies.items():
        found = policy.decide([*HISTORY, user("shorter, please")])
        assert (found.reason == "needs_context") is (reads != "all")
        assert reads == "all" or found.config == policy.reference
    policy = policies["last_user"]
    assert policy.decide("shorter, please").reason != "needs_context"
    assert policy.decide([SYSTEM, user("shorter, please")]).reason != "needs_context"
    assert policy.decide([*HISTORY, user(LIST)]).reason == "best_by_margin"


def test_a_form_unlike_training_falls_back_where_forms_are_read(policies):
    chats = {"system": [SYSTEM, user(LIST)], "turns": [*HISTORY, user(LIST)]}
    found = {(reads, what): p.decide(chat).reason for reads, p in policies.items() for what, chat in chats.items()}
    unseen = {key for key, reason in found.items() if reason == "unseen_form"}
    assert unseen == {("system+last_user", "system"), ("all", "system"), ("all", "turns")}


def test_forms_know_systems_and_turns_and_hold_no_text(tmp_path):
    forms = Forms.of([(SYSTEM, user("a")), (SYSTEM, *HISTORY, user("b"))])
    assert forms.know([{"role": "system", "content": " Be  brief. "}, user("c")], True)
    assert not forms.know([user("c")], False)
    assert not forms.know([SYSTEM, *HISTORY, *HISTORY, user("c")], True)
    assert forms.know([SYSTEM, *HISTORY, *HISTORY, user("c")], False)
    assert "brief" not in json.dumps(forms.to_json())
    assert Forms.from_json(forms.to_json()) == forms
    many = Forms.of([({"role": "system", "content": str(n)}, user("a")) for n in range(MAX_SYSTEMS + 1)])
    assert many.know([{"role": "system", "content": "new"}, user("a")], True)


def test_the_choice_is_saved_and_read_back(policies, tmp_path):
    for reads, policy in policies.items():
        again = load(policy.save(tmp_path / reads.replace("+", "-")))
        assert (again.manifest.reads, again.manifest.forms) == (reads, policy.manifest.forms)
        chats = [[*HISTORY, user(LIST)], [SYSTEM, user(LIST)], [*HISTORY, user("why?")], LIST]
        assert again.decide_batch(chats) == policy.decide_batch(chats)
    manifest = policies["all"].manifest.to_json()
    for name, value in (("reads", "first_user"), ("reads", None), ("forms", {"salt": "x"}), ("told_reads", 1)):
        with pytest.raises(BundleError, match=name):
            type(policies["all"].manifest).from_json({**manifest, name: value})
    with pytest.raises(InvalidInput, match="last_user"):
        check_reads("everything")


def test_training_reads_what_production_reads():
    chats = [Prompt((*HISTORY, user(LIST))), Prompt(SUM), Prompt((*HISTORY, user("why?"))), Prompt((SYSTEM,))]
    read, refused = read_for_training(chats, "last_user")
    assert [prompt.text for prompt in read] == [LIST, SUM, "why?", "Be brief."]
    assert refused.tolist() == [False, False, True, True]


def test_a_decision_is_json_without_the_prompt(policies):
    found = policies["last_user"].decide(LIST, fixed={"max_tokens": 9}).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert (found["reason"], found["index"], found["config"]["max_tokens"]) == ("best_by_margin", 4, 9)
    assert LIST not in json.dumps(found)
