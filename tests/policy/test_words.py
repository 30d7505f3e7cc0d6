"""Ids found word by word are those of the whole text, for every tokenizer that a bundle may have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.policy import words
from hagpolicy.policy.inputs import TokenInputs
from hagpolicy.policy.tokenizer import REGEXES, TOKENIZER_FILE, build_tokenizer
from hagpolicy.policy.words import KnownWords

SHIPPED = StaticEncoder().files()[TOKENIZER_FILE]


def bert(**changed: Any) -> dict[str, Any]:
    fields = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return {"type": "BertNormalizer", **fields, **changed}


def replace(at: int, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": REGEXES[at]}, "content": content}


def make(*steps: dict[str, Any], longest: int = 100) -> Any:
    """A tokenizer of the shipped vocabulary behind other normalizers."""
    parts = json.loads(SHIPPED)
    parts["normalizer"] = {"type": "Sequence", "normalizers": list(steps)}
    parts["model"]["max_input_chars_per_word"] = longest
    return build_tokenizer(json.dumps(parts).encode())


TOKENIZERS = {
    "shipped": build_tokenizer(SHIPPED),
    "plain": make(bert(), longest=3),
    "nothing": make(),
    "unclean": make(bert(clean_text=False, lowercase=False, strip_accents=True)),
    "joining": make(replace(1, ""), replace(2, "a"), bert()),
    "half": make(replace(1, " ↵"), replace(2, "⇥ "), bert()),
    "late": make(bert(clean_text=False), replace(2, " ⇥ "), replace(1, " ↵ "), replace(0, "")),
    "again": make(replace(1, " ↵ "), replace(2, " ⇥ "), replace(0, "b"), replace(2, " c "), bert()),
}
# Of one tokenizer all texts share what is known, as in a process that serves.
KNOWN = {name: KnownWords(tokenizer) for name, tokenizer in TOKENIZERS.items()}
# What words and runs are made of, closely mixed.
TEXTS = st.text(st.sampled_from("aB1 \t\n\r.-_'\x00\x0b\x0c\x1c\x1f\x7fé↵⇥\u2028"), max_size=40) | st.text(
    st.characters(max_codepoint=130), max_size=60
)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=TEXTS)
@example(text="a\n \nb\n  \tc \t d\r\n\r\n    e\t\n\t f\r \r  g")
@example(text="Unbelievably, 17*23's #1 `x`_y\\z|{~}[^@] \x7fa\x00b " + "w" * 101)
def test_ids_by_words_are_those_of_the_text(name: str, text: str) -> None:
    for _ in range(2):  # once it learns, once it knows
        found = KNOWN[name].find_ids(text)
        assert found is None or found == TOKENIZERS[name].encode(text, add_special_tokens=False).ids


def test_what_is_found_by_words_and_what_is_not() -> None:
    for text in ("", " ", "Tell me, 7 times: why?", "a\tb\r\n  c\n"):
        assert KNOWN["shipped"].find_ids(text) is not None
    for text in ("é", "a\x00b", "a\x0bb", "\x7f"):
        assert KNOWN["shipped"].find_ids(text) is None
    for name in ("joining", "half"):  # there, words go on beyond a line break
        assert KNOWN[name].find_ids("a\nb") is None
        assert KNOWN[name].find_ids("a b") is not None


def test_texts_of_both_kinds_keep_their_places() -> None:
    texts = ["plain words", "née", "", "more\n\twords", "\x00", "é ↵ ⇥"]
    encoded = TOKENIZERS["shipped"].encode_batch(texts, add_special_tokens=False)
    assert TokenInputs(SHIPPED)._ids(texts) == [one.ids for one in encoded]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_WORDS", 50)
    known, tokenizer = KnownWords(TOKENIZERS["shipped"]), TOKENIZERS["shipped"]
    for at in range(40):
        text = " ".join(f"word{at * 7 + more}" for more in range(20)) + " " + "long" * 20
        assert known.find_ids(text) == tokenizer.encode(text, add_special_tokens=False).ids
        assert 0 < len(known._known) <= 50
        assert max(map(len, known._known)) <= words.MOST_CHARACTERS
