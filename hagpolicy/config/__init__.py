"""The settings of one generation, and how each engine is sent them."""

from __future__ import annotations

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import FIELDS, NEUTRAL, check_fields

__all__ = ["FIELDS", "NEUTRAL", "DecodingConfig", "check_fields"]
