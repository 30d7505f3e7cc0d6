"""`Look`: what a sweep that may end early saw when it looked, kept with its table so that a later proof pays for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from hagpolicy.results import Estimate

LookOutcome: TypeAlias = Literal["open", "proven", "futile"]
"""What a look came to: go on, a policy is proven, or it cannot be proven with the prompts that are planned."""


@dataclass(frozen=True)
class Look:
    """One look at a part of the prompts.

    Attributes:
        prompts: that were looked at.
        planned: that the sweep has in all.
        error: of each step of the gate at this look: the probability to let pass what gains nothing.
        spent: of the gate's error, by this look and those before it.
        outcome: "open", "proven" or "futile".
        gain: of the candidate over the reference; None before it is known.
        chance: to prove it with all prompts that are planned; None where that was not asked.
    """

    prompts: int
    planned: int
    error: float
    spent: float
    outcome: LookOutcome = "open"
    gain: Estimate | None = None
    chance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Look:
        """What `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: not a look.
        """
        gain, chance = values["gain"], values["chance"]
        if values["outcome"] not in ("open", "proven", "futile"):
            raise ValueError(f"no outcome of a look: {values['outcome']!r}")
        return cls(
            int(values["prompts"]),
            int(values["planned"]),
            float(values["error"]),
            float(values["spent"]),
            values["outcome"],
            None if gain is None else Estimate(float(gain["value"]), float(gain["low"]), float(gain["high"])),
            None if chance is None else float(chance),
        )

    def __str__(self) -> str:
        gain = "" if self.gain is None else f": gain {self.gain:+}"
        words = {
            "open": "" if self.chance is None else f", proven in the end with probability {self.chance:.2f}",
            "proven": ", proven",
            "futile": ", not to be proven with these prompts",
        }
        return f"{self.prompts} of {self.planned} prompts{gain}{words[self.outcome]}"
