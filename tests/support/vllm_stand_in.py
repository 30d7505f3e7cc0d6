"""A stand-in for vLLM's `LLM`, which takes and gives only what the facts read from the real classes say it does."""

import dataclasses
import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

from tests.support.tiny_llama import thinking_tokenizer, tiny_tokenizer
from tests.support.vllm_facts import PATH

FACTS = json.loads(PATH.read_text("utf-8"))
PACKAGE = ModuleType("vllm_stand_in")
PACKAGE.__version__ = FACTS["vllm"]  # the engine asks the package that its LLM comes from
sys.modules[PACKAGE.__name__] = PACKAGE
INSTALLED = importlib.util.find_spec("vllm") is not None


def sampling_params():
    if INSTALLED:
        from vllm import SamplingParams

        return SamplingParams
    fields = [(name, object, dataclasses.field(default=v)) for name, v in FACTS["sampling_params"].items()]
    # The facts list settings of one value each; `stop`, of `SamplingParams` too, is a list.
    return dataclasses.make_dataclass("SamplingParams", [*fields, ("stop", object, dataclasses.field(default=()))])


class StandIn:
    """Takes rows as `LLM` does and answers each with its seed's count of tokens."""

    __module__ = PACKAGE.__name__

    def __init_subclass__(cls):
        cls.__module__ = PACKAGE.__name__

    def __init__(self, context=64, *, chat=True, said=None, finish="stop", thinking=False):
        assert all(all(names.values()) for names in FACTS["relied_on"].values())
        self.tokenizer = thinking_tokenizer() if thinking else tiny_tokenizer(chat=chat)
        self.finish, self.calls, self.emptied, self.closed = finish, [], 0, 0
        self.model_config = SimpleNamespace(
            model="tiny/words", revision=None, dtype="torch.bfloat16", quantization="fp8", max_model_len=context,
            hf_config=SimpleNamespace(_commit_hash="abc123"), try_get_generation_config=lambda: dict(said or {}),
        )  # fmt: skip
        reasoning = SimpleNamespace(enabled=True) if thinking else None
        self.llm_engine = SimpleNamespace(
            engine_core=SimpleNamespace(shutdown=self._shut), vllm_config=SimpleNamespace(reasoning_config=reasoning)
        )

    def _shut(self):
        self.closed += 1

    def get_tokenizer(self):
        return self.tokenizer

    def get_default_sampling_params(self):
        return sampling_params()()

    def reset_prefix_cache(self):
        self.emptied += 1

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
        assert not use_tqdm
        assert len(prompts) == len(sampling_params)
        assert all(set(prompt) == {"prompt_token_ids"} for prompt in prompts)
        self.calls.append(list(zip(prompts, sampling_params, strict=True)))
        outputs = []
        for params in sampling_params:
            length = min(1 + params.seed % 5, params.max_tokens)
            outputs.append(
                SimpleNamespace(text=f"seed {params.seed}", token_ids=[9] * length, finish_reason=self.finish)
            )
        return [SimpleNamespace(outputs=[output]) for output in outputs]
