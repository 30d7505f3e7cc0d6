"""The command line: `hagpolicy VERB …`, the verbs of the Python interface."""

from __future__ import annotations

from hagpolicy.cli.entry import main

__all__ = ["main"]
