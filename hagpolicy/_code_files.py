"""Objects in Python files of the caller's, as the command line names them: "file.py:name"."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hagpolicy._files import read_regular
from hagpolicy._names import suggest
from hagpolicy.errors import InvalidInput

__all__ = ["is_object_path", "load_object"]

logger = logging.getLogger(__name__)

_MOST_BYTES = 16 << 20


def is_object_path(text: str) -> bool:
    """Whether a text names an object in a file: "scorers.py:polite"."""
    path, colon, name = text.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def load_object(what: str, text: str) -> tuple[Any, bytes]:
    """The object that "file.py:name" names, and the file's content. Runs the file, and says so on the log.

    Args:
        what: it is for, such as "scorer".
        text: the path, a colon, and the name.

    Raises:
        InvalidInput: no such file or name, or the file raises.
    """
    place, _, name = text.rpartition(":")
    path = Path(place)
    try:
        data = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise InvalidInput(what, "file.py:name", text, f"{error}.") from error
    logger.warning("running %s for its %s %s", path, what, name)
    found = getattr(_run(what, path), name, None)
    if found is None:
        module = sys.modules[_name_module(path)]
        near = suggest(name, [known for known in vars(module) if not known.startswith("_")])
        raise InvalidInput(what, f"a name in {path}", name, near)
    return found, data


def _name_module(path: Path) -> str:
    return f"_hagpolicy_file_{path.stem}"


def _run(what: str, path: Path) -> ModuleType:
    """The file as a module; what lies beside it can be imported by it."""
    spec = importlib.util.spec_from_file_location(_name_module(path), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the caller's file raises
        raise InvalidInput(what, f"{path} to run", f"{type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module
