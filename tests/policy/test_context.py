"""Which messages need their history: kinds of them, and what none of the training patterns holds."""

import pytest

from benchmarks.tools.chat_turns import FOLLOW_UPS, SHORT_REQUESTS
from hagpolicy.policy.context import MAX_WORDS, needs_context


def test_follow_ups_that_nothing_learned_from_are_found_and_short_requests_are_left():
    found = sum(map(needs_context, FOLLOW_UPS)) / len(FOLLOW_UPS)
    alarms = sum(map(needs_context, SHORT_REQUESTS)) / len(SHORT_REQUESTS)
    assert len(FOLLOW_UPS) >= 100
    assert len(SHORT_REQUESTS) >= 100
    assert found >= 0.9
    assert alarms <= 0.05


@pytest.mark.parametrize("text", ["shorter, please", "and the second one?", "yes", "in German", "Why?", "kürzer bitte"])
def test_follow_ups(text):
    assert needs_context(text)
    assert needs_context(text.upper())


@pytest.mark.parametrize("text", ["Translate 'cat' to French", "What is 17*23?", "it " * (MAX_WORDS + 1), "x" * 9000])
def test_messages_that_stand_by_themselves(text):
    assert not needs_context(text)
