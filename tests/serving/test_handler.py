"""What the handler does with bytes: nothing is written anew without need, and a large body holds up nobody."""

import asyncio
import gzip
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagpolicy.errors import InvalidInput
from hagpolicy.serving.handler import LARGE_BYTES, RequestHandler, parse_body, write_body
from hagpolicy.serving.rewrite import RewriteRules
from tests.serving.wrapping import WordPolicy

PATH = "/v1/completions"
WHOLE = '{ "prompt": "red",\t"x": 1.10, "y": [1e2, "\\u00e9"] }\n'


def make_handler(policy=None, **rules):
    return RequestHandler(policy or WordPolicy(), RewriteRules("vllm", **rules))


def test_what_is_added_stands_behind_the_bytes_that_came():
    sent = make_handler().handle(PATH, [], WHOLE.encode()).content
    assert sent.startswith(WHOLE.rstrip()[:-1].encode() + b",")
    assert json.loads(sent) == {**json.loads(WHOLE), **json.loads(b"{" + sent[len(WHOLE.rstrip()) :])}
    assert json.loads(sent)["presence_penalty"] == 2.0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_bodies_in_other_encodings_are_written_anew(encoding):
    sent = make_handler().handle(PATH, [], WHOLE.encode(encoding)).content
    assert json.loads(sent)["presence_penalty"] == 2.0
    assert json.loads(sent)["y"] == [100.0, "é"]


def test_a_compressed_body_goes_on_as_it_came_and_is_told():
    body = gzip.compress(WHOLE.encode())
    handled = make_handler().handle(PATH, [("Content-Encoding", "gzip")], body)
    assert (handled.content, handled.headers["x-hag-reason"]) == (body, "encoded")


def test_a_field_that_gives_way_is_not_sent_twice():
    body = json.dumps({"prompt": "red", "temperature": 0.3, "x": 1}).encode()
    sent = make_handler(overrule=("temperature",)).handle(PATH, [], body).content
    assert sent.count(b'"temperature"') == 1
    assert json.loads(sent)["temperature"] == 0.0


def test_a_task_that_the_policy_does_not_know_is_ignored_and_named():
    policy = WordPolicy()
    for task, ignored in (("json", ()), ("unknown", ("x-hag-task",))):
        handled = make_handler(policy).handle(PATH, [("x-hag-task", task)], b'{"prompt": "red"}')
        assert policy.turned[-1]["task"] == (None if ignored else task)
        assert handled.ignored == ignored
        assert ("ignored x-hag-task" in handled.headers["x-hag-reason"]) == bool(ignored)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_BODIES = st.dictionaries(st.text(max_size=4), _VALUES, max_size=5)


@given(
    body=_BODIES, added=_BODIES, dropped=st.booleans(), ascii=st.booleans(), around=st.sampled_from(["", " ", "\r\n"])
)
def test_what_is_written_says_what_was_meant(body, added, dropped, ascii, around):
    content = f"{around}{json.dumps(body, ensure_ascii=ascii)}{around}".encode("utf-8", "surrogatepass")
    read = parse_body(content)
    if read is None:  # half a surrogate that is not written as an escape
        return
    sent = {**(dict(list(read.items())[1:]) if dropped else read), **added}
    assert json.loads(write_body(content, read, sent)) == sent


def test_a_large_body_holds_up_no_other_request():
    begun, goes_on = threading.Event(), threading.Event()

    class SlowPolicy(WordPolicy):
        def decide(self, prompt, fixed=None, **options):
            if len(prompt) >= LARGE_BYTES:
                begun.set()
                assert goes_on.wait(20.0)
            return super().decide(prompt, fixed, **options)

    handler = make_handler(SlowPolicy())

    async def ask():
        large = json.dumps({"prompt": "red " * LARGE_BYTES}).encode()
        slow = [asyncio.ensure_future(handler.handle_async(PATH, [], large)) for _ in range(8)]
        assert await asyncio.to_thread(begun.wait, 20.0)
        fast = await handler.handle_async(PATH, [], b'{"prompt": "red"}')
        assert not any(one.done() for one in slow)
        goes_on.set()
        return fast, await asyncio.gather(*slow)

    fast, slow = asyncio.run(asyncio.wait_for(ask(), 60.0))
    assert all(json.loads(one.content)["presence_penalty"] == 2.0 for one in [fast, *slow])
    assert handler.counts == {"best_by_margin": 9}


def test_a_loop_of_another_library_is_served_without_a_thread():
    asked = make_handler().handle_async(PATH, [], json.dumps({"prompt": "red " * LARGE_BYTES}).encode())
    with pytest.raises(StopIteration) as ended:
        asked.send(None)
    assert ended.value.value.receipt.reason == "best_by_margin"


def test_a_response_names_the_policy_and_its_bundle():
    policy, other = WordPolicy(), WordPolicy()
    other.digest = "1234abcd" * 4
    handler = make_handler(policy)
    assert handler.handle(PATH, [], b'{"prompt": "red"}').headers["x-hag-policy"] == "*@00000000"
    handler.replace_policy("*", other)
    assert handler.handle(PATH, [], b'{"prompt": "red"}').headers["x-hag-policy"] == "*@1234abcd"
    assert handler.handle_body(PATH, {"prompt": "red"})[1].headers["x-hag-policy"] == "*@1234abcd"
    assert "x-hag-policy" not in handler.handle(PATH, [("x-hag-skip", "1")], b'{"prompt": "red"}').headers


class TaskPolicy(WordPolicy):
    def __init__(self, *tasks):
        super().__init__()
        self.manifest.tasks = tasks

    def knows_task(self, task):
        return task in self.manifest.tasks


def test_a_task_of_the_operators_is_told_to_the_policies_that_know_it(caplog):
    policies = {"a": TaskPolicy("json", "sums"), "b": TaskPolicy()}
    handler = RequestHandler(policies, task="json")
    for model, told in (("a", "json"), ("b", None)):
        handler.handle(PATH, [], json.dumps({"model": model, "prompt": "red"}).encode())
        assert policies[model].turned[-1]["task"] == told
    assert not caplog.records
    handler.replace_policy("a", TaskPolicy("sums"))
    handler.handle(PATH, [], b'{"model": "a", "prompt": "red"}')
    assert handler.policies["a"].turned[-1]["task"] is None
    assert [record.getMessage() for record in caplog.records] == [
        "no policy knows the task 'json': they decide as if it were not told"
    ]


def test_an_unknown_task_of_the_operators_is_told_at_the_start(caplog):
    with pytest.raises(InvalidInput, match=r"expected one that a policy knows: json, sums, got jsno\. Did you mean"):
        RequestHandler(TaskPolicy("sums", "json"), task="jsno")
    assert not caplog.records
    RequestHandler(TaskPolicy(), task="json")  # nothing was proven for tasks, which a later fit may change
    assert "no policy knows the task 'json'" in caplog.text
