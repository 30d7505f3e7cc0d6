"""What counts as a loop, at its edges."""

from __future__ import annotations

import random
import string

import pytest

from hagpolicy.data.loops import LEAST_LENGTH, is_looping

PASSAGE = "The capital of France is Paris, and so it is. "


@pytest.mark.parametrize(
    "text",
    [
        "An answer. " + PASSAGE * 3,
        "An answer. " + (PASSAGE * 4)[:-17],  # cut in the middle of a copy
        "An answer. " + PASSAGE * 5 + "\n\n ",
        "no " * 30,
        "哈" * LEAST_LENGTH,
        "x" * 20_000,
        "start " + "".join(random.Random(0).choices(string.ascii_lowercase, k=1500)) * 3,
    ],
)
def test_an_end_in_copies_is_a_loop(text: str) -> None:
    assert is_looping(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A short answer.",
        PASSAGE * 2,
        PASSAGE * 3 + "That is all there is to say about the matter.",  # it came out again
        "a" * (LEAST_LENGTH - 1),
        "".join(f"{number}. Paris is a city. " for number in range(30)),
        "".join(random.Random(1).choices(string.ascii_lowercase + " ", k=5000)),
    ],
)
def test_other_texts_are_none(text: str) -> None:
    assert not is_looping(text)


def test_agrees_with_the_definition_written_out() -> None:
    generator = random.Random(2)
    found = 0
    for _ in range(400):
        block = "".join(generator.choices("ab", k=generator.randint(1, 60)))
        text = "".join(generator.choices("ab", k=40)) + (block * 6)[: generator.randint(0, 200)]
        stripped, n = text.rstrip(), len(text.rstrip())
        periods = range(1, n)
        plain = any(
            length >= max(LEAST_LENGTH, 3 * p)
            for p in periods
            for length in [next((k for k in range(n - p) if stripped[n - 1 - k] != stripped[n - 1 - k - p]), n - p) + p]
        )
        assert is_looping(text) is plain
        found += plain
    assert 50 < found < 350
