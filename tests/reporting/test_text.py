"""Configs and differences in plain words."""

from __future__ import annotations

from hagpolicy.config.config import DecodingConfig
from hagpolicy.reporting.text import describe_config, format_signed


def test_configs_in_words() -> None:
    assert describe_config(DecodingConfig()) == "temperature 1"
    assert describe_config(DecodingConfig(temperature=0, num_beams=4)) == "4 beams"
    assert (
        describe_config(DecodingConfig(temperature=0.7, top_k=40, hint="Go."))
        == "temperature 0.7 · top_k 40 · hint “Go.”"
    )
    assert [format_signed(value) for value in (0.1, -0.25, 0.0, -0.00001)] == ["+0.100", "−0.250", "0.000", "0.000"]
