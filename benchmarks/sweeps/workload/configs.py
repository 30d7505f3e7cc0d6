"""The configs of the pilot, of the sweep and of the budgets table."""

from __future__ import annotations

from hagpolicy import DecodingConfig, DecodingSpace

DTYPE, SEED, MAX_TOKENS = "bfloat16", 0, 64
PILOT_SAMPLES, SAMPLES, BUDGET_SAMPLES = 1, 4, 16
DEFAULT = DecodingConfig(temperature=0.0)


def _space(*configs: dict[str, object]) -> DecodingSpace:
    return DecodingSpace(DecodingConfig.from_dict(values) for values in configs)


STEPS = "Think step by step."
ONLY = "Give only the answer, nothing else."
SHORT = "Answer in one short sentence."

PILOT = _space(
    {"temperature": 0.0},
    {"temperature": 0.0, "repetition_penalty": 1.2},
    {"temperature": 0.0, "no_repeat_ngram_size": 3},
    {"temperature": 0.0, "hint": STEPS},
    {"temperature": 0.0, "hint": ONLY},
    {"temperature": 0.0, "hint": SHORT},
    {"temperature": 0.3},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 0.7, "frequency_penalty": 0.5},
    {"temperature": 0.3, "hint": ONLY},
    {"temperature": 0.7, "hint": SHORT, "min_p": 0.1},
)

WORKLOAD = _space(
    {"temperature": 0.0},
    {"temperature": 0.0, "repetition_penalty": 1.1},
    {"temperature": 0.0, "no_repeat_ngram_size": 3},
    {"temperature": 0.0, "hint": STEPS},
    {"temperature": 0.0, "hint": ONLY},
    {"temperature": 0.0, "hint": SHORT},
    {"temperature": 0.0, "hint": ONLY, "repetition_penalty": 1.1},
    {"temperature": 0.0, "hint": ONLY, "num_beams": 3},
    {"temperature": 0.3},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 0.7, "frequency_penalty": 0.5},
    {"temperature": 0.7, "hint": SHORT, "min_p": 0.1},
)
BUDGETS = _space(
    {"temperature": 0.0},
    {"temperature": 0.3},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.2, "min_p": 0.1},
    {"temperature": 0.7, "hint": SHORT, "min_p": 0.1},
)
