"""The HTML report: `write_report`."""

from __future__ import annotations

from hagpolicy.reporting.page import write_report

__all__ = ["write_report"]
