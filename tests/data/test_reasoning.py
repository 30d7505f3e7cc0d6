"""The answer of a text without its reasoning, in the tags of many models."""

from __future__ import annotations

import time

import pytest

from hagpolicy.data.answers import split_reasoning
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.checked import score_checked
from hagpolicy.scorers.functions import FunctionScorer
from hagpolicy.scorers.registry import get_scorer

TAGGED = [
    ("<think>7</think>42", "42"),
    ("<think>\n7\n</think>\n\nIt is 42.", "It is 42."),
    ("<think></think>\n\n42", "42"),
    ("<THINK>7</THINK>42", "42"),
    ("<thinking>7</thinking>42", "42"),
    ("<thinking effort='3'>7</thinking>42", "42"),
    ("<think>7</thinking>42", "42"),
    ("<thought>7</thought>42", "42"),
    ("<seed:think>7</seed:think>42", "42"),
    ("&lt;think&gt;7&lt;/think&gt;42", "42"),
    ("[THINK]7[/THINK]42", "42"),
    ("◁think▷7◁/think▷42", "42"),
    ("<|begin_of_thought|>7<|end_of_thought|>\n<|begin_of_solution|>42<|end_of_solution|>", "42"),
    ("<|START_THINKING|>7<|END_THINKING|><|START_RESPONSE|>42<|END_RESPONSE|>", "42"),
    ("<|channel>thought\n7<channel|>42", "42"),
    ("<|channel|>analysis<|message|>7<|end|><|start|>assistant<|channel|>final<|message|>42<|return|>", "42"),
    ("analysisWe need 7.assistantfinal42", "42"),
    ("Here is my thought process: 7\nHere is my response: 42", "42"),
    ("<reasoning>\n7\n</reasoning>\n<answer>\n42\n</answer>", "42"),
    ("The answer is <|begin_of_box|>42<|end_of_box|>.", "42"),
    # the template began the reasoning; blocks within and beside each other; a mention within
    ("reasoning 7\n</think>\n\n42", "42"),
    ("<think>a <think>b</think> 7</think>42", "42"),
    ("<think>I open with <think> then 7</think>42", "42"),
    ("<think>write `</think>` at the end 7</think>42", "42"),
    ("<think>code ```python\nx=1\n</think>\n42", "42"),
    ("<think>7</think>A<think>8</think>B", "AB"),
    ("It is 42.<think>check: 6*7</think>", "It is 42."),
    ("<think>7</think>42</think>", "42"),
    # cut by the limit: no answer
    ("<think>7", ""),
    ("<|channel|>analysis<|message|>7", ""),
    ("analysisWe need 7", ""),
    ("Sure. <think>7 and 8", "Sure."),
    # no tags at all
    ("Use the <think> tag: 42", "Use the <think> tag: 42"),
    ('Write "<think>" first: 42', 'Write "<think>" first: 42'),
    ("`<think>` is 42", "`<think>` is 42"),
    ("```python\ns = '<think>'\n```", "```python\ns = '<think>'\n```"),
    ("if a < b: print(a)", "if a < b: print(a)"),
    ("analysis: the text says 42", "analysis: the text says 42"),
    ("x <s>old</s> new", "x <s>old</s> new"),
    # the end of the turn
    ("42<|im_end|>\n<|im_start|>user\nnext 7", "42"),
    ("<|im_start|>assistant\n42<|im_end|>", "42"),
    ("42</s>", "42"),
    ("42<end_of_turn>", "42"),
    ("42<｜end▁of▁sentence｜>7", "42"),
    ("<answer>42", "42"),
    ("42</answer>", "42"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer"), TAGGED)
def test_the_answer_is_what_follows_the_reasoning(text, answer):
    found = split_reasoning(text)[1]
    assert found.strip() == answer
    assert split_reasoning(found)[1] == found


def test_every_scorer_is_shown_the_answer_and_only_who_asks_the_whole_text():
    text = "<think>pear</think>apple"
    item = (Prompt("A question?", "apple"), Completion(text, tokens=9))
    seen: list[str] = []

    def remember(text: str) -> float:
        seen.append(text)
        return 1.0

    def remember_all(items: list[tuple[Prompt, Completion]]) -> list[float]:
        seen.extend(completion.text for _, completion in items)
        return [completion.tokens / 9 for _, completion in items]

    whole = FunctionScorer(remember, reasoning=True)
    for scorer in (FunctionScorer(remember), FunctionScorer(remember_all, batch=True), whole):
        assert score_checked(scorer, [item])[0].value == 1
    assert score_checked(get_scorer({"exact_match": 0.5, "contains_all": 0.5}), [item])[0].value == 1
    assert seen == ["apple", "apple", text]
    assert item[1].text == text


def test_tags_are_found_in_time_that_grows_with_the_text():
    pieces = ["<think>", "</think>", "<", "`", "```\n", "<answer>", "<s>", "<think ", "<|", "<|channel|>", "a_", "&lt;"]
    begun = time.perf_counter()
    for piece in pieces:  # 100 KB each
        split_reasoning("<" + piece * (100_000 // len(piece)))
        split_reasoning("analysis" + piece * (100_000 // len(piece)))
    assert time.perf_counter() - begun < 10


def test_a_part_that_folds_away_is_no_reasoning():
    text = "The answer is 3.\n\n<details>\n<summary>Code</summary>\n\nx = 3\n</details>\n"
    assert split_reasoning(text) == ("", text)
    assert split_reasoning('<details type="reasoning" done="true">\nhm\n</details>\nSo 3.')[1].strip() == "So 3."
