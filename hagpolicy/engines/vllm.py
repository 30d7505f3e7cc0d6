"""The vLLM engine, offline: a frozen LLM in this process, on the GPUs that vLLM drives.

Written against the sources of vLLM 0.33.0. `tests/vllm_facts.py` reads the real `SamplingParams`,
`LLM`, `EngineArgs` and output classes of an installed vLLM; what it read is kept in
`tests/fixtures/vllm_facts.json`, and the tests hold this module to it. What was not run: a model.
vLLM's wheel needs a GPU to generate, and no text in the tests comes from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from hagpolicy._digest import digest
from hagpolicy._extras import require
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import MASK, Constraint
from hagpolicy.config.dialects import OF_CHATS, VLLM
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.stopping import cut_at_stop
from hagpolicy.engines.base import Engine
from hagpolicy.engines.chat import PROMPT_FIELDS, encode_unit, list_template_fields, take_unfinished_thought
from hagpolicy.engines.constraints.attempts import answer_again
from hagpolicy.errors import EngineError, InvalidInput

__all__ = ["VLLMEngine", "marks_thoughts"]

UNIT_CELLS = 1024
# What vLLM itself takes over from a model's generation_config (`ModelConfig.get_diff_sampling_param`),
# but for the limit on new tokens, which is the sweep's, and what only shapes the output's text.
TAKEN_OVER = (
    "repetition_penalty", "presence_penalty", "frequency_penalty", "temperature", "top_k", "top_p", "min_p",
)  # fmt: skip


class VLLMEngine(Engine):
    """A model of vLLM's offline `LLM`.

    Every cell is a row of its own: one `SamplingParams` with n=1, the cell's seed and every setting
    given, in one call of `LLM.generate` a unit; prefix caching lets the rows of a prompt share its
    keys and values. The chat template is applied here, by the model's own tokenizer, and vLLM gets
    token ids: a string is one user message, and a prompt that the template refuses or that is too
    long marks its own cells, where vLLM would refuse the whole call.

    The prefix cache is emptied before each unit, so that no unit's shapes depend on what ran before
    it. vLLM packs rows by the moment all the same: a seed repeats a text most of the time, bit by
    bit only with its batch-invariant kernels (the environment's VLLM_BATCH_INVARIANT=1).

    Args:
        llm: a `vllm.LLM` with prefix caching.
        generation_config: whose defaults count as "nothing sent": "auto", vLLM's own choice, lets
            the model's generation_config fill what a caller leaves out; "vllm" stands for a server
            run with `--generation-config vllm`. Cells are not concerned: they leave nothing out.
        unit_cells: how many cells go into one call.

    Raises:
        InvalidInput: another `generation_config`.
    """

    def __init__(self, llm: Any, *, generation_config: str = "auto", unit_cells: int = UNIT_CELLS) -> None:
        if generation_config not in ("auto", "vllm"):
            raise InvalidInput("generation_config", "'auto' or 'vllm'", generation_config)
        self.llm, self._defaults, self.unit_cells = llm, generation_config, unit_cells
        self.tokenizer = llm.get_tokenizer()
        self.name = f"vllm:{self._model}"
        # The class and the version come from the LLM at hand, so that they are its own.
        self._row = type(llm.get_default_sampling_params())
        self._version = import_module(type(llm).__module__.partition(".")[0]).__version__

    @classmethod
    def load(
        cls, model: str, *, generation_config: str = "auto", unit_cells: int = UNIT_CELLS, **options: Any
    ) -> VLLMEngine:
        """Load a model onto the GPUs.

        Args:
            model: the hub's name, or a folder.
            generation_config: see the class. The `LLM` itself is always made with "vllm", so that
                nothing of the model's generation_config but its end tokens reaches a cell.
            unit_cells: see the class.
            options: of `vllm.LLM`, such as `revision`, `dtype`, `quantization`, `max_model_len`,
                `tensor_parallel_size` or `gpu_memory_utilization`.

        Raises:
            MissingExtra: vLLM is not installed.
            InvalidInput: an option that vLLM's engine does not know.
            EngineError: vLLM cannot load the model; its own message is kept.
        """
        vllm = require("vllm", "vllm", "the vLLM engine")
        options = {"enable_prefix_caching": True, **options}
        try:
            llm = vllm.LLM(model=model, generation_config="vllm", **options)
        except TypeError as error:
            raise InvalidInput("options of vllm", "those of vllm.LLM", str(error)) from error
        except Exception as error:  # no GPU, no memory, no such model: each has an error type of its own
            raise EngineError(f"vLLM could not load {model!r}: {error}") from error
        return cls(llm, generation_config=generation_config, unit_cells=unit_cells)

    @property
    def _model(self) -> str:
        """The hub's name, or the last part of a folder's path."""
        source = str(self.llm.model_config.model)
        return Path(source).resolve().name if Path(source).exists() else source

    @cached_property
    def fingerprint(self) -> Mapping[str, str]:
        """Kind, model, what names its weights, versions, chat template, tokenizer, dtype and quantisation."""
        from hagpolicy.engines.transformers.loading import digest_folder, digest_tokenizer

        config = self.llm.model_config
        path = Path(str(config.model))
        commit = getattr(config.hf_config, "_commit_hash", None) or config.revision
        template = getattr(self.tokenizer, "chat_template", None)
        return {
            "kind": "vllm",
            "model": self._model,
            "weights": digest_folder(path) if path.is_dir() else f"commit {commit}",
            "version": f"vllm {self._version}",
            "chat_template": digest(template) if template else "none",
            "tokenizer": digest_tokenizer(self.tokenizer),
            "dtype": str(config.dtype).removeprefix("torch."),
            "quantization": str(config.quantization or "none"),
        }

    def default_config(self) -> DecodingConfig:
        """What vLLM does when nothing is sent: plain sampling at temperature 1, with "auto" over it
        what the model's generation_config sets; its `do_sample` is not read by vLLM."""
        stored = self.llm.model_config.try_get_generation_config() if self._defaults == "auto" else {}
        values = {name: stored[name] for name in TAKEN_OVER if stored.get(name) is not None}
        if values.get("top_k") == -1:
            values["top_k"] = 0
        return DecodingConfig.from_dict(values).canonical()

    @property
    def handles(self) -> frozenset[str]:
        """Fields of a row's `SamplingParams`, the limit among them, and of its prompt, as far as the chat template
        knows them; the budget of thoughts where vLLM was told how the model marks these."""
        thinking = list_template_fields(self.tokenizer) - {"thinking_budget"}
        budget = {"thinking_budget"} if marks_thoughts(self.llm) else set()
        return frozenset({*VLLM.settings, *PROMPT_FIELDS, "unset"}) - (OF_CHATS - thinking - budget)

    def unsupported(self, config: DecodingConfig) -> list[str]:
        """See `Engine.unsupported`; and fields whose value vLLM refuses. It raises a tiny temperature, and takes it."""
        receipt = config.render("vllm", unsupported="drop").receipt
        beyond = [name for name, (asked, _) in receipt.clamped.items() if not VLLM.settings[name].takes(asked)]
        return [*super().unsupported(config), *beyond]

    def refuse_constraint(self, constraint: Constraint, constrain: str) -> str:
        """See `Engine.refuse_constraint`."""
        if constrain != MASK or constraint.kind in VLLM.masks:
            return ""
        return f"{self.name} masks no tokens for a constraint of {constraint.kind}"

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """Generate the cells of one unit in one call of vLLM, and those again that do not meet their constraint; see
        `Engine.generate`."""
        return answer_again(unit, self._generate_once(unit), self._generate_once)

    def _generate_once(self, unit: Sequence[Request]) -> list[Completion]:
        done: dict[int, Completion] = {}
        rows: dict[int, tuple[list[int], Any, dict[str, Any]]] = {}
        encoded = encode_unit(self.tokenizer, unit, self.llm.model_config.max_model_len)
        for index, (request, ids) in enumerate(zip(unit, encoded, strict=True)):
            if isinstance(ids, str):
                done[index] = Completion("", finish="error", error=ids)
                continue
            try:
                rows[index] = (ids, *self._make_params(request, len(ids)))
            except Exception as error:  # vLLM's own checks raise a type of its own, which is no ValueError
                done[index] = Completion("", prompt_tokens=len(ids), finish="error", error=str(error))
        if rows:
            done |= zip(rows, self._run(list(rows.values())), strict=True)
        for index, (ids, _, _) in rows.items():
            done[index] = take_unfinished_thought(self.tokenizer, ids, done[index])
        return [cut_at_stop(done[index], request.stop) for index, request in enumerate(unit)]

    def _make_params(self, request: Request, prompt_tokens: int) -> tuple[Any, dict[str, Any]]:
        """One row's `SamplingParams`, and what vLLM does otherwise than asked."""
        limit = min(request.max_tokens, self.llm.model_config.max_model_len - prompt_tokens)
        config = self.resolve(request.config).replace(max_tokens=limit)
        rendering = config.render("vllm", constraint=request.prompt.constraint)
        receipt: dict[str, Any] = {name: sent for name, (_, sent) in rendering.receipt.clamped.items()}
        if limit < request.max_tokens:
            receipt["max_tokens"] = limit
        stop = {"stop": list(request.stop)} if request.stop else {}
        sent = dict(rendering.kwargs)
        if structured := sent.get("structured_outputs"):
            kind = import_module(type(self.llm).__module__.partition(".")[0] + ".sampling_params")
            sent["structured_outputs"] = kind.StructuredOutputsParams(**structured)
        return self._row(n=1, seed=request.seed, skip_special_tokens=True, **stop, **sent), receipt

    def _run(self, rows: Sequence[tuple[list[int], Any, dict[str, Any]]]) -> list[Completion]:
        """One call of `LLM.generate`. Each row's seconds are its share of the new tokens."""
        begun = time.perf_counter()
        try:
            self.llm.reset_prefix_cache()
            prompts = [{"prompt_token_ids": ids} for ids, _, _ in rows]
            outputs = self.llm.generate(prompts, [params for _, params, _ in rows], use_tqdm=False)
        except Exception as error:  # a dead engine core, memory, a CUDA error: vLLM has many types for them
            raise EngineError(f"{self.name} failed: {type(error).__name__}: {error}") from error
        if len(outputs) != len(rows):
            raise EngineError(f"{self.name} gave {len(outputs)} outputs for {len(rows)} rows")
        answers = [output.outputs[0] for output in outputs]
        per_token = (time.perf_counter() - begun) / max(sum(len(answer.token_ids) for answer in answers), 1)
        completions = []
        for answer, (ids, _, receipt) in zip(answers, rows, strict=True):
            tokens, reason = len(answer.token_ids), str(answer.finish_reason)
            why = None if reason in ("stop", "length") else f"vLLM ended the row with {reason!r}"
            finish = reason if why is None else "error"
            completions.append(Completion(answer.text, tokens, len(ids), per_token * tokens, finish, why, receipt))
        return completions

    def close(self) -> None:
        """End vLLM's engine core, which holds the GPU's memory."""
        if self.llm is not None:
            self.llm.llm_engine.engine_core.shutdown()
            self.llm = None


def marks_thoughts(llm: Any) -> bool:
    """Whether vLLM was told how the model marks its thoughts, so that it can count and end them."""
    reasoning = getattr(getattr(llm.llm_engine, "vllm_config", None), "reasoning_config", None)
    return bool(reasoning is not None and reasoning.enabled)
