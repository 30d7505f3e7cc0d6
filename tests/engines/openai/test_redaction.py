"""A secret is removed in whichever spelling a server says it; what says nothing of it stays."""

from __future__ import annotations

import base64
import codecs
import json

import pytest

from hagpolicy.engines.openai.redaction import Redactor

SECRETS = ("sk-Proj-4f9aQ7zLmXw2Kd81", "Lantern-Horse.battery+staple", "AIzaSyD3x_9Qwerty-1")


def spell(secret: str) -> dict[str, str]:
    data = secret.encode()
    coded = base64.b64encode(data).decode()
    return {
        "as it is": secret,
        "in the other case": secret.swapcase(),
        "backwards": secret[::-1],
        "turned by 13": codecs.encode(secret, "rot13"),
        "in base 64": coded,
        "in base 64 of a header": base64.b64encode(b"Bearer " + data).decode(),
        "in base 64 of JSON": base64.b64encode(json.dumps({"k": f"xy {secret}"}, ensure_ascii=False).encode()).decode(),
        "in base 64 twice": base64.b64encode(coded.encode()).decode(),
        "in base 64 over lines": "\n".join(coded[at : at + 6] for at in range(0, len(coded), 6)),
        "in base 64 without case": coded.lower(),
        "in base 32": base64.b32encode(data).decode(),
        "in base 85": base64.b85encode(data).decode(),
        "in base 16, spaced": data.hex(" "),
        "in base 16 with signs": " ".join(f"0x{one:02x}" for one in data),
        "as a list of bytes": str(list(data)),
        "as bits": " ".join(f"{one:08b}" for one in data),
        "as octal escapes": "".join(f"\\{one:03o}" for one in data),
        "quoted printable": "".join(f"={one:02X}" for one in data),
        "percent-encoded": "".join(f"%{one:02x}" for one in data),
        "escaped as in Rust": "".join(f"\\u{{{ord(one):x}}}" for one in secret),
        "escaped as in Python": "".join(f"\\U{ord(one):08x}" for one in secret),
        "escaped twice": json.dumps(json.dumps(secret)),
        "between tags": "<b>".join(secret),
        "with accents": "\u0301".join(secret),
        "letter by letter": str(list(secret)),
        "in halves": f"{secret[:8]} and then {secret[8:]}",
    }


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_removed_in_every_spelling(secret) -> None:
    redactor = Redactor(SECRETS)
    for way, spelled in spell(secret).items():
        cleaned = redactor.clean(f"value {spelled} is wrong")
        left = cleaned.removeprefix("value ").removesuffix(" is wrong")
        assert left != cleaned, way
        assert sum(one.isalnum() for one in left.replace("and then", "")) <= 7, (way, left)


WHOLE = (
    *("as it is", "in the other case", "backwards", "in base 64", "in base 64 of a header", "in base 64 over lines"),
    *("in base 16, spaced", "in base 16 with signs", "quoted printable", "percent-encoded", "escaped as in Rust"),
    *("with accents", "letter by letter"),
)


@pytest.mark.parametrize("secret", SECRETS)
def test_an_answer_loses_a_secret_that_it_holds_whole_and_nothing_else(secret) -> None:
    redactor = Redactor(SECRETS)
    for way in WHOLE:
        left = redactor.remove_whole(f"It is {spell(secret)[way]}, or 5.\n")
        assert (left[:6], left[-8:]) == ("It is ", ", or 5.\n"), way
        assert "***" in left, way
        assert sum(one.isalnum() for one in left[6:-8]) <= 14, (way, left)
    plain = f"The sk-Proj is {secret[:9]} and Lantern-Horse 4f9a.\u200b\n" * 1000
    assert redactor.remove_whole(plain) == plain


@pytest.mark.parametrize(
    "words",
    [
        "Incorrect API key provided",
        "Unrecognized key temperature",
        "basic reasoning is off",
        "a < b and <|im_end|> of 16 c",
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        "request 0f3a9c1e-77b2-4d10-9a55-3c7e1b2d4f60 failed after 1234567890 ms",
    ],
)
def test_what_says_nothing_of_a_secret_stays(words) -> None:
    assert Redactor(SECRETS).clean(words, ["What is 2 + 2?"]) == words
