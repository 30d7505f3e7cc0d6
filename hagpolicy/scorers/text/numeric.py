"""`numeric_match`: the last number of the answer equals the reference."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer

_MINUS = dict.fromkeys(map(ord, "−–‒‐‑－﹣"), "-")
_CURRENCY = r"(?:(?:US)?[$€£¥₹₽]\s?)"
# Whole numbers: with thousands separators of one kind, with Indian grouping, or plain. The point is the decimal mark.
_WHOLE = (
    r"(?:\d{1,3}(?P<mark>[,'’_\u00a0\u2009\u202f])\d{3}(?:(?P=mark)\d{3})*(?!\d)"
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d+)"
)
_TERM = re.compile(
    # A minus is a sign only where nothing stands before it that it could be subtracted from.
    rf"(?P<sign>\bnegative\s+|(?<![^\s(\[{{=:*\"'`$€£¥₹₽,;<>≈~|\\])[-+](?={_CURRENCY}?\.?\d))?(?:{_CURRENCY}(?P<inner>-)?|[-+])?"
    # Digits after a letter belong to a name: H2O, B12, x_1.
    r"(?<![^\W_])(?<![^\W_]_)"
    r"(?:(?P<units>\d{1,6})\s+(?P<part>\d{1,6})/(?P<parts>\d{1,6})(?![\d/]|\.\d)"
    r"|(?<!/)(?<!/\s)(?P<over>\d{1,15})\s?/\s?(?P<under>\d{1,15})(?![\d/]|\s?/|[.,]\d)"
    rf"|(?P<number>(?:{_WHOLE}(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][-+]?\d{{1,3}}(?!\w))?)"
    r"(?:\s?(?:[×x*·]|\\times|\\cdot)\s?10\s?\^\s?\{?(?P<power>-?\d{1,3})(?!\d)\}?)?)"
)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_FINAL_LINE = re.compile(r"(?m)^[ \t]*####[ \t]*([-+−$€£¥\d][-$€£¥\d.,/ \t]{0,40})[%*]{0,4}[ \t]{0,20}$")
_FRACTION = re.compile(r"(\d)?\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_SPACED = re.compile(r"(?<=\d)(?:\\[,!]|\{,\})(?=\d{3})")
_MAX_DIGITS = 400


def extract_numbers(text: str) -> Iterator[Fraction]:
    """The numbers of a text in their order, exactly.

    Understood: signs (the Unicode minus too), thousands separators, currency signs, decimals with a
    point, exponents, fractions (3/4, 1 1/2, ½), LaTeX fractions. A division that comes out even
    ("24/6") is read as its two numbers: it is a sum not yet done. Percent signs and units are
    passed over; digits within a name (H2O) are no number.
    """
    for match in _TERM.finditer(_normalise_digits(text)):
        yield from _parse_match(match)


def extract_final_number(text: str) -> Fraction | None:
    r"""The number a text ends on: the last one in its last \boxed{}, else of its last line "#### number",
    else after its last "####", else of all; None where there is none."""
    # After "#### 7" some models go on with a question of their own; "#### Step 2" is only a heading.
    lines = [*_FINAL_LINE.findall(text)[-1:], text.rpartition("####")[2]] if "####" in text else []
    for marked in (*reversed(_BOXED.findall(text)), *lines, text):
        if found := list(extract_numbers(marked)):
            return found[-1]
    return None


@dataclass(frozen=True)
class NumericMatch(ReferenceScorer[Fraction]):
    r"""1 where the number the answer ends on (`extract_final_number`) equals the reference, else 0.

    The reference is a number, or text that is one ("1,000", "$3.50", "3/4") or marks one
    (\boxed{5}, "#### 5"). An answer without any number is wrong, not unscored.

    Attributes:
        tolerance: greatest absolute difference that still counts, [0, inf).
        relative: the same relative to the reference, [0, inf); either one suffices.
    """

    tolerance: float = 1e-6
    relative: float = 0.0

    name = "numeric_match"
    needs_reference = True
    answers_agree = True

    def __post_init__(self) -> None:
        for option in ("tolerance", "relative"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise InvalidInput(f"numeric_match.{option}", "a number in [0, inf)", value)
        super().__post_init__()

    def read_reference(self, prompt: Prompt) -> Fraction:
        """The reference, exactly."""
        reference = prompt.reference
        if isinstance(reference, (int, float)) and not isinstance(reference, bool) and math.isfinite(reference):
            return Fraction(str(reference))
        if isinstance(reference, str):
            marked = "####" in reference or _BOXED.search(reference)
            if (number := extract_final_number(reference) if marked else _parse_only_number(reference)) is not None:
                return number
        raise self.reject("a number", reference)

    def score_text(self, text: str, wanted: Fraction) -> Score:
        """1.0 or 0.0, with the number found."""
        found = extract_final_number(text)
        if found is None:
            return Score(0.0)
        allowed = max(Fraction(self.tolerance), Fraction(self.relative) * abs(wanted))
        return Score(float(abs(found - wanted) <= allowed), None, _format_number(found))


def _parse_match(match: re.Match[str]) -> list[Fraction]:
    """The numbers of one match: one, two of a division that comes out even, none that is too long to be meant."""
    parts = match.groupdict()
    sign = -1 if (parts["sign"] or "").strip() in ("-", "negative") or parts["inner"] else 1
    if parts["units"] is not None:
        units, part, under = int(parts["units"]), int(parts["part"]), int(parts["parts"])
        if not 0 < part < under:
            return [Fraction(sign * units), Fraction(part), Fraction(under)]
        return [sign * (units + Fraction(part, under))]
    if parts["over"] is not None:
        over, under = int(parts["over"]), int(parts["under"])
        return [sign * Fraction(over, under)] if under and over % under else [sign * Fraction(over), Fraction(under)]
    if len(parts["number"]) > _MAX_DIGITS:
        return []
    number = Fraction(re.sub(r"[,'’_\u00a0\u2009\u202f]", "", parts["number"]))
    return [sign * number * Fraction(10) ** int(parts["power"] or 0)]


def _normalise_digits(text: str) -> str:
    """Text with ASCII digits and minus signs, and with LaTeX and Unicode fractions as a/b."""
    text = _SPACED.sub(",", text.translate(_MINUS))
    text = _FRACTION.sub(lambda m: f"{m[1] + ' ' if m[1] else ''}{m[2]}/{m[3]}", text)
    if text.isascii():
        return text
    pieces: list[str] = []
    for character in text:
        kind = unicodedata.category(character)
        if kind == "Nd":
            pieces.append(str(unicodedata.digit(character)))
        elif kind == "No" and unicodedata.decomposition(character).startswith("<fraction>"):
            gap = " " if pieces and pieces[-1].isdigit() else ""
            pieces.append(gap + unicodedata.normalize("NFKC", character))
        else:
            pieces.append(character)
    return "".join(pieces).replace("⁄", "/")


def _parse_only_number(text: str) -> Fraction | None:
    """The number a text consists of, a unit or sign around it allowed; None for anything else."""
    text = text.strip()
    if "/" in text and (whole := re.fullmatch(r"(-?\d{1,15})\s?/\s?(\d{1,15})", text)) and int(whole[2]):
        return Fraction(int(whole[1]), int(whole[2]))
    found = list(extract_numbers(text))
    return found[0] if len(found) == 1 else None


def _format_number(number: Fraction) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    return f"{float(number):.12g}" if abs(number) < 10**300 else str(number)
