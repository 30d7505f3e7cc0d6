"""Numbers spelled in words, English or Chinese, for answers without digits."""

from __future__ import annotations

import re

_UNITS = (  # the place of a word is its value
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(_UNITS.split())} | {
    word: 20 + 10 * at for at, word in enumerate(_TENS.split())
}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_WORD = "|".join([*sorted(_WORDS, key=len, reverse=True), "hundred", *_LARGE])
_SPELLED = re.compile(rf"(?i)\b(?:(negative|minus)\s)?((?:{_WORD})(?:(?:\s|-|\sand\s)(?:{_WORD})){{0,20}})\b")
_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_STEPS = {"十": 10, "百": 100, "千": 1000}
_CHINESE = re.compile(r"(负)?([零〇一二三四五六七八九两兩十百千万萬]{1,20})")


def find_spelled(text: str) -> list[int]:
    """The numbers that are spelled in a text, in their order; a lone "one" among other words is none."""
    found = [(match.start(), _sum_english(match[2]) * (-1 if match[1] else 1)) for match in _SPELLED.finditer(text)
             if match[0].lower() != "one" or len(text.split()) < 3]  # fmt: skip
    found += [
        (match.start(), _sum_chinese(match[2]) * (-1 if match[1] else 1))
        for match in _CHINESE.finditer(text)
        if match[0] not in "一千万萬百" or len(text.strip()) < 4
    ]
    return [value for _, value in sorted(found)]


def _sum_english(words: str) -> int:
    total = part = 0
    for word in re.findall(r"[a-z]+", words.lower()):
        if word in _LARGE:
            total, part = total + (part or 1) * _LARGE[word], 0
        elif word == "hundred":
            part = (part or 1) * 100
        else:
            part += _WORDS.get(word, 0)
    return total + part


def _sum_chinese(signs: str) -> int:
    total = part = digit = 0
    if not any(sign in _STEPS or sign in "万萬" for sign in signs):  # written digit by digit
        return int("".join(str(_DIGITS[sign]) for sign in signs))
    for sign in signs:
        if sign in _STEPS:
            part, digit = part + (digit or 1) * _STEPS[sign], 0
        elif sign in "万萬":
            total, part, digit = total + (part + digit or 1) * 10_000, 0, 0
        else:
            digit = _DIGITS[sign]
    return total + part + digit
