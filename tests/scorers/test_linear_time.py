"""Every scorer that reads only the text reads it in time that grows with its length, whatever it repeats."""

from __future__ import annotations

import time

import pytest

from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.registry import get_scorer, list_prompt_scorers
from tests.contracts.test_scorers import REFERENCES

# What models that went astray repeat, and what patterns stumble over.
UNITS = [
    " ", "\n", " \n\n", "\u00a0", "7", "12,", "1,", "1.000,", "1 000 ", "1 2/", "1/", "-", "- ", "1. ", ",", "(",
    "[1] ", "{", "}", "`", "```\n",
    "**", "_", "\\frac{", "\\frac12", "\\boxed{", "\\text{", "\\ ", "<", "<|", "<think>",
    "<answer>", "</s>", "<li>", '"', "“", "'", "東", "答", "选", "한국", "e\u0301", "½", "²", "A ", "a\n", "A and ",
    "not ", "A is wrong. ", "the answer is ", "Answer:", "Q: ", "\n\nQuestion: 1\n", "#### ", "###\n", "= 7 ", "^{",
    "$", "| a |\n|--|\n", "1 + ", "so ", "twenty ", "十", "c++", "a'", "...", "a: ",
]  # fmt: skip
SIZES = (3_125, 12_500)
QUICK = 0.02  # s: quadratic from here, 200 KB would take 5 s
MOST_GROWTH = 9  # for four times the text: linear is 4, quadratic 16


def measure(scorer, prompt, text, times=1):
    best = float("inf")
    for _ in range(times):
        begun = time.process_time()
        score_checked(scorer, [(prompt, Completion(text, tokens=5))])
        best = min(best, time.process_time() - begun)
    return best


@pytest.mark.parametrize("name", list_prompt_scorers())
def test_time_grows_with_the_text(name):
    scorer, prompt = get_scorer(name), Prompt("Q: 6 * 7?\nA: 42\n###\nQ: Which?\nA:", REFERENCES[name])
    measure(scorer, prompt, "warm")
    for unit in UNITS:
        for size in SIZES:  # from small to large, so that a hang is seen before it is one
            text, quarter = (unit * (length // len(unit)) + "x" for length in (size, size // 4))
            if measure(scorer, prompt, text) > QUICK:
                growth = measure(scorer, prompt, text, 3) / measure(scorer, prompt, quarter, 3)
                assert growth < MOST_GROWTH, (unit, size)
