"""A value of every config field that changes what is generated, for tests that cross all fields with something."""

from __future__ import annotations

from typing import Any

from hagpolicy.config.fields import FIELDS, NEUTRAL

# In the range of every engine that has the field. A new field needs a value here.
BOLD: dict[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.3,
    "typical_p": 0.4,
    "repetition_penalty": 1.8,
    "presence_penalty": 1.5,
    "frequency_penalty": -1.5,
    "no_repeat_ngram_size": 2,
    "num_beams": 4,
    "length_penalty": -2.5,
    "prompt_lookup_num_tokens": 5,
    "thinking": True,
    "reasoning_effort": "low",
    "thinking_budget": 4,
    "max_tokens": 3,
    "hint": "think step by step",
    "adapter": "bold",
    "soft_prefix": "bold",
    "soft_tokens": 2,
    "reference": "bold",
    "reference_weight": 0.6,
    "draft_source": "bold",
    "endpoint": "bold",
    "constrain": "ask",
    "unset": True,
}
assert tuple(BOLD) == FIELDS
assert not any(BOLD[name] == NEUTRAL[name] for name in FIELDS)

# What a field may stand beside: a setting does its work, or is lost, in one way of decoding and not in another.
BESIDE: dict[str, dict[str, Any]] = {
    "sampled": {},
    "greedy": {"temperature": 0.0},
    "beams": {"temperature": 0.0, "num_beams": 3},
    "sampled beams": {"temperature": 1.5, "num_beams": 3},
    "prefixed": {"temperature": 0.0, "soft_prefix": "bold"},
    "drafted": {"temperature": 0.0, "prompt_lookup_num_tokens": 4},
    "referred to": {"reference": "bold"},
    "weighed": {"temperature": 0.0, "reference_weight": 0.6},
    "not thinking": {"thinking": False},
    "elsewhere": {"endpoint": "bold"},
}
