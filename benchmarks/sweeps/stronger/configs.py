"""The wordings that are compared, all greedy: the engine's own default, and hints about length and steps."""

from __future__ import annotations

from hagpolicy import DecodingConfig, DecodingSpace

MAX_TOKENS = 384
SEED = 1
# What the engine does when nothing is sent: greedy, the model's file names no sampling.
DEFAULT = DecodingConfig(temperature=0.0)
PLAIN, SENTENCE, STEPS, ONLY, CALCULATION, FEW_WORDS, CONCISE = (
    "",
    "Answer with at most one short sentence.",
    "Think step by step, then give the final answer.",
    "Give only the final answer.",
    "Show a brief calculation, then the answer.",
    "Work it out in as few words as possible and end with the answer.",
    "Be concise.",
)


def greedy(*hints: str) -> DecodingSpace:
    """One greedy config for each hint."""
    return DecodingSpace(DecodingConfig(temperature=0.0, hint=hint) for hint in hints)


PILOT = greedy(PLAIN, SENTENCE, STEPS, ONLY, CALCULATION, FEW_WORDS, CONCISE)
FINAL = greedy(PLAIN, SENTENCE, ONLY, CALCULATION, FEW_WORDS)
# The objective is reward minus price × new tokens, at each of these.
PRICES = (0.0, 0.0005, 0.001, 0.002, 0.004)
