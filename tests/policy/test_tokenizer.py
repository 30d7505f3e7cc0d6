"""The tokenizer of a bundle: what is understood reads as the library reads it, and nothing else is built."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from hagpolicy.errors import BundleError
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.policy.inputs import TokenInputs
from hagpolicy.policy.tokenizer import REGEXES, TOKENIZER_FILE, build_tokenizer
from tests.support import making

SHIPPED = StaticEncoder().files()[TOKENIZER_FILE]
WORDS = ["[UNK]", "a", "##b", "\u21b5", "\u21e5", "1", "é"]


PARTS = json.loads(SHIPPED)
PARTS["model"]["vocab"] = {word: number for number, word in enumerate(WORDS)}
SMALL = json.dumps(PARTS, ensure_ascii=False)


def small() -> dict[str, Any]:
    """The shipped tokenizer's parts over a vocabulary of a few tokens."""
    values: dict[str, Any] = json.loads(SMALL)
    return values


def test_the_shipped_tokenizer_is_built_as_the_library_reads_it() -> None:
    ours, theirs = build_tokenizer(SHIPPED), Tokenizer.from_buffer(SHIPPED)
    texts = [*making.ODD[:5], *making.ODD[6:], *making.SUMS[:5], "a\r\n\tb\n    c\u2028d"]
    assert json.loads(ours.to_str()) == json.loads(theirs.to_str())
    assert [ours.encode(text).ids for text in texts] == [theirs.encode(text).ids for text in texts]


@pytest.mark.parametrize(
    "part",
    [
        None,
        {"type": "Replace", "pattern": {"Regex": REGEXES[0]}, "content": "a"},
        {"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": False, "strip_accents": True,
         "lowercase": False},
    ],
)  # fmt: skip
def test_each_understood_part_is_built(part: Any) -> None:
    values = small() | {"normalizer": part}
    theirs = Tokenizer.from_str(json.dumps(values))
    for text in ("A b\u21b5 é", "ab 1"):
        assert build_tokenizer(json.dumps(values).encode()).encode(text).ids == theirs.encode(text).ids


def put(*path: Any, value: Any) -> Any:
    def change(values: Any) -> None:
        for step in path[:-1]:
            values = values[step]
        values[path[-1]] = value

    return change


REFUSED = {
    "another regex": (put("normalizer", "normalizers", 0, "pattern", value={"Regex": "(a*)*b"}), "one of"),
    "a regex with a space more": (
        put("normalizer", "normalizers", 0, "pattern", value={"Regex": REGEXES[0] + " "}),
        "pattern.Regex",
    ),
    "an empty string as pattern": (put("normalizer", "normalizers", 0, "pattern", value={"String": ""}), "pattern"),
    "a long content": (put("normalizer", "normalizers", 0, "content", value="x" * 65), "content"),
    "contents that multiply": (
        put(
            "normalizer",
            "normalizers",
            value=[{"type": "Replace", "pattern": {"Regex": REGEXES[0]}, "content": "\u21b5" * 9}] * 2,
        ),
        "at most 64 times",
    ),
    "a chain without end": (
        put(
            "normalizer",
            "normalizers",
            value=[{"type": "Replace", "pattern": {"Regex": REGEXES[0]}, "content": "x"}] * 17,
        ),
        "0 to 16 values",
    ),
    "a sequence in a sequence": (
        put("normalizer", "normalizers", value=[{"type": "Sequence", "normalizers": []}]),
        r"normalizers\[0\]\.type",
    ),
    "a model that draws at random": (
        put("model", value={"type": "BPE", "dropout": 0.5, "vocab": {}, "merges": []}),
        "model.type",
    ),
    "a type that is a list": (put("model", "type", value=["WordPiece"]), "model.type"),
    "a charsmap": (put("normalizer", value={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "normalizer.type"),
    "a field of no type": (put("model", "dropout", value=0.1), "'dropout'"),
    "a key of no tokenizer": (put("extra", value=None), "'extra'"),
    "an added token": (put("added_tokens", value=[{"id": 0, "content": "a"}]), "added_tokens"),
    "a post-processor": (put("post_processor", value={"type": "ByteLevel"}), "post_processor"),
    "truncation": (put("truncation", value={"max_length": 1}), "no truncation"),
    "no pre-tokenizer": (put("pre_tokenizer", value=None), "pre_tokenizer"),
    "an id beyond the others": (put("model", "vocab", "a", value=99), "each once"),
    "an id twice": (put("model", "vocab", "a", value=0), "each once"),
    "a negative id": (put("model", "vocab", "a", value=-1), "each once"),
    "an id that is true": (put("model", "vocab", "a", value=True), "each once"),
    "an id of many digits": (put("model", "vocab", "a", value=10**400), "each once"),
    "no vocabulary": (put("model", "vocab", value={}), "1 to 1000000 tokens"),
    "an unknown token that is unknown": (put("model", "unk_token", value="[NONE]"), "a token of the vocabulary"),
    "words without end": (put("model", "max_input_chars_per_word", value=10**9), "max_input_chars_per_word"),
    "a flag that is a number": (put("normalizer", "normalizers", 3, "lowercase", value=1), "true or false"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_understood_is_refused_by_name(kind: str) -> None:
    change, said = REFUSED[kind]
    values = small()
    change(values)
    with pytest.raises(BundleError, match=rf"tokenizer\.json: expected .*{said}"):
        build_tokenizer(json.dumps(values).encode())


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"\xff", b"[]", b"null", b'{"model":' + b"9" * 5000 + b"}"])
def test_what_is_no_tokenizer_is_one_error(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        build_tokenizer(data)


def test_a_key_that_stands_twice_is_refused() -> None:
    text = json.dumps(small()).replace('"unk_token": "[UNK]"', '"unk_token": "[NONE]", "unk_token": "a"')
    with pytest.raises(BundleError, match="each key of an object once"):
        build_tokenizer(text.encode())


def test_a_prompt_of_very_many_tokens_is_refused() -> None:
    growing = {"type": "Replace", "pattern": {"Regex": REGEXES[1]}, "content": "." * 64}
    inputs = TokenInputs(json.dumps(small() | {"normalizer": growing}).encode())
    assert inputs.one("\n" * 499 + "a")["ids"].shape == (1, 499 * 64 + 1)
    for ask in (inputs.one, lambda prompt: list(inputs.many(["a", prompt]))):
        with pytest.raises(BundleError, match="at most 32,000 tokens"):
            ask("\n" * 501 + "a")


def test_half_a_surrogate_pair_among_the_tokens_is_an_error_of_ours() -> None:
    values = small()
    values["model"]["vocab"]["\ud83d"] = len(WORDS)
    with pytest.raises(BundleError, match="cannot make it"):
        build_tokenizer(json.dumps(values).encode())


def test_a_panic_and_an_error_of_the_library_are_errors_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    inputs = TokenInputs(json.dumps(small()).encode())
    inputs._tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(length=0)
    with pytest.raises(BundleError, match="cannot read a prompt: chunk size must be non-zero"):
        inputs.one("any prompt")
    with pytest.raises(BundleError, match="cannot read a prompt"):
        list(inputs.many(["any prompt", "half \ud83d"]))
    assert "panicked" in capfd.readouterr().err  # it was a panic of the library, and no exception


def test_mutated_tokenizers_are_refused_or_read() -> None:
    """Whatever a bundle's tokenizer holds: an error of ours, or ids of its own vocabulary."""
    chance = random.Random(12)
    odd: list[Any] = [None, True, -1, 0, 2**63, 1e300, "", "x", "\ud800", "\x00", [], {}, [[]], {"type": "BPE"}]
    refused = 0
    for _ in range(5000):
        values, data = small(), bytearray(SMALL.encode())
        if chance.random() < 0.5:
            place = values
            while chance.random() < 0.8 and isinstance(place[key := chance.choice(list(keys(place)))], (dict, list)):
                place = place[key] if len(place[key]) else values
            place[chance.choice(list(keys(place)))] = chance.choice(odd)
            data = bytearray(json.dumps(values).encode())
        else:
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.choice(b'{}[]",:0189eE.-\\ntf\x00\xff') % 256
        try:
            inputs = TokenInputs(bytes(data))
        except BundleError as error:
            refused += len(str(error)) < 1000
        else:
            ids = inputs.one("a b\n\tab 1 zé\u21b5")["ids"]
            assert 0 <= int(ids.min()) <= int(ids.max()) < inputs._tokenizer.get_vocab_size()
    assert 2500 < refused < 5000


def keys(place: Any) -> Any:
    return place if isinstance(place, dict) else range(len(place))
