"""Production: prompt to config."""

from __future__ import annotations

from hagpolicy.policy.decision import Decision
from hagpolicy.policy.policy import Policy, load

__all__ = ["Decision", "Policy", "load"]
