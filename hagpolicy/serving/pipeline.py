"""A policy in front of a transformers text-generation pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import Constraint
from hagpolicy.engines.chat import encode, list_template_fields, make_template_keywords
from hagpolicy.serving.base import Wrapper
from hagpolicy.serving.call import (
    GenerateCall,
    PreparedPrompt,
    group_into_batches,
    hold_unsaid,
    read_template_keywords,
)
from hagpolicy.serving.call_constraints import CallConstraints, read_limits

if TYPE_CHECKING:
    from hagpolicy.engines.transformers.prefixes import Splice

# transformers' name for the keywords of a chat template in a call of a pipeline.
_TEMPLATE = "tokenizer_encode_kwargs"
# Of new tokens, in pipelines that know no other.
_LIMIT = 256
# What cuts a prompt after it was written, so that nobody knows where its parts are.
_CUTTING = ("truncation", "handle_long_generation")


class WrappedPipeline(Wrapper):
    """A text-generation pipeline whose every prompt gets its own configuration.

    Rows of one call may get different configurations: they are sent in groups, and come back in
    their order. Where the pipeline returns the prompt before the answer, it is the caller's prompt,
    without the hint (`return_tensors` gives the token ids that were sent, the hint among them).
    Asked for several sequences, a deterministic configuration returns its one text that many times.
    """

    def __call__(self, text_inputs: Any, **kwargs: Any) -> Any:
        """The pipeline's own call: a string, a chat, a list of either, or an iterable of them (which
        is answered lazily, one at a time).

        `price=` and `task=` are the policy's, of this call alone; `constraint=` says what the answer has to be, of all
        prompts or, as a list, of each.

        Raises:
            InvalidInput: `do_sample=True` together with a temperature of 0; a constraint that is none, or that cannot
                be met within the limit of new tokens.
        """
        # transformers' own Chat is a list of messages in an object.
        text_inputs = getattr(text_inputs, "messages", text_inputs)
        if _is_single_prompt(text_inputs):
            return self._answer([text_inputs], kwargs)[0]
        if isinstance(text_inputs, list | tuple):
            return self._answer(list(text_inputs), kwargs)
        return self._answer_lazily(text_inputs, kwargs)

    def _answer_lazily(self, prompts: Iterable[Any], kwargs: dict[str, Any]) -> Iterator[Any]:
        for prompt in prompts:
            yield self(prompt, **kwargs)

    def _answer(self, prompts: list[Any], kwargs: dict[str, Any]) -> list[Any]:
        kwargs, turned = self._take(kwargs)
        constraints = self._take_constraints(kwargs, len(prompts))
        call = GenerateCall(kwargs, self._defaults(), self._default_temperature(), self.overrule, self._artefacts)
        if any(one is not None for one in constraints):
            call.constraints = self._make_constraints(call, constraints)
        own = self._template_keywords(kwargs)
        place = partial(self._find_place, prompts, call, own)
        prepared = self._prepare_prompts(prompts, call, self._fix(prompts, call, own), turned, place)
        send = partial(self._send, prompts, call, own)
        found = send(dict(enumerate(prepared)))
        answers = [found[row] for row in range(len(prompts))]
        self._try_again(call, prompts, prepared, answers, partial(self._read_answer, prompts, kwargs), send)
        self._set_outcomes(call)
        self._set_decisions([one.decision for one in prepared])
        return answers

    def _send(
        self, prompts: list[Any], call: GenerateCall, own: Mapping[str, Any], items: Mapping[int, PreparedPrompt]
    ) -> dict[int, list[Any]]:
        """The pipeline's records for some prompts, by their numbers."""
        numbers, prepared = list(items), list(items.values())
        found: dict[int, list[Any]] = {}
        batch_size = call.explicit.get("batch_size") or getattr(self.target, "_batch_size", None) or 1
        for rows in group_into_batches(prepared, batch_size):
            some = [prepared[row] for row in rows]
            batch = [_convert_for_pipeline(item.prompt) for item in some]
            # One prompt goes as itself, so that whatever a pipeline does for single calls still happens.
            sent = some[0].kwargs
            if template := some[0].template:
                sent = {**sent, _TEMPLATE: {**own, **template}}
            with self._use_artefacts(some):
                got = self.target(batch[0] if len(batch) == 1 else batch, **sent)
            for row, records in zip(rows, [got] if len(batch) == 1 else got, strict=True):
                restored = self._restore_prompt(records, prompts[numbers[row]], prepared[row], call.kwargs)
                found[numbers[row]] = [dict(record) for record in restored * prepared[row].copies]
        return found

    def _make_constraints(self, call: GenerateCall, constraints: Sequence[Constraint | None]) -> CallConstraints:
        """What meets the constraints of a call."""
        pipe, said = self.target, call.explicit
        # What the pipeline sets where neither its model nor the caller does.
        own = getattr(pipe, "generation_config", None)
        standing = {} if said.get("max_length") is not None else read_limits(own)
        alone = "the answer is a stream" if said.get("streamer") is not None else ""
        settings = {**standing, **said}
        return CallConstraints(constraints, pipe.model, pipe.tokenizer, settings, limit=_LIMIT, alone=alone)

    def _read_answer(self, prompts: list[Any], kwargs: Mapping[str, Any], number: int, records: Any) -> str | None:
        """The one text of an answer, without its prompt; None where there is none."""
        text = records[0].get("generated_text") if len(records) == 1 else None
        prompt = prompts[number]
        if isinstance(text, list):
            given = (
                prompt[-1].get("content") if len(text) == len(prompt) else ""
            )  # of a message that the answer continues
            text = text[-1].get("content") if text else None
            text = text.removeprefix(given) if isinstance(text, str) and isinstance(given, str) else text
        elif isinstance(text, str) and isinstance(prompt, str) and self._returns_prompt(kwargs):
            text = text.removeprefix(prompt)
        return text if isinstance(text, str) else None

    def _find_place(
        self, prompts: list[Any], call: GenerateCall, own: Mapping[str, Any], number: int, config: DecodingConfig
    ) -> Splice | str:
        """Where the soft prefix of a config goes in a prompt as the pipeline will write it, or why it cannot be had."""
        assert self._artefacts is not None
        standing = {**getattr(self.target, "_preprocess_params", {}), **call.kwargs, **own}
        if cutting := [name for name in _CUTTING if standing.get(name)]:
            return f"{cutting[0]} of the call may cut the prompt, and leaves no place for a soft prefix"
        tokenizer: Any = self.target.tokenizer
        content: Any = call.write_prompt(number, prompts[number], config)
        keywords: dict[str, Any] = {}
        if getattr(tokenizer, "chat_template", None):
            if isinstance(content, str):
                return "a text without chat messages does not say where the user's text begins"
            continued = standing.get("continue_final_message")
            continued = content[-1]["role"] == "assistant" if continued is None else bool(continued)
            said = {name: standing[name] for name in ("tools", "documents") if standing.get(name)}
            ends = {"add_generation_prompt": not continued, "continue_final_message": continued}
            keywords = {**ends, **said, **own, **make_template_keywords(config)}
        ids = encode(tokenizer, content, keywords)
        return self._artefacts.find_place(tokenizer, content, config, ids, keywords, call.explicit)

    def _restore_prompt(
        self, records: list[Any], prompt: Any, item: PreparedPrompt, kwargs: dict[str, Any]
    ) -> list[Any]:
        """Records with the caller's own prompt before the answer, in place of the hinted one."""
        if not item.hinted or not self._returns_prompt(kwargs):
            return records
        restored = []
        for record in records:
            text = record.get("generated_text")
            if isinstance(text, str) and text.startswith(item.prompt):
                text = prompt + text[len(item.prompt) :]
            elif isinstance(text, list):
                sent = _convert_for_pipeline(item.prompt)
                # An answer that continues the last message stands in that message: only whole ones are given back.
                text = [prompt[i] if i < len(prompt) and turn == sent[i] else turn for i, turn in enumerate(text)]
                text = [turn for i, turn in enumerate(text) if not len(prompt) <= i < len(sent)]
            restored.append({**record, "generated_text": text} if "generated_text" in record else record)
        return restored

    def _returns_prompt(self, kwargs: Mapping[str, Any]) -> bool:
        given = kwargs.get("return_full_text")
        if given is not None:
            return bool(given)
        standing = getattr(self.target, "_postprocess_params", {}).get("return_type")
        return getattr(standing, "name", "FULL_TEXT") == "FULL_TEXT"

    def _fix(self, prompts: list[Any], call: GenerateCall, own: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the policy may not decide; a text goes to the model without the chat template, and cannot be told of
        thinking."""
        chats = not any(isinstance(prompt, str) for prompt in prompts)
        said = {name: value for name, value in read_template_keywords(own).items() if name not in self.overrule}
        fixed = None if call.fixed is None else {**(said if chats else {}), **call.fixed}
        return hold_unsaid(self.policy, fixed, partial(list_template_fields, self.target.tokenizer) if chats else tuple)

    def _template_keywords(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The caller's own keywords for the chat template: of this call, or when the pipeline was built."""
        standing = getattr(self.target, "_preprocess_params", {}).get(_TEMPLATE)
        return kwargs.get(_TEMPLATE) or standing or {}

    def _defaults(self) -> dict[str, Any]:
        """Generation settings that the pipeline was built with; transformers keeps them under private names."""
        kept = [getattr(self.target, name, None) or {} for name in ("_forward_params", "_generate_kwargs")]
        return {name: value for params in kept for name, value in params.items()}

    def _default_temperature(self) -> float:
        own = getattr(self.target.model.generation_config, "temperature", None)
        if own is None:
            own = (getattr(self.target, "_generation_defaults", None) or {}).get("temperature")
        return 1.0 if own is None else float(own)


def _is_single_prompt(inputs: Any) -> bool:
    if isinstance(inputs, list | tuple):
        return bool(inputs) and isinstance(inputs[0], Mapping)
    return isinstance(inputs, str)


def _convert_for_pipeline(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
