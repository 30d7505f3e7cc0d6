"""The base of the wrappers: passes attributes on to its target and keeps the last call's decisions."""

from __future__ import annotations

import warnings
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from hagpolicy._digest import digest

if TYPE_CHECKING:
    from hagpolicy.policy.decision import Decision
    from hagpolicy.policy.policy import Policy

_OWN = frozenset({"target", "policy", "decisions", "price"})


class Wrapper:
    """Base of the wrappers; attributes it does not have itself are read from and set on its target.

    Attributes:
        target: what is wrapped.
        policy: that decides.
        decisions: of the last call, one a prompt in their order; None for a prompt that the policy
            could not read (it was sent as it is).
        price: reward that a token (or second) costs from now on, for a policy fitted with prices; may be
            set between calls. None: the first price it was fitted for.
    """

    # By hand rather than on wrapt's ObjectProxy: whoever wraps a model has `[cpu]` and a transformers of their own, and
    # a further package would be needed for a dozen lines; and a proxy that is an instance of the target's class would
    # be taken for the bare model by transformers, and could be neither copied nor pickled.
    target: Any
    policy: Policy
    decisions: list[Decision | None]
    price: float | None

    def __init__(self, target: Any, policy: Policy, price: float | None = None) -> None:
        if price is not None:
            policy.dial.rule_at(price)  # a policy without prices says so now, not at the first call
        vars(self).update(target=target, policy=policy, decisions=[], price=price)

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
    differing = [key for key in here if key in swept and here[key] != swept[key]]
    if differing:
        found = "; ".join(f"{key}: {swept[key]} then, {here[key]} now" for key in differing)
        warnings.warn(f"the policy was swept on another engine ({found}): its choices may not hold here", stacklevel=3)
