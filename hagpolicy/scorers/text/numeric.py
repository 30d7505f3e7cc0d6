"""`numeric_match`: the number that the answer gives equals the reference."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer
from hagpolicy.scorers.text.marks import find_boxed, find_statements
from hagpolicy.scorers.text.numbers import FoundNumber, extract_numbers, find_numbers, normalise_numbers
from hagpolicy.scorers.text.spelled import find_spelled

_FINAL_LINE = re.compile(r"(?m)^[ \t]*####[ \t]*([-+−$€£¥\d\\][-$€£¥\d.,/ \t\\]{0,40})[%*]{0,4}[ \t]{0,20}$")
# What follows a stated number without being it: a reason, a remark, another sentence.
_CLAUSE_END = re.compile(
    r"[.!?](?=\s|\Z)|[。！？；]|\n|因为|因為|[(（]|\b(?:because|since|rather than|instead of|out of)\b"
    r"|[,;，] ?which(?! (?:is|equals|makes|gives) \$?\d{1,15}[.\"]?(?:\s|\Z)(?!\w))"
    r"|[,;，] ?(?:as|after|not|where|so|but|given|with|from|for|when|if)\b"
)
_SECOND_THOUGHT = re.compile(
    r"(?i:(?<![^\s.,!?*])(?:wait|actually|correction|scratch that|on second thought|my mistake|sorry|hmm)\b)"
    r"|(?<![^\s.,!?*])No[,:]"
)
_AFTERWORD = re.compile(
    r"(?im)(?:^[ \t>*_#-]{0,9}(?:(?:double-?|sanity )?check|verif\w{1,9}|let'?s (?:check|verify)|to (?:check|verify)"
    r"|note|confidence|explanation|disclaimer|p\.s\.)\b"
    r"|(?:^|(?<=[.!]\s))(?:let me know|i hope|feel free|hope this))"
)
# Before a number that is not given as the answer, but rejected, a total, or the name of a step.
_NOT = re.compile(r"(?:\bnot|n't|\brather than|\binstead of|\bout of|不是|而非)[\s$€£¥*]{1,6}\Z|第\Z|\b[Ss]tep[ ]\Z")
# A year is told, not counted, where another number is.
_YEAR = re.compile(
    r"\b(?:in|since|by|during|of|until|year|Q[1-4]|FY|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
    r"(?: \d{1,2},)?) (?:1[5-9]|20)\d\d\Z"
)
# A sum behind the number that it gives, at the end ("42 = 6 × 7"); what else stands in brackets there.
_SUM_AGAIN = re.compile(r"\d\s?=\s?[\d.,]{1,15}(?:\s?[-+*/×·÷x^]\s?[\d.,]{1,15}){1,5}[\s$*]*\Z")
_REMARK = re.compile(r"(?i)\s?(?:=|chapter|section|page|p\.|eq|table|fig|see|from|step|line|problem|exercise)")
# A source, or a percentage that says a share again, behind the number.
_SOURCE = re.compile(r"\s?(?:\[\^?\d{1,3}\]){1,9}[\s.*]*\Z")
_PERCENT = re.compile(r"\d ?\((?:about |or |i\.e\.,? |≈ ?)?-?[\d.,]{1,12} ?%\)")
_OPERATOR = re.compile(r"[ \d)}][ ]?[-+*/×·÷][ ]?[\d(\\{.]|\\(?:pm|mp|div)\b")
_FUNCTION = re.compile(
    r"\\(?:sqrt|pi|log|ln|sin|cos|tan|binom|sum|prod|int|lim|infty|pm|mp|arcsin|arccos|arctan|exp|e\b|overline|bar|dot"
    r"|overset|max|min|gcd|[dtc]?frac)|[√π∞]|\d!|\d\s?[)\]}]{1,2}\s?\^"
)
_FIRST_LINE = re.compile(
    r"\A\s*([^\n]{1,60})\n(?:\s*\n|(?=\s*(?:Explanation|Because|Reason|Step|Here|Since|To |First|Work|Solution)))"
)
_BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*")
_JOINED = re.compile(r"[\s$\"]*(?:[-+*/×·÷:,;%x]|and|or|to|,\s*and|times|plus|minus|divided by|multiplied by)?[\s$\"]*")
_EQUALS = re.compile(r"\b(?:is|equals|equal to|makes|gives)\s")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|(\\sqrt|√)|(\\pi|π)|([-+*/^()]))")
# Nothing but an expression with a root or π, which is computed wherever it stands for the answer.
_ROOT = re.compile(
    r"(?=.{0,200}(?:\\sqrt|√|\\pi|π))(?:\\(?:sqrt|pi|[dtc]?frac)|[\d\s.+*/^(){}$√π×·-]){1,200}", re.DOTALL
)
_MAX_EXPRESSION = 200
# So many sides of an equation, and so many characters at the end of a text, are read for its last number.
_MOST_SIDES, _MOST_READ = 3, 20_000


@dataclass(frozen=True)
class FinalNumber:
    """What a text gives as its number.

    Attributes:
        value: exactly; None where it gives none.
        scaled: the value with the word behind it ("3 million"), where there is one.
        unread: an expression that stands where the number should, and is not computed.
    """

    value: Fraction | None
    scaled: Fraction | None = None
    unread: str | None = None


def extract_final_number(text: str) -> Fraction | None:
    r"""The number a text gives: the one in its last \boxed{}, else of its last line "#### number" or after its last
    "####", else what it states ("The answer is 5, because …"), else its last one; None where there is none."""
    return read_final_number(text).value


def read_final_number(text: str) -> FinalNumber:
    """See `extract_final_number`; expressions with roots and π are computed."""
    for marked in reversed(find_boxed(text)):
        if (found := _read_expression(marked)) is not None:
            return found
    # After "#### 7" some models go on with a question of their own; "#### Step 2" is only a heading.
    lines = [*_FINAL_LINE.findall(text)[-1:], _take_end(text.rpartition("####")[2])] if "####" in text else []
    for marked in lines:
        if numbers := find_numbers(normalise_numbers(marked)):
            return _as_final(numbers[-1])
    if len(text) < _MAX_EXPRESSION and _ROOT.fullmatch(text) and (found := _read_expression(text)) is not None:
        return found
    return _read_stated(text) or _read_first_line(text) or _read_last(text)


@dataclass(frozen=True)
class NumericMatch(ReferenceScorer[Fraction]):
    r"""1 where the number the answer gives (`extract_final_number`) equals the reference, else 0.

    The reference is a number, or text that is one ("1,000", "$3.50", "3/4", "\frac12") or marks one
    (\boxed{5}, "#### 5"). An answer without any number is wrong, not unscored; one whose box holds an expression
    that is not computed (a logarithm, a binomial) is unscored. "3 million" equals 3 and 3000000.
    Numbers in words are read where an answer states one, or has no digits.

    Attributes:
        tolerance: greatest absolute difference that still counts, [0, inf).
        relative: the same relative to the reference, [0, inf); either one suffices.
    """

    tolerance: float = 1e-6
    relative: float = 0.0

    name = "numeric_match"
    needs_reference = True
    answers_agree = True
    ends_at_run_on = True

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
            marked = "####" in reference or find_boxed(reference)
            if (number := extract_final_number(reference) if marked else _parse_only_number(reference)) is not None:
                return number
        raise self.reject("a number", reference)

    def holds_answer(self, text: str, wanted: Fraction) -> bool:
        """True where the text has a number."""
        return any(True for _ in extract_numbers(text))

    def score_text(self, text: str, wanted: Fraction) -> Score:
        """1.0 or 0.0, with the number found."""
        found = read_final_number(text)
        if found.unread is not None:
            return Score.unscored(f"the answer is an expression that is not computed: {found.unread[:80]}")
        if found.value is None:
            return Score(0.0)
        allowed = max(Fraction(self.tolerance), Fraction(self.relative) * abs(wanted))
        values = [value for value in (found.value, found.scaled) if value is not None]
        right = next((value for value in values if abs(value - wanted) <= allowed), None)
        return Score(float(right is not None), None, _format_number(values[-1] if right is None else right))


def _as_final(number: FoundNumber) -> FinalNumber:
    return FinalNumber(number.value, number.scaled)


def _read_expression(marked: str) -> FinalNumber | None:
    """The number that a box holds; none where it holds a sum not yet done; None where it says nothing about numbers."""
    text = normalise_numbers(re.split(r"=|≈|\\approx", marked)[-1])
    numbers = find_numbers(text)
    if len(numbers) == 1 and text[: numbers[0].start].strip(" $") == text[numbers[0].end :].strip(" $.") == "":
        return _as_final(numbers[0])
    if _FUNCTION.search(text) or ("^" in text and _OPERATOR.search(text)):
        value = _compute(text)
        return FinalNumber(value, unread=marked if value is None else None)
    if not numbers:
        return None
    if len(numbers) == 2:
        one, other = numbers
        between = text[one.end : other.start] + text[other.start].strip("0123456789.$")
        if re.fullmatch(r" ?[-+*×·÷] ?-?", between):
            return FinalNumber(None)
    return _as_final(numbers[-1])


def _compute(text: str) -> Fraction | None:
    """The value of an expression of numbers, + - * / ^, roots and π; None for any other, and for what is too long."""
    text = re.sub(r"\\(?:d|t|c)?frac\s?\{", r"{", text.strip(" $.").replace("×", "*").replace("·", "*"))
    text = text.replace("}{", ")/(").replace("{", "(").replace("}", ")")
    if len(text) > _MAX_EXPRESSION:
        return None
    pieces: list[str] = []
    at, operand = 0, False  # whether the last piece ends an operand, which a number or root behind it multiplies
    while at < len(text.rstrip()):
        if not (token := _TOKEN.match(text, at)):
            return None
        number, root, pi, sign = token.groups()
        if operand and (root or pi or sign == "("):
            pieces.append("*")
        pieces.append(number or (root and "sqrt") or (pi and "pi") or {"^": "**"}.get(sign, sign))
        if root and (digit := re.match(r"\s*(\d+)", text[token.end() :])):
            pieces.append(f"({digit[1]})")
            at, operand = token.end() + digit.end(), True
            continue
        at, operand = token.end(), bool(number or pi or sign == ")")
    try:
        value = _compute_node(ast.parse("".join(pieces), mode="eval").body)
        return Fraction(value) if math.isfinite(value) else None
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None


def _compute_node(node: ast.expr) -> float:
    """The value of a parsed expression. Raises ValueError for what is none of numbers."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id="pi"):
            return math.pi
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_compute_node(inner)
        case ast.Call(func=ast.Name(id="sqrt"), args=[inner]):
            return math.sqrt(_compute_node(inner))
        case ast.BinOp(left=left, op=op, right=right):
            one, other = _compute_node(left), _compute_node(right)
            match op:
                case ast.Add():
                    return one + other
                case ast.Sub():
                    return one - other
                case ast.Mult():
                    return one * other
                case ast.Div():
                    return one / other
                case ast.Pow():
                    return math.pow(one, other)
    raise ValueError("no expression of numbers")


def _read_stated(text: str) -> FinalNumber | None:
    """The number of the last statement ("the answer is …"), unless the text thinks again behind it."""
    for end in reversed(find_statements(text)):
        rest = text[end : end + 2000].lstrip(" \t\n\r*_:：")
        clause = normalise_numbers(rest[: cut.start()] if (cut := _CLAUSE_END.search(rest)) else rest)
        said = [clause[at + 1 :] for at, sign in enumerate(clause) if sign in "=≈"][-_MOST_SIDES:]
        for part in [*reversed(said), clause]:
            numbers = [one for one in find_numbers(part) if not _NOT.search(part[max(one.start - 20, 0) : one.start])]
            if not numbers and part is clause and not find_numbers(rest) and (spelled := find_spelled(clause)):
                return FinalNumber(Fraction(spelled[0]))
            if numbers:
                later = _SECOND_THOUGHT.search(text, end)
                if later and any(True for _ in extract_numbers(text[later.end() :])):
                    return None
                root = _read_expression(part) if _ROOT.fullmatch(part) else None
                return root or _as_final(_choose_stated(part, numbers))
    return None


def _choose_stated(clause: str, numbers: Sequence[FoundNumber]) -> FoundNumber:
    """Of several numbers stated at once the first ("18 a day for 3 days"), the last of a list or a sum."""
    if len(numbers) > 1:
        between = clause[numbers[0].end : numbers[1].start]
        if _JOINED.fullmatch(between) or _EQUALS.search(clause, numbers[0].end, numbers[-1].start):
            return numbers[-1]
    return numbers[0]


def _read_first_line(text: str) -> FinalNumber | None:
    """The number that is the first line, where the rest explains it."""
    if not (line := _FIRST_LINE.match(text)):
        return None
    first = normalise_numbers(line[1]).strip(" *_$.\\()[]{}")
    numbers = find_numbers(first)
    if len(numbers) != 1 or numbers[0].start or re.search(r"[=:?]", first) or len(first.split()) > 4:
        return None
    last = text.rstrip().rpartition("\n")[2][-40:]
    alone = find_numbers(normalise_numbers(last))
    if len(last) < 40 and alone and not re.search(r"[A-Za-z]{2}", last) and "=" not in last:
        return None
    return _as_final(numbers[0])


def _read_last(text: str) -> FinalNumber:
    """The last number of a text, without afterwords; a bold one of its last line before others of that line."""
    if (after := _AFTERWORD.search(text)) and any(True for _ in extract_numbers(text[: after.start()])):
        text = text[: after.start()]
    text = _take_end(text)
    if (source := _SOURCE.search(text, max(len(text) - 60, 0))) and source.start() > 1:
        text = text[: source.start()]
    last = text.rstrip().rpartition("\n")[2]
    for place in reversed(list(_BOLD.finditer(last))):
        numbers = find_numbers(normalise_numbers(place[1]))
        if numbers and not place[1].rstrip().endswith(":") and "=" not in last[place.end() :]:
            return _as_final(numbers[-1])
    plain = normalise_numbers(text)
    if sum_again := _SUM_AGAIN.search(plain, max(len(plain) - 60, 0)):
        plain = plain[: sum_again.start() + 1]
    numbers = find_numbers(plain)
    meant = [one for one in numbers if _is_meant(plain, one)] or numbers
    if not meant:
        spelled = find_spelled(text)
        return FinalNumber(Fraction(spelled[-1]) if spelled else None)
    if _PERCENT.search(plain, max(meant[-1].start - 20, 0)) and len(meant) > 1:
        share, percent = meant[-2].value, meant[-1].value
        if percent == 100 * share:
            return FinalNumber(share, percent)
    aside = re.search(r"(?<=\S) \(([^()\n]*)\)[\s.*]*\Z", plain[-200:])
    if aside and (_REMARK.match(aside[1]) or len(find_numbers(aside[1])) > 1):  # "18 (9 eggs at 2 each)"
        before = [one for one in meant if one.end <= len(plain) - len(plain[-200:]) + aside.start()]
        line = plain[: len(plain) - len(plain[-200:]) + aside.start()].rpartition("\n")[2]
        if before and find_numbers(line):
            return _as_final(before[-1])
    return _as_final(meant[-1])


def _is_meant(plain: str, number: FoundNumber) -> bool:
    """False for a number that is rejected, a year, or the place in an order ("3rd")."""
    before = plain[max(number.start - 20, 0) : number.start]
    ordinal = plain[number.end : number.end + 2] in ("st", "nd", "rd", "th")
    return not (ordinal or _NOT.search(before) or _YEAR.search(before + plain[number.start : number.end]))


def _take_end(text: str) -> str:
    """The end of a text that went astray, from a blank on; any other text as it is."""
    if len(text) <= _MOST_READ:
        return text
    blank = re.search(r"\s", text[-_MOST_READ:])
    return text[-_MOST_READ + (blank.start() if blank else 0) :]


def _parse_only_number(text: str) -> Fraction | None:
    """The number a text consists of, a unit or sign around it allowed; None for anything else."""
    text = normalise_numbers(text.strip())
    if "/" in text and (whole := re.fullmatch(r"(-?\d{1,15})\s?/\s?(-?\d{1,15})", text)) and int(whole[2]):
        return Fraction(int(whole[1]), int(whole[2]))
    found = find_numbers(text)
    return found[0].value if len(found) == 1 else None


def _format_number(number: Fraction) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    return f"{float(number):.12g}" if abs(number) < 10**300 else str(number)
