"""Optional packages: one helper, one clear message."""

from __future__ import annotations

import importlib
from types import ModuleType

from hagpolicy.errors import MissingExtra


def require(module: str, extra: str, feature: str) -> ModuleType:
    """Import and return `module`, or say which extra brings it.

    Raises:
        MissingExtra: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        # An installed package that fails for a reason of its own must not be reported as missing.
        if error.name is not None and error.name.partition(".")[0] != package:
            raise
        raise MissingExtra(f"{feature} needs the package {package!r}: pip install 'hagpolicy[{extra}]'") from error
