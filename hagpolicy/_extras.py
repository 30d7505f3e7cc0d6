"""Optional packages: one helper, one clear message."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from hagpolicy.errors import MissingExtra


def require(module: str, extra: str, feature: str, otherwise: str = "") -> ModuleType:
    """Import and return `module`, or say which extra brings it.

    Args:
        module: the dotted name.
        extra: that brings it.
        feature: what needs it.
        otherwise: what else brings it, for the message.

    Raises:
        MissingExtra: the package is not installed, or no more of it than folders that were left behind.
    """
    package = module.partition(".")[0]
    words = f"{feature} needs the package {package!r}: pip install 'hagpolicy[{extra}]'" + f", {otherwise}" * bool(
        otherwise
    )
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        # An installed package that fails for a reason of its own must not be reported as missing.
        if error.name is not None and error.name.partition(".")[0] != package:
            raise
        raise MissingExtra(words) from error
    # Python imports any folder of that name: an uninstalled package leaves one where it had written files of its own.
    if type(getattr(found, "__path__", None)).__name__ == "_NamespacePath":
        folders = ", ".join(found.__path__)
        raise MissingExtra(f"{words}; of an earlier one only the folder {folders} is left, which can be removed")
    return found


def require_pandas() -> Any:
    """The module pandas, which no extra brings: whoever wants a data frame has it.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise MissingExtra("a data frame needs the package 'pandas': pip install pandas") from error
