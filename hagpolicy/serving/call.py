"""One call of transformers' `generate`: what its caller set, and what is sent in its place.

The caller wins, but for fields that `wrap` was told to overrule. What it sets explicitly (as keyword, in a
`generation_config`, or when it built its pipeline; 0.0 included, None is "not set") becomes `fixed` for the policy, and
whatever of it is no field of a decoding configuration is passed on untouched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hagpolicy._digest import canonical_json
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import MASK
from hagpolicy.config.dialects import DIALECTS, OF_CHATS, TEMPLATE
from hagpolicy.config.fields import NEUTRAL
from hagpolicy.config.render import PromptLike, ask_for
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.artefacts import GivenArtefacts
from hagpolicy.serving.call_constraints import CallConstraints

if TYPE_CHECKING:
    import numpy as np

    from hagpolicy.config.space import DecodingSpace
    from hagpolicy.engines.transformers.prefixes import Splice
    from hagpolicy.policy.decision import Decision
    from hagpolicy.policy.policy import Policy

FIELD_OF_KEYWORD = {
    setting.key: name for name, setting in DIALECTS["transformers"].settings.items() if not setting.beside
}
"""Field of a decoding configuration by keyword of `generate`."""

_DECIDED = frozenset(FIELD_OF_KEYWORD) | {"do_sample"}


@dataclass(frozen=True)
class PreparedPrompt:
    """One prompt with the keywords it is generated with.

    Attributes:
        prompt: with the hint in it.
        kwargs: for `generate` or the pipeline.
        copies: how often its one text is returned: a deterministic config gives one text, however
            many sequences the caller asks for.
        decision: the policy's; None where it could not read the prompt or the caller's settings.
        key: equal where prompts can be sent together; "" where the call goes unchanged.
        hinted: True when the prompt holds a hint that the caller did not write.
        template: keywords of the model's chat template.
        penalised: True when logits processors of ours are in `kwargs`, which are of one call of `generate`.
        drafted: True when `generate` will draft, which it does for one prompt a call.
        splice: what is put among the prompt's embeddings; None: nothing.
    """

    prompt: Any
    kwargs: dict[str, Any]
    copies: int
    decision: Decision | None
    key: str
    hinted: bool = False
    penalised: bool = False
    drafted: bool = False
    template: Mapping[str, Any] = field(default_factory=dict)
    splice: Splice | None = None


class GenerateCall:
    """The keyword arguments of one call of `generate`.

    Args:
        kwargs: what the caller passes now.
        defaults: what it passed when the pipeline was built; `kwargs` come before it.
        default_temperature: the sampling temperature that applies where the caller only says `do_sample=True`.
        overrule: fields that the policy decides though the caller set them.
        artefacts: that the model is given; None: none.

    Attributes:
        constraints: of the prompts; None: none has any.

    Raises:
        InvalidInput: `do_sample=True` together with a temperature of 0.
    """

    def __init__(
        self,
        kwargs: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        default_temperature: float = 1.0,
        overrule: Collection[str] = (),
        artefacts: GivenArtefacts | None = None,
    ) -> None:
        self.kwargs, self._artefacts = dict(kwargs), artefacts
        # transformers lets a generation_config of the call replace what the pipeline was built with.
        self.defaults = {} if self.kwargs.get("generation_config") is not None else dict(defaults or {})
        self.generation_config = self.kwargs.get("generation_config") or self.defaults.pop("generation_config", None)
        inside = {} if self.generation_config is None else self.generation_config.to_diff_dict()
        settings = {**inside, **self.defaults, **self.kwargs}
        self.explicit = {name: value for name, value in settings.items() if value is not None}
        self.default_temperature = default_temperature
        self._overrule = frozenset(overrule)
        self.constraints: CallConstraints | None = None

    def find_able(self, number: int, space: DecodingSpace) -> np.ndarray | None:
        """bool (n_configs,), configs that name nothing which the model has not, and meet the constraint of a prompt as
        they say; None: all of them."""
        can = None if self._artefacts is None else self._artefacts.can
        able = None if self.constraints is None else self.constraints.find_able(number, space, self.fixed or {})
        return able if can is None else can if able is None else can & able

    def write_prompt(self, number: int, prompt: PromptLike, config: DecodingConfig) -> PromptLike:
        """A prompt with the hint of a config, and its constraint in words where the config asks for that."""
        constraint = None if self.constraints is None else self.constraints.get(number)
        return ask_for(prompt, config.hint, constraint, config.constrain)

    @cached_property
    def fixed(self) -> dict[str, Any] | None:
        """The caller's settings by field of a configuration, but for those that are overruled; None where a value is
        outside a field's range."""
        fixed = {name: value for name, value in self._set.items() if name not in self._overrule}
        try:
            return {name: getattr(DecodingConfig.from_dict(fixed), name) for name in fixed}
        except InvalidInput:
            return None

    @property
    def overruled(self) -> dict[str, Any]:
        """The caller's settings that the policy decides all the same, by field."""
        return {name: value for name, value in self._set.items() if name in self._overrule}

    @cached_property
    def _set(self) -> dict[str, Any]:
        """The caller's settings by field of a configuration."""
        fixed = {FIELD_OF_KEYWORD[key]: value for key, value in self.explicit.items() if key in FIELD_OF_KEYWORD}
        sampling = self.explicit.get("do_sample")
        if sampling and fixed.get("temperature") == 0:
            raise InvalidInput("temperature", "above 0 together with do_sample=True", 0.0, "Pass one of them only.")
        if sampling is False:
            fixed["temperature"] = 0.0
        elif sampling:
            fixed.setdefault("temperature", self.default_temperature)
        return fixed

    def prepare(
        self, prompt: PromptLike, decision: Decision | None, splice: Splice | None = None, number: int = 0
    ) -> PreparedPrompt:
        """The prompt and its keywords under a decision; unchanged without one, or where no config agrees.

        Args:
            prompt: as the caller gave it.
            decision: the policy's.
            splice: of the soft prefix that its config names.
            number: of the prompt in the call.
        """
        if decision is None or decision.reason == "no_config_agrees":
            return PreparedPrompt(prompt, self.kwargs, 1, decision, "")
        bare, around = (decision.config, {}) if self._artefacts is None else self._artefacts.strip(decision.config)
        # What masks tokens is no setting of `generate`, but a processor below.
        constraint = None if self.constraints is None else self.constraints.get(number)
        bare = bare.replace(constrain="") if bare.constrain == MASK else bare
        rendering = bare.render("transformers", prompt, constraint=constraint)
        settings = rendering.kwargs.items()
        ours = {name: value for name, value in settings if name in _DECIDED or name not in self.explicit}
        if "max_length" in self.explicit and "max_new_tokens" not in self.explicit:
            ours.pop("max_new_tokens", None)  # it would win over the caller's limit
        copies = 1
        wanted = self.explicit.get("num_return_sequences", 1)
        if decision.config.temperature == 0.0 and wanted > decision.config.num_beams:
            ours["num_return_sequences"], copies = 1, wanted
        elif wanted > 1 and "prompt_lookup_num_tokens" not in self.explicit:
            ours["prompt_lookup_num_tokens"] = None  # drafts are for one sequence; the others would be refused
        processors = rendering.processors
        if self.constraints is not None:
            limit, mask = self.constraints.mask(number, decision.config, ours)
            ours, processors = ours | limit, [*processors, *([] if mask is None else [mask])]
            around = around if mask is None or constraint is None else {**around, "constraint": constraint.digest}
        template = rendering.beside.get(TEMPLATE, {})
        key = canonical_json([ours, rendering.processor_settings, template, around])
        # Keywords that are no field of ours stay; for the fields, ours holds what the caller set.
        sent = {name: value for name, value in self.kwargs.items() if value is not None} | ours
        if processors:
            sent["logits_processor"] = [*(self.kwargs.get("logits_processor") or ()), *processors]
        if self.generation_config is not None:
            # transformers deprecates settings beside a generation_config, so they go into a copy of it.
            merged = copy.deepcopy(self.generation_config)
            left = merged.update(**{**self.defaults, **sent})
            sent = {name: value for name, value in sent.items() if name in left} | {"generation_config": merged}
        penalised, drafted = bool(processors), bool(ours.get("prompt_lookup_num_tokens"))
        hinted = rendering.prompt is not prompt
        return PreparedPrompt(
            rendering.prompt, sent, copies, decision, key, hinted, penalised, drafted, template, splice
        )


def hold_unsaid(
    policy: Policy, fixed: Mapping[str, Any] | None, list_sayable: Callable[[], Collection[str]]
) -> dict[str, Any] | None:
    """What the policy may not decide, with the fields about thinking among it that nobody can be told here.

    Args:
        policy: that decides.
        fixed: the caller's settings by field; None: no configuration has them.
        list_sayable: the fields about thinking that the model can be told; asked where a config has some.
    """
    if fixed is None:
        return None
    used = {name for config in policy.space for name in config.to_dict() if name in OF_CHATS}
    unsayable = used - set(list_sayable()) if used else used
    return {**{name: NEUTRAL[name] for name in sorted(unsayable)}, **fixed}


def read_template_keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields about thinking that a caller's keywords of the chat template say."""
    settings = DIALECTS["transformers"].settings
    found = {name: given[key] for name in OF_CHATS for _, key in settings[name].paths if given.get(key) is not None}
    return {name: found[name] for name in sorted(found)}


def group_into_batches(prepared: Sequence[PreparedPrompt], batch_size: int | None = None) -> list[list[int]]:
    """Numbers of the prompts that can be sent in one call, in order of first appearance.

    Args:
        prepared: one a prompt.
        batch_size: prompts that the receiver hands to one call of `generate`; None: all of them. A
            penalty of ours learns the prompt's length there, and a soft prefix is of the prompts of one call, so
            neither must meet a second one.
    """
    found: dict[str, list[int]] = {}
    for number, item in enumerate(prepared):
        found.setdefault(f"{item.key}|{item.copies}", []).append(number)
    divided = []
    for rows in found.values():
        once = prepared[rows[0]].penalised or prepared[rows[0]].splice is not None
        step = batch_size if batch_size is not None and once else len(rows)
        step = 1 if prepared[rows[0]].drafted else step
        divided += [rows[start : start + step] for start in range(0, len(rows), step)]
    return divided


def decide(
    policy: Policy,
    prompts: Sequence[Any],
    call: GenerateCall,
    fixed: Mapping[str, Any] | None,
    price: float | None = None,
    task: str | Sequence[str | None] | None = None,
    *,
    can: np.ndarray | None = None,
) -> list[Decision | None]:
    """The policy's decision for each prompt; None for all where it cannot read the caller's settings.

    Args:
        policy: decides.
        prompts: as the caller gave them.
        call: how many answers it asks for, for a policy that was fitted for several; and what it overrules.
        fixed: what the caller set; None: nothing is decided.
        price: of a token or second, for a policy fitted with prices; None: the dial's first point.
        task: the kind of all prompts, or of each; None: not told.
        can: bool (n_configs,), configs that can be had; None: those of `GenerateCall.find_able`.
    """
    if fixed is None or not prompts:
        return [None] * len(prompts)
    cans = [call.find_able(number, policy.space) if can is None else can for number in range(len(prompts))]
    dial: dict[str, Any] = {} if price is None else {"price": price}
    if policy.dial.argument == "n":
        dial["n"] = call.explicit.get("num_return_sequences", 1)
    if task is not None:
        dial["task"] = task
    if all(one is None for one in cans):
        made = policy.decide_batch(list(prompts), fixed=dict(fixed), **dial)
    else:
        tasks = (
            [dial.pop("task", None)] * len(prompts) if task is None or isinstance(task, str) else list(dial.pop("task"))
        )
        told = [dial if one is None else {**dial, "task": one} for one in tasks]
        rows = zip(prompts, cans, told, strict=True)
        made = [policy.decide(prompt, dict(fixed), among=among, **own) for prompt, among, own in rows]
    overruled = call.overruled
    return [replace(decision, overruled=overruled) for decision in made] if overruled else list(made)


def describe_idle(policy: Policy, explicit: Mapping[str, Any], fixed: Mapping[str, Any] | None) -> str:
    """Why the caller's settings leave the policy nothing to decide; "" where they leave it something.

    Args:
        policy: that would decide.
        explicit: the settings, by the caller's names.
        fixed: the same by field; None where a value is outside a field's range.
    """
    if len(policy.space) < 2 or fixed == {}:
        return ""
    if fixed is None:
        what = ", ".join(f"{name}={value}" for name, value in explicit.items())
        return f"what the caller sets ({what}) is outside a field's range"
    left = int(policy.space.agreeing(fixed).sum())
    if left > 1:
        return ""
    varied = {name for name in fixed if len({getattr(config, name) for config in policy.space}) > 1}
    what = ", ".join(f"{name}={fixed[name]!r}" for name in fixed if name in varied)
    return f"what the caller sets ({what}) leaves {'one config' if left else 'none'} of {len(policy.space)}"
