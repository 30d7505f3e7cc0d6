"""What one generation is asked for, and how engines are told."""

from __future__ import annotations

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import FIELDS, NEUTRAL, check_fields

__all__ = ["FIELDS", "NEUTRAL", "DecodingConfig", "check_fields"]
