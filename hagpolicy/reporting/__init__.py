"""The HTML report: `write_report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hagpolicy.reporting.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    # Late, because `hagpolicy predict` wants the words of this package and nothing of its page.
    if name == "write_report":
        from hagpolicy.reporting.page import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
