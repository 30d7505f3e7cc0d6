"""What the tests of the vLLM engine hold it to, read from the classes of a real, installed vLLM.

python -m tests.support.vllm_facts writes tests/fixtures/vllm_facts.json

No GPU is needed for it: the classes are imported and their signatures read; `SamplingParams` is
called with what we render, and what it made of that, or why it refused, is written down.
"""

from __future__ import annotations

import inspect
import json
import typing
from types import SimpleNamespace
from typing import Any

from hagpolicy import DecodingConfig, DecodingSpace
from tests.support.paths import FIXTURES

PATH = FIXTURES / "vllm_facts.json"
# What every rendering leaves as it is.
PLAIN = {"n": 1, "seed": 7, "skip_special_tokens": True}
# Values at and beyond the edges that our table of vLLM claims.
EDGES: tuple[dict[str, Any], ...] = (
    {"temperature": 2.0},
    {"temperature": 2.01},
    {"temperature": -0.1},
    {"temperature": 0.001},
    {"temperature": 0.0, "top_p": 0.5, "top_k": 5, "min_p": 0.1},
    {"temperature": 0.0, "n": 2},
    {"top_p": 0.0},
    {"top_p": 1.01},
    {"top_k": -1},
    {"top_k": -2},
    {"min_p": 1.0},
    {"min_p": 1.01},
    {"repetition_penalty": 0.0},
    {"repetition_penalty": 50.0},
    {"presence_penalty": -2.0},
    {"presence_penalty": 2.01},
    {"frequency_penalty": 2.0},
    {"frequency_penalty": -2.01},
    {"max_tokens": 0},
    {"seed": 2**63 - 1},
)


# Models' generation configs, as `try_get_generation_config` gives them.
SAID: tuple[dict[str, Any], ...] = (
    {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True, "eos_token_id": 2},
    {"temperature": 0.7, "top_k": -1, "min_p": 0.1, "max_new_tokens": 64},
    {"do_sample": False, "eos_token_id": [2, 5]},
    {},
)
# Names of vLLM's interface that the engine and its stand-in in the tests use.
RELIED_ON = {
    "LLM()": (
        "model", "revision", "dtype", "quantization", "max_model_len", "tensor_parallel_size",
        "gpu_memory_utilization", "enable_prefix_caching", "generation_config",
    ),
    "LLM": ("generate", "get_tokenizer", "get_default_sampling_params", "reset_prefix_cache"),
    "LLM.generate()": ("prompts", "sampling_params", "use_tqdm"),
    "EngineCoreClient": ("shutdown",),
    "ModelConfig": (
        "model", "revision", "dtype", "quantization", "max_model_len", "hf_config", "try_get_generation_config",
    ),
    "TokensPrompt": ("prompt_token_ids",),
    "RequestOutput": ("outputs",),
    "CompletionOutput": ("text", "token_ids", "finish_reason"),
}  # fmt: skip


def configs() -> list[DecodingConfig]:
    """Configs of every field that vLLM has, alone and together."""
    from hagpolicy.config.dialects import DIALECTS

    lacks = set(DecodingConfig().fields()) - set(DIALECTS["vllm"].settings) - {"hint"}
    standard = [c for c in DecodingSpace.preset("standard") if not lacks & set(c.to_dict())]
    more = [
        DecodingConfig(temperature=0.001),
        DecodingConfig(temperature=2.0, top_k=40),
        DecodingConfig(presence_penalty=2.0, frequency_penalty=-2.0, repetition_penalty=1.3),
        DecodingConfig(max_tokens=5, hint="Be brief."),
    ]
    return [*standard, *more]


def made(**kwargs: Any) -> dict[str, Any]:
    """What the real `SamplingParams` makes of keyword arguments, or why it refuses."""
    from vllm import SamplingParams

    try:
        params = SamplingParams(**kwargs)
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    return {name: getattr(params, name) for name in kwargs}


def taken_over(said: dict[str, Any], source: str = "auto") -> dict[str, Any]:
    """What the real `ModelConfig` takes over from a model's generation_config."""
    from vllm.config import ModelConfig

    model = SimpleNamespace(
        generation_config=source, override_generation_config={}, try_get_generation_config=lambda: dict(said)
    )
    return dict(ModelConfig.get_diff_sampling_param(model))


def facts() -> dict[str, Any]:
    """Everything that the engine relies on, as JSON values."""
    import vllm
    from vllm.config import ModelConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.inputs import TokensPrompt
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.v1.engine import FINISH_REASON_STRINGS
    from vllm.v1.engine.core_client import EngineCoreClient

    def names(*functions: Any) -> set[str]:
        return {name for function in functions for name in inspect.signature(function).parameters}

    has = {
        "LLM()": names(vllm.LLM.__init__, EngineArgs.__init__),
        "LLM": set(dir(vllm.LLM)),
        "LLM.generate()": names(vllm.LLM.generate),
        "EngineCoreClient": set(dir(EngineCoreClient)),
        "ModelConfig": {*ModelConfig.__dataclass_fields__, *dir(ModelConfig)},
        "TokensPrompt": set(typing.get_type_hints(TokensPrompt)),
        "RequestOutput": names(RequestOutput.__init__),
        "CompletionOutput": set(CompletionOutput.__dataclass_fields__),
    }
    fields = vllm.SamplingParams.__struct_fields__
    settings = {name: getattr(vllm.SamplingParams(), name) for name in fields if not name.startswith("_")}
    return {
        "vllm": vllm.__version__,
        "sampling_params": {name: v for name, v in settings.items() if v is None or isinstance(v, (int, float, str))},
        "rendered": [{"sent": sent, "made": made(**PLAIN, **sent)} for sent in map(rendering, configs())],
        "edges": [{"sent": sent, "made": made(**sent)} for sent in EDGES],
        "defaults": [{"said": said, "taken": taken_over(said)} for said in SAID],
        "vllm_defaults": taken_over(SAID[0], "vllm"),
        "relied_on": {owner: {name: name in has[owner] for name in RELIED_ON[owner]} for owner in has},
        "finish_reasons": list(FINISH_REASON_STRINGS),
    }


def rendering(config: DecodingConfig) -> dict[str, Any]:
    """The keyword arguments that we send."""
    return config.render("vllm").kwargs


if __name__ == "__main__":
    PATH.write_text(json.dumps(facts(), indent=1) + "\n", "utf-8")
