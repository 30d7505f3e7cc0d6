import json

import pytest

from hagpolicy.config.render import apply_hint
from hagpolicy.data.prompts import Prompt, as_prompts, read_prompts, to_messages
from hagpolicy.errors import InvalidInput


def written(folder, *lines, encoding="utf-8"):
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(lines), encoding)
    return path


def test_strings_messages_and_objects_are_prompts(tmp_path):
    rows = ["one", [{"role": "user", "content": "two"}], {"prompt": "three", "task": "t", "source": "s"}]
    read = read_prompts(written(tmp_path, *map(json.dumps, rows), ""))
    messages = Prompt([{"role": "user", "content": "two"}])
    assert read == (Prompt("one"), messages, Prompt("three", task="t", metadata={"source": "s"}))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = written(tmp_path, '{"prompt": "one"}', '"two"\r', encoding="utf-8-sig")
    assert [prompt.text for prompt in read_prompts(path)] == ["one", "two"]


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": oops}',
        '{"prompt": "  "}',
        '{"prompt": "b", "id": "1"}',
        '{"prompt": "b", "task": 3}',
        '{"prompt": "b", "metadata": [1]}',
        '{"prompt": "b", "metadata": "x"}',
        '{"prompt": "b", "reference": NaN}',
        '{"messages": [{"role": "user", "content": null}]}',
        '{"text": "b"}',
        "null",
    ],
)
def test_a_bad_line_is_named(tmp_path, line):
    with pytest.raises(InvalidInput, match="line 2"):
        read_prompts(written(tmp_path, '{"prompt": "a", "id": "1"}', line))


@pytest.mark.parametrize("given", ["one prompt", None, 3, {"prompt": "a"}, []])
def test_what_is_no_list_of_prompts_is_refused(given):
    with pytest.raises(InvalidInput, match="prompts"):
        as_prompts(given)


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
TURNS = [
    {"role": "user", "content": "2+2?", "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "4", "tool_call_id": "c1"},
]


def test_every_key_of_a_message_survives_and_tells_prompts_apart():
    prompt = Prompt(TURNS)
    assert to_messages(prompt.content) == TURNS
    assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt
    changed = [
        [{**TURNS[0], "name": "bob"}, *TURNS[1:]],
        [TURNS[0], {**TURNS[1], "tool_calls": [{**CALL, "id": "c2"}]}, TURNS[2]],
        [*TURNS[:2], {**TURNS[2], "tool_call_id": "c2"}],
        [{**TURNS[0], "more": {"a": [1]}}, *TURNS[1:]],
    ]
    assert len({prompt.digest, *(Prompt(turns).digest for turns in changed)}) == 5
    # Parquet fills the keys that other messages have with nulls.
    assert Prompt([{"tool_calls": None, **TURNS[0]}, *TURNS[1:]]) == prompt


def test_identities_of_before_stay():
    chat = Prompt([{"role": "user", "content": "a"}], {"b": [1.5, None]}, "t", "g", "i", {"x": {"y": None}})
    assert Prompt("a").digest == "db6facb96888bd63adfab0d17a418931"
    assert chat.digest == "2de259acb9d592daeaba0d79940c0fe9"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": 3},
        {"role": 3, "content": "a"},
        {"content": "a"},
        {"role": "user", "content": ["a"]},
        {"role": "user", "content": "a", "seen": {1, 2}},
        {"role": "user", "content": "a", "score": float("nan")},
        "a",
        None,
    ],
)
def test_what_is_no_message_is_refused(message):
    with pytest.raises(InvalidInput, match="prompt"):
        Prompt([{"role": "user", "content": "a"}, message])


def test_parts_of_a_message_are_read_by_their_text():
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "x"}}]
    prompt = Prompt([{"role": "user", "content": parts}])
    assert prompt.text == "Look:"
    assert apply_hint(prompt.content, "Go.")[0]["content"] == [{"type": "text", "text": "Look:\n\nGo."}, parts[1]]
    with pytest.raises(InvalidInput, match="without any text"):
        Prompt([{"role": "user", "content": parts[1:]}])


HALF = "a \ud83d b"


def test_half_a_surrogate_is_one_thing_everywhere(tmp_path):
    read = read_prompts(written(tmp_path, json.dumps({"prompt": HALF, "id": HALF, "task": HALF, "group": HALF})))
    clean = Prompt("a ? b", id="a ? b", task="a ? b", group="a ? b")
    assert read == (clean,)
    assert read[0].to_dict() == clean.to_dict()
    chat = Prompt([{"role": "user", "content": HALF, HALF: [HALF]}], {HALF: HALF}, metadata={"x": [HALF]})
    json.dumps(chat.to_dict(), ensure_ascii=False).encode("utf-8")
    assert chat == Prompt(
        [{"role": "user", "content": "a ? b", "a ? b": ["a ? b"]}], {"a ? b": "a ? b"}, metadata={"x": ["a ? b"]}
    )
