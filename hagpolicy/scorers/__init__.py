"""Scorers: completion (and reference) to reward.

| name | reward | reference |
|---|---|---|
| exact_match | 1 where the whole answer equals it, normalised | text, number, or a list of accepted ones |
| numeric_match | 1 where the last number equals it | number, or text that is one |
| multiple_choice | 1 where the right option is chosen | letter, or {"answer": …, "choices": …} |
| contains_all | share of required words, inflections allowed | list of words, phrases, or alternatives |
| distinct_items | distinct items / items wanted, at most 1 | number of items wanted |
| chrf | likeness to it, sentence chrF / 100 | text or a list of texts |
| json_valid | 1 for JSON, or the share of required keys | none, or required keys |
| brevity | 1 − tokens / budget | none |

These read the text only, and their names alone are scorers. Three more are made with options, such as
{"name": "judge", "engine": "openai:MODEL"}; they spend tokens or run what was generated, so the caller
asks for them, and a prompt's own metadata cannot:

| name | reward | reference |
|---|---|---|
| judge | an LLM's grade, or its verdict against the engine default's answer | none, or a right answer to show it |
| reward_model | score of a sequence classifier between two stated values | none |
| python_tests | 1 where unit tests pass, run in a sandbox with "allow_code": true | source of the tests |
"""

from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.functions import FunctionScorer
from hagpolicy.scorers.registry import SCORERS, get_scorer
from hagpolicy.scorers.weighted import Weighted

__all__ = ["SCORERS", "FunctionScorer", "Score", "Scorer", "Weighted", "get_scorer"]
