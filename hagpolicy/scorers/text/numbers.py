"""The numbers of a text, exactly: signs, separators, fractions, powers of ten, LaTeX, digits of every script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

# Forms of one sign. Full-width forms become ASCII; between digits their comma groups only thousands.
_SIGNS = (
    dict.fromkeys(map(ord, "−–‒‐‑－﹣"), "-")
    | {0xFF01 + at: chr(0x21 + at) for at in range(94)}
    | {ord("⁄"): "/", ord("∕"): "/", ord("٬"): ",", ord("٫"): ".", ord("∶"): ":"}
)
_WIDE_COMMA = re.compile(r"，(?!(?<=\d，)\d{3}(?!\d))")
_CURRENCY = r"(?:(?:US|R|A|C|HK|S)?[$€£¥₹₽₩₺₫₴฿₱]\s?)"
_CURRENCY_CODE = re.compile(
    r"(?<![A-Za-z])(?:USD|EUR|GBP|INR|JPY|CNY|RMB|CHF|AUD|CAD|BRL|Rs\.?|Kč|zł)[ \u00a0]?(?=-?\d)"
)
# Letters that make digits behind them a part of a name (H2O, B12). Scripts without spaces join words and numbers.
_NAMING = "0-9A-Za-zÀ-ɏͰ-ӿ"
_SPACES = "\u00a0\u2009\u202f\u2008\u2007"
# The point is the decimal mark, and the comma where it cannot be anything else: 3,5 and 1.234,56 and 1 234,5. Groups
# are bounded, so that a text of nothing else is read in linear time.
_DIGITS = (
    rf"\d{{1,3}}(?P<mark>[,'’_{_SPACES}])\d{{3}}(?:(?P=mark)\d{{3}}){{0,40}}(?!\d)(?:\.\d+|(?<=[{_SPACES}]\d{{3}}),\d+)?"
    r"|\d{1,2}(?:,\d{2}){1,9},\d{3}(?!\d)(?:\.\d+)?"
    r"|\d{1,3}(?:\.\d{3}){2,40}(?!\d)(?!\.\d)(?:,\d+)?|\d{1,3}(?:\.\d{3}){1,40},\d{1,2}(?![\d,])"
    r"|(?<!\d[.,]\s)(?<!\d\s)\d{1,3}(?:[ ]\d{3}){1,40}(?![ ]?[\d/])(?:[.,]\d{1,2}(?!\d))?"
    r"|(?<!\d,)(?<![(\[{])(?:\d+,\d{1,2}|\d+,\d{4,}|0,\d+)(?![\d,])(?!\.\d)"
    r"|\d+(?:\.\d+)?|(?<![\w.])\.\d+"
)
_TERM = re.compile(
    # A minus is a sign only where nothing stands before it that it could be subtracted from.
    rf"(?P<sign>\bnegative\s+|(?:(?<=is )|(?<=: )|(?<== )|\A)[Mm]inus\s+|(?:(?<=is )|(?<== ))-[ ](?=\d)"
    rf"|(?<![{_NAMING})\]}}%°.^_/+-])[-+](?={_CURRENCY}?\.?\d))?(?:{_CURRENCY}(?P<inner>-)?|[-+])?"
    # A power belongs to what stands before it (m^2), an index too (x_1, 101_2).
    rf"(?<![{_NAMING}])(?<![{_NAMING})}}\]]_)(?<!\^)(?<!\^-)"
    r"(?:(?P<units>\d{1,6})\s+(?P<part>\d{1,6})/(?P<parts>\d{1,6})(?![\d/]|\.\d)"
    r"|(?<!/)(?<!/\s)(?P<over>\d{1,15})\s?/\s?(?P<under>\d{1,15})(?![\d/]|\s?/|[.,]\d)"
    r"|(?P<base>\d{1,9})\^(?P<exponent>-?\d{1,3})(?!\d)"
    rf"|(?P<number>(?:{_DIGITS})(?:[eE][-+]?\d{{1,3}}(?!\w))?)"
    r"(?:\s?(?:[×x*·])\s?10\s?(?:\^|\*\*)\s?\(?(?P<power>-?\d{1,3})(?!\d))?"
    r"(?:\s?(?P<scale>(?<=\d)[kKM](?![\w/])|thousand|million|billion|trillion|lakh|crore|mn|bn|[千万萬亿億兆]|만|억|тыс|млн|млрд)(?![a-z]))?)"
)  # fmt: skip
_SCALES = {
    "k": 3, "K": 3, "M": 6, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "lakh": 5, "crore": 7, "mn": 6,
    "bn": 9, "千": 3, "万": 4, "萬": 4, "만": 4, "亿": 8, "億": 8, "억": 8, "兆": 12, "тыс": 3, "млн": 6, "млрд": 9,
}  # fmt: skip
# One digit, or a number in braces, which may be two.
_PART, _PART_BELOW = (
    rf"(?:\{{\s{{0,4}}(?P<{name}>\{{\s{{0,4}})?([-+]?\d{{1,15}}(?:\.\d{{1,15}})?)\s{{0,4}}(?({name})\}}\s{{0,4}})\}}|\s?(\d))"
    for name in ("above", "below")
)
_FRACTION = re.compile(rf"([-+]\s?)?(\d)?\\[dtc]?frac\s?{_PART}\s?{_PART_BELOW}")
_OVER = re.compile(r"\{\s*(-?\d{1,15})\s*\\over\s*(-?\d{1,15})\s*\}")
_GROUPED = re.compile(r"(?<=\d)(?:\\[,:; ]|~)(?=\d{3}(?!\d))")
# What LaTeX writes for one sign or for none. The order matters.
_LATEX = [
    (re.compile(r"\\!|\\(?:left|right|displaystyle|textstyle|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])"), ""),
    (re.compile(r"\{,\}"), ","),
    (_GROUPED, "\u2009"),
    (re.compile(r"\\[,:; ]|~|\\q?quad(?![A-Za-z])"), " "),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"\^\s?\{?\s?\\(?:circ|degree)\s?\}?|\\degree"), "°"),
    (re.compile(r"\\(?:(?:text|math)(?:bf|it|rm|sf|tt|cal|normal)?|mbox|bm|boldsymbol|operatorname)\s?\{"), "{"),
    (re.compile(r"\\times(?![A-Za-z])"), "×"),
    (re.compile(r"\\cdot(?![A-Za-z])"), "·"),
]  # fmt: skip
_SUPERSCRIPT = re.compile(r"(?<![\d.,])(10)([⁻⁺]?[⁰¹²³⁴-⁹]{1,3})(?![⁰¹²³⁴-⁹])")
_PLAIN_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_BRACED = re.compile(r"([\^_])[ \t]{0,3}\{[ \t]{0,3}(?:(-?[\w.]{1,9})[ \t]{0,3}\})?")
_MAX_DIGITS = 400


@dataclass(frozen=True)
class FoundNumber:
    """A number and where it stands in the normalised text.

    Attributes:
        value: exactly.
        start: of its first character.
        end: behind its last one, a word such as "million" included.
        scaled: the value times what a word behind it says ("3 million"); else None.
    """

    value: Fraction
    start: int
    end: int
    scaled: Fraction | None = None


def extract_numbers(text: str) -> Iterator[Fraction]:
    """The numbers of a text in their order, exactly.

    Understood: signs (the Unicode minus too), thousands separators, currency signs, decimals with a
    point (with a comma where it can be nothing else), exponents, fractions (3/4, 1 1/2, ½), LaTeX fractions and
    spacing. A division that comes out even ("24/6") is read as its two numbers: it is a sum not yet done.
    Percent signs and units are passed over, with their powers; digits within a name (H2O) are no number.
    """
    for match in _TERM.finditer(normalise_numbers(text)):
        yield from _parse_match(match)


def find_numbers(text: str) -> list[FoundNumber]:
    """The numbers of a normalised text with their places."""
    return [
        FoundNumber(
            value, match.start(), match.end(), value * 10 ** _SCALES[match["scale"]] if match["scale"] else None
        )
        for match in _TERM.finditer(text)
        for value in _parse_match(match)
    ]


def normalise_numbers(text: str) -> str:
    """Text with ASCII digits and signs, LaTeX and Unicode fractions as a/b, and without LaTeX spacing."""
    text = _WIDE_COMMA.sub(", ", text).translate(_SIGNS)
    if "\\" in text or "{,}" in text:
        for pattern, sign in _LATEX:
            text = pattern.sub(sign, text)
        text = _FRACTION.sub(_write_fraction, _OVER.sub(r"\\frac{\1}{\2}", text))
    text = _BRACED.sub(r"\1\2", text)
    if not text.isascii():
        text = _SUPERSCRIPT.sub(lambda match: f"{match[1]}^{match[2].translate(_PLAIN_DIGITS)}", text)
        text = _normalise_digits(text)
    return _CURRENCY_CODE.sub("$", text)


def _parse_match(match: re.Match[str]) -> list[Fraction]:
    """The numbers of one match: one, two of a division that comes out even, none that is too long to be meant."""
    parts = match.groupdict()
    sign = -1 if (parts["sign"] or "").strip().casefold() in ("-", "negative", "minus") or parts["inner"] else 1
    if parts["units"] is not None:
        units, part, under = int(parts["units"]), int(parts["part"]), int(parts["parts"])
        if not 0 < part < under:
            return [Fraction(sign * units), Fraction(part), Fraction(under)]
        return [sign * (units + Fraction(part, under))]
    if parts["over"] is not None:
        over, under = int(parts["over"]), int(parts["under"])
        return [sign * Fraction(over, under)] if under and over % under else [sign * Fraction(over), Fraction(under)]
    if parts["base"] is not None:
        base, exponent = int(parts["base"]), int(parts["exponent"])
        if (not base and exponent < 0) or len(parts["base"]) * abs(exponent) > _MAX_DIGITS:
            return []
        return [sign * Fraction(base) ** exponent]
    if len(parts["number"]) > _MAX_DIGITS:
        return []
    return [sign * Fraction(_write_plain(parts["number"])) * Fraction(10) ** int(parts["power"] or 0)]


def _write_plain(number: str) -> str:
    """A number as Python reads it: without separators, with a point before its decimals."""
    number = re.sub(rf"['’_ {_SPACES}]", "", number)
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?", number) and number[:2] != "0,":
        return number.replace(",", "")
    if "," in number or number.count(".") > 1:
        return number.replace(".", "").replace(",", ".")
    return number


def _write_fraction(match: re.Match[str]) -> str:
    """A LaTeX fraction as a/b, its sign before it."""
    before, units = match[1] or "", match[2]
    over, under = Fraction(match[4] or match[5]), Fraction(match[7] or match[8])
    if over.denominator != 1 or under.denominator != 1:
        value = over / under if under else over
        over, under = Fraction(value.numerator), Fraction(value.denominator)
    if (over < 0) != (under < 0) and not units:
        before = "+" if before.strip() == "-" else "-"
    return f"{before}{units + ' ' if units else ''}{abs(over)}/{abs(under)}"


def _normalise_digits(text: str) -> str:
    """Text with ASCII digits, and Unicode fractions as a/b."""
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
