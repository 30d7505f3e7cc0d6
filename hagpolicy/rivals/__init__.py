"""Rivals: other ways to choose a config for each prompt, behind one interface and in one ladder."""

from __future__ import annotations

from hagpolicy.rivals.base import Chosen, Rival

__all__ = ["Chosen", "Rival"]
