"""Counting new tokens of answers that a server does not count, by a tokenizer that the user names."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from hagpolicy._digest import digest_bytes
from hagpolicy._files import read_regular
from hagpolicy.data.completion import UNKNOWN
from hagpolicy.errors import InvalidInput

__all__ = ["TokenCounter"]

LARGEST = 200_000_000


class TokenCounter:
    """Counts the tokens of a text.

    Attributes:
        name: for receipts: the name of the file's folder and the start of its digest.

    Args:
        source: a tokenizer.json, or a folder that holds one, such as a model of transformers.

    Raises:
        InvalidInput: there is none, or it cannot be read.
    """

    def __init__(self, source: str | Path) -> None:
        path = Path(source).expanduser()
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            data = read_regular(path, LARGEST)
            tokenizer = Tokenizer.from_str(data.decode())
            tokenizer.no_truncation()
            tokenizer.no_padding()
            tokenizer.encode("a", add_special_tokens=False)
        except BaseException as error:
            _raise_unless_fault(error)
            do = "Give the model's tokenizer.json, or the folder that holds it."
            raise InvalidInput("tokenizer", "a tokenizer.json of tokenizers", f"{path}: {error}", do) from None
        self.name = f"{path.absolute().parent.name}/{path.name} {digest_bytes(data)[:12]}"
        self._tokenizer = tokenizer

    def __call__(self, text: str, *, ended: bool) -> float:
        """Tokens of an answer; NaN for a text that the tokenizer fails on.

        Args:
            text: of the answer, its reasoning before it.
            ended: whether the model ended it, which takes a token too.
        """
        try:
            return len(self._tokenizer.encode(text, add_special_tokens=False).ids) + ended
        except BaseException as error:
            _raise_unless_fault(error)
            return UNKNOWN


def _raise_unless_fault(error: BaseException) -> None:
    """Let through what is no fault of the tokenizer: its errors are of `Exception` itself, a panic is none."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
