"""Text for people: tables whose columns line up, and the same tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TextTable"]


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
