"""Automata, the tokens to their end, and masks that always leave a way: against Python's `re` and by brute force."""

from __future__ import annotations

import itertools
import json
import random
import re
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

from hagpolicy import Constraint  # noqa: E402
from hagpolicy.engines.constraints.automaton import NEVER, build_automaton  # noqa: E402
from hagpolicy.engines.constraints.check import meets  # noqa: E402
from hagpolicy.engines.constraints.expressions import Nfa  # noqa: E402
from hagpolicy.engines.constraints.guide import (  # noqa: E402
    AutomatonGuide,
    GrammarGuide,
    Guides,
    compile_constraint,
    find_infeasible,
)
from hagpolicy.engines.constraints.regex import compile_regex  # noqa: E402
from hagpolicy.engines.constraints.schema import Beyond, compile_schema, follow_pointer  # noqa: E402
from hagpolicy.engines.constraints.vocabulary import Vocabulary, load_vocabulary  # noqa: E402
from hagpolicy.errors import EngineError  # noqa: E402
from tests.support.tiny_bytes import PADDED, byte_tokenizer  # noqa: E402

PATTERNS = [
    r"a*b+c?",
    r"(ab|cd){2,3}",
    r"[^a-c]x",
    r"\d{3}-\d{4}",
    r"é+|ü[ä-ö]?",
    r".*b",
    r"^(?:yes|no)",
    r"\w+\s\W*",
    r"[^é]*",
    r"(?s).",
    r"a{0,3}?b",
    r"[\u0400-\u04ff]{1,2}|[\U0001F300-\U0001F5FF]",
    r"\D\S|(?:a|)\d{0}x",
]
LETTERS = "abcdxyes no-1234é ü ä\nЖ€\U0001f310"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "é", 1, None]}, "minItems": 1, "maxItems": 3},
        "x": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/flag"}]},
    },
    "required": ["age"],
    "$defs": {"flag": {"type": ["boolean", "null"]}},
}
EACH = {
    "choices": Constraint(choices=("yes", "no", "maybe not")),
    "regex": Constraint(regex=r"\d{3}-\d{4}( über)?"),
    "schema": Constraint(schema=SCHEMA),
    "words": Constraint(include=("dog", "café"), avoid=("cat", "the"), min_words=3, max_words=6),
    "any number of words": Constraint(include=("Ball", "park"), avoid=("dog",)),
}


@cache
def guides() -> Guides:
    return Guides(load_vocabulary(byte_tokenizer(), [2], PADDED))


def guide_of(constraint: Constraint) -> AutomatonGuide:
    guide = guides().get(constraint)
    assert isinstance(guide, AutomatonGuide)
    return guide


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_automaton_matches_what_pythons_engine_matches(pattern: str) -> None:
    draw = random.Random(pattern)
    automaton, theirs = build_automaton(compile_regex(pattern)), re.compile(pattern, re.ASCII)
    constraint = Constraint(regex=pattern)
    found = 0
    for _ in range(3000):
        text = "".join(draw.choice(LETTERS) for _ in range(draw.randint(0, 5)))
        expected = theirs.fullmatch(text) is not None
        assert automaton.accepts(text.encode()) == expected, text
        assert meets(constraint, text) == (expected or theirs.fullmatch(text.strip(" \n")) is not None)
        found += expected
    assert found or pattern.startswith((r"\d{3}", "(ab"))


def test_json_that_a_schema_takes_or_refuses() -> None:
    automaton = build_automaton(compile_schema(SCHEMA))
    taken = ['{"age": 3}', '{"name":"Ann","age":120}', '{\n  "age": 0,\n  "tags": ["a", null],\n  "x": -0.5e3\n}']
    taken += ['{"name":"é\\"","age":1,"x":false}', '{"age":1,"tags":["\\u00e9"]}']
    refused = ['{"name": "Ann"}', '{"age": 121}', '{"age": 3,}', '{"age":1,"tags":[]}', '{"age":1,"x":"no"}', "{}"]
    refused += ['{"name":"","age":1}', '{"name":"123456789","age":1}', '{"name":"\\ud800","age":1}', '{"age":01}']
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for text in taken:
        assert automaton.accepts(text.encode()), text
        assert validator.is_valid(json.loads(text))
    for text in refused:
        assert not automaton.accepts(text.encode()), text
    # Asked for in words, properties may come in another order: that is valid all the same.
    assert meets(EACH["schema"], '{"age": 3, "name": "Ann"}')
    assert not meets(EACH["schema"], '{"age": "3"}')
    assert not meets(EACH["schema"], "the age is 3")


BEYOND: dict[str, dict[str, Any]] = {
    "pattern": {"type": "string", "pattern": "a+"},
    "minimum": {"type": "number", "minimum": 3},
    "additionalProperties": {"type": "object", "additionalProperties": {"type": "string"}},
    "itself": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
    "oneOf": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    "without a type": {},
}


@pytest.mark.parametrize("what", BEYOND)
def test_what_is_not_counted_is_named_and_masked_without_the_promise(what: str) -> None:
    with pytest.raises(Beyond, match=what):
        compile_schema(BEYOND[what])
    guide = guides().get(Constraint(schema=BEYOND[what]))
    assert isinstance(guide, GrammarGuide)
    assert not guide.exact
    assert what in guide.why
    assert find_infeasible(guide, 1) == ""


def test_references_are_followed_as_pointers_alone() -> None:
    root = {"type": "boolean", "$defs": {"a/b": {"type": "null"}, "c": [{"type": "integer"}]}}
    assert follow_pointer(root, "#") is root
    assert follow_pointer(root, "#/$defs/a~1b") == {"type": "null"}
    assert follow_pointer(root, "#/$defs/c/0") == {"type": "integer"}
    for nowhere in ("#/$defs/d", "#/$defs/c/1", "#/$defs/c/-1", "#$defs"):
        assert follow_pointer(root, nowhere) is None
        with pytest.raises(Beyond, match="leads nowhere"):
            compile_schema({"$ref": nowhere, **root})


def test_words_are_whole_and_counted_by_spaces() -> None:
    constraint = Constraint(include=("dog", "Café"), avoid=("cat",), min_words=3, max_words=5)
    met = ["The dog, a café!", "DOG café cats", " dog\ncafé ok \n", "dog-café is ok"]
    unmet = ["The dogs café a", "dog café", "dog café cat", "a b c d dog café", "dog CAFÉ x", "a dog: my (cat) café"]
    assert [meets(constraint, text) for text in met] == [True] * len(met)
    assert [meets(constraint, text) for text in unmet] == [False] * len(unmet)


def write_at_random(guide: AutomatonGuide | GrammarGuide, limit: int, draw: np.random.Generator) -> str:
    """An answer of tokens drawn from those allowed, each alike."""
    state, tokens = guide.start(), []
    for done in range(limit):
        if guide.is_complete(state):
            break
        token = int(draw.choice(np.flatnonzero(guide.allow(state, limit - done))))
        if token == 2:
            break
        tokens.append(token)
        state = guide.advance(state, token)
    return str(byte_tokenizer().decode(tokens))


@pytest.mark.parametrize("kind", EACH)
def test_any_way_that_is_left_meets_the_constraint_within_the_limit(kind: str) -> None:
    constraint, guide = EACH[kind], guide_of(EACH[kind])
    draw = np.random.default_rng(1)
    least = guide.count_needed(guide.start())
    assert 0 < least < NEVER
    for limit in (least, least + 1, least + 3, 3 * least):
        for _ in range(40):
            text = write_at_random(guide, limit, draw)
            assert meets(constraint, text), (limit, text)
    assert find_infeasible(guide, least) == ""
    assert f"it takes {least} at least" in find_infeasible(guide, least - 1)


@pytest.mark.parametrize("kind", EACH)
def test_the_first_token_may_be_any_that_leaves_a_way(kind: str) -> None:
    """What is allowed is neither more nor less than what the count by single steps of all tokens says."""
    guide = guide_of(EACH[kind])
    start, least = guide.start(), guide.count_needed(guide.start())
    for limit in (least, least + 2, 50):
        allowed = guide.allow(start, limit)
        for token in range(3, PADDED):
            # One byte that no text holds is special to llguidance.
            known = token < len(byte_tokenizer()) and byte_tokenizer().convert_ids_to_tokens(token) != "ÿ"
            fits = known and guide.count_needed(guide.advance(start, token)) <= limit - 1
            assert allowed[token] == fits, token
        assert not allowed[[0, 1, 2]].any()


def test_the_count_is_the_fewest_tokens_by_brute_force() -> None:
    constraint = Constraint(regex="(ab|c)d?e")
    vocabulary = Vocabulary([b"a", b"b", b"ab", b"c", b"d", b"e", b"de", b"cd", b"", b"x"], [8], 10)
    guide = Guides(vocabulary).get(constraint)
    assert isinstance(guide, AutomatonGuide)
    automaton = compile_constraint(constraint)
    texts = {
        count: {b"".join(vocabulary.tokens[t] for t in path) for path in itertools.product(range(8), repeat=count)}
        for count in range(5)
    }
    for begun in (b"", b"a", b"ab", b"c", b"abd", b"cde", b"x"):
        state = automaton.advance(automaton.start, begun)
        ways = [count for count, found in texts.items() if any(automaton.accepts(begun + rest) for rest in found)]
        assert guide.count_needed(state) == (min(ways) if ways else NEVER), begun


def test_bytes_that_no_token_has_are_not_counted_on() -> None:
    """Without a token "b" alone, what follows "a" has to come in one: the mask never leads to where it cannot."""
    vocabulary = Vocabulary([b"a", b"bc", b"abc", b""], [3], 4)
    guide = Guides(vocabulary).get(Constraint(choices=("abc", "ab")))
    assert isinstance(guide, AutomatonGuide)
    assert guide.allow(guide.start(), 1).tolist() == [False, False, True, False]
    assert guide.allow(guide.start(), 2).tolist() == [True, False, True, False]
    assert "cannot be met with the tokens" in find_infeasible(Guides(vocabulary).get(Constraint(choices=("x",))), 9)


def test_a_tokenizer_whose_texts_are_not_its_tokens_bytes_is_refused() -> None:
    from tests.support.tiny_llama import tiny_tokenizer

    with pytest.raises(EngineError, match="constrain='mask'"):
        load_vocabulary(tiny_tokenizer(), [2], 40)


def test_a_long_text_is_checked_by_steps_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = Nfa.close

    def note(nfa: Nfa, states: Any) -> frozenset[int]:
        closed.append(1)
        return close(nfa, states)

    monkeypatch.setattr(Nfa, "close", note)
    constraint = Constraint(regex=r"(.*a){30}b")
    assert not meets(constraint, "a" * 20_000)
    assert meets(constraint, "a" * 20_000 + "b")
    assert len(closed) < 200
