"""Worked examples as earlier turns of the chat: what a small model needs to know the form of an answer."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.sweeps.workload import words
from hagpolicy.config.render import Message


def after(examples: Sequence[tuple[str, str]], request: str) -> tuple[Message, ...] | str:
    """The request as the last user turn after (question, answer) turns; the bare text without examples."""
    if not examples:
        return request
    turns = [
        {"role": role, "content": content}
        for pair in examples
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]
    return (*turns, {"role": "user", "content": request})


SUMS = [
    ("Lena had 12 pears and ate 5 of them. How many pears are left?", "12 - 5 = 7. The answer is 7."),
    ("Every box holds 6 cups and there are 4 boxes. How many cups are there?", "6 * 4 = 24. The answer is 24."),
    ("Tom has 9 stamps. Ann has 8 more than Tom. How many stamps has Ann?", "9 + 8 = 17. The answer is 17."),
]
PIG_LATIN = [
    ("Say in Pig Latin: big dog", "igbay ogday"),
    ("Say in Pig Latin: old man", "oldway anmay"),
    ("Say in Pig Latin: green tree grows", "eengray eetray owsgray"),
    ("What is 'milk cup' in Pig Latin?", "ilkmay upcay"),
    ("Pig Latin for: an ugly duck", "anway uglyway uckday"),
    ("Translate into Pig Latin: my black hat", "ymay ackblay athay"),
]
COINS = [
    ("A coin is heads up. Ida flips the coin. Ron does not flip it. Is the coin still heads up?", "No."),
    ("A coin is heads up. Mia flips the coin. Leo flips it again. Is the coin still heads up?", "Yes."),
]
REPLACING = [
    (words.REPLACING[0].format(old="bus", new="train", text="The bus was late again."), "The train was late again."),
    (words.REPLACING[3].format(old="tea", new="juice", text="She drinks tea at home."), "She drinks juice at home."),
    (words.REPLACING[1].format(old="Tom", new="Eva", text="Tom has a new bicycle."), "Eva has a new bicycle."),
]
PAST = [
    (words.PAST[0].format(text="The bus is late."), "The bus was late."),
    (words.PAST[1].format(text="She drinks tea at home."), "She drank tea at home."),
]
REFORMATTING = [
    (words.REFORMATTING[0].format(form="on one line with commas", text="- plum\n- kiwi\n- fig"), "plum, kiwi, fig"),
    (words.REFORMATTING[0].format(form="as a numbered list", text="swan, owl"), "1. swan\n2. owl"),
    (words.REFORMATTING[0].format(form="on one line with commas", text="- dog\n- cat"), "dog, cat"),
]
