"""The workload's prompts are the same in every run, and its own scorers are right on answers written by hand."""

from __future__ import annotations

import pytest

from benchmarks.sweeps.workload import editing, scoring, tasks
from benchmarks.sweeps.workload.instructions import CHECKS, can_meet, followed
from tests.support.paths import DATA

needs_data = pytest.mark.skipif(not (DATA / "tasks").exists(), reason="the public data is not here (HAGPOLICY_DATA)")
SENTENCE = {"source": "The dog sits in the car.", "answer": "The cat sits in the car."}


def test_an_edit_passes_only_when_it_is_exact() -> None:
    for lead in ("", "Sure, here it is:\n\n", "Here is the new sentence:\n", "The corrected sentence is: "):
        assert editing.edit_score(f"{lead}The cat sits in the car.", SENTENCE).value == 1.0, lead
    for text in ('"The cat sits in the car"', "the cat  sits\nin the car", "The cat sits in the car.\n\nAnything?"):
        assert editing.edit_score(text, SENTENCE).value == 1.0, text


def test_a_copy_of_the_source_gets_nothing_from_an_edit() -> None:
    for text in (SENTENCE["source"], "", "No.", "The dog sits in the car. It is red."):
        assert editing.edit_score(text, SENTENCE).value == 0.0, text


def test_an_unfinished_edit_gets_less_than_half() -> None:
    value = editing.edit_score("The cat sits in a car.", {**SENTENCE, "source": "The elephant sits in the car."}).value
    assert 0.0 < value < editing.MOST_FOR_UNFINISHED


def test_a_list_in_the_wrong_form_does_not_pass() -> None:
    wanted = {"source": "milk, tea", "answer": "1. milk\n2. tea"}
    assert editing.edit_score("1. milk\n2. tea", wanted).value == 1.0
    assert editing.edit_score("milk, tea", wanted).value == 0.0
    assert editing.edit_score("- milk\n- tea", wanted).value < 1.0


def test_pig_latin_words() -> None:
    assert [tasks.pig(word) for word in ("big", "old", "green", "sky")] == ["igbay", "oldway", "eengray", "skyway"]
    wanted = {"source": "big dog", "answer": "igbay ogday"}
    assert scoring.pig_latin("igbay ogday", wanted).value == 1.0
    assert scoring.pig_latin("big dog", wanted).value == 0.0
    assert 0.5 <= scoring.pig_latin("It is: Igbay dog!", wanted).value < 1.0


def test_the_last_yes_or_no_is_the_answer() -> None:
    score = scoring.yes_no("Yes? No, it was flipped once. So: no.", "no")
    assert (score.value, score.answer) == (1.0, "no")
    assert scoring.yes_no("Heads.", "yes").value == 0.0
    assert scoring.yes_no("I do not know; nobody knows.", "no").value == 0.0


@pytest.mark.parametrize(
    ("kind", "args", "good", "bad"),
    [
        ("punctuation:no_comma", {}, "a b", "a, b"),
        ("change_case:english_lowercase", {}, "all small.", "Not small"),
        ("change_case:english_capital", {}, "ALL BIG.", "Not BIG"),
        (
            "change_case:capital_word_frequency",
            {"capital_relation": "at least", "capital_frequency": 2},
            "NOW or NEVER",
            "NOW or never",
        ),
        ("keywords:existence", {"keywords": ["sun", "sea"]}, "Sun and sea.", "Sunday at sea"),
        ("keywords:forbidden_words", {"forbidden_words": ["sun"]}, "Sunday", "The sun."),
        ("keywords:frequency", {"keyword": "so", "relation": "at least", "frequency": 2}, "So, so.", "so also"),
        ("keywords:frequency", {"keyword": "so", "relation": "less than", "frequency": 2}, "so", "so so"),
        ("keywords:letter_frequency", {"letter": "z", "let_relation": "at least", "let_frequency": 2}, "zZ", "z"),
        ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "two words", "now three words"),
        ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}, "One. Two!", "One 2.5"),
        ("detectable_format:title", {}, "<<A title>>\ntext", "A title"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a\n* b\n* c"),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and b"),
        ("detectable_content:number_placeholders", {"num_placeholders": 1}, "Dear [name]", "Dear []"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye. P.S. Hi", "Bye."),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', '{"a": 1'),
        ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
        ("startend:quotation", {}, '"All of it."', '"Some" of it'),
        ("startend:end_checker", {"end_phrase": "The end."}, "So. The end.", "The end. So"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Why?"}, "Why? Because.", "Because."),
        ("combination:two_responses", {}, "one******two", "one******"),
    ],
)
def test_instructions_are_told_apart(kind: str, args: dict[str, object], good: str, bad: str) -> None:
    assert followed(good, [[kind, args]]).value == 1.0
    assert followed(bad, [[kind, args]]).value == 0.0


def test_the_share_of_instructions_counts_and_silence_follows_none() -> None:
    both = [["punctuation:no_comma", {}], ["change_case:english_lowercase", {}]]
    assert followed("No commas", both).value == 0.5
    assert followed(" \n", both).value == 0.0


def test_long_demands_and_unknown_kinds_are_left_out() -> None:
    assert not can_meet("length_constraints:number_words", {"relation": "at least", "num_words": 300})
    assert not can_meet("language:response_language", {"language": "kn"})
    assert all(can_meet(kind, {}) for kind in CHECKS if kind.startswith(("startend", "punctuation")))


@needs_data
def test_prompts_are_the_same_in_every_run_and_the_parts_are_apart() -> None:
    makers = (tasks.workload_prompts, tasks.pilot_prompts, tasks.budgets_prompts)
    parts = [make(DATA) for make in makers]
    assert parts == [make(DATA) for make in makers]
    texts = [prompt.text for part in parts for prompt in part]
    ids = [prompt.id for part in parts for prompt in part]
    assert len(set(texts)) == len(texts)
    assert len(set(ids)) == len(ids)
    assert len(parts[0]) >= 640
    assert len(parts[2]) >= 150


@needs_data
def test_every_reference_can_be_scored_and_the_wanted_answer_passes() -> None:
    from hagpolicy.data.completion import Completion
    from hagpolicy.scorers.registry import assign_scorers

    prompts = tasks.workload_prompts(DATA)
    for prompt, scorer in zip(prompts, assign_scorers(scoring.SCORERS, prompts), strict=True):
        assert scorer.check(prompt) is None, prompt.id
        wanted = _wanted(prompt.task, prompt.reference)
        if wanted is not None:
            (score,) = scorer.score([(prompt, Completion(wanted))])
            assert score.value == 1.0, (prompt.id, wanted, score)


def _wanted(task: str, reference: object) -> str | None:
    """An answer that must pass; None where there is none to be made from the reference."""
    if isinstance(reference, dict):
        return str(reference["answer"])
    if task == "e2e":
        assert isinstance(reference, list)
        return ", ".join(slot[0] for slot in reference)
    if task == "commongen":
        assert isinstance(reference, list)
        return " ".join(reference)
    return str(reference) if task in ("coin_flip", "svamp") else None
