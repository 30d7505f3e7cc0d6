"""`WrappedLLM`: a policy in front of vLLM's offline `LLM`, each prompt under its own `SamplingParams`.

Written against the sources of vLLM, as the engine of the sweeps is (`engines.vllm`), and tested on a stand-in that
takes what the real classes take. What was not run: a model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hagpolicy._digest import canonical_json, digest
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.dialects import TEMPLATE, VLLM
from hagpolicy.config.fields import NEUTRAL
from hagpolicy.config.render import apply_hint, fill_hint, render, takes_hint
from hagpolicy.config.slots import describe_slots
from hagpolicy.engines.chat import list_template_fields
from hagpolicy.engines.vllm import marks_thoughts
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.base import Wrapper, describe_differences
from hagpolicy.serving.call import hold_unsaid, read_template_keywords
from hagpolicy.serving.rewrite import RequestReceipt

if TYPE_CHECKING:
    from hagpolicy.policy.decision import Decision
    from hagpolicy.policy.policy import Policy

__all__ = ["WrappedLLM", "is_llm"]


class _Prepared(NamedTuple):
    """What a prompt is generated with: its `SamplingParams`, its receipt, the hint as this prompt gets it, and keywords
    of the chat template."""

    params: Any
    receipt: RequestReceipt
    hint: str = ""
    template: Mapping[str, Any] = MappingProxyType({})


class WrappedLLM(Wrapper):
    """vLLM's `LLM`, used as before, whose `generate` and `chat` give each prompt its own configuration.

    What the caller sets stands. `SamplingParams` keeps no record of what was set, so a field counts as set where its
    value is neither that of `SamplingParams()` nor that of the LLM's `get_default_sampling_params()`;
    `fixed={"temperature": 1.0}` of a call says what cannot be told so. Everything else of the caller's
    `SamplingParams` is kept: `stop`, `seed`, `n`, `logprobs`. Greedy configs are not chosen for an `n` above 1, which
    vLLM refuses beside them.

    Args:
        target: a `vllm.LLM`.
        policy: decides.
        price, task, overrule: see `hagpolicy.wrap`.
        on_receipt: called with the receipt of every prompt.

    Attributes:
        receipts: of the last call, one a prompt in their order.
    """

    receipts: list[RequestReceipt]

    def __init__(
        self,
        target: Any,
        policy: Policy,
        price: float | None = None,
        task: str | None = None,
        overrule: Collection[str] = (),
        on_receipt: Callable[[RequestReceipt], object] | None = None,
    ) -> None:
        super().__init__(target, policy, price, task, overrule)
        vars(self).update(receipts=[], _on_receipt=on_receipt)

    def generate(
        self,
        prompts: Any,
        sampling_params: Any = None,
        *args: Any,
        texts: Sequence[Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The LLM's own `generate`, each prompt under its configuration.

        A text goes to the model as it is, without a chat template: where the model has one, the prompt is taken for
        written already, and only configurations without a hint are considered.

        Args:
            prompts: as vLLM takes them: texts, token ids, or mappings that hold one, one of them or a list.
            sampling_params: of all, or one a prompt; None: the LLM's own.
            args: further arguments of vLLM's own.
            texts: what the policy reads, a string or chat a prompt. None: the prompts' text; token ids are decoded.
            fixed: fields that the policy may not decide, by our names.
            kwargs: of vLLM's own; `price` and `task` are the policy's.

        Returns:
            A list of vLLM's `RequestOutput`, one a prompt.

        Raises:
            InvalidInput: not one of `sampling_params` or `texts` a prompt, or a `fixed` that is no field's value.
        """
        several = [prompts] if _is_single_prompt(prompts) else list(prompts)
        read = [self._read_text(prompt) for prompt in several] if texts is None else list(texts)
        if len(read) != len(several):
            raise InvalidInput("texts", f"one a prompt, {len(several)}", f"{len(read)}")
        plain = not getattr(self._tokenizer(), "chat_template", None)
        hinted = [plain and isinstance(_text_of(prompt), str) for prompt in several]
        held = hold_unsaid(self.policy, fixed or {}, self._list_sayable)
        made, kwargs = self._prepare(read, hinted, sampling_params, held, kwargs)
        sent = [_add_hint(prompt, one.hint) for prompt, one in zip(several, made, strict=True)]
        return self._record(self.target.generate(sent, [one.params for one in made], *args, **kwargs), made)

    def chat(
        self,
        messages: Any,
        sampling_params: Any = None,
        *args: Any,
        fixed: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The LLM's own `chat`, each conversation under its configuration, hint included.

        Args:
            messages: one conversation or several.
            sampling_params, args, fixed, kwargs: see `generate`.

        Returns:
            A list of vLLM's `RequestOutput`, one a conversation.

        Raises:
            InvalidInput: not one of `sampling_params` a conversation.
        """
        several = [messages] if len(messages) > 0 and isinstance(messages[0], Mapping) else list(messages)
        own = kwargs.pop(TEMPLATE, None) or {}
        said = {name: value for name, value in read_template_keywords(own).items() if name not in self.overrule}
        held = hold_unsaid(self.policy, {**said, **(fixed or {})}, partial(self._list_sayable, chat=True))
        made, kwargs = self._prepare(several, [True] * len(several), sampling_params, held, kwargs)
        sent = [list(apply_hint(chat, one.hint)) if one.hint else chat for chat, one in zip(several, made, strict=True)]
        outputs: dict[int, Any] = {}
        for rows in _group_by_template(made):
            keywords = {**own, **made[rows[0]].template}
            told = {**kwargs, TEMPLATE: keywords} if keywords else kwargs
            chats, params = [sent[row] for row in rows], [made[row].params for row in rows]
            outputs |= zip(rows, self.target.chat(chats, params, *args, **told), strict=True)
        return self._record([outputs[row] for row in range(len(several))], made)

    def _list_sayable(self, *, chat: bool = False) -> frozenset[str]:
        """The fields about thinking that the LLM can be told: in a chat those of its template, and the budget where it
        was told how the model marks its thoughts."""
        of_template = list_template_fields(self._tokenizer()) if chat else frozenset[str]()
        return (of_template - {"thinking_budget"}) | ({"thinking_budget"} if marks_thoughts(self.target) else set())

    def _prepare(
        self,
        contents: Sequence[Any],
        hints: Sequence[bool],
        given: Any,
        fixed: Mapping[str, Any] | None,
        kwargs: dict[str, Any],
    ) -> tuple[list[_Prepared], dict[str, Any]]:
        """What each prompt is generated with, and the keywords that are vLLM's."""
        kwargs, turned = self._take(kwargs)
        own = self.target.get_default_sampling_params()
        several = list(given) if isinstance(given, list | tuple) else [own if given is None else given] * len(contents)
        if len(several) != len(contents):
            raise InvalidInput("sampling_params", f"one for all, or one a prompt, {len(contents)}", f"{len(several)}")
        known = {} if fixed is None else dict(fixed)
        DecodingConfig.from_dict(known)  # what is no field, or out of its range, is said now
        made = []
        for content, hint, params in zip(contents, hints, several, strict=True):
            made.append(self._decide_one(content, hint, params, own, known, turned))
        return made, kwargs

    def _decide_one(
        self, content: Any, hint: bool, params: Any, own: Any, fixed: Mapping[str, Any], turned: Mapping[str, Any]
    ) -> _Prepared:
        """What a prompt is generated with."""
        said = _read_settings(params, own)
        overruled = {name: value for name, value in said.items() if name in self.overrule and name not in fixed}
        try:
            kept = {name: value for name, value in said.items() if name not in overruled} | dict(fixed)
            held = {name: getattr(DecodingConfig.from_dict(kept), name) for name in kept}
        except InvalidInput:
            self._warn_idle(said, None, 5)
            return _Prepared(params, RequestReceipt("no_config_agrees", kept=tuple(said)))
        self._warn_idle(said, held, 5)
        dial = {name: value for name, value in turned.items() if value is not None}
        if self.policy.dial.argument == "n":
            dial["n"] = params.n
        hints = hint and content is not None and takes_hint(content)
        among = self._can & (self._unhinted | hints) & (self._sampled | (params.n == 1))
        decision = self.policy.decide("" if content is None else content, held, among=among, **dial)
        if decision.reason == "no_config_agrees":
            return _Prepared(params, RequestReceipt(decision.reason, decision, kept=tuple(said), fixed=held))
        return self._apply(params, replace(decision, overruled=overruled), said, held, content if hints else None)

    def _apply(
        self, params: Any, decision: Decision, said: Mapping[str, Any], held: Mapping[str, Any], content: Any
    ) -> _Prepared:
        """The caller's `SamplingParams` with a decision in them; `content` takes the hint, None takes none."""
        made = render(decision.config.fields(), "vllm", unsupported="drop")
        kwargs = dict(made.kwargs)
        limit = getattr(self.policy, "max_tokens", None)
        if limit is not None and "max_tokens" not in held and params.max_tokens == type(params)().max_tokens:
            kwargs.setdefault("max_tokens", limit)  # vLLM's own of 16 cuts most answers; the sweep had this one
        names = {setting.key: name for name, setting in VLLM.settings.items() if not setting.beside}
        ours = {key: value for key, value in kwargs.items() if names.get(key, key) not in held}
        hint = "" if content is None else decision.config.hint
        filled = fill_hint(content, hint)
        told = describe_slots(hint, filled)
        receipt = RequestReceipt(
            decision.reason,
            decision,
            bool(kwargs) or bool(filled),
            ours,
            made.receipt.dropped,
            decision.overruled,
            tuple(name for name in said if name not in decision.overruled),
            bool(filled),
            {**made.receipt.notes, **({"hint": told} if told else {})},
            fixed=held,
            chosen=None if decision.index is None else self.policy.space[decision.index],
            fields={key: names.get(key, key) for key in ours},
        )
        template = made.beside.get(TEMPLATE, {})
        return _Prepared(_copy_with(params, kwargs) if kwargs else params, receipt, filled, template)

    def _record(self, outputs: Any, made: Sequence[_Prepared]) -> Any:
        """The outputs, after the receipts of their call were counted and kept."""
        receipts = [one.receipt for one in made]
        self._count(receipt.reason for receipt in receipts)
        self._set_decisions([receipt.decision for receipt in receipts])
        vars(self)["receipts"] = receipts
        if (told := vars(self)["_on_receipt"]) is not None:
            for receipt in receipts:
                told(receipt)
        return outputs

    @cached_property
    def _can(self) -> np.ndarray:
        """bool (n_configs,): configs that vLLM can be given as they are."""
        receipts = [render(config.fields(), "vllm", unsupported="drop").receipt for config in self.policy.space]
        beyond = [
            any(not VLLM.settings[name].takes(asked) for name, (asked, _) in one.clamped.items()) for one in receipts
        ]
        return np.array([not one.dropped and not over for one, over in zip(receipts, beyond, strict=True)])

    @cached_property
    def _unhinted(self) -> np.ndarray:
        return np.array([not config.hint for config in self.policy.space])

    @cached_property
    def _sampled(self) -> np.ndarray:
        return np.array([not config.deterministic for config in self.policy.space])

    def _tokenizer(self) -> Any:
        try:
            return self.target.get_tokenizer()
        except Exception:  # an LLM made with skip_tokenizer_init has none, and says so in words of its own
            return None

    def _read_text(self, prompt: Any) -> Any:
        """The text of a prompt as vLLM takes it; None where it has none."""
        text = _text_of(prompt)
        if isinstance(text, str):
            return text
        tokenizer = None if text is None else self._tokenizer()
        return None if tokenizer is None else tokenizer.decode(text, skip_special_tokens=True)


def is_llm(target: Any) -> bool:
    """Whether it is vLLM's offline `LLM`; vLLM need not be installed."""
    return all(callable(getattr(target, name, None)) for name in ("generate", "chat", "get_default_sampling_params"))


def warn_of_another_llm(policy: Policy, llm: Any) -> None:
    """Warn where the LLM is not the one whose sweep the policy was fitted on, offline or behind vLLM's server."""
    swept, config = policy.fingerprint, llm.model_config
    here = {"model": str(config.model)}
    if swept.get("kind") != "openai" or swept.get("server") != "vllm":
        template = getattr(llm.get_tokenizer(), "chat_template", None)
        here |= {"kind": "vllm", "chat_template": digest(template) if template else "none"}
        here |= {"dtype": str(config.dtype).removeprefix("torch."), "quantization": str(config.quantization or "none")}
    if differing := describe_differences(swept, here):
        warnings.warn(
            f"the policy was swept on another engine ({differing}): its choices may not hold here", stacklevel=3
        )


def _group_by_template(made: Sequence[_Prepared]) -> list[list[int]]:
    """Numbers of the conversations that can share a call, which has one set of keywords for the chat template."""
    found: dict[str, list[int]] = {}
    for row, one in enumerate(made):
        found.setdefault(canonical_json(dict(one.template)), []).append(row)
    return list(found.values())


def _is_single_prompt(prompts: Any) -> bool:
    """Whether `generate` was given one prompt: a text, a mapping, or token ids."""
    return isinstance(prompts, str | Mapping) or (len(prompts) > 0 and isinstance(prompts[0], int))


def _text_of(prompt: Any) -> Any:
    """The text of a prompt, else its token ids, else None."""
    if not isinstance(prompt, Mapping):
        return prompt if isinstance(prompt, str | list | tuple) else None
    return prompt.get("prompt") or prompt.get("prompt_token_ids")


def _add_hint(prompt: Any, hint: str) -> Any:
    """The prompt with a hint in its text, where there is one."""
    if not hint:
        return prompt
    if isinstance(prompt, Mapping):
        return {**prompt, "prompt": apply_hint(prompt["prompt"], hint)}
    return apply_hint(prompt, hint)


def _read_settings(params: Any, own: Any) -> dict[str, Any]:
    """The settings that a caller's `SamplingParams` say, by our names: those of no default's value."""
    plain = type(params)()
    said = {}
    for name, setting in VLLM.settings.items():
        if setting.beside:
            continue
        value = getattr(params, setting.key)
        if value not in (getattr(plain, setting.key), getattr(own, setting.key)):
            said[name] = NEUTRAL[name] if name == "top_k" and value == -1 else value
    return said


def _copy_with(params: Any, changes: Mapping[str, Any]) -> Any:
    """`SamplingParams` made anew, so that vLLM's own checks run: what was not left at its default, and the changes."""
    kind = type(params)
    plain = kind()
    names = [name for name in getattr(kind, "__struct_fields__", None) or vars(plain) if not name.startswith("_")]
    kept = {name: getattr(params, name) for name in names if getattr(params, name) != getattr(plain, name)}
    return kind(**{**kept, **changes})
