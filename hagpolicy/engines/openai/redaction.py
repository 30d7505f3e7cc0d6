"""What a server said, before anyone reads it: without secrets and prompts, on one line, of bounded length.

A server may repeat the key it was sent, whole, in part or encoded, and the prompt as well. Every text that
leaves the engine goes through `Redactor.clean`; letters and digits alone are compared, so that quotes,
escapes, tags, spaces, invisible characters and upper case between or around them hide nothing. A secret is
looked for in every spelling that `_spell` knows, the prompt as it is.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from hagpolicy._text import shorten

__all__ = ["SHOWN", "Redactor", "collect_texts"]

SHOWN = 300
"""Most characters of a text."""
READ = 2000
"""So many characters of what a server says are looked at."""
MASK = "***"
# So many letters and digits in a row that a secret, or a prompt, holds as well are a piece of it.
LEAST_SECRET, LEAST_OF_SECRET, LEAST_OF_PROMPT, LEAST_OF_SPELLING = 4, 6, 10, 10
# A key that is shorter could be a word of an answer: keys of servers without any are often "EMPTY" or "test".
LEAST_IN_ANSWER = 12
_ESCAPED = re.compile(
    r"\\(?:(?:u|U0000|x\{|u\{)([0-9a-fA-F]{4})\}?|(?:x|[ux]\{)([0-9a-fA-F]{2})\}?|([0-7]{3})|([nrtbf\"'/\\]))"
)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_ENCODED = re.compile(r"[A-Za-z0-9+/_\-]{8,}={0,2}")
# What looks like a secret, whoever's it is; the first group, where there is one, stays.
_SECRET_LIKE = (
    re.compile(
        r"\b(?:(?:pk|org|proj|xai)[-_]|(?:sk|key|hf|gsk|Bearer|Basic)[-_ ])(?=\S*[\d*])[\w*.\-+/=]{6,}", re.IGNORECASE
    ),
    re.compile(r"((?:authorization|api[-_ ]?key|password|secret|cookie)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;}]+", re.I),
    re.compile(r"(//)[^\s/@]+(?=@)"),
    re.compile(r"([?&][^=&\s]+=)[^&\s\"']+"),
    re.compile(r"[^\s\"',;:]*(?:\*{2,}|•{2,}|\w\.{3}\w)[^\s\"',;]*"),
)


class Redactor:
    """Removes what must not leave from texts.

    Args:
        secrets: such as a key; what has less than four characters is none.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret for secret in dict.fromkeys(secrets) if len(secret) >= LEAST_SECRET]
        plain = [_fold_whole(secret) for secret in self._secrets]
        spelled = [_fold_whole(form) for one in self._secrets if len(one) >= LEAST_IN_ANSWER for form in _spell(one)]
        # (what is looked for, so many letters of it in a row); nothing that is compared holds a "\0".
        self._held = [
            ("\0".join([*plain, *(one[::-1] for one in plain)]), LEAST_OF_SECRET),
            ("\0".join(spelled), LEAST_OF_SPELLING),
        ]
        patterns = [form for one in self._secrets if len(one) >= LEAST_IN_ANSWER for form in _list_patterns(one)]
        self._whole = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets)} secrets)"

    def __reduce__(self) -> Any:
        raise TypeError("secrets are not written anywhere; build the engine anew where it is needed")

    def clean(self, text: str, private: Iterable[str] = (), limit: int = SHOWN) -> str:
        """A text on one line without secrets, prompts, what looks like a secret, and control characters.

        Args:
            text: anything; what lies beyond its first `READ` characters is left out.
            private: texts that must not leave either, such as the prompt, of any length.
            limit: most characters of what comes back.
        """
        text = _flatten(text[:READ])
        prompts = [_fold_whole(one) for one in private]
        hidden = bytearray(len(text))
        for start, end in self._find_pieces(text, prompts):
            hidden[start:end] = b"\1" * (end - start)
        for pattern in _SECRET_LIKE:
            for match in pattern.finditer(text):
                start = match.end(1) if pattern.groups else match.start()
                hidden[start : match.end()] = b"\1" * (match.end() - start)
        for match in _ENCODED.finditer(text):
            if any(next(self._find_pieces(one, prompts), None) for one in _decode(match[0])):
                hidden[match.start() : match.end()] = b"\1" * len(match[0])
        kept = "".join("\0" if mask else letter for letter, mask in zip(text, hidden, strict=True))
        return shorten(re.sub("\0+", MASK, kept), limit)

    def remove_whole(self, text: str) -> str:
        """An answer without the secrets that it holds whole, spaced or encoded; all else stays as it is."""
        return self._whole.sub(MASK, text) if self._whole is not None else text

    def _find_pieces(self, text: str, prompts: Iterable[str]) -> Iterator[tuple[int, int]]:
        """Where pieces of secrets and prompts begin and end."""
        for secret in self._secrets:
            if len(_fold_whole(secret)) < LEAST_OF_SECRET:
                yield from ((match.start(), match.end()) for match in re.finditer(re.escape(secret), text))
        folded, places = _fold(text)
        held = [(one, min(LEAST_OF_PROMPT, max(len(one), LEAST_OF_SECRET))) for one in prompts]
        for whole, least in self._held + held:
            at = 0
            while at + least <= len(folded):
                end = at + least
                if folded[at:end] not in whole:
                    at += 1
                    continue
                while end < len(folded) and folded[at : end + 1] in whole:
                    end += 1
                yield places[at], places[end - 1] + 1
                at = end


def collect_texts(value: Any) -> list[str]:
    """All strings in what is sent to a server, such as its messages."""
    found: list[str] = []
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple):
            left += one
    return found


def _flatten(text: str) -> str:
    """A text on one line: escapes undone, sequences of terminals and control characters left out."""
    for _ in range(3):
        before, text = text, _TAG.sub(" ", _ESCAPED.sub(_unescape, html.unescape(unquote(text))))
        if text == before:
            break
    text = unicodedata.normalize("NFKC", _TERMINAL.sub(" ", text))
    # Half of a pair is of the category Cs, and so is a direction mark or a joiner of Cf: they could hide letters.
    return " ".join("".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in text).split())


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    if code or match[3]:
        return chr(int(code, 16) if code else int(match[3], 8))
    return {"n": "\n", "r": "\n", "t": " ", "b": " ", "f": " "}.get(match[4], match[4])


def _fold(text: str) -> tuple[str, list[int]]:
    """(letters and digits in lower case, the place of each in the text)."""
    folded: list[str] = []
    places: list[int] = []
    for at, letter in enumerate(text):
        # Decomposed: an accent on a letter is none of its own.
        for one in unicodedata.normalize("NFKD", letter).casefold():
            if one.isalnum():
                folded.append(one)
                places.append(at)
    return "".join(folded), places


def _fold_whole(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))


def _decode(run: str) -> Iterator[str]:
    """What a run of letters could stand for: bytes in base 16, or in base 64 from any of four places."""
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", run):
        yield bytes.fromhex(run).decode("utf-8", "replace")
    plain = run.rstrip("=").replace("-", "+").replace("_", "/")
    for start in range(4):
        part = plain[start:]
        part = part[: len(part) - (len(part) % 4 == 1)]
        try:
            yield base64.b64decode(part + "=" * (-len(part) % 4)).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            continue


def _spell(secret: str) -> Iterator[str]:
    """A secret in other letters: turned by 13 places, and its bytes as numbers and in base 16, 32, 64 and 85."""
    data = secret.encode("utf-8", "replace")
    yield codecs.encode(secret, "rot13")
    yield data.hex()
    yield from (" ".join(format(one, form) for one in data) for form in ("d", "03o", "08b", "#x"))
    yield from (base64.b85encode(data).decode(), base64.a85encode(data).decode())
    yield from (base64.b32encode(b"\0" * before + data).decode() for before in range(5))
    coded = [base64.b64encode(b"\0" * before + data) for before in range(3)]
    yield from (one.decode() for one in coded)
    yield base64.b64encode(coded[0]).decode()


def _list_patterns(secret: str) -> Iterator[str]:
    """Patterns of a secret that is whole: as it is or backwards, whatever signs stand between, and its bytes in base
    16 (in a URL and escaped as well) and in the middle of base 64."""
    data = secret.encode("utf-8", "replace")
    letters = [one for one in secret if one.isalnum()]
    if len(letters) >= LEAST_IN_ANSWER:
        yield from (r"[\W_]{0,10}".join(turned) for turned in (letters, letters[::-1]))
    else:
        yield re.escape(secret)
    yield r"[^0-9a-f]{0,6}(?:0x|00)?".join(f"{one:02x}" for one in data)
    for before in range(3):
        # Only the letters that no neighbour has a part in.
        coded = base64.b64encode(b"\0" * before + data).decode()
        whole = (before + len(data)) // 3 * 4
        yield r"\s{0,2}".join(map(re.escape, coded[-(-before * 4 // 3) : whole]))
