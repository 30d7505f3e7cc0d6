"""Tables of examples for each scorer: what counts, what does not, and which references are refused."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.registry import get_scorer
from hagpolicy.scorers.text.choice import extract_choice
from hagpolicy.scorers.text.lists import extract_items
from hagpolicy.scorers.text.numbers import extract_numbers
from hagpolicy.scorers.text.numeric import extract_final_number
from tests.support.scoring import reason, score

# ------------------------------------------------------------------ exact_match


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("Paris", "paris", 1),
        ("  **Paris**.\n", "Paris", 1),
        ("“Paris!”", "Paris", 1),
        ("The Netherlands", "netherlands", 1),
        ("the", "the", 1),
        ("Paris, France", "Paris", 0),
        ("", "Paris", 0),
        ("5", 5, 1),
        ("5", 5.0, 1),
        ("-5", 5, 0),
        (".5", "5", 0),
        ("true", True, 1),
        ("C", "C++", 0),
        ("Ｐａｒｉｓ", "Paris", 1),
        ("straße", "STRASSE", 1),
        ("don’t", "don't", 1),
        ("grey", ["gray", "grey"], 1),
        ("new\nYork", "New York", 1),
    ],
)
def test_exact_match(text, reference, value):
    assert score("exact_match", text, reference).value == value


@pytest.mark.parametrize("reference", ["", " ... ", [], {"a": 1}, ["Paris", None]])
def test_exact_match_refuses(reference):
    assert "exact_match expects" in reason("exact_match", reference)


# ------------------------------------------------------------------ numeric_match


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("5", 5, 1),
        ("3.0", 3, 1),
        ("3", "3.0", 1),
        ("3.", 3, 1),
        ("The answer is 3...", 3, 1),
        ("1,000", 1000, 1),
        ("1,000", "1,000.00", 1),
        ("$1,234,567.50", 1234567.5, 1),
        ("2,00,000", 200000, 1),
        ("1\u202f000", 1000, 1),
        ("1'000", 1000, 1),
        ("1, 2, 3", 3, 1),
        ("1,2,3", 3, 1),
        ("−4", -4, 1),
        ("-4", "−4", 1),
        ("–4", -4, 1),
        ("-$4", -4, 1),
        ("$-4", -4, 1),
        ("negative 4", -4, 1),
        ("10-4", 4, 1),
        ("10-4", -4, 0),
        ("10 - 4 = 6", 6, 1),
        ("x=-4", -4, 1),
        ("pages 10–12", 12, 1),
        (".5", 0.5, 1),
        ("1e3", 1000, 1),
        ("2 × 10^3", 2000, 1),
        (r"2 \times 10^{3}", 2000, 1),
        ("3/4", 0.75, 1),
        ("0.75", "3/4", 1),
        ("½", 0.5, 1),
        ("1½ cups", 1.5, 1),
        ("2 1/2", 2.5, 1),
        (r"\frac{3}{4}", 0.75, 1),
        (r"-\frac{3}{4}", -0.75, 1),
        ("24/6", 4, 0),  # the question given back is no answer
        ("24/6 = 4", 4, 1),
        (r"\boxed{5} since 2 + 1 = 3", 5, 1),
        (r"\boxed{\text{5 cm}}", 5, 1),
        (r"\boxed{1{,}000}", 1000, 1),
        ("12 so\n#### 7", 7, 1),
        ("#### $1,007\n\nQuestion: what is 3 + 4?", 1007, 1),
        ("#### 5\nNo, again:\n#### 7\nbecause of the 12", 7, 1),
        ("#### Step 1\n12\n#### Step 2\nso it is 7", 7, 1),
        ("**42**", 42, 1),
        ("_42_", 42, 1),
        ("42%", 42, 1),
        ("42kg", 42, 1),
        ("5²", 5, 1),
        ("٤٢", 42, 1),
        ("４２", 42, 1),
        ("42 H2O", 42, 1),
        ("H2O", 2, 0),
        ("the 3rd", 3, 1),
        ("", 0, 0),
        ("none", 0, 0),
        ("0", 0, 1),
        ("-0", 0, 1),
        ("0.3", 0.1 + 0.2, 1),
        ("3.14", math.pi, 0),
        ("1000001", 1000000, 0),
        ("12345678901234567891", 12345678901234567890, 0),
        ("3/4/2024", 2024, 1),
        ("1/0", 1, 0),
        ("9" * 6000, 9, 0),
        ("1e999", 5, 0),
        ("7 " + "9" * 6000, 7, 1),  # a runaway of digits is no number
    ],
)
def test_numeric_match(text, reference, value):
    assert score("numeric_match", text, reference).value == value


def test_numeric_match_reports_its_answer_and_takes_a_tolerance():
    assert score("numeric_match", "It is $1,200.50.", 7).answer == "1200.5"
    assert score("numeric_match", "none", 7).answer is None
    assert score({"name": "numeric_match", "tolerance": 0.01}, "3.14", math.pi).value == 1
    assert score({"name": "numeric_match", "relative": 0.1}, "105", 100).value == 1
    assert score({"name": "numeric_match", "relative": 0.1}, "111", 100).value == 0


@pytest.mark.parametrize("reference", ["", "five", "between 2 and 3", True, [5], {"value": 5}, "3/0", "1 2"])
def test_numeric_match_refuses(reference):
    assert "numeric_match expects a number" in reason("numeric_match", reference)


def test_numeric_match_reads_marked_references():
    assert reason("numeric_match", "She has 3 + 4 = 7.\n#### 7") is None
    assert score("numeric_match", "7", "She has 3 + 4 = 7.\n#### 7").value == 1
    assert reason("numeric_match", "$3.50") is None
    assert reason("numeric_match", "12 apples") is None


@settings(max_examples=200, deadline=None)
@given(
    number=st.integers(-(10**12), 10**12),
    style=st.sampled_from(["{}", "{:,}", "It is {:,}.", "({})", "**{}**", "${:,}", "= {}\n", "\\boxed{{{}}} 99"]),
)
def test_a_number_is_found_however_it_is_written(number, style):
    assert extract_final_number(style.format(number)) == number


@settings(max_examples=100, deadline=None)
@given(st.lists(st.decimals(-9999, 9999, places=2), min_size=1, max_size=6))
def test_numbers_come_in_their_order(values):
    assert list(extract_numbers(" and ".join(str(value) for value in values))) == [Fraction(value) for value in values]


# ------------------------------------------------------------------ multiple_choice

METALS = {"A": "iron", "B": "gold", "C": "tin", "D": "iron oxide"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(b)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("B) gold", "B"),
        ("b) gold", "B"),
        ("**B. gold**", "B"),
        ("The answer is (B)", "B"),
        ("The answer is B.", "B"),
        ("The answer is: **B**", "B"),
        ("Answer: B", "B"),
        ("the correct answer is option C", "C"),
        ("Option C", "C"),
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{B}}", "B"),
        ("A. No wait. The answer is (C).", "C"),
        ("The answer is (A). Hmm, the answer is (C).", "C"),
        ("gold", "B"),
        ("It is gold, of course.", "B"),
        ("It is iron oxide.", "D"),
        ("The answer is iron.", "A"),
        ("I would choose C here", "C"),
        ("A nice question; C", "C"),
        ("It is not B, so C", "C"),
        ("A) iron\nB) gold\nC) tin", None),
        ("iron or gold", None),
        ("B or C", None),
        ("A or B", None),
        ("B\n\nIron rusts.", "B"),
        ("**B**\n\nA: iron rusts.", "B"),
        ("A\nB\nC", None),
        ("The answer is a guess", None),
        ("", None),
        ("E", None),
        ("42", None),
    ],
)
def test_chosen_letter(text, letter):
    assert extract_choice(text, METALS) == letter


def test_multiple_choice_references():
    lines = "Which is a metal?\nA) wood\nB) gold\nC) glass"
    assert score("multiple_choice", "It is gold.", "B", content=lines).value == 1
    assert score("multiple_choice", "It is glass.", "B", content=lines).value == 0
    assert score("multiple_choice", "C", "(c)").value == 1
    assert score("multiple_choice", "B", {"answer": 1, "choices": ["wood", "gold"]}).value == 1
    assert score("multiple_choice", "B", {"answer": "gold", "choices": ["wood", "gold"]}).value == 1
    assert score("multiple_choice", "gold!", {"answer": "Y", "choices": {"X": "wood", "Y": "gold"}}).value == 1
    assert score("multiple_choice", "The answer is B", "A").answer == "B"
    for bad in ("D", "", 3, {"choices": ["a"]}, {"answer": 2, "choices": ["a", "b"]}, {"answer": "A", "choices": 7}):
        assert "multiple_choice expects" in reason("multiple_choice", bad, lines), bad


# ------------------------------------------------------------------ contains_all


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("The dog runs.", ["dog", "run"], 1),
        ("Dogs were RUNNING", ["dog", "run"], 1),
        ("The dog ran.", ["dog", "run"], 0.5),  # irregular forms are not known
        ("dogma", ["dog"], 0),
        ("the dog's bone", ["dog"], 1),
        ("the dog’s bone", ["dog"], 1),
        ("**dog**,cat", ["dog", "cat"], 1),
        ("", ["dog"], 0),
        ("She lives in New York City", ["New York"], 1),
        ("york is new", ["New York"], 0),
        ("America, the United States", [["USA", "United States"]], 1),
        ("Paris", "Paris", 1),
        ("It has 206 bones", [206], 1),
        ("dog", ["dog", "dogs", "cat"], 0.5),  # one requirement, said twice
        ("Der Hund läuft über die Straße", ["über", "strasse"], 1),
    ],
)
def test_contains_all(text, reference, value):
    assert score("contains_all", text, reference).value == pytest.approx(value)


def test_contains_all_takes_a_language_or_none():
    assert score({"name": "contains_all", "language": ""}, "dogs", ["dog"]).value == 0
    assert score({"name": "contains_all", "language": "german"}, "die Häuser", ["Häuser"]).value == 1
    with pytest.raises(InvalidInput, match="klingon"):
        get_scorer({"name": "contains_all", "language": "klingon"})


@pytest.mark.parametrize("reference", [[], "", ["..."], [[]], {"a": 1}, [["dog", None]], True])
def test_contains_all_refuses(reference):
    assert "contains_all expects" in reason("contains_all", reference)


# ------------------------------------------------------------------ distinct_items


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1. Apple\n2. Pear\n3. Plum", 3),
        ("1) Apple\n2) Pear", 2),
        ("- Apple\n* Pear\n• Plum", 3),
        ("Here are some fruits:\n\n1. Apple\n2. Pear", 2),
        ("1. Apple\n2. apple\n3. Apples\n4. **Apple**\n5. an apple", 1),
        ("1. Apple: a red fruit\n2. Pear - a green one\n3. Apple (sweet)", 2),
        ("1. **Apple**: red\n2. **Pear**: green", 2),
        ("apple, pear, plum", 3),
        ("apple, pear, and plum", 3),
        ("apple, pear and plum.", 3),
        ("apple and pear", 1),  # without a comma it may be one thing
        ("Sure: apple, pear, plum", 3),
        ("apple; pear; apple", 2),
        ("1. apple 2. pear 3. plum", 3),
        ("1. apple, 2. pear, 3. pear", 2),
        ("apple\npear\nplum", 3),
        ("Apple, Apple, Apple, Apple", 1),
        ("1. Apple\n2.", 1),
        ("1. 1\n2. 2\n3. 3", 0),
        ("1. 1. 1. 2. 3. 4.", 0),
        ("I'm sorry for the confusion, but as a helpful AI, I was not made for lists of colours, however", 0),
        ("The fruits I like are apples, pears, plums, cherries", 3),  # the first item cannot be told from its lead
        ("Red\n\nBlue", 2),
        ("", 0),
        ("...\n---", 0),
        ("I am sorry but I really cannot think of any fruit at all today", 0),
    ],
)
def test_distinct_items(text, found):
    assert score("distinct_items", text, 10).value == pytest.approx(found / 10), extract_items(text)


def test_distinct_items_references():
    assert score("distinct_items", "a1, b1, c1", 2).value == 1
    assert score("distinct_items", "apple, pear", {"count": 4}).value == 0.5
    assert score("distinct_items", "apple, pear", "4").value == 0.5
    assert score("distinct_items", "Apples, pear", 4).answer == "appl, pear"
    assert score({"name": "distinct_items", "numbers": True}, "2, 4, 6, 6", 4).value == 0.75
    for bad in (0, -1, 2.5, "many", True, [3], {"n": 3}, {"count": 0}):
        assert "distinct_items expects" in reason("distinct_items", bad), bad


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 9),
    style=st.sampled_from(
        ["{n}. {w}\n", "- {w}\n", "{w}, ", "{n}) {w} ", "{w}\n", "{w}; ", "**{n}.** {w}\n", "* *{w}*\n"]
    ),
)
def test_a_list_is_counted_however_it_is_written(count, style):
    nouns = ["oak", "lamp", "river", "stone", "cloud", "horse", "bread", "violin", "glove"][:count]
    text = "".join(style.format(n=number, w=word) for number, word in enumerate(nouns, start=1))
    assert score("distinct_items", text, 9).value == pytest.approx(count / 9)
    assert score("distinct_items", text + text, 9).value == pytest.approx(count / 9)


# ------------------------------------------------------------------ chrf, json_valid, brevity


def test_chrf():
    reference = "The cat sat on the mat."
    assert score("chrf", reference, reference).value == 1
    assert score("chrf", "", reference).value == 0
    near, far = score("chrf", "A cat sat on a mat.", reference).value, score("chrf", "xyzzy", reference).value
    assert 1 > near > far >= 0
    assert score("chrf", "A dog.", [reference, "A dog."]).value == 1
    with_words = score({"name": "chrf", "word_order": 2}, "tac cat mat", reference).value
    assert with_words != score("chrf", "tac cat mat", reference).value
    for bad in ("", "  ", [], 5, ["a", None]):
        assert "chrf expects" in reason("chrf", bad), bad


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ('{"a": 1}', None, 1),
        ("[1, 2]", None, 1),
        ('```json\n{"a": 1}\n```', None, 1),
        ("```\n[]\n```", None, 1),
        ('Here: {"a": 1}', None, 0),
        ("{'a': 1}", None, 0),
        ('{"a": 1,}', None, 0),
        ('{"a": NaN}', None, 0),
        ("5", None, 0),
        ("", None, 0),
        ("[" * 100_000, None, 0),
        ('{"a": 1, "b": 2}', ["a", "b"], 1),
        ('{"a": 1}', ["a", "b"], 0.5),
        ('{"a": 1}', {"a": 0, "b": 0}, 0.5),
        ('["a", "b"]', ["a", "b"], 0),
        ("a b", ["a", "b"], 0),
    ],
)
def test_json_valid(text, reference, value):
    assert score("json_valid", text, reference).value == value


def test_json_valid_refuses():
    for bad in ([], {}, "a", [1], 5):
        assert "json_valid expects" in reason("json_valid", bad), bad


def test_brevity():
    brief = {"name": "brevity", "budget": 100}
    assert score(brief, "x", tokens=25).value == 0.75
    assert score(brief, "x", tokens=100).value == 0
    assert score(brief, "x", tokens=500).value == 0
    assert score({**brief, "free": 50}, "x", tokens=50).value == 1
    assert score({**brief, "free": 50}, "x", tokens=75).value == 0.5
    assert "no number of tokens" in score(brief, "x", tokens=0).reason
    with pytest.raises(InvalidInput, match="budget"):
        get_scorer({"name": "brevity", "budget": 0})
