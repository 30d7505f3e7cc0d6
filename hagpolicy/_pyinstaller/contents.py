"""Modules that are imported by name and files that are read: no import statement tells a freezer of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["BY_NAME", "list_data", "list_hook_folders", "list_modules"]

_ROOT = Path(__file__).parent.parent

BY_NAME = (
    "aiohttp", "fsspec", "httpx2", "huggingface_hub", "jinja2", "jsonschema", "lightgbm", "llguidance", "onnx",
    "onnxruntime", "opentelemetry.propagate", "opentelemetry.trace", "peft", "prometheus_client", "pyarrow",
    "pyarrow.parquet", "ray", "sacrebleu", "safetensors", "scipy", "sklearn", "snowballstemmer",
    "threadpoolctl", "torch", "tqdm", "transformers", "uvicorn", "vllm", "yarl",
)  # fmt: skip
"""Packages that `_extras.require` imports; those that are not installed are left out of a frozen program."""


def list_hook_folders() -> list[str]:
    """The folder with the hook, for PyInstaller's entry point."""
    return [str(Path(__file__).parent)]


def list_modules() -> list[str]:
    """Every module of hagpolicy, and the optional packages that are installed."""
    found = []
    for path in sorted(_ROOT.rglob("*.py")):
        parts = path.relative_to(_ROOT.parent).with_suffix("").parts
        if all(part.isidentifier() for part in parts):
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [*found, *(name for name in BY_NAME if importlib.util.find_spec(name.partition(".")[0]) is not None)]


def list_data() -> list[tuple[str, str]]:
    """Folders of files that hagpolicy reads, each with its place in a frozen program."""
    return [(str(_ROOT / "assets"), "hagpolicy/assets")]
