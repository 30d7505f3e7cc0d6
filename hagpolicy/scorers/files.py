"""A scorer that is a function in a file of the caller's, for the command line."""

from __future__ import annotations

from hagpolicy._code_files import load_object
from hagpolicy._digest import digest_bytes
from hagpolicy.scorers.base import Scorer
from hagpolicy.scorers.functions import FunctionScorer


def load_function_scorer(text: str) -> Scorer:
    """The scorer that "file.py:function" names. Runs the file, and says so on the log.

    A function is made a `FunctionScorer` whose version is the digest of the whole file, so that a changed file is
    another scorer; a `Scorer` in the file is taken as it is.

    Args:
        text: the path, a colon, and the name of a function or of a `Scorer`.

    Raises:
        InvalidInput: no such file or name, or the file raises.
    """
    found, data = load_object("scorer", text)
    if isinstance(found, Scorer):
        return found
    return FunctionScorer(found, name=text.rpartition(":")[2], version=f"file:{digest_bytes(data)[:12]}")
