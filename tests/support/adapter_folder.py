"""A folder that looks like an adapter, for tests of everything but its weights."""

from __future__ import annotations

from pathlib import Path


def make_adapter_folder(folder: Path, weights: bytes = b"weights") -> Path:
    """Write a folder with the files of an adapter; no model could load it. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder
