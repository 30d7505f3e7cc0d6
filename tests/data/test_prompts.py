import json

import pytest

from hagpolicy.data.prompts import Prompt, as_prompts, read_prompts
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
