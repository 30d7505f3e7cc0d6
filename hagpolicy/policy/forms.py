"""`Forms`: which forms the training chats had, without their texts: their system messages and numbers of turns."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hagpolicy._digest import DIGEST_BYTES
from hagpolicy.config.render import PromptLike
from hagpolicy.data.prompts import message_text, normalise, to_messages

# With more system messages than this in training they vary by design (a date, a user's name), and none is unseen.
MAX_SYSTEMS = 16


@dataclass(frozen=True)
class Forms:
    """The forms of the training prompts.

    Attributes:
        salt: 32 hex digits, of the digests.
        systems: digests of the system messages' texts that were seen, "no system message" among them as that of "";
            empty where they varied too much to be told apart.
        turns: the most messages that a training chat had, system messages aside.
    """

    salt: str
    systems: tuple[str, ...]
    turns: int

    @classmethod
    def of(cls, contents: Iterable[PromptLike]) -> Forms:
        """The forms of some prompts, under a new salt."""
        salt = secrets.token_hex(16)
        chats = [to_messages(content) for content in contents]
        systems = set(digest_salted(map(_system, chats), salt))
        turns = max((_count(chat) for chat in chats), default=1)
        return cls(salt, tuple(sorted(systems)) if len(systems) <= MAX_SYSTEMS else (), turns)

    def know(self, turns: Sequence[Mapping[str, Any]], counted: bool) -> bool:
        """True for a chat whose system messages, and number of turns where those are counted, were seen in training."""
        if counted and _count(turns) > self.turns:
            return False
        return not self.systems or digest_salted([_system(turns)], self.salt)[0] in self.systems

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back."""
        return {"salt": self.salt, "systems": list(self.systems), "turns": self.turns}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Forms:
        """What `to_json` wrote, checked before by the manifest's own table."""
        return cls(values["salt"], tuple(values["systems"]), values["turns"])


def digest_salted(texts: Iterable[str], salt: str) -> list[str]:
    """Digests of normalised texts under a salt of 32 hex digits, 32 hex digits each, in order."""
    key = bytes.fromhex(salt)
    data = (normalise(text).encode("utf-8", "surrogatepass") for text in texts)
    return [hashlib.blake2b(part, digest_size=DIGEST_BYTES, key=key).hexdigest() for part in data]


def _system(turns: Sequence[Mapping[str, Any]]) -> str:
    """The texts of the system messages."""
    return "\n\n".join(message_text(turn) for turn in turns if turn["role"] in ("system", "developer"))


def _count(turns: Sequence[Mapping[str, Any]]) -> int:
    return sum(turn["role"] not in ("system", "developer") for turn in turns)
