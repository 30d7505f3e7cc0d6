"""`distinct_items`: the number of different things that an answer lists, of the number asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hagpolicy._checks import is_whole
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer, normalise_text
from hagpolicy.scorers.text.words import stem_words

_SIGN = "[-*•‣◦·–—+▪●○■□▸▶➤➢→☐☑✓✔✅✦★※⁃∙・]"
_NUMBERED = r"(?:[(（]?\d{1,3}[.):、．）：]|\d{1,3}\s[-–—](?=\s)|[①-⑳]|[(（]?(?:[A-Za-z]|[ivxIVX]{2,5})[.)）])"
_BULLET = rf"(?:{_SIGN}|{_NUMBERED})"
# A number needs no blank before a letter: "1.Apple", "１．苹果"; and "- [x] Apple" is checked.
_LISTED = re.compile(
    rf"^\s*(?:#{{1,6}}\s+(?=[\d*_]))?(?:[*_]{{2}})?(?:(?P<sign>{_SIGN})|(?P<number>{_NUMBERED}))(?:[*_]{{2}})?"
    r"(?:\s+|(?<=[.)）、．：①-⑳])(?=[^\W\d_]{2}|[^\x00-\u024f]))(?:\[[ xX✓]?\]\s+)?(?P<item>.*\S)\s*$"
)
_HTML_LIST = re.compile(r"(?i)<(/?)(ul|ol|li)(?:\s[^<>\n]{0,100})?>")
_BARE_BULLET = re.compile(rf"^\s*{_BULLET}\s*$")
_TABLE_RULE = re.compile(r"^\s*\|?[ \t]*:?-{2,}:?[ \t]*(?:\||$)")
_INLINE = re.compile(r"(?:^|(?<=[\s,;]))\(?\d{1,2}[.)]\s+")
# "Apple: a fruit", "Apple - a fruit", "Apple (red)": what follows the name explains it.
_EXPLAINED = re.compile(r"\s*(?::\s|\s[-–—]\s|\().*$", re.DOTALL)
_JOINED = re.compile(r"\s*(?:[,;、，；،؛]|\s/\s|\n)\s*")
_LAST_AND = re.compile(r"\s+(?:and|or|&)\s+(?=[^,;]*$)")
_LEADING_AND = re.compile(r"^(?:and|or|&)\s+")
# Longer than this, an item is a sentence; between commas, which prose has too, it must be shorter.
_MOST_WORDS = 8
_MOST_INLINE_WORDS = 4
_MOST_CHARACTERS = 500


def extract_items(text: str) -> list[str]:
    """The items of a list in a text, in their order and as written.

    Bulleted or numbered lines where there are any, without those nested below one (a line that ends in a colon is
    a heading of those below it); else the first column of a table; else items numbered within a line; else the
    parts between commas or semicolons, the last one also after "and" or "or" (of the text after a
    colon that introduces them); else the lines. Where more than a third of such parts are longer
    than four words, the text is prose and lists nothing.
    """
    text = _write_html_lists(text) if "<li" in text.lower() else text
    rows = [line for line in text.splitlines() if not line.lstrip().startswith(("```", "~~~"))]
    if bulleted := _list_bulleted(rows):
        # "1. apple 2. pear" on one line is one list.
        return [item for line in bulleted for item in _split_numbered(line)]
    if cells := _list_cells(rows):
        return cells
    lines = [" ".join(line.split()) for line in rows]
    lines = [line for line in lines if line and not _BARE_BULLET.match(line)]
    joined = "\n".join(lines)
    if len(_INLINE.findall(joined)) >= 2:
        return [item for item in _INLINE.split(joined)[1:] if item.strip()]
    lead, colon, rest = joined.partition(":")
    # Only a colon before the first comma introduces the list; a later one explains an item.
    body = rest if colon and rest.strip() and not re.search(r"[,;]", lead) else joined
    if len(_JOINED.split(body.strip())) > 2 or "," in body or ";" in body:
        body = "\n".join(_LAST_AND.sub(", ", line) for line in body.splitlines())
    items = [item for part in _JOINED.split(body) if (item := _LEADING_AND.sub("", part.strip()))]
    short = [item for item in items if len(item.split()) <= _MOST_INLINE_WORDS]
    return short if 3 * (len(items) - len(short)) <= len(items) else []


@dataclass(frozen=True)
class DistinctItems(ReferenceScorer[int]):
    """Distinct items listed / items wanted, at most 1.

    The reference is the number wanted, or a mapping with it as `count`. Items are found by
    `extract_items`. Two items are one when they agree after folding case, markup, articles,
    explanations ("apple: a fruit") and inflections. What has more than 8 words is a sentence, and
    what has no letter is a number left over from the numbering: neither is an item.

    Attributes:
        numbers: True where numbers are asked for, and count as items.
    """

    numbers: bool = False

    name = "distinct_items"
    needs_reference = True
    answers_agree = False

    def __post_init__(self) -> None:
        if not isinstance(self.numbers, bool):
            raise InvalidInput("distinct_items.numbers", "True or False", self.numbers)
        super().__post_init__()

    def read_reference(self, prompt: Prompt) -> int:
        """The number of items wanted, at least 1."""
        reference = prompt.reference
        count = reference.get("count") if isinstance(reference, Mapping) else reference
        if isinstance(count, str) and re.fullmatch(r"\s*\d{1,4}\s*", count):
            count = int(count)
        if isinstance(count, float) and count.is_integer():
            count = int(count)
        if not is_whole(count, 1):
            raise self.reject("the number of items wanted, a whole number from 1, or {'count': number}", reference)
        return count

    def score_text(self, text: str, wanted: int) -> Score:
        """The share, with the distinct items found."""
        keys = (normalise_item(item) for item in dict.fromkeys(extract_items(text)))
        found = dict.fromkeys(key for key in keys if key and (self.numbers or re.search(r"[^\W\d_]", key)))
        if "b" not in found:  # "9. A" of a text cut short
            found.pop("a", None)
        return Score(min(len(found) / wanted, 1.0), None, ", ".join(found) or None)


def normalise_item(item: str) -> str:
    """The form that two items must share to count as one; "" for what is no item."""
    name = _EXPLAINED.sub("", normalise_text(item).strip(" *_`\"'#.,;:!?"))
    if len(name) > _MOST_CHARACTERS:
        return ""
    said = stem_words(name)
    found = [word for word in said if word not in ("a", "an", "the")]
    if not found and "a" in said:  # the letter
        found = ["a"]
    # Where every character is a word, some three of them weigh as much as one.
    weight = sum(1.0 if len(word) > 1 or word.isascii() else 0.4 for word in found)
    return " ".join(found) if weight <= _MOST_WORDS else ""


def _list_bulleted(rows: Sequence[str]) -> list[str]:
    """The items of bulleted lines, without those that are nested below another item."""
    found = []
    for row in rows:
        if (match := _LISTED.match(row)) and not _BARE_BULLET.match(row):
            indent = len(row.expandtabs(4)) - len(row.expandtabs(4).lstrip())
            found.append((indent, bool(match["number"]), match["item"]))
    kept: list[str] = []
    # Of the lines above a line, those it may lie below: (indent, numbered, heading).
    above: list[tuple[int, bool, bool]] = []
    numbered = len([one for one in found if one[1]]) > 1
    for at, (indent, number, item) in enumerate(found):
        while (
            above
            and above[-1][0] >= indent
            and not (numbered and above[-1][1] and not number and above[-1][0] == indent)
        ):
            above.pop()
        below = found[at + 1] if at + 1 < len(found) else None
        deeper = below is not None and (below[0] > indent or (number and not below[1] and below[0] == indent))
        # What sentences stand below is an item that they explain.
        named = below is not None and normalise_item(below[2]) != ""
        heading = deeper and named and item.rstrip("*_ ").endswith((":", "："))
        if not heading and all(parent[2] for parent in above):
            kept.append(item)
        above.append((indent, number, heading))
    return kept


def _write_html_lists(text: str) -> str:
    """The text with bulleted lines, indented as deep as they are nested, for the items of lists in HTML."""
    depth = 0
    pieces: list[str] = []
    at = 0
    for tag in _HTML_LIST.finditer(text):
        pieces.append(text[at : tag.start()])
        at = tag.end()
        if tag[2].lower() != "li":
            depth = min(max(depth + (-1 if tag[1] else 1), 0), 9)
        pieces.append("\n" if tag[1] or tag[2].lower() != "li" else "\n" + "  " * depth + "- ")
    return "".join([*pieces, text[at:]])


def _list_cells(rows: Sequence[str]) -> list[str]:
    """The first cells with a letter of the rows of a table in Markdown; none where there is no table."""
    rule = next((at for at, row in enumerate(rows) if at and "|" in rows[at - 1] and _TABLE_RULE.match(row)), None)
    if rule is None:
        return []
    cells = ([cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows[rule + 1 :] if "|" in row)
    return [next((cell for cell in row if re.search(r"[^\W\d_]", cell)), row[0]) for row in cells]


def _split_numbered(line: str) -> list[str]:
    parts = [part for part in _INLINE.split(line) if part.strip()]
    return parts or [line]
