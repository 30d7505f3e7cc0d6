"""Soft prefixes: trained embeddings among those of a prompt's tokens (SPRING: Zhu et al., arXiv 2405.19670).

They stand before the text of the last user message and are no tokens: nothing that reads token ids (penalties, n-grams,
drafts, histories) knows of them, and the head cannot choose them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hagpolicy.artefacts.folder import Artefact
from hagpolicy.artefacts.soft_prefix import read_soft_prefix
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import split_pin
from hagpolicy.config.render import ask_for
from hagpolicy.data.completion import Request
from hagpolicy.engines.chat import count_before_request, make_template_keywords
from hagpolicy.errors import EngineError

__all__ = ["SoftPrefixes", "Splice", "embed", "embed_spliced", "splice_calls"]


@dataclass(frozen=True, eq=False)
class Splice:
    """Embeddings that stand among those of a prompt's tokens.

    Attributes:
        at: how many of the prompt's tokens come before them.
        rows: float32 (tokens, width).
    """

    at: int
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)


class SoftPrefixes:
    """The soft prefixes of one model.

    Args:
        model: a decoder of transformers; it is not touched.
        artefacts: by name.

    Raises:
        EngineError: one whose embeddings are not as wide as the model's.
        InvalidInput: files that cannot be read.
    """

    def __init__(self, model: Any, artefacts: Mapping[str, Artefact]) -> None:
        self._rows = {name: torch.from_numpy(read_soft_prefix(one.folder)) for name, one in artefacts.items()}
        for name, rows in self._rows.items():
            width = model.get_input_embeddings().weight.shape[1]
            if rows.shape[1] != width:
                got = f"the soft prefix {name!r} of {artefacts[name].folder} has embeddings of {rows.shape[1]} numbers"
                raise EngineError(f"{got}, the model of {width}: it was trained for another one")

    def has(self, config: DecodingConfig) -> bool:
        """Whether there are as many embeddings as a config asks for."""
        rows = self._rows.get(split_pin(config.soft_prefix)[0])
        return rows is not None and (config.soft_tokens or 1) <= len(rows)

    def take(self, config: DecodingConfig) -> Tensor:
        """float32 (tokens, width): the embeddings that a config names."""
        return self._rows[split_pin(config.soft_prefix)[0]][: config.soft_tokens]

    def make_splice(self, tokenizer: Any, request: Request, ids: Sequence[int], context: float) -> Splice | str:
        """Where the embeddings of a request go, or why there is no place for them.

        Args:
            tokenizer: of the model.
            request: its config names a soft prefix.
            ids: token ids of its prompt, hint included.
            context: most tokens of prompt and answer together.
        """
        prompt, config = request.prompt, request.config
        content = ask_for(prompt.content, config.hint, prompt.constraint, config.constrain)
        return self.find_place(tokenizer, content, config, ids, context, make_template_keywords(config))

    def find_place(
        self,
        tokenizer: Any,
        content: Any,
        config: DecodingConfig,
        ids: Sequence[int],
        context: float,
        keywords: Mapping[str, Any],
    ) -> Splice | str:
        """Where the embeddings that a config names go, or why there is no place for them.

        Args:
            tokenizer: of the model.
            content: a string or chat messages, hint included.
            config: names a soft prefix.
            ids: token ids of the content.
            context: most tokens of prompt and answer together.
            keywords: of the chat template.
        """
        at = count_before_request(tokenizer, content, ids, keywords)
        if at is None:
            return "no text of a user that the chat template writes as it is, before which a soft prefix could go"
        rows = self.take(config)
        if len(ids) + len(rows) >= context:
            return f"the prompt has {len(ids)} tokens and a soft prefix {len(rows)}, the model's context {context:.0f}"
        return Splice(at, rows)


def embed(model: Any, ids: Tensor, starts: Sequence[int], rows: Sequence[Tensor | None]) -> Tensor:
    """(sequences, columns, width): the embeddings of tokens, with others in the place of some.

    Args:
        model: a decoder of transformers.
        ids: int64 (sequences, columns); where other embeddings stand, any ids.
        starts: (sequences,): the column where those of each begin.
        rows: (sequences,): float32 (tokens, width) each; None: the tokens' own alone.
    """
    embeddings: Tensor = model.get_input_embeddings()(ids).clone()
    for number, (start, own) in enumerate(zip(starts, rows, strict=True)):
        if own is not None:
            embeddings[number, start : start + len(own)] = own.to(embeddings)
    return embeddings


def embed_spliced(model: Any, ids: Tensor, padding: Sequence[int], splices: Sequence[Splice | None]) -> Tensor:
    """(prompts, columns, width): the embeddings of prompts with what is spliced into them.

    Args:
        model: a decoder of transformers.
        ids: int64 (prompts, columns): tokens alone, ending at the last column.
        padding: (prompts,): columns on the left that are neither tokens nor spliced.
        splices: (prompts,).
    """
    wide, starts = ids.clone(), []
    for row, (before, one) in enumerate(zip(padding, splices, strict=True)):
        starts.append(before + (0 if one is None else one.at))
        if one is not None:  # the tokens before it move to the left, into columns that `ids` leaves free
            wide[row, before : starts[row]] = ids[row, before + len(one) : starts[row] + len(one)]
    return embed(model, wide, starts, [None if one is None else one.rows for one in splices])


@contextlib.contextmanager
def splice_calls(model: Any, splices: Sequence[Splice] | None) -> Iterator[None]:
    """A context in which one call of the model's own `generate` has embeddings spliced into its prompts.

    `generate` counts and compares the tokens of the prompt alone. Each of the model's passes is given what lies
    between: the embeddings in the first one, their columns in the mask and places in all. What pads a prompt on the
    left is read from the mask.

    Args:
        model: a decoder of transformers.
        splices: one a prompt, all of as many embeddings; None: none.
    """
    if splices is None:
        yield
        return
    handle = model.register_forward_pre_hook(_Splicing(splices), with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class _Splicing:
    """What is done to the arguments of each pass of one call of `generate`.

    Args:
        splices: (prompts,).
    """

    def __init__(self, splices: Sequence[Splice]) -> None:
        self._splices, self._count, self._starts = splices, len(splices[0]), list[int]()

    def __call__(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids: Tensor = kwargs["input_ids"]
        mask = kwargs.get("attention_mask")
        if mask is None:  # while drafting, which is done for one prompt at a time, without padding
            mask = ids.new_ones(len(ids), int(kwargs["position_ids"][0, -1]) + 1)
        beams = len(ids) // len(self._splices)  # those of a prompt follow each other
        spliced = [one for one in self._splices for _ in range(beams)]
        begins = not self._starts
        if begins:  # columns that pad a row are those before its first one
            padding: list[int] = mask[:, : ids.shape[1]].long().argmax(dim=1).tolist()
            self._starts = [before + one.at for before, one in zip(padding, spliced, strict=True)]
        mask = _insert(mask, self._starts, self._count)
        if begins:
            wide = _insert(ids, self._starts, self._count)
            rows = [one.rows for one in spliced]
            kwargs = kwargs | {"input_ids": None, "inputs_embeds": embed(model, wide, self._starts, rows)}
            ids = wide
        before = mask.shape[1] - ids.shape[1]
        if 0 < kwargs["past_key_values"].get_seq_length() < before:
            raise RuntimeError("this version of transformers loses columns of the cache beside a soft prefix")
        if kwargs.get("cache_position") is not None:  # versions before 5.3, and models that bring their own code
            kwargs = kwargs | {"cache_position": torch.arange(before, mask.shape[1], device=ids.device)}
        if kwargs.get("position_ids") is not None:
            kwargs = kwargs | {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]}
        return args, kwargs | {"attention_mask": mask}


def _insert(values: Tensor, starts: Sequence[int], count: int) -> Tensor:
    """int64 (rows, columns + count): so many ones in each row, from a column of its own on."""
    ones = values.new_ones(count)
    parts = [torch.cat([row[:start], ones, row[start:]]) for row, start in zip(values, starts, strict=True)]
    return torch.stack(parts)
