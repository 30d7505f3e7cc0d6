"""The transformers engine: a frozen LLM in this process, on CPU or GPU."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import transformers

from hagpolicy._digest import digest
from hagpolicy.artefacts.folder import load_artefacts
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import MASK, Constraint
from hagpolicy.config.dialects import OF_CHATS
from hagpolicy.config.fields import ARTEFACT_FIELDS
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.stopping import count_to_stop, cut_at_stop
from hagpolicy.engines.base import Engine, PartOutcome
from hagpolicy.engines.chat import encode, encode_unit, list_template_fields, take_unfinished_thought
from hagpolicy.engines.constraints.attempts import ATTEMPTS, is_wanting, join_attempts, make_attempt
from hagpolicy.engines.constraints.guide import Guide, Guides, find_infeasible
from hagpolicy.engines.constraints.vocabulary import load_vocabulary
from hagpolicy.engines.transformers.decode import Decoded, EndedCells, decode_in_parts
from hagpolicy.engines.transformers.defaults import GENERATION_SETTINGS, read_generation_settings
from hagpolicy.engines.transformers.generate import (
    GENERATE_FIELDS,
    GIVEN_FIELDS,
    ROW_FIELDS,
    group_calls,
    needs_generate,
    run_generate,
)
from hagpolicy.engines.transformers.given import Given
from hagpolicy.engines.transformers.loading import digest_state, digest_tokenizer, load, pick_device
from hagpolicy.engines.transformers.masks import GuideProcessor, RowMasks, describe_guide
from hagpolicy.engines.transformers.prefixes import Splice
from hagpolicy.engines.transformers.references import CellReferences
from hagpolicy.engines.transformers.stopping import StopCriterion, StopWatch
from hagpolicy.engines.transformers.threads import ThreadChooser
from hagpolicy.errors import EngineError, MissingExtra

__all__ = ["TransformersEngine"]

logger = logging.getLogger(__name__)
Parts = Iterator[dict[int, Completion]]


@dataclass(frozen=True)
class Asked:
    """A prompt as the model reads it.

    Attributes:
        ids: of its tokens, hint included.
        splice: embeddings among theirs; None: none.
    """

    ids: list[int]
    splice: Splice | None = None

    def __len__(self) -> int:
        return len(self.ids) + len(self.splice or ())


Work = Callable[[Sequence[Request], Sequence[Asked]], Parts]

# Of the model's generation_config: what says how to run rather than what to generate.
HARMLESS = {
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "max_length", "max_new_tokens",
    "use_cache", "early_stopping", "num_return_sequences", "transformers_version", "cache_implementation",
    "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
    "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "chat_format",
    "_from_model_config",
}  # fmt: skip
# Cells of a unit, and how many of them are decoded at once. A CPU reads the weights once for all rows: a row gets
# cheaper up to about so many. More cells than rows keep the rows busy.
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
        default: what runs where nothing is sent, such as a pipeline's own settings; None: what `generate` does.
        threads: on a CPU; None: chosen by measuring, and anew when the rate falls (`ThreadChooser`). Texts may differ
            from one number to another in what hangs on the last bits of floats.
        artifacts: folders by field and name, such as {"adapter": {"sql": "path"}}; None: none.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "model",
        weights: Callable[[], str] | None = None,
        unit_cells: int | None = None,
        default: DecodingConfig | None = None,
        threads: int | None = None,
        artifacts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.model, self.tokenizer, self._model_name, self._default = model, tokenizer, name, default
        self.name = f"transformers:{name}"
        self._tried: tuple[Any, frozenset[str]] | None = None
        self._weights = weights if weights is not None else lambda: digest_state(model)
        self.artefacts = load_artefacts(artifacts)
        if "adapter" in self.artefacts:  # whose layers will be among the model's own
            digest_of_weights = self._weights()
            self._weights = lambda: digest_of_weights
        self._given = Given(model, self.artefacts)
        self.threads = ThreadChooser(model, threads)
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
        threads: int | None = None,
        artifacts: Mapping[str, Mapping[str, Any]] | None = None,
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
            threads: see the class.
            artifacts: see the class.

        Raises:
            InvalidInput: nothing at that path, or an option that does not fit.
            EngineError: transformers cannot load it.
        """
        found = load(source, device=pick_device(device), dtype=dtype, revision=revision, cache=cache)
        options: dict[str, Any] = {"unit_cells": unit_cells, "threads": threads, "artifacts": artifacts}
        return cls(found.model, found.tokenizer, name=found.name, weights=found.weights, **options)

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
        `do_sample`, and then with transformers' own top_k of 50 where the model names none. Of a pipeline: what
        that does."""
        if self._default is not None:
            return self._default
        own = self.model.generation_config
        return read_generation_settings({name: getattr(own, name, None) for name in GENERATION_SETTINGS})

    def resolve(self, config: DecodingConfig) -> DecodingConfig:
        """See `Engine.resolve`; `unset` itself where the model sets what only its own `generate` honours."""
        return config if self._default is None and self.ignored_settings() else super().resolve(config)

    def ignored_settings(self) -> list[str]:
        """Names in the model's generation_config that change what `generate` writes and that this engine
        does not know; empty for almost every model."""
        own = self.model.generation_config
        defaults = own._get_default_generation_params()
        unset: tuple[Any, ...] = (None, False, 0, 0.0, [], {}, "")
        others = {name: value for name, value in own.to_dict().items() if name not in GENERATION_SETTINGS | HARMLESS}
        return sorted(name for name, value in others.items() if value not in unset and value != defaults.get(name))

    @property
    def handles(self) -> frozenset[str]:
        """Fields that the rows of a batch are decoded by, and those that the model's own `generate` is sent. A
        model that cannot go back to an earlier token (a recurrent one) drafts nothing, and one whose chat template
        says nothing of thinking has no such fields."""
        lacking = set(ARTEFACT_FIELDS) | (OF_CHATS - self._template_fields)
        fields = ((ROW_FIELDS | GENERATE_FIELDS) - lacking) | self.artefacts.keys()
        fields -= set() if "soft_prefix" in fields else {"soft_tokens"}
        return fields - {"prompt_lookup_num_tokens"} if getattr(self.model, "_is_stateful", False) else fields

    @property
    def _template_fields(self) -> frozenset[str]:
        """See `list_template_fields`; found out anew for another template."""
        template = getattr(self.tokenizer, "chat_template", None)
        if self._tried is None or self._tried[0] != template:
            self._tried = template, list_template_fields(self.tokenizer)
        return self._tried[1]

    def unsupported(self, config: DecodingConfig) -> list[str]:
        """See `Engine.unsupported`; of a config that needs the model's own `generate`, what that lacks, too.

        Masks need llguidance and a tokenizer whose tokens have bytes of their own; sampled beams, of which as many are
        drawn as there are, may have fewer tokens to draw from than that.
        """
        missing = super().unsupported(config)
        if not missing and not self._given.has_rows(config):
            missing = ["soft_tokens"]
        sampled_beams = config.num_beams > 1 and config.temperature > 0.0
        if config.constrain == MASK and (sampled_beams or isinstance(self._guides, str)):
            missing.append("constrain")
        if not needs_generate(config):
            return missing
        handled = GENERATE_FIELDS | GIVEN_FIELDS
        return [name for name in config.canonical().to_dict() if name in missing or name not in handled]

    def refuse_constraint(self, constraint: Constraint, constrain: str) -> str:
        """See `Engine.refuse_constraint`."""
        guide = self._find_guide(constraint) if constrain == MASK else None
        return guide if isinstance(guide, str) else ""

    @cached_property
    def _guides(self) -> Guides | str:
        """What is known of constraints, or why none can be met by masks."""
        size = self.model.get_output_embeddings().weight.shape[0]
        try:
            return Guides(load_vocabulary(self.tokenizer, self.end_tokens, size))
        except (EngineError, MissingExtra) as error:
            return str(error)

    def _find_guide(self, constraint: Constraint) -> Guide | str:
        return self._guides if isinstance(self._guides, str) else self._guides.get(constraint)

    def _find_guides(self, requests: Sequence[Request]) -> list[Guide | None]:
        """The guides of cells that are masked, all of which have one; None for the others."""
        found = []
        for request in requests:
            constraint = _read_masked(request)
            guide = None if constraint is None else self._find_guide(constraint)
            assert not isinstance(guide, str)
            found.append(guide)
        return found

    def _find_obstacle(self, request: Request, limit: int) -> str:
        """Why a cell's constraint cannot be met within its limit, before the first token; "" where it can."""
        constraint = _read_masked(request)
        if constraint is None:
            return ""
        guide = self._find_guide(constraint)
        return guide if isinstance(guide, str) else find_infeasible(guide, limit)

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """Generate the cells of one unit together; see `Engine.generate`.

        A prompt that leaves no room in the context, a chat template that refuses it and memory that
        runs out mark the cells concerned. An answer is cut where the context ends.
        """
        done: dict[int, Completion] = {}
        for part in self._generate_parts(unit):
            done |= part
        return [done[index] for index in range(len(unit))]

    def stream_parts(self, units: Iterable[Sequence[Request]]) -> Iterator[PartOutcome]:
        """See `Engine.stream_parts`: cells that have ended, every two seconds or so."""
        for number, unit in enumerate(units):
            done: dict[int, Completion] = {}
            outcome: list[Completion] | Exception
            try:
                for part in self._generate_parts(unit):
                    done |= part
                    yield number, part
                outcome = [done[index] for index in range(len(unit))]
            except Exception as error:  # see `Engine.stream`
                outcome = error
            yield number, outcome

    def fix_threads(self, threads: int) -> None:
        """See `Engine.fix_threads`."""
        self.threads.fix(threads)

    def _generate_parts(self, unit: Sequence[Request]) -> Parts:
        """Completions of a unit's cells by their indices, as they end, with the threads that computed them."""
        with self.threads.computing():
            changes = self.threads.changes
            for part in self._generate_cells(unit):
                threads = self.threads.now if self.threads.changes == changes else None
                yield {index: replace(one, threads=threads) for index, one in part.items()}
                self.threads.review()

    def _generate_cells(self, unit: Sequence[Request]) -> Parts:
        """Cells that are to be tried again, where they do not meet their constraint, are handed over with their last
        attempt; those of one attempt are generated together."""
        unit = [replace(request, config=self.resolve(request.config)) for request in unit]
        attempts: list[list[Completion]] = [[] for _ in unit]
        wanting = list(range(len(unit)))
        for number in range(ATTEMPTS):
            for part in self._generate_once([make_attempt(unit[index], number) for index in wanting]):
                done = {}
                for row, completion in part.items():
                    index = wanting[row]
                    attempts[index].append(completion)
                    if number == ATTEMPTS - 1 or not is_wanting(unit[index], completion):
                        done[index] = join_attempts(unit[index], attempts[index])
                yield done
            wanting = [index for index in wanting if is_wanting(unit[index], attempts[index][-1])]
            if not wanting:
                return

    def _generate_once(self, unit: Sequence[Request]) -> Parts:
        done: dict[int, Completion] = {}
        rows: dict[int, Asked] = {}
        apart: dict[int, Asked] = {}
        encoded = encode_unit(self.tokenizer, unit, self._context)
        for index, (request, ids) in enumerate(zip(unit, encoded, strict=True)):
            if isinstance(ids, str):
                done[index] = Completion("", finish="error", error=ids)
            elif missing := self.unsupported(request.config):
                reason = f"{self.name} cannot honour {', '.join(missing)}"
                done[index] = Completion("", prompt_tokens=len(ids), finish="error", error=reason)
            elif isinstance(splice := self._given.make_splice(self.tokenizer, request, ids, self._context), str):
                done[index] = Completion("", prompt_tokens=len(ids), finish="error", error=splice)
            elif obstacle := self._find_obstacle(request, self._limit(request, Asked(ids, splice))):
                done[index] = Completion("", prompt_tokens=len(ids), finish="error", error=obstacle)
            elif needs_generate(request.config):
                apart[index] = Asked(ids, splice)
            else:
                rows[index] = Asked(ids, splice)
        yield done
        for call in self._group_calls([unit[index] for index in apart], list(apart.values())):
            indices = [list(apart)[number] for number in call]
            yield from self._guard(self._run_generate, unit, {index: apart[index] for index in indices})
        left = list(rows)
        for numbers in self._given.split([unit[index].config.adapter for index in left]):
            some = [left[number] for number in numbers]
            yield from self._guard(self._decode_batch, unit, {index: rows[index] for index in some})

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

    def _limit(self, request: Request, prompt: Asked) -> int:
        return int(min(request.max_tokens, self._context - len(prompt)))

    def _guard(self, work: Work, unit: Sequence[Request], prompts: Mapping[int, Asked]) -> Parts:
        """Run the cells of a unit that have these prompts; where memory runs out, those that have not ended are marked.

        They are not tried again in smaller parts: what a cell holds would then depend on this machine's memory.
        """
        indices = list(prompts)
        ended: set[int] = set()
        try:
            for part in work([unit[index] for index in indices], list(prompts.values())):
                ended |= part.keys()
                yield {indices[row]: one for row, one in part.items()}
            return
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "allocate memory" not in str(error):
                raise EngineError(f"{self.name} failed: {error}") from error
            reason = f"out of memory ({len(prompts)} together): {str(error).splitlines()[0]}"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        lost = [row for row in range(len(indices)) if row not in ended]
        counts = [len(prompts[indices[row]]) for row in lost]
        marks = [Completion("", prompt_tokens=count, finish="error", error=reason) for count in counts]
        yield {indices[row]: mark for row, mark in zip(lost, marks, strict=True)}

    def _decode_batch(self, requests: Sequence[Request], prompts: Sequence[Asked]) -> Parts:
        """Cells without beams and drafts, in one batch. Each one's seconds are its share of the tokens until it is
        handed over."""
        begun = time.perf_counter()
        index: dict[tuple[tuple[Any, ...], tuple[int, ...]], int] = {}
        distinct: list[tuple[str, Asked]] = []
        owner = []
        for request, prompt in zip(requests, prompts, strict=True):
            named = (
                *(getattr(request.config, name) for name in sorted(GIVEN_FIELDS)),
                prompt.splice and prompt.splice.at,
            )
            owner.append(index.setdefault((named, tuple(prompt.ids)), len(index)))
            if owner[-1] == len(distinct):
                distinct.append((request.config.adapter, prompt))
        limits = [self._limit(request, one) for request, one in zip(requests, prompts, strict=True)]
        configs, seeds = [request.config for request in requests], [request.seed for request in requests]
        stops = [request.stop for request in requests]
        watch = StopWatch(self.tokenizer, stops) if any(stops) else None
        guides = self._find_guides(requests)
        masks = RowMasks(guides, limits) if any(guide is not None for guide in guides) else None
        batch = owner, configs, seeds, limits, self.end_tokens, self._rows, watch
        further = self._given.read_references(configs), masks
        adapters = [adapter for adapter, _ in distinct]
        parts = self._decode_parts([prompt for _, prompt in distinct], adapters, batch, further)
        left = dict.fromkeys(range(len(requests)))

        def complete(rows: Sequence[int], done: Decoded, tokens: int) -> dict[int, Completion]:
            per_token = (time.perf_counter() - begun) / max(tokens, 1)
            found = self._read_rows([requests[row] for row in rows], [prompts[row] for row in rows], done, per_token)
            if masks is not None:
                notes = [masks.describe(row) for row in rows]
                found = [replace(one, receipt={**one.receipt, **note}) for one, note in zip(found, notes, strict=True)]
            for row in rows:
                del left[row]
            return dict(zip(rows, found, strict=True))

        while True:
            try:
                ended = next(parts)
            except StopIteration as end:
                whole: Decoded = end.value
                break
            yield complete(ended.cells, ended.decoded, ended.tokens)
        rows = list(left)
        yield complete(rows, whole.take(rows), int(whole.lengths.sum()))

    def _decode_parts(
        self,
        prompts: Sequence[Asked],
        adapters: Sequence[str],
        batch: tuple[Any, ...],
        further: tuple[CellReferences, RowMasks | None],
    ) -> Generator[EndedCells, None, Decoded]:
        """`decode_in_parts` of distinct prompts, each with its adapter."""
        ids, splices = [one.ids for one in prompts], [one.splice for one in prompts]
        with self._given.batch(adapters) as (model, names):
            own = names, splices if any(splices) else None
            whole: Decoded = yield from decode_in_parts(model, ids, *batch, *own, *further)
        return whole

    def _read_rows(
        self, requests: Sequence[Request], prompts: Sequence[Asked], done: Decoded, per_token: float
    ) -> list[Completion]:
        """Completions of decoded rows, at so many seconds a token."""
        lengths = done.lengths.tolist()
        answers = [row[:length] for row, length in zip(done.tokens.tolist(), lengths, strict=True)]
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        limits = [self._limit(request, one) for request, one in zip(requests, prompts, strict=True)]
        completions = []
        for row, request in enumerate(requests):
            error = "the settings ruled out every token" if done.stuck[row] else None
            finish = "error" if error else "stop" if done.stopped[row] else "length"
            receipt = {} if limits[row] == request.max_tokens else {"max_tokens": limits[row]}
            share, passes = per_token * lengths[row], lengths[row] + int(done.stuck[row])
            counts = lengths[row], len(prompts[row])
            whole = Completion(texts[row], *counts, share, finish, error, receipt, passes)
            whole = take_unfinished_thought(self.tokenizer, prompts[row].ids, whole)
            completions.append(cut_at_stop(whole, request.stop))
        return completions

    def _group_calls(self, requests: Sequence[Request], prompts: Sequence[Asked]) -> list[list[int]]:
        """Numbers of the cells that share a call of the model's own `generate`."""
        limits = [self._limit(request, one) for request, one in zip(requests, prompts, strict=True)]
        configs, stops = [request.config for request in requests], [request.stop for request in requests]
        masked = [_read_masked(request) for request in requests]
        return group_calls(configs, limits, [len(one.ids) for one in prompts], self._rows, stops, masked)

    def _run_generate(self, requests: Sequence[Request], prompts: Sequence[Asked]) -> Parts:
        """Cells of beam search that share a call, or one of drafts. Each one's seconds are its share of the tokens."""
        begun = time.perf_counter()
        first, limit = requests[0], self._limit(requests[0], prompts[0])
        ids, splices = [one.ids for one in prompts], [one.splice for one in prompts if one.splice is not None]
        width = max(map(len, ids))
        stopping = [StopCriterion(self.tokenizer, first.stop, width)] if first.stop else []
        (guide,) = self._find_guides([first])
        masks = [] if guide is None else [GuideProcessor(guide, width, limit)]
        with self._given.lend(first.config):
            further = self.end_tokens, stopping, splices or None, masks
            done = run_generate(self.model, ids, first.config, first.seed, limit, *further)
        per_token = (time.perf_counter() - begun) / max(sum(len(one.tokens) for one in done), 1)
        receipt: dict[str, Any] = {} if limit == first.max_tokens else {"max_tokens": limit}
        receipt |= {} if guide is None else describe_guide(guide)
        completions = []
        for one, prompt in zip(done, prompts, strict=True):
            decode_tokens = partial(self.tokenizer.decode, skip_special_tokens=True)
            # A draft may have brought more than the string that stops the answer.
            count = count_to_stop(decode_tokens, one.tokens, first.stop) if first.stop else len(one.tokens)
            finish, seconds = "stop" if one.stopped else "length", per_token * len(one.tokens)
            text = decode_tokens(one.tokens)
            whole = Completion(text, count, len(prompt), seconds, finish, None, receipt, one.passes)
            completions.append(cut_at_stop(take_unfinished_thought(self.tokenizer, prompt.ids, whole), first.stop))
        yield dict(enumerate(completions))


def _read_masked(request: Request) -> Constraint | None:
    """The constraint of a cell that is met by masks."""
    return request.prompt.constraint if request.config.constrain == MASK else None
