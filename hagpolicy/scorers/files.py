"""A scorer that is a function in a file of the caller's, for the command line."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

from hagpolicy._digest import digest_bytes
from hagpolicy._files import read_regular
from hagpolicy._names import suggest
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Scorer
from hagpolicy.scorers.functions import FunctionScorer

logger = logging.getLogger(__name__)

_MOST_BYTES = 16 << 20


def is_function_path(text: str) -> bool:
    """Whether a text names a function in a file: "scorers.py:polite"."""
    path, colon, name = text.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def load_function_scorer(text: str) -> Scorer:
    """The scorer that "file.py:function" names. Runs the file, and says so on the log.

    A function is made a `FunctionScorer` whose version is the digest of the whole file, so that a changed file is
    another scorer; a `Scorer` in the file is taken as it is.

    Args:
        text: the path, a colon, and the name of a function or of a `Scorer`.

    Raises:
        InvalidInput: no such file or name, or the file raises.
    """
    place, _, name = text.rpartition(":")
    path = Path(place)
    try:
        data = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise InvalidInput("scorer", "file.py:function", text, f"{error}.") from error
    logger.warning("running %s for its scorer %s", path, name)
    module = _run(path)
    found = getattr(module, name, None)
    if found is None:
        near = suggest(name, [known for known in vars(module) if not known.startswith("_")])
        raise InvalidInput("scorer", f"a function of {path}", name, near)
    if isinstance(found, Scorer):
        return found
    return FunctionScorer(found, name=name, version=f"file:{digest_bytes(data)[:12]}")


def _run(path: Path) -> Any:
    """The file as a module; what lies beside it can be imported by it."""
    spec = importlib.util.spec_from_file_location(f"_hagpolicy_scorer_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the caller's file raises
        raise InvalidInput("scorer", f"{path} to run", f"{type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module
