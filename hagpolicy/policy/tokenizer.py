"""The tokenizer of a bundle, built part by part from what was understood of a tokenizer.json.

The file's text never reaches the tokenizers library: JSON is read here, every part is checked against the table
below, and the objects are made with the library's own constructors. To take another type, add a line to the table
of its kind, a test of it to `tests/policy/test_tokenizer.py`, and see that `policy.words` holds for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from hagpolicy.errors import BundleError
from hagpolicy.policy.schema import Check, flag, items, one_of, optional, parse_bounded, record, refuse, text, whole

TOKENIZER_FILE = "tokenizer.json"

REGEXES = (
    "[\u21b5\u21e5]",
    "(?:\\r\\n?|[\\n\\x0b\\x0c\\x85\\u2028\\u2029])",
    "(?:\\t|(?<=\u21b5 )  )[ \\t]*",
)
"""Every regular expression that an encoder of ours ever shipped. One from outside could take time without end."""

MAX_TOKENS = 1_000_000
# A text grows at most so many times by all replacements together.
MAX_GROWTH = 64
_SEQUENCE = "Sequence"


@dataclass(frozen=True)
class _Part:
    """A type of part: the check of each of its fields, and what makes it of them."""

    fields: Mapping[str, Check]
    make: Callable[..., Any]


def _vocabulary(place: str, value: Any) -> Any:
    """A check of tokens with the ids 0 … n - 1, each once, so that the highest id tells whether a graph knows all."""
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_TOKENS:
        raise refuse(place, f"an object of 1 to {MAX_TOKENS} tokens", value)
    ids = value.values()
    if set(map(type, ids)) != {int} or min(ids) != 0 or max(ids) != len(ids) - 1 or len(set(ids)) != len(ids):
        raise refuse(place, f"the ids 0 to {len(ids) - 1}, each once", value)
    return value


_MODELS = {
    "WordPiece": _Part(
        {
            "unk_token": text(100, least=1),
            "continuing_subword_prefix": text(16),
            "max_input_chars_per_word": whole(1, 1000),
            "vocab": _vocabulary,
        },
        models.WordPiece,
    )
}
_NORMALIZERS = {
    "Replace": _Part(
        {"pattern": record({"Regex": one_of(*REGEXES)}), "content": text(MAX_GROWTH)},
        lambda pattern, content: normalizers.Replace(Regex(pattern["Regex"]), content),
    ),
    "BertNormalizer": _Part(
        {"clean_text": flag, "handle_chinese_chars": flag, "strip_accents": optional(flag), "lowercase": flag},
        normalizers.BertNormalizer,
    ),
}
_PRE_TOKENIZERS = {"BertPreTokenizer": _Part({}, pre_tokenizers.BertPreTokenizer)}


def _part(table: Mapping[str, _Part]) -> Check:
    """A check of one part: its type is in the table, and its fields are those of the type."""
    checks = {name: record({"type": one_of(name), **part.fields}) for name, part in table.items()}

    def check(place: str, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in checks:
            raise refuse(f"{place}.type", f"one of {', '.join(checks)}", value if kind is None else kind)
        return checks[kind](place, value)

    return check


def _normalizer(place: str, value: Any) -> Any:
    """A check of normalizers: a list of parts, whatever the form; a sequence holds no other sequence."""
    if isinstance(value, dict) and value.get("type") == _SEQUENCE:
        steps = record({"type": one_of(_SEQUENCE), "normalizers": items(_part(_NORMALIZERS), 16)})
        parts = steps(place, value)["normalizers"]
    else:
        parts = [] if value is None else [_part(_NORMALIZERS)(place, value)]
    growth = prod(max(1, len(part["content"])) for part in parts if part["type"] == "Replace")
    if growth > MAX_GROWTH:
        raise refuse(place, f"replacements that make a text at most {MAX_GROWTH} times as long", growth)
    return parts


def _nothing(place: str, value: Any) -> None:
    if value is not None:
        raise refuse(place, "no padding and no truncation", value)


_TOKENIZER = record(
    {
        "version": one_of("1.0"),
        "truncation": _nothing,
        "padding": _nothing,
        "added_tokens": items(flag, 0),
        "normalizer": _normalizer,
        "pre_tokenizer": _part(_PRE_TOKENIZERS),
        "post_processor": one_of(None),
        "decoder": one_of(None),
        "model": _part(_MODELS),
    }
)


def build_tokenizer(data: bytes) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes; its ids are 0 … n - 1 for n tokens.

    Raises:
        BundleError: no JSON, a part or a field that is not in the tables, a value out of range, or the library
            fails or panics.
    """
    try:
        values = _TOKENIZER("", parse_bounded(data))
        unknown, vocabulary = values["model"].get("unk_token"), values["model"]["vocab"]
        if unknown not in vocabulary:
            raise refuse("model.unk_token", "a token of the vocabulary", unknown)
    except (ValueError, BundleError) as error:
        raise BundleError(f"{TOKENIZER_FILE}: expected a tokenizer of known parts: {error}") from error
    try:
        tokenizer = Tokenizer(_make(_MODELS, values["model"]))
        tokenizer.normalizer = normalizers.Sequence([_make(_NORMALIZERS, part) for part in values["normalizer"]])
        tokenizer.pre_tokenizer = _make(_PRE_TOKENIZERS, values["pre_tokenizer"])
    except BaseException as error:
        raise_library_error(error, "cannot make it")
        raise
    return tokenizer


def raise_library_error(error: BaseException, what: str) -> None:
    """Raise BundleError for an exception of the tokenizers library: it raises Exception itself, and a panic of its
    own is no Exception at all. An interrupt is left as it is."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        raise BundleError(f"{TOKENIZER_FILE}: tokenizers {what}: {error!s:.200}") from error


def _make(table: Mapping[str, _Part], values: Mapping[str, Any]) -> Any:
    return table[values["type"]].make(**{name: value for name, value in values.items() if name != "type"})
