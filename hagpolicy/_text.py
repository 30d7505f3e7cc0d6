"""Text for people (aligned and Markdown tables, counts, durations, sizes), and text that files can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "TextTable",
    "escape_controls",
    "format_count",
    "format_duration",
    "format_size",
    "parse_duration",
    "replace_controls",
    "replace_surrogates",
    "shorten",
]


@dataclass(frozen=True)
class TextTable:
    """A table of cells that are text already.

    Attributes:
        head: name of each column; "" where its cells need none.
        rows: cells of each row, as many as columns.
        align: "<" (left) or ">" (right) for each column; "": all left.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str = ""

    def to_text(self, indent: str = "") -> str:
        """Lines with columns two spaces apart; a head without any name is left out."""
        lines = [self.head, *self.rows] if any(self.head) else list(self.rows)
        align = self.align or "<" * len(self.head)
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        return "\n".join(
            (indent + "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, align, widths, strict=True)))
            .rstrip()
            for line in lines
        )  # fmt: skip

    def to_markdown(self) -> str:
        """A table in Markdown; bars and line breaks within cells are kept from ending them."""
        lines = [_markdown_line(self.head), "|" + "---|" * len(self.head)]
        return "\n".join([*lines, *(_markdown_line(row) for row in self.rows)])


def _markdown_line(cells: Sequence[str]) -> str:
    kept = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(kept)} |"


def shorten(text: str, limit: int) -> str:
    """The text, or as much of its beginning as fits, with "…", where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def format_count(number: int, noun: str) -> str:
    """The number and its noun: "1 group", "2 groups"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def format_duration(seconds: float) -> str:
    """A length of time in two units at most, such as "3 min 20 s"; "?" where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    for size, unit, small, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if round(seconds) >= size:
            whole = round(seconds / small) * small
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{seconds:.0f} s"


_SECONDS = {"d": 86400.0, "h": 3600.0, "m(?:in)?": 60.0, "s": 1.0}
_DURATION = re.compile("".join(rf"(?:(\d+(?:\.\d+)?)\s*{unit}\s*)?" for unit in _SECONDS), re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds of a length of time: "90" and "90s", "10m", "1h30m", and what `format_duration` writes.

    Raises:
        ValueError: another form.
    """
    given = text.strip()
    found = _DURATION.fullmatch(f"{given}s" if given.replace(".", "", 1).isdecimal() else given)
    if found is None or not any(found.groups()):
        raise ValueError("expected a length of time such as 90s, 10m or 1h30m")
    return sum(float(number) * size for number, size in zip(found.groups(), _SECONDS.values(), strict=True) if number)


def format_number(count: float) -> str:
    """A whole number with commas; "unknown" where it is not known."""
    return f"{count:,.0f}" if math.isfinite(count) else "unknown"


def format_size(count: float) -> str:
    """A number of bytes, such as "1.5 kB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000.0:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100.0 else f"{count:.1f} {unit}"
        count /= 1000.0
    return f"{count:.1f} TB"


def replace_surrogates(text: str) -> str:
    """The text with "?" for each half of a surrogate pair, which UTF-8 cannot hold: a text cut within a character."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


# Control characters (C0, C1), what turns the direction of writing, line and paragraph separators, lone surrogates.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def replace_controls(text: str, keep: str = "") -> str:
    """The text with "?" for each character that would act on a terminal instead of being shown, except those kept."""
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else "?", text)


def escape_controls(text: str) -> str:
    """The text with \\uXXXX for what a terminal would obey, but line feeds and tabs; in JSON it means the same."""
    return _CONTROLS.sub(lambda found: found[0] if found[0] in "\n\t" else f"\\u{ord(found[0]):04x}", text)
