"""Load a model and its tokenizer for the transformers engine: hub name, folder or GGUF file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from hagpolicy._digest import canonical_json, digest, digest_bytes, digest_file
from hagpolicy._folders import new_folder
from hagpolicy.errors import EngineError, InvalidInput

__all__ = ["Loaded", "digest_folder", "digest_state", "digest_tokenizer", "load", "pick_device", "save_model"]

WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
NOTE = "hagpolicy.json"
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class Loaded:
    """A model ready to generate.

    Attributes:
        model: in evaluation mode, on its device.
        tokenizer: with its chat template, if it has one.
        name: the hub's name, or the last part of the path.
        weights: gives a digest of the weights; of a large folder that takes seconds, so only on demand.
    """

    model: Any
    tokenizer: Any
    name: str
    weights: Callable[[], str]


def load(source: str, *, device: str, dtype: str | None, revision: str | None, cache: str | Path | None) -> Loaded:
    """Load from a folder, a GGUF file, or the hub by name.

    Args:
        source: path or hub name.
        device: such as "cpu" or "cuda".
        dtype: such as "float32"; "auto": as stored; None: float32 on a CPU, else as stored.
        revision: of a hub name; None: the newest.
        cache: a folder in which the converted form of a GGUF file is kept and found again; None: none.

    Raises:
        InvalidInput: no such file or folder, an option that does not fit, an unknown dtype.
        EngineError: transformers cannot load it; its own message is kept.
    """
    kind = _parse_dtype(dtype, device)
    path = Path(source).expanduser()
    local = path.exists()
    if revision is not None and local:
        raise InvalidInput("revision", "a hub name beside it", source, "A folder or file has no revisions.")
    if cache is not None and path.suffix != ".gguf":
        raise InvalidInput("cache", "a GGUF file beside it", source, "Only converted files are cached.")
    if not local and (path.suffix == ".gguf" or path.is_absolute() or source.startswith((".", "~"))):
        raise InvalidInput("model", "a file or folder that exists, or a hub name", source)
    try:
        if path.suffix == ".gguf":
            model, tokenizer = _load_gguf(path, kind, None if cache is None else Path(cache))
            weights: Callable[[], str] = partial(digest_file, path)
        else:
            where = {"revision": revision} if revision is not None else {}
            tokenizer = AutoTokenizer.from_pretrained(source, **where)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=kind, **where)
            weights = partial(digest_folder, path) if local else partial(_digest_hub, model)
    # Each loader has error types of its own (safetensors, tokenizers, gguf), some of them bare exceptions.
    except Exception as error:
        raise EngineError(f"transformers could not load {source!r}: {error}") from error
    if model.config.is_encoder_decoder:
        raise InvalidInput("model", "a decoder-only language model", f"{source} ({model.config.model_type})")
    name = path.resolve().name if local else source
    model = model.to(device).eval()
    if device.startswith("cpu"):
        store_by_column(model)
    return Loaded(model, tokenizer, name, weights)


def store_by_column(model: Any) -> None:
    """Lay the weights of linear layers out by column; their values stay as they are.

    `linear` multiplies by the transposed weight, and for a few rows a CPU's float32 product with a matrix
    laid out by row is slow. So a mixed batch gains, and a single row loses nothing. (`save_model` undoes it.)
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = module.weight.data.t().contiguous().t()


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a loaded model with its tokenizer as a folder that transformers can load."""
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight")
    # `save_pretrained` refuses weights that lie by column.
    model.save_pretrained(folder, state_dict={name: part.contiguous() for name, part in state.items()})
    tokenizer.save_pretrained(folder)


def pick_device(device: str) -> str:
    """ "auto" as the machine's best: "cuda" where there is one, else "cpu"; anything else as it is.

    Raises:
        InvalidInput: no such device here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidInput("device", "'auto' or a device of this machine", device, str(error)) from error
    return device


def digest_state(model: Any) -> str:
    """Digest of a model's own parameters, for a model that came as an object."""
    parts = {}
    for name, value in model.state_dict().items():
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        parts[name] = [str(value.dtype), list(value.shape), digest_bytes(flat.numpy().tobytes())]
    return digest(parts)


def digest_tokenizer(tokenizer: Any) -> str:
    """Digest of what turns text into tokens: all of a fast tokenizer but the padding and truncation of
    its last call; the vocabulary of a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return digest(tokenizer.get_vocab())
    stored = json.loads(backend.to_str())
    return digest({name: part for name, part in stored.items() if name not in ("padding", "truncation")})


def _parse_dtype(dtype: str | None, device: str) -> Any:
    if dtype is None:
        dtype = "float32" if device.startswith("cpu") else "auto"
    kind = dtype if dtype == "auto" else getattr(torch, str(dtype).removeprefix("torch."), None)
    if kind != "auto" and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise InvalidInput("dtype", "'auto', 'float32', 'bfloat16' or 'float16'", dtype)
    return kind


def _load_gguf(path: Path, kind: Any, cache: Path | None) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, through the cache folder if there is one."""
    if cache is None:
        return _convert(path, kind)
    kept = cache / f"{path.stem}-{digest_file(path)[:12]}-{str(kind).removeprefix('torch.')}"
    if not (kept / NOTE).exists():
        # Another process may have converted it meanwhile, and be reading its own.
        with new_folder(kept) as fresh:
            _store(*_convert(path, kind), fresh)
    note = json.loads((kept / NOTE).read_text("utf-8"))
    tokenizer = _make_tokenizer({"tokenizer_file": str(kept / "tokenizer.json")}, note["special"], note["template"])
    return AutoModelForCausalLM.from_pretrained(kept, dtype=kind), tokenizer


def _convert(path: Path, kind: Any) -> tuple[Any, Any]:
    """De-quantise. The file's weights are 4 to 8 bits wide, so "auto" has nothing to go by: float32."""
    read = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    special = {name: getattr(read, name) for name in SPECIAL if getattr(read, name) is not None}
    tokenizer = _make_tokenizer({"tokenizer_object": read.backend_tokenizer}, special, read.chat_template)
    kind = torch.float32 if kind == "auto" else kind
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=kind)
    # What is left of the quantisation would make `save_pretrained` refuse and the config name this file.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _make_tokenizer(source: Mapping[str, Any], special: Mapping[str, str], template: str | None) -> Any:
    """One class for the fresh and the cached tokenizer: the class that AutoTokenizer picks for a saved
    GGUF tokenizer loses spaces and line breaks."""
    tokenizer = PreTrainedTokenizerFast(**source, **special)
    tokenizer.chat_template = template
    return tokenizer


def _store(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    special = {name: getattr(tokenizer, name) for name in SPECIAL if getattr(tokenizer, name) is not None}
    note = canonical_json({"format": 1, "special": special, "template": tokenizer.chat_template})
    (folder / NOTE).write_text(note, "utf-8")


def digest_folder(folder: Path) -> str:
    """Digest of a folder's weight files and config."""
    files = sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)} | set(folder.glob("config.json")))
    return digest({file.name: digest_file(file) for file in files})


def _digest_hub(model: Any) -> str:
    """The hub's commit names the weights; without one (an old cache), the weights themselves do."""
    commit = getattr(model.config, "_commit_hash", None)
    return f"commit {commit}" if commit else digest_state(model)
