"""The transformers engine: a frozen LLM in this process, on CPU or GPU."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers

from hagpolicy._digest import digest
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.dialects import TRANSFORMERS
from hagpolicy.data.completion import Completion, Request
from hagpolicy.engines.base import Engine
from hagpolicy.engines.chat import encode, encode_unit
from hagpolicy.engines.transformers.decode import decode
from hagpolicy.engines.transformers.generate import (
    GENERATE_FIELDS,
    ROW_FIELDS,
    group_calls,
    needs_generate,
    run_generate,
)
from hagpolicy.engines.transformers.loading import digest_state, digest_tokenizer, load, pick_device
from hagpolicy.errors import EngineError

__all__ = ["TransformersEngine"]

logger = logging.getLogger(__name__)
Work = Callable[[Sequence[Request], Sequence[list[int]]], list[Completion]]

# Of the model's generation_config: what is ours, and what says how to run rather than what to generate.
OURS = {name for name, setting in TRANSFORMERS.settings.items() if setting.key == name} | {"do_sample"}
HARMLESS = {
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "max_length", "max_new_tokens",
    "use_cache", "early_stopping", "num_return_sequences", "transformers_version", "cache_implementation",
    "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
    "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "chat_format",
    "_from_model_config",
}  # fmt: skip
# Cells of a unit, and how many of them are decoded at once. A CPU reads the weights once for all rows: a row gets
# cheaper up to about so many. More cells than rows keep the rows busy; a unit is what a killed sweep loses.
CPU_UNIT, GPU_UNIT = 144, 512
CPU_ROWS, GPU_ROWS = 64, 256


class TransformersEngine(Engine):
    """A decoder-only model of transformers with its tokenizer.

    Cells of many configurations and several prompts are generated in one batch (`decode`), each
    by its own settings (`sampling`) and its own random stream; beams and drafts (`generate`) run
    through the model's own `generate`, one call a cell. Seconds of these are a call's own, those of
    the others a share of their batch: to weigh drafting by time, measure both alone. The tokenizer's
    chat template is applied where there is one: a string is then one user message.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: its tokenizer.
        name: shown to people, and part of the fingerprint.
        weights: gives a digest of the weights; None: computed from the parameters when needed.
        unit_cells: how many cells make a unit; None: 144 on a CPU, 512 on a GPU. At most 64 of them, or 256,
            are decoded at once: a finished one's place is taken by the next.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "model",
        weights: Callable[[], str] | None = None,
        unit_cells: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self._model_name = model, tokenizer, name
        self.name = f"transformers:{name}"
        self._weights = weights if weights is not None else lambda: digest_state(model)
        self.unit_cells = unit_cells or (CPU_UNIT if model.device.type == "cpu" else GPU_UNIT)
        ends = model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self.end_tokens: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        ignored = self.ignored_settings()
        if ignored:
            logger.warning("%s: not honoured in its generation_config: %s", self.name, ", ".join(ignored))

    @classmethod
    def load(
        cls,
        source: str,
        *,
        device: str = "auto",
        dtype: str | None = None,
        revision: str | None = None,
        cache: str | Path | None = None,
        unit_cells: int | None = None,
    ) -> TransformersEngine:
        """Load a model.

        Args:
            source: the hub's name, a folder, or a .gguf file.
            device: "auto" (a GPU where there is one) or a device of torch.
            dtype: such as "bfloat16"; "auto": as stored; None: float32 on a CPU, else as stored.
            revision: of a hub name; None: the newest.
            cache: a folder in which the converted form of a GGUF file is kept (4 bytes a parameter
                in float32) and found again, for faster loading; None: nothing is kept.
            unit_cells: how many cells make a unit; see the class.

        Raises:
            InvalidInput: nothing at that path, or an option that does not fit.
            EngineError: transformers cannot load it.
        """
        found = load(source, device=pick_device(device), dtype=dtype, revision=revision, cache=cache)
        return cls(found.model, found.tokenizer, name=found.name, weights=found.weights, unit_cells=unit_cells)

    @cached_property
    def fingerprint(self) -> Mapping[str, str]:
        """Kind, model, digest of the weights, versions, digests of chat template and tokenizer, dtype."""
        template = getattr(self.tokenizer, "chat_template", None)
        return {
            "kind": "transformers",
            "model": self._model_name,
            "weights": self._weights(),
            "version": f"transformers {transformers.__version__}, torch {torch.__version__.partition('+')[0]}",
            "chat_template": digest(template) if template else "none",
            "tokenizer": digest_tokenizer(self.tokenizer),
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }

    def default_config(self) -> DecodingConfig:
        """What `generate` does when nothing is sent: greedy unless the model's generation_config says
        `do_sample`, and then with transformers' own top_k of 50 where the model names none."""
        own = self.model.generation_config
        values = {name: value for name in OURS if (value := getattr(own, name, None)) is not None}
        if not values.pop("do_sample", False):
            values["temperature"] = 0.0
        values.setdefault("top_k", 50)
        return DecodingConfig.from_dict(values).canonical()

    def ignored_settings(self) -> list[str]:
        """Names in the model's generation_config that change what `generate` writes and that this engine
        does not know; empty for almost every model."""
        own = self.model.generation_config
        defaults = own._get_default_generation_params()
        unset: tuple[Any, ...] = (None, False, 0, 0.0, [], {}, "")
        others = {name: value for name, value in own.to_dict().items() if name not in OURS | HARMLESS}
        return sorted(name for name, value in others.items() if value not in unset and value != defaults.get(name))

    @property
    def handles(self) -> frozenset[str]:
        """Fields that the rows of a batch are decoded by, and those that the model's own `generate` is sent. A
        model that cannot go back to an earlier token (a recurrent one) drafts nothing."""
        fields = ROW_FIELDS | GENERATE_FIELDS
        return fields - {"prompt_lookup_num_tokens"} if getattr(self.model, "_is_stateful", False) else fields

    def unsupported(self, config: DecodingConfig) -> list[str]:
        """See `Engine.unsupported`; of a config that needs the model's own `generate`, what that lacks, too."""
        handled = self.handles & GENERATE_FIELDS if needs_generate(config) else self.handles
        return [name for name in config.canonical().to_dict() if name not in handled]

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """Generate the cells of one unit together; see `Engine.generate`.

        A prompt that leaves no room in the context, a chat template that refuses it and memory that
        runs out mark the cells concerned. An answer is cut where the context ends.
        """
        done: dict[int, Completion] = {}
        rows: dict[int, list[int]] = {}
        apart: dict[int, list[int]] = {}
        encoded = encode_unit(self.tokenizer, unit, self._context)
        for index, (request, ids) in enumerate(zip(unit, encoded, strict=True)):
            if isinstance(ids, str):
                done[index] = Completion("", finish="error", error=ids)
            elif missing := self.unsupported(request.config):
                reason = f"{self.name} cannot honour {', '.join(missing)}"
                done[index] = Completion("", prompt_tokens=len(ids), finish="error", error=reason)
            elif needs_generate(request.config):
                apart[index] = ids
            else:
                rows[index] = ids
        for call in self._group_calls([unit[index] for index in apart], list(apart.values())):
            indices = [list(apart)[number] for number in call]
            found = self._guard(
                self._run_generate, [unit[index] for index in indices], [apart[index] for index in indices]
            )
            done |= zip(indices, found, strict=True)
        if rows:
            found = self._guard(self._decode_batch, [unit[index] for index in rows], list(rows.values()))
            done |= zip(rows, found, strict=True)
        return [done[index] for index in range(len(unit))]

    def encode(self, content: Any) -> list[int]:
        """Token ids of a prompt: a string or chat messages, hint included, through the chat template."""
        return encode(self.tokenizer, content)

    def close(self) -> None:
        """Let go of the model, so that its memory can be used again."""
        self.model = self.tokenizer = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def _context(self) -> float:
        """Most tokens of prompt and answer together."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf

    @property
    def _rows(self) -> int:
        """Most rows that are decoded at once."""
        return CPU_ROWS if self.model.device.type == "cpu" else GPU_ROWS

    def _limit(self, request: Request, ids: list[int]) -> int:
        return int(min(request.max_tokens, self._context - len(ids)))

    def _guard(self, work: Work, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[Completion]:
        """Run; where memory runs out, the cells are marked.

        They are not tried again in smaller parts: what a cell holds would then depend on this machine's memory.
        """
        try:
            return work(requests, prompts)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "allocate memory" not in str(error):
                raise EngineError(f"{self.name} failed: {error}") from error
            reason = f"out of memory ({len(prompts)} together): {str(error).splitlines()[0]}"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return [Completion("", prompt_tokens=len(ids), finish="error", error=reason) for ids in prompts]

    def _decode_batch(self, requests: Sequence[Request], ids: Sequence[list[int]]) -> list[Completion]:
        """Cells without beams and drafts, in one batch. Each one's seconds are its share of the tokens."""
        begun = time.perf_counter()
        index: dict[tuple[int, ...], int] = {}
        owner = [index.setdefault(tuple(one), len(index)) for one in ids]
        limits = [self._limit(request, one) for request, one in zip(requests, ids, strict=True)]
        configs, seeds = [request.config for request in requests], [request.seed for request in requests]
        done = decode(self.model, list(index), owner, configs, seeds, limits, self.end_tokens, self._rows)
        lengths = done.lengths.tolist()
        answers = [row[:length] for row, length in zip(done.tokens.tolist(), lengths, strict=True)]
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        per_token = (time.perf_counter() - begun) / max(sum(lengths), 1)
        completions = []
        for row, request in enumerate(requests):
            error = "the settings ruled out every token" if done.stuck[row] else None
            finish = "error" if error else "stop" if done.stopped[row] else "length"
            receipt = {} if limits[row] == request.max_tokens else {"max_tokens": limits[row]}
            share, passes = per_token * lengths[row], lengths[row] + int(done.stuck[row])
            counts = lengths[row], len(ids[row])
            completions.append(Completion(texts[row], *counts, share, finish, error, receipt, passes))
        return completions

    def _group_calls(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[list[int]]:
        """Numbers of the cells that share a call of the model's own `generate`."""
        limits = [self._limit(request, ids) for request, ids in zip(requests, prompts, strict=True)]
        return group_calls([request.config for request in requests], limits, [len(ids) for ids in prompts], self._rows)

    def _run_generate(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[Completion]:
        """Cells of beam search that share a call, or one of drafts. Each one's seconds are its share of the tokens."""
        begun = time.perf_counter()
        first, limit = requests[0], self._limit(requests[0], prompts[0])
        done = run_generate(self.model, prompts, first.config, first.seed, limit, self.end_tokens)
        per_token = (time.perf_counter() - begun) / max(sum(len(one.tokens) for one in done), 1)
        receipt = {} if limit == first.max_tokens else {"max_tokens": limit}
        completions = []
        for one, ids in zip(done, prompts, strict=True):
            text = self.tokenizer.decode(one.tokens, skip_special_tokens=True)
            finish, count = "stop" if one.stopped else "length", len(one.tokens)
            seconds = per_token * count
            completions.append(Completion(text, count, len(ids), seconds, finish, None, receipt, one.passes))
        return completions
