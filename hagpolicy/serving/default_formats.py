"""Where each engine reads its default settings, and how a config is said there.

The names of settings are those of `hagpolicy.config`: an engine's defaults are its dialect with other keys, or with
fewer of them. Each entry says what its keys were checked against and whether it was run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hagpolicy._names import Registry
from hagpolicy.config.dialects import LLAMA_CPP, OF_CHATS, OLLAMA, OPENAI, TRANSFORMERS, VLLM, Dialect, Setting
from hagpolicy.config.fields import NEUTRAL
from hagpolicy.config.servers import SERVERS
from hagpolicy.errors import InvalidInput

__all__ = ["DEFAULT_FORMATS", "DefaultFormat", "server_dialect"]


@dataclass(frozen=True)
class DefaultFormat:
    """How the defaults of one engine are written.

    Attributes:
        title: the engine, for people.
        dialect: our field to the engine's name for its default; None: that of the server behind it.
        write: from the model's name and the engine's settings to the lines of the file; None: the file is JSON that
            is updated in place.
        needs_model: what `model` has to name, for messages; "": nothing.
        use: how the file is used, one line; {path} stands for it.
        checked: what the keys were checked against, and whether it was run.
        note: what holds for every config, beside what the dialect notes; "": nothing.
    """

    title: str
    dialect: Dialect | None
    write: Callable[[str, Mapping[str, Any]], list[str]] | None
    needs_model: str
    use: str
    checked: str
    note: str = ""


def _write_modelfile(model: str, settings: Mapping[str, Any]) -> list[str]:
    """The lines of a Modelfile."""
    return [f"FROM {model}", *(f"PARAMETER {name} {value}" for name, value in settings.items())]


def _write_flags(model: str, settings: Mapping[str, Any]) -> list[str]:
    """One line of arguments, quoted for a shell and for xargs."""
    pairs = [(name, ";".join(value) if isinstance(value, list) else str(value)) for name, value in settings.items()]
    return [" ".join(shlex.quote(word) for pair in pairs for word in pair)]


def _write_vllm(model: str, settings: Mapping[str, Any]) -> list[str]:
    """The one argument of `vllm serve`, quoted for a shell and for xargs."""
    return [shlex.join(["--override-generation-config", json.dumps(settings)])]


def _write_litellm(model: str, settings: Mapping[str, Any]) -> list[str]:
    """The YAML of an entry of `model_list`, under the model's name without its provider."""
    known = {setting.key for setting in OPENAI.settings.values()} | {"max_tokens"}
    plain = {name: value for name, value in settings.items() if name in known}
    extra = {name: value for name, value in settings.items() if name not in known}
    named = {"model": model, **plain, **({"extra_body": extra} if extra else {})}
    lines = ["model_list:", f"  - model_name: {_format_yaml(model.partition('/')[2] or model)}", "    litellm_params:"]
    return [*lines, *(f"      {name}: {_format_yaml(value)}" for name, value in named.items())]


def _format_yaml(value: Any) -> str:
    """A value in YAML's flow style. It is JSON, but for a number such as 1e-05, which YAML 1.1 takes for text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {_format_yaml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_format_yaml, value)) + "]"
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")
    return text


def server_dialect(server: str) -> Dialect:
    """What a request to a server can be sent, a name in `SERVERS`; neutral values are left out where they can be.

    Raises:
        InvalidInput: an unknown server, or one that takes its settings only as a whole.
    """
    entry = SERVERS[server]
    if entry.packed:
        expected, do = "a server that takes settings one by one", "Use --to generation_config for its model."
        raise InvalidInput("server", expected, server, do)
    return replace(entry.dialect, optional=frozenset(NEUTRAL)) if entry.neutral_unsent else entry.dialect


_FLAGS = {
    "temperature": "--temp",
    "typical_p": "--typical",
    "n_predict": "--predict",
    "top_n_sigma": "--top-nsigma",
    "reasoning_budget_tokens": "--reasoning-budget",
}
# Those that stand in an object of a request.
_OWN_FLAGS = {
    "thinking": Setting("--reasoning", words={True: "on", False: "off"}),
    "reasoning_effort": Setting("--reasoning-effort"),
}


def _flag(key: str) -> str:
    return _FLAGS.get(key, f"--{key.replace('_', '-')}")


_LLAMA_SERVER = replace(
    LLAMA_CPP,
    settings={
        name: _OWN_FLAGS.get(name) or replace(setting, key=_flag(setting.key), beside=False)
        for name, setting in LLAMA_CPP.settings.items()
    },
    # It has no flag for min_keep, which is 0 there.
    always={_flag(key): value for key, value in LLAMA_CPP.always.items() if key != "min_keep"},
)

# What vLLM reads of a generation config (`ModelConfig.get_diff_sampling_param`); it skips other keys in silence, the
# presence and frequency penalties among them (vllm#50767).
_VLLM = Dialect(
    settings={
        **{name: VLLM.settings[name] for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")},
        "max_tokens": Setting("max_new_tokens", note="a limit on every request, which none can raise"),
    }
)

# A file holds no logits processor, and says nothing to the chat template.
_GENERATION_CONFIG = replace(TRANSFORMERS.without(OF_CHATS), processors=frozenset())

DEFAULT_FORMATS: Registry[DefaultFormat] = Registry(
    "format",
    {
        "generation_config": DefaultFormat(
            "a generation_config.json",
            _GENERATION_CONFIG,
            None,
            "",
            "load the model of the folder of {path}",
            "read by transformers' GenerationConfig, run by generate and by `transformers serve` in hagpolicy's tests",
        ),
        "modelfile": DefaultFormat(
            "an Ollama Modelfile",
            OLLAMA.without(OF_CHATS),
            _write_modelfile,
            "a model of Ollama, or a GGUF file",
            "ollama create NAME -f {path}",
            "keys checked against Ollama's documentation of the Modelfile and its api/types.go, not run",
        ),
        "llama-server": DefaultFormat(
            "llama-server's command line",
            _LLAMA_SERVER,
            _write_flags,
            "",
            "grep -v '^#' {path} | xargs llama-server -m MODEL",
            "keys checked against llama.cpp's common/arg.cpp, not run",
        ),
        "vllm": DefaultFormat(
            "vLLM's --override-generation-config",
            _VLLM,
            _write_vllm,
            "",
            "grep -v '^#' {path} | xargs vllm serve MODEL",
            "keys checked against vLLM's vllm/config/model.py, not run",
        ),
        "litellm": DefaultFormat(
            "a LiteLLM config",
            None,
            _write_litellm,
            "PROVIDER/NAME as LiteLLM has it, such as hosted_vllm/my-model",
            "litellm --config {path}, after api_base and api_key are added to litellm_params",
            "run by LiteLLM's proxy before a server that stands in, in hagpolicy's tests",
            "an extra_body in a request takes the place of the one here, as a whole",
        ),
    },
    expected="one of {names}",
)
"""The formats by name."""
