"""What an artefact was made from: prompts that no proof of a config that names it may use.

A config that answers with an adapter tuned on the very prompts it is tried on looks better than it is, and the gate
would prove nothing but that. So an artefact keeps digests of its prompts and their groups, and sweeps and analyses
leave those prompts out, for every config alike. The digests are salted: who holds an artefact can ask whether it was
made from a prompt that he knows, and read none out of it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._digest import DIGEST_BYTES
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import ARTEFACT_FIELDS, SPECS, split_pin
from hagpolicy.data.prompts import Prompt

# Those whose value names an artefact, or may itself be made from prompts.
_MADE = tuple(name for name in ARTEFACT_FIELDS if SPECS[name].from_prompts)
_FIELDS = (*_MADE, "hint")

__all__ = ["Origin", "find_seen", "list_unknown", "select_origins"]


@dataclass(frozen=True)
class Origin:
    """The prompts and groups that an artefact was made from, as salted digests.

    Attributes:
        field: of a config that names the artefact, such as "adapter"; or "hint", of one that was made from prompts.
        pin: its name with its digest, the value of that field; the hint itself.
        salt: 32 hex digits.
        digests: of normalised texts and of declared groups, 32 hex digits each.
    """

    field: str
    pin: str
    salt: str
    digests: frozenset[str]

    @classmethod
    def of(cls, field: str, pin: str, prompts: Iterable[Prompt]) -> Origin:
        """The origin of an artefact that was made from these prompts, under a salt of its own."""
        salt = secrets.token_hex(DIGEST_BYTES)
        return cls(field, pin, salt, frozenset(one for prompt in prompts for one in _digest_labels(salt, prompt)))

    def saw(self, prompt: Prompt) -> bool:
        """Whether the artefact was made from the prompt, one of the same text, or one of its group."""
        return not self.digests.isdisjoint(_digest_labels(self.salt, prompt))

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back."""
        return {"field": self.field, "pin": self.pin, "salt": self.salt, "digests": sorted(self.digests)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Origin:
        """What `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: not an origin.
        """
        field, pin, salt, digests = (values[name] for name in ("field", "pin", "salt", "digests"))
        if field not in _FIELDS or not all(isinstance(one, str) for one in (pin, salt, *digests)):
            raise ValueError(f"no origin of an artefact: {field!r}")
        return cls(field, pin, salt, frozenset(digests))


def select_origins(origins: Iterable[Origin], configs: Iterable[DecodingConfig]) -> tuple[Origin, ...]:
    """The origins of the artefacts that some configs name, each once."""
    named = {(field, getattr(config, field)) for config in configs for field in _FIELDS}
    return tuple(dict.fromkeys(one for one in origins if (one.field, one.pin) in named))


def list_unknown(origins: Iterable[Origin], configs: Iterable[DecodingConfig]) -> list[str]:
    """The artefacts that some configs name and of which nobody knows what they were made from, for messages."""
    known = {(origin.field, origin.pin) for origin in origins}
    named = [(field, getattr(config, field)) for config in configs for field in _MADE]
    unknown = dict.fromkeys(one for one in named if one[1] and one not in known)
    return [f"{field} {split_pin(pin)[0]!r}" for field, pin in unknown]


def find_seen(prompts: Sequence[Prompt], origins: Iterable[Origin]) -> np.ndarray:
    """bool (n_prompts,): prompts that one of some artefacts was made from."""
    known = list(origins)
    return np.array([any(origin.saw(prompt) for origin in known) for prompt in prompts], dtype=bool)


def _digest_labels(salt: str, prompt: Prompt) -> list[str]:
    """Digests of what tells a prompt: its normalised text, and its declared group."""
    labels = [f"text {prompt.normalised.casefold()}"] + [f"group {prompt.group}"] * (prompt.group is not None)
    key = bytes.fromhex(salt)
    return [
        hashlib.blake2b(label.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES, key=key).hexdigest()
        for label in labels
    ]
