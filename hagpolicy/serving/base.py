"""The base of the wrappers: passes attributes on to its target and keeps the last call's decisions."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from hagpolicy._digest import digest
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import RETRY, Constraint
from hagpolicy.config.fields import NEUTRAL
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.artefacts import GivenArtefacts
from hagpolicy.serving.call import GenerateCall, PreparedPrompt, decide, describe_idle
from hagpolicy.serving.call_constraints import name_outcome, read_constraints

if TYPE_CHECKING:
    from hagpolicy.engines.transformers.prefixes import Splice
    from hagpolicy.policy.decision import Decision
    from hagpolicy.policy.policy import Policy

_OWN = frozenset(
    {
        *("target", "policy", "decisions", "price", "overrule", "constraint_outcomes"),
        *("_task", "_counts", "_warned", "_artefacts", "_constraint", "_constraint_counts"),
    }
)
# One for all wrappers, held for microseconds: a lock of its own could be neither copied nor pickled.
_COUNTING = threading.Lock()
# What a decision that was not made counts as: settings of the caller that no config can have.
_UNDECIDED = "not_decided"


class Wrapper:
    """Base of the wrappers; attributes it does not have itself are read from and set on its target.

    Args:
        task: the kind of the prompts of all calls that name no `task` of their own; None: not told.
        artefacts: that a model of transformers is given; None: none.
        constraint: what the answers of all calls have to be that name no `constraint` of their own; None: anything.

    Attributes:
        target: what is wrapped.
        policy: that decides.
        decisions: of the last call, one a prompt in their order; None where the policy could not read the caller's
            settings (the prompt was sent as it is).
        price: reward that a token (or second) costs from now on, for a policy fitted with prices; may be
            set between calls. None: the first price it was fitted for.
        overrule: fields of a configuration that the policy decides though the caller sets them.
        counts: decisions since the wrapper was made, by reason: what to watch in production.
        constraint_outcomes: of the last call, how the constraint of each prompt was met, in their order: "ask", "mask",
            "none", "retry; met after 2 attempts", and the like; "" for a prompt that has none.
        constraint_counts: prompts with a constraint since the wrapper was made, by "ask", "mask", "none", "retry_met",
            "retry_not_met" and "retry_not_checked".
    """

    # By hand rather than on wrapt's ObjectProxy: whoever wraps a model has `[cpu]` and a transformers of their own, and
    # a further package would be needed for a dozen lines; and a proxy that is an instance of the target's class would
    # be taken for the bare model by transformers, and could be neither copied nor pickled.
    target: Any
    policy: Policy
    decisions: list[Decision | None]
    price: float | None
    overrule: tuple[str, ...]
    _counts: Counter[str]
    _warned: bool
    _task: str | None
    _artefacts: GivenArtefacts | None
    constraint_outcomes: list[str]
    _constraint: Constraint | None
    _constraint_counts: Counter[str]

    def __init__(
        self,
        target: Any,
        policy: Policy,
        price: float | None = None,
        task: str | None = None,
        overrule: Collection[str] = (),
        artefacts: GivenArtefacts | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        if price is not None:
            policy.dial.rule_at(price)  # a policy without prices says so now, not at the first call
        fields = tuple(dict.fromkeys([overrule] if isinstance(overrule, str) else overrule))
        if unknown := [name for name in fields if name not in NEUTRAL]:
            raise InvalidInput("overrule", f"fields of a configuration ({', '.join(NEUTRAL)})", unknown[0])
        vars(self).update(target=target, policy=policy, decisions=[], price=price, overrule=fields)
        vars(self).update(_task=task, _counts=Counter(), _warned=False, _artefacts=artefacts)
        vars(self).update(constraint_outcomes=[], _constraint=constraint, _constraint_counts=Counter())

    @property
    def counts(self) -> dict[str, int]:
        """Number of decisions by reason, since the wrapper was made."""
        with _COUNTING:
            return dict(self._counts)

    def save_draft_memory(self, name: str, folder: str | Path) -> Path:
        """The folder of a new artefact: a memory of drafts with all that it has learned from answers so far.

        `wrap` takes it in the place of the folder that was swept, under the same name. It is on no record which prompts
        it learned from. The folder holds parts of the answers: whoever has it can read them.

        Args:
            name: of the memory, as `wrap(..., artifacts={"draft_source": {name: …}})` was given it.
            folder: which must not be there yet.

        Raises:
            InvalidInput: no such memory, one that does not learn, or a folder that is there.
        """
        if self._artefacts is None:
            raise InvalidInput("name", "the name of a memory that was given", name, "None was.")
        return self._artefacts.save_draft_memory(name, folder)

    @property
    def constraint_counts(self) -> dict[str, int]:
        """Number of prompts with a constraint by how it was met, since the wrapper was made."""
        with _COUNTING:
            return dict(self._constraint_counts)

    def _take_constraints(self, kwargs: dict[str, Any], count: int) -> list[Constraint | None]:
        """The constraints of the prompts of a call, so many, whose keyword is taken out."""
        said = kwargs.pop("constraint", None)
        return read_constraints(self._constraint if said is None else said, count)

    def _take(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The keywords that reach the model, and the price and task of this call."""
        own = {name: kwargs[name] for name in ("price", "task") if kwargs.get(name) is not None}
        rest = {name: value for name, value in kwargs.items() if name not in ("price", "task")}
        return rest, {"price": self.price, "task": self._task} | own

    def _prepare_prompts(
        self,
        prompts: Sequence[Any],
        call: GenerateCall,
        fixed: Mapping[str, Any] | None,
        turned: Mapping[str, Any],
        find_place: Callable[[int, DecodingConfig], Splice | str],
    ) -> list[PreparedPrompt]:
        """The prompts of a call with what is decided for each, counted; one warning where that can never be other than
        what the caller set.

        Args:
            prompts: as the policy reads them.
            call: of the caller.
            fixed: what it set, by field; None: nothing is decided.
            turned: price and task.
            find_place: where the soft prefix of a config goes in a prompt of this number, or why it cannot be had.
        """
        decisions = decide(self.policy, prompts, call, fixed, **turned)
        splices: list[Splice | None] = [None] * len(prompts)
        for number, decision in enumerate(decisions):
            if not _has_prefix(decision):
                continue
            found = find_place(number, decision.config)
            if isinstance(found, str):
                decisions[number] = self._decide_without_prefix(number, prompts[number], call, fixed, turned, found)
            else:
                splices[number] = found
        self._count(_UNDECIDED if one is None else one.reason for one in decisions)
        self._warn_idle(call.explicit, fixed, 5)
        if call.constraints is not None:
            for number, decision in enumerate(decisions):
                call.constraints.enter(number, decision)
        rows = enumerate(zip(prompts, decisions, splices, strict=True))
        return [call.prepare(*row, number) for number, row in rows]

    def _try_again(
        self,
        call: GenerateCall,
        prompts: Sequence[Any],
        prepared: Sequence[PreparedPrompt],
        answers: list[Any],
        read: Callable[[int, Any], str | None],
        send: Callable[[Mapping[int, PreparedPrompt]], Mapping[int, Any]],
    ) -> None:
        """Generate answers again, in place, where they do not meet their constraint; the first where none does.

        Args:
            call: of the caller.
            prompts: as the policy reads them.
            prepared: the prompts of the first answers.
            answers: the first answers.
            read: the text of an answer, by the number of its prompt; None: it is no single text.
            send: answers to prompts, by their numbers.
        """
        constraints = call.constraints
        if constraints is None:
            return
        first = list(answers)

        def generate(decisions: Mapping[int, Decision]) -> Mapping[int, str | None]:
            rows = decisions.items()
            items = {row: call.prepare(prompts[row], one, prepared[row].splice, row) for row, one in rows}
            for row, answer in send(items).items():
                answers[row] = answer
            return {row: read(row, answers[row]) for row in items}

        texts = [read(row, answer) for row, answer in enumerate(answers)] if constraints.tries else []
        constraints.try_again([one.decision for one in prepared], texts, generate)
        for row, outcome in enumerate(constraints.outcomes):
            if not outcome.startswith(f"{RETRY}; met"):
                answers[row] = first[row]

    def _set_outcomes(self, call: GenerateCall) -> None:
        """Keep and count how the constraints of a call were met."""
        outcomes = [] if call.constraints is None else list(call.constraints.outcomes)
        vars(self)["constraint_outcomes"] = outcomes
        with _COUNTING:
            self._constraint_counts.update(name_outcome(outcome) for outcome in outcomes if outcome)

    def _decide_without_prefix(
        self,
        number: int,
        prompt: Any,
        call: GenerateCall,
        fixed: Mapping[str, Any] | None,
        turned: Mapping[str, Any],
        why: str,
    ) -> Decision | None:
        """The decision for a prompt in which no soft prefix can be had: what is worth most without one."""
        can = np.array([not config.canonical().soft_prefix for config in self.policy.space])
        if (able := call.find_able(number, self.policy.space)) is not None:
            can &= able
        task = turned.get("task")
        own = task if task is None or isinstance(task, str) else task[number]
        [decision] = decide(self.policy, [prompt], call, fixed, turned.get("price"), own, can=can)
        return None if decision is None else replace(decision, unavailable={"soft_prefix": why})

    def _use_artefacts(self, items: Sequence[PreparedPrompt]) -> contextlib.AbstractContextManager[None]:
        """A context in which the model generates with what the config of some prompts names, which are one call; with
        nothing for no prompts."""
        if self._artefacts is None:
            return contextlib.nullcontext()
        decision = items[0].decision if items else None
        config = None if decision is None or decision.reason == "no_config_agrees" else decision.config
        splices = [one.splice for one in items if one.splice is not None]
        return self._artefacts.use(config, splices or None)

    def _count(self, reasons: Iterable[str]) -> None:
        with _COUNTING:
            self._counts.update(reasons)

    def _warn_idle(self, explicit: Mapping[str, Any], fixed: Mapping[str, Any] | None, stacklevel: int) -> None:
        """Warn, once a wrapper, where a call's settings leave the policy nothing to decide."""
        idle = "" if self._warned else describe_idle(self.policy, explicit, fixed)
        with _COUNTING:
            first = bool(idle) and not self._warned
            vars(self)["_warned"] = self._warned or first
        if first:
            do = "wrap(..., overrule=[...]) names the fields that the policy decides all the same"
            warnings.warn(f"the policy has nothing to decide: {idle}; {do}", stacklevel=stacklevel)

    def _set_decisions(self, decisions: list[Decision | None]) -> None:
        # Assigned as a whole: a thread that reads it sees one call's decisions, never half of two.
        vars(self)["decisions"] = decisions

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # not set yet, as while unpickling or copying: there is no target to ask
            raise AttributeError(name)
        return getattr(self.target, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            vars(self)[name] = value
        else:
            setattr(self.target, name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.target).__name__}, {self.policy!r})"


def _has_prefix(decision: Decision | None) -> TypeGuard[Decision]:
    """Whether the config of a decision names a soft prefix."""
    if decision is None or decision.reason == "no_config_agrees":
        return False
    return bool(decision.config.canonical().soft_prefix)


def warn_of_another_engine(policy: Policy, model: Any, tokenizer: Any) -> None:
    """Warn where the model is not the one whose sweep the policy was fitted on: policies are per model.

    Compared is what can be known of a model without reading its weights: kind of engine, the hub's
    commit, else the name, chat template, and data type.
    """
    swept = dict(policy.fingerprint)
    if not swept:
        return
    template = getattr(tokenizer, "chat_template", None)
    here = {
        "kind": "transformers",
        "chat_template": digest(template) if template else "none",
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    commit = getattr(model.config, "_commit_hash", None)
    name = str(getattr(model.config, "name_or_path", "") or "")
    if commit and swept.get("weights", "").startswith("commit "):
        here["weights"] = f"commit {commit}"
    elif name and not swept.get("model", "").endswith(".gguf"):
        # A folder's own name is all that a fingerprint keeps of its path; a GGUF file's is lost on loading.
        here["model"] = name if name == swept.get("model") else PurePath(name).name
        swept["model"] = swept.get("model", "") if name == swept.get("model") else PurePath(swept.get("model", "")).name
    if found := describe_differences(swept, here):
        warnings.warn(f"the policy was swept on another engine ({found}): its choices may not hold here", stacklevel=3)


def describe_differences(swept: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What of an engine's fingerprint is another than what is known of the one at hand; "" where nothing is."""
    differing = [key for key in here if key in swept and here[key] != swept[key]]
    return "; ".join(f"{key}: {swept[key]} then, {here[key]} now" for key in differing)
