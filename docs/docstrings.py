"""For the reference: docstrings that are made when the library is imported, which reading the source does not see."""

from __future__ import annotations

import inspect
from typing import Any

import griffe

# The attributes of a configuration are listed from its rows, `hagpolicy.config.fields`.
MADE_ON_IMPORT = {"hagpolicy.config.config.DecodingConfig"}


class ImportedDocstrings(griffe.Extension):
    """Shows the docstrings of some classes as they are after the import."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Take the docstring of the imported class."""
        if cls.path in MADE_ON_IMPORT:
            text = inspect.getdoc(griffe.dynamic_import(cls.path)) or ""
            cls.docstring = griffe.Docstring(text, parent=cls)
