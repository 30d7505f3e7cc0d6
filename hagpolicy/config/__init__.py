"""What one generation is asked for, and how engines are told."""

from __future__ import annotations

from hagpolicy.config.config import FIELDS, NEUTRAL, DecodingConfig, check_fields

__all__ = ["FIELDS", "NEUTRAL", "DecodingConfig", "check_fields"]
