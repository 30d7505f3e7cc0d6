"""A policy in front of a transformers model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import Constraint
from hagpolicy.engines.chat import encode, list_template_fields, make_template_keywords
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.artefacts import GivenArtefacts
from hagpolicy.serving.base import Wrapper
from hagpolicy.serving.call import GenerateCall, PreparedPrompt, group_into_batches, hold_unsaid
from hagpolicy.serving.call_constraints import CallConstraints, read_limits

if TYPE_CHECKING:
    import torch

    from hagpolicy.engines.transformers.prefixes import Splice
    from hagpolicy.policy.policy import Policy

# Arguments that belong to the whole batch: rows with different settings cannot share them.
_Part: TypeAlias = "tuple[list[int], torch.Tensor]"
# Of new tokens, where nobody says another number.
_LIMIT = 20
_SHARED_BY_ROWS = ("past_key_values", "streamer", "prefix_allowed_tokens_fn", "inputs_embeds")


class WrappedModel(Wrapper):
    """A model whose every prompt gets its own configuration.

    Prefer `generate_text`: it takes strings or chats and applies chat template and hint as the sweep did.
    `generate` takes token ids as the model's own does; there the prompt is already written, so only
    configurations without a hint are considered.

    Attributes:
        tokenizer: the model's.
    """

    def __init__(
        self,
        target: Any,
        policy: Policy,
        tokenizer: Any,
        price: float | None = None,
        task: str | None = None,
        overrule: Collection[str] = (),
        artefacts: GivenArtefacts | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__(target, policy, price, task, overrule, artefacts, constraint)
        vars(self)["tokenizer"] = tokenizer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward pass, untouched."""
        return self.target(*args, **kwargs)

    def generate(self, inputs: Any = None, *, prompts: Sequence[Any] | None = None, **kwargs: Any) -> Any:
        """The model's own `generate`, each row under the configuration of its prompt.

        Args:
            inputs: int64 (rows, tokens), or the keyword `input_ids`. Anything else the model takes
                (such as `inputs_embeds` alone) is passed on as it is, without a decision.
            prompts: what the policy reads, one string or chat a row. None: the ids decoded without
                special tokens; with a chat template that holds the template's words (roles, a
                default system message) too, so give the prompts where you have them. They say where a soft prefix
                goes as well, where the ids are theirs in the chat template.
            kwargs: as for `generate`; what is set there wins. `constraint` says what the answer has to be, of all rows
                or, as a list, of each; words can ask for it in `generate_text` alone.

        Returns:
            As `generate`: int64 (rows × num_return_sequences, tokens), padded on the right where
            rows of different configurations end at different lengths.

        Raises:
            InvalidInput: rows of one call need different configurations and the call has arguments
                that cannot be divided between them (a cache, a streamer, `return_dict_in_generate`);
                or not one prompt a row; or a constraint that is none, or that cannot be met within the limit of new
                tokens.
        """
        import torch  # here, not above: only whoever has a model has it

        kwargs, turned = self._take(kwargs)
        ids = kwargs.get("input_ids") if inputs is None else inputs
        if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or ids.is_floating_point() or not ids.shape[1]:
            if kwargs.pop("constraint", None) is not None:
                raise InvalidInput("constraint", "None beside what is no row of token ids", "one", "Pass input_ids.")
            vars(self)["decisions"] = []
            with self._use_artefacts([]):
                return self.target.generate(**({} if inputs is None else {"inputs": inputs}), **kwargs)
        if prompts is not None and len(prompts) != len(ids):
            raise InvalidInput("prompts", f"one a row, {len(ids)}", f"{len(prompts)}")
        kwargs["input_ids"] = ids
        constraints = self._take_constraints(kwargs, len(ids))
        call = GenerateCall(kwargs, None, self._default_temperature(), self.overrule, self._artefacts)
        self._add_constraints(call, constraints, words=False)
        rows = _list_rows(ids, kwargs.get("attention_mask"))
        texts = self._decode(rows) if prompts is None else list(prompts)
        fixed = None if call.fixed is None else {**call.fixed, "hint": ""}
        fixed = hold_unsaid(self.policy, fixed, tuple)  # the prompt is written already
        place = partial(self._find_written_place, rows, prompts, call)
        prepared = self._prepare_prompts(texts, call, fixed, turned, place)
        together = group_into_batches(prepared)
        _check_divisible(call, prepared, together)
        tries = call.constraints is not None and call.constraints.tries
        if len(together) == 1 and prepared[0].copies == 1 and not tries:
            with self._use_artefacts(prepared):
                out = self.target.generate(**prepared[0].kwargs)
        else:
            parts = [(some, self._generate_part(some, len(ids), prepared)) for some in together]
            if tries:
                parts = self._try_parts_again(parts, texts, call, prepared)
            out = _join(parts, len(ids), self._pad_id(call))
        self._set_outcomes(call)
        self._set_decisions([one.decision for one in prepared])
        return out

    def generate_text(self, prompts: Any, **kwargs: Any) -> Any:
        """Answers to prompts as text, each under its own configuration, hint included.

        Args:
            prompts: a string, a chat, or a list of either. Strings are one user turn where the
                tokenizer has a chat template, plain text where it has none.
            kwargs: as for `generate`. Without any limit there, the sweep's own limit on new tokens
                holds where the policy knows it. `constraint` says what the answer has to be, of all prompts or, as a
                list, of each.

        Returns:
            The answer without the prompt, as str; a list of str for a list of prompts.

        Raises:
            InvalidInput: a `num_return_sequences` above 1: call `generate` for these; a constraint that is none, or
                that cannot be met within the limit of new tokens.
        """
        kwargs, turned = self._take(kwargs)
        single = isinstance(prompts, str) or (bool(prompts) and hasattr(prompts[0], "keys"))
        several = [prompts] if single else list(prompts)
        constraints = self._take_constraints(kwargs, len(several))
        call = GenerateCall(kwargs, None, self._default_temperature(), self.overrule, self._artefacts)
        self._add_constraints(call, constraints, limit=getattr(self.policy, "max_tokens", None))
        if call.explicit.get("num_return_sequences", 1) != 1:
            raise InvalidInput("num_return_sequences", "1", call.explicit["num_return_sequences"])
        fixed = hold_unsaid(self.policy, call.fixed, partial(list_template_fields, self.tokenizer))
        prepared = self._prepare_prompts(several, call, fixed, turned, partial(self._find_place, several, call))
        found = self._answer_texts(dict(enumerate(prepared)))
        answers = [found[row] for row in range(len(several))]
        self._try_again(call, several, prepared, answers, lambda _, text: text, self._answer_texts)
        self._set_outcomes(call)
        self._set_decisions([one.decision for one in prepared])
        return answers[0] if single else answers

    def _answer_texts(self, items: Mapping[int, PreparedPrompt]) -> dict[int, str]:
        """The texts of answers to some prompts, by their numbers."""
        numbers, prepared = list(items), list(items.values())
        answers: dict[int, str] = {}
        for rows in group_into_batches(prepared):
            some = [prepared[row] for row in rows]
            ids, mask = self._pad([encode(self.tokenizer, item.prompt, item.template) for item in some])
            with self._use_artefacts(some):
                sent = self._add_limit(some[0].kwargs)
                out = self.target.generate(input_ids=ids, attention_mask=mask, **sent)
            out = getattr(out, "sequences", out)  # with return_dict_in_generate they are a part of it
            texts = self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
            answers |= {numbers[row]: text for row, text in zip(rows, texts, strict=True)}
        return answers

    def _add_constraints(
        self,
        call: GenerateCall,
        constraints: Sequence[Constraint | None],
        *,
        words: bool = True,
        limit: int | None = None,
    ) -> None:
        """Have a call meet the constraints of its prompts, where some have one."""
        if all(one is None for one in constraints):
            return
        settings = {**read_limits(self.target.generation_config), **call.explicit}
        shared = [name for name in (*_SHARED_BY_ROWS, "return_dict_in_generate") if call.explicit.get(name)]
        alone = f"{shared[0]} of the call cannot be used again" if shared and not words else ""
        alone = "the answer is a stream" if call.explicit.get("streamer") else alone
        given: dict[str, Any] = {"limit": limit or _LIMIT, "words": words, "alone": alone}
        call.constraints = CallConstraints(constraints, self.target, self.tokenizer, settings, **given)

    def _try_parts_again(
        self, parts: Sequence[_Part], texts: Sequence[Any], call: GenerateCall, prepared: Sequence[PreparedPrompt]
    ) -> list[_Part]:
        """The answers row by row, those that do not meet their constraint generated again."""
        total, width = len(prepared), call.kwargs["input_ids"].shape[1]
        each: dict[int, torch.Tensor] = {}
        for rows, out in parts:
            each |= zip(rows, out.split(len(out) // len(rows)), strict=True)

        def send(items: Mapping[int, PreparedPrompt]) -> dict[int, torch.Tensor]:
            numbers, some = list(items), list(items.values())
            changed = [items.get(row, one) for row, one in enumerate(prepared)]
            found: dict[int, torch.Tensor] = {}
            for rows in group_into_batches(some):
                chosen = [numbers[row] for row in rows]
                found |= zip(chosen, self._generate_part(chosen, total, changed).split(1), strict=True)
            return found

        def read(_: int, out: torch.Tensor) -> str | None:
            if len(out) != 1:
                return None
            return str(self.tokenizer.decode(out[0, width:], skip_special_tokens=True))

        answers = [each[row] for row in range(total)]
        self._try_again(call, texts, prepared, answers, read, send)
        return [([row], out) for row, out in enumerate(answers)]

    def _find_place(
        self, prompts: Sequence[Any], call: GenerateCall, number: int, config: DecodingConfig
    ) -> Splice | str:
        """Where the soft prefix of a config goes in a prompt, or why it cannot be had."""
        assert self._artefacts is not None
        content, keywords = call.write_prompt(number, prompts[number], config), make_template_keywords(config)
        ids = encode(self.tokenizer, content, keywords)
        return self._artefacts.find_place(self.tokenizer, content, config, ids, keywords, call.explicit)

    def _find_written_place(
        self,
        rows: Sequence[torch.Tensor],
        prompts: Sequence[Any] | None,
        call: GenerateCall,
        number: int,
        config: DecodingConfig,
    ) -> Splice | str:
        """Where the soft prefix of a config goes in the token ids of a prompt, or why it cannot be had."""
        assert self._artefacts is not None
        ids, content = rows[number].tolist(), ""
        if getattr(self.tokenizer, "chat_template", None):
            if prompts is None:
                return "token ids alone do not say where the user's text begins: pass generate(…, prompts=…)"
            content = prompts[number]
            if encode(self.tokenizer, content) != ids:
                return "the token ids are not those of the prompt in the chat template"
        return self._artefacts.find_place(self.tokenizer, content, config, ids, {}, call.explicit)

    def _generate_part(self, rows: list[int], total: int, prepared: Sequence[PreparedPrompt]) -> torch.Tensor:
        """int64 (rows × sequences, tokens): the rows of one configuration."""
        import torch

        items = [prepared[row] for row in rows]
        kwargs = dict(items[0].kwargs)
        for name, value in kwargs.items():
            if isinstance(value, torch.Tensor) and value.shape[:1] == (total,):
                kwargs[name] = value[rows]
        with self._use_artefacts(items):
            out: torch.Tensor = self.target.generate(**kwargs)
        return out.repeat_interleave(items[0].copies, dim=0)

    def _decode(self, rows: Sequence[torch.Tensor]) -> list[str]:
        texts: list[str] = [self.tokenizer.decode(row, skip_special_tokens=True) for row in rows]
        return texts

    def _pad(self, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, int64 (rows, tokens), padded on the left as decoders need it."""
        import torch

        width = max(map(len, rows))
        pad = self._pad_id(None)
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=self.target.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.target.device)
        return ids, mask

    def _add_limit(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        config = kwargs.get("generation_config")
        names = ("max_new_tokens", "max_length", "max_time")
        places = (kwargs, *(vars(c) for c in (config, self.target.generation_config) if c is not None))
        limit = getattr(self.policy, "max_tokens", None)
        if limit is None or any(place.get(name) is not None for place in places for name in names):
            return kwargs
        return {**kwargs, "max_new_tokens": limit}

    def _pad_id(self, call: GenerateCall | None) -> int:
        given = {} if call is None else call.explicit
        own, tokenizer = vars(self.target.generation_config), {"pad_token_id": self.tokenizer.pad_token_id}
        for name in ("pad_token_id", "eos_token_id"):
            for place in (given, own, tokenizer):
                if (known := place.get(name)) is not None:
                    return int(known[0] if isinstance(known, list | tuple) else known)
        return 0

    def _default_temperature(self) -> float:
        own = getattr(self.target.generation_config, "temperature", None)
        return 1.0 if own is None else float(own)


def _list_rows(ids: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
    """The token ids of each row, without what pads it."""
    return [row if mask is None else row[mask[number].bool()] for number, row in enumerate(ids)]


def _check_divisible(call: GenerateCall, prepared: list[PreparedPrompt], together: list[list[int]]) -> None:
    if len(together) == 1 and prepared[0].copies == 1:
        return
    held = [name for name in (*_SHARED_BY_ROWS, "return_dict_in_generate") if call.explicit.get(name)]
    if held:
        raise InvalidInput(
            held[0],
            "a call whose rows share one configuration",
            f"{len(together)} configurations in one batch",
            "Call generate once a row, or fix the settings that differ.",
        )


def _join(parts: list[tuple[list[int], torch.Tensor]], total: int, pad: int) -> torch.Tensor:
    """int64 (total × sequences, tokens): the parts' rows in the caller's order, padded on the right."""
    width = max(out.shape[1] for _, out in parts)
    each = parts[0][1].shape[0] // len(parts[0][0])
    joined = parts[0][1].new_full((total, each, width), pad)
    for rows, out in parts:
        joined[rows, :, : out.shape[1]] = out.reshape(len(rows), each, -1)
    return joined.reshape(total * each, width)
