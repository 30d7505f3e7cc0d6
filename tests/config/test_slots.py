"""Slots of hints: what fills them, what has nothing for them, and that none is ever sent bare."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagpolicy import DecodingConfig
from hagpolicy._digest import digest
from hagpolicy.config.dialects import DIALECTS
from hagpolicy.config.render import apply_hint, fill_hint
from hagpolicy.config.slots import MOST, SLOTS, VERSION, fill_slots, find_slots

EGGS = (
    "Janet's ducks lay 16 eggs per day. She sells the fresh duck eggs at the farmers' market in New York for $2 each, "
    "or 1,250.50 a year. How much does Janet make?"
)


@pytest.mark.parametrize(
    ("slot", "text", "found"),
    [
        ("keywords", "Write a sentence with: dog, catch, frisbee.", "Write, sentence, dog, catch, frisbee"),
        ("keywords", "What is the linear algebra of linear algebra systems?", "linear algebra, linear algebra systems"),
        ("keywords", "Deep Learning and deep learning", "Deep Learning"),
        ("keywords", "Wie viele Einwohner hat Deutschland?", "Wie, viele, Einwohner, hat, Deutschland"),
        ("keywords", f"What is it? 12 x 7, and {'日本の首都は' * 6}", ""),
        ("entities", EGGS, "New York, Janet"),
        ("entities", "Describe the Burger King. NASA and I like it; Paris does.", "Burger King, NASA, Paris"),
        ("entities", "Describe Paris\nParis is old", "Paris"),
        ("entities", "Write about the sky.", ""),
        ("numbers", EGGS, "16, $2, 1,250.50"),
        ("numbers", "Add 3-4, -5, 20% of £20-25, 3 and x86 by 10:30.", "3, 4, -5, 20%, £20, 25, 10:30"),
        ("numbers", "Three of them", ""),
    ],
)  # fmt: skip
def test_what_fills_a_slot(slot: str, text: str, found: str) -> None:
    assert fill_slots(f"{{{slot}}}", text) == found


def test_only_the_most_telling_phrases_are_kept_in_their_order() -> None:
    words = [f"{chr(97 + at)}ord" for at in range(20)]
    text = f"{', '.join(words[:10])}, plain fresh duck, {', '.join(words[10:])}"
    kept = fill_slots("{keywords}", text).split(", ")
    assert kept == [*words[: MOST - 1], "plain fresh duck"]
    assert len(fill_slots("{numbers}", " ".join(map(str, range(99)))).split(", ")) == 2 * MOST


def test_only_known_names_are_slots_and_other_braces_stay() -> None:
    hint = 'Answer as {"name": ...} or {keyword} or {{}} about {numbers} and {numbers}.'
    assert find_slots(hint) == ("numbers",)
    assert fill_slots(hint, "take 7") == 'Answer as {"name": ...} or {keyword} or {{}} about 7 and 7.'
    assert fill_slots('{"a": 1}', "") == '{"a": 1}'


def test_a_hint_with_one_empty_slot_is_left_out_whole() -> None:
    assert fill_slots("Cover {keywords}; use {numbers}.", "seven red apples") == ""
    for prompt in ("seven apples", [{"role": "user", "content": "seven apples"}]):
        assert apply_hint(prompt, "Use {numbers}.") == prompt


def test_slots_are_filled_from_the_message_that_the_hint_ends() -> None:
    chat = [
        {"role": "system", "content": "Room 1"},
        {"role": "user", "content": "Room 2"},
        {"role": "assistant", "content": "Room 3"},
        {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Room 4"}]},
    ]
    *before, last = apply_hint(chat, "Use {numbers}.")
    assert before == chat[:3]
    assert last["content"][1]["text"] == "Room 4\n\nUse 4."
    assert apply_hint(chat[:1], "Use {numbers}.") == chat[:1]


@given(st.text(max_size=60), st.sampled_from(["{keywords}", "{entities}", "{numbers}", "x"]))
def test_no_slot_is_left_and_what_is_filled_stays(text: str, slot: str) -> None:
    prompt = f"{text} {slot} {{{slot}}} Use 3 red Paris"
    for name in SLOTS:
        filled = fill_hint(prompt, f"Cover: {{{name}}}")
        assert not find_slots(filled)
        assert fill_hint(prompt, filled) == filled


def test_long_and_strange_texts_take_no_longer() -> None:
    since = time.process_time()
    for unit in ("A", "A ", "1,", "it's-", "Aa Bb. ", "'", "{keywords}"):
        for name in SLOTS:
            fill_slots(f"{{{name}}}", unit * 1_000_000)
    assert time.process_time() - since < 5.0
    assert fill_slots("{numbers}", f"1 {'word ' * 9000} 2") == "1, 2"
    assert fill_slots("{numbers}", f"{'word ' * 2000} 1 {'word ' * 2000}") == ""


def test_what_fills_a_slot_is_part_of_the_configs_identity() -> None:
    plain, slotted = (DecodingConfig(hint=hint) for hint in ("Be {brief}.", "Cover: {keywords}"))
    assert plain.digest == digest({"hint": "Be {brief}."})
    assert slotted.digest == digest({"hint": "Cover: {keywords}", "slots": VERSION})


@pytest.mark.parametrize("engine", [*DIALECTS, "openai:vllm"])
@pytest.mark.parametrize("unset", [False, True])
def test_the_receipt_says_what_became_of_slots_without_words_of_the_prompt(engine: str, unset: bool) -> None:
    config = DecodingConfig(hint="Use {numbers} of {entities}.", unset=unset)
    filled = config.render(engine, "Take 7 from Paris")
    assert filled.prompt == "Take 7 from Paris\n\nUse 7 of Paris."
    assert filled.receipt.notes["hint"] == "{numbers} and {entities} filled from the prompt"
    assert filled.receipt.applied["hint"] == config.hint
    left_out = config.render(engine, "Take 7 from me")
    assert left_out.prompt == "Take 7 from me"
    assert left_out.receipt.notes["hint"] == "left out: the prompt has nothing for {numbers} or {entities}"
    assert left_out.receipt.idle == {"hint": config.hint}
    assert "hint" not in left_out.receipt.applied
    settings = config.render(engine)
    assert (settings.prompt, settings.receipt.idle) == ("", {})
