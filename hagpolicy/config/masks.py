"""How engines and servers that mask tokens themselves are told a constraint.

Read from the sources of vLLM 0.33, SGLang 0.5.23, llama.cpp and llama-cpp-python 0.3.36, and from OpenAI's and Ollama's
documentation (November 2026). Words to include and to count are known to none of them, and llama.cpp's grammars have no
regular expressions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from hagpolicy.config.constraints import Constraint

__all__ = ["FORMS", "LLAMA_CPP", "LLAMA_CPP_PYTHON", "RESPONSE_FORMAT", "SGLANG", "SGLANG_SERVER", "VLLM", "MaskWriter"]

FORMS = frozenset({"response_format", "structured_outputs", "regex", "ebnf", "grammar", "json_schema"})
"""Fields of a request by which a caller says the form of an answer itself."""

MaskWriter: TypeAlias = Callable[[Constraint], dict[str, Any]]
"""Keys and values that tell an engine a constraint of one kind."""


def _write_response_format(constraint: Constraint) -> dict[str, Any]:
    schema = {"name": "answer", "schema": dict(constraint.schema or {}), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _write_alternatives(constraint: Constraint) -> str:
    """Choices as a regular expression."""
    return "|".join(re.escape(choice) for choice in constraint.choices)


def _write_grammar(constraint: Constraint) -> dict[str, Any]:
    """Choices as a grammar of llama.cpp, whose strings are written as JSON's are."""
    texts = (json.dumps(choice, ensure_ascii=False) for choice in constraint.choices)
    return {"grammar": f"root ::= {' | '.join(texts)}"}


def _fix(**writers: MaskWriter) -> Mapping[str, MaskWriter]:
    return MappingProxyType(writers)


VLLM = _fix(
    choices=lambda one: {"structured_outputs": {"choice": list(one.choices)}},
    regex=lambda one: {"structured_outputs": {"regex": one.regex}},
    schema=lambda one: {"structured_outputs": {"json": dict(one.schema or {})}},
)
SGLANG = _fix(
    choices=lambda one: {"regex": _write_alternatives(one)},
    regex=lambda one: {"regex": one.regex},
    schema=lambda one: {"json_schema": json.dumps(one.schema)},
)
SGLANG_SERVER = _fix(choices=SGLANG["choices"], regex=SGLANG["regex"], schema=_write_response_format)
LLAMA_CPP = _fix(choices=_write_grammar, schema=lambda one: {"json_schema": dict(one.schema or {})})
LLAMA_CPP_PYTHON = _fix(
    choices=_write_grammar,
    schema=lambda one: {"response_format": {"type": "json_object", "schema": dict(one.schema or {})}},
)
RESPONSE_FORMAT = _fix(schema=_write_response_format)
