"""`make_rules`: rules of rewriting as they are said in words, on the command line and in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hagpolicy.errors import InvalidInput
from hagpolicy.serving.handler import ANY_MODEL
from hagpolicy.serving.rewrite import RewriteRules, find_server

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

__all__ = ["RULES", "make_rules"]

RULES = ("overrule", "lacks", "not_together", "adapters")
"""What can be said of a model, by the names of `RewriteRules`."""


def make_rules(
    policies: Mapping[str, Policy],
    said: Mapping[str, Mapping[str, str]],
    *,
    server: str | None = None,
    hints: bool = True,
    endpoints: Mapping[str, Any] | None = None,
) -> dict[str, RewriteRules]:
    """Rules by the model that requests name, "*" for all others.

    What is said of a model stands in place of what is said of all.

    Args:
        policies: by model, "*" for all others.
        said: of each of `RULES` the words by model, "*" for all others: names of fields separated by commas, of
            `not_together` pairs with a plus between; of `adapters` NAME:SERVED.
        server: a name in `SERVERS`; None: the one on which each policy's sweep ran.
        hints: configs that add a hint to the prompt may be chosen.
        endpoints: of all models, see `RewriteRules`; None: none.

    Raises:
        InvalidInput: an unknown server or field, what is no pair or endpoint, or a model that has no policy.
    """
    for name, words in said.items():
        for model in words:
            if model not in policies and ANY_MODEL not in policies and model != ANY_MODEL:
                raise InvalidInput(f"model of {name}", f"one with a policy ({', '.join(policies)})", model)
    models = [model for words in said.values() for model in words]
    return {
        model: replace(
            _make_rules(policies.get(model) or policies[ANY_MODEL], said, model, server, hints=hints),
            endpoints={} if endpoints is None else endpoints,
        )
        for model in dict.fromkeys([*policies, *models])
        if model in policies or ANY_MODEL in policies
    }


def _make_rules(
    policy: Policy, said: Mapping[str, Mapping[str, str]], model: str, server: str | None, *, hints: bool
) -> RewriteRules:
    """The rules for one model."""
    overrule, lacks, not_together, adapters = (
        _split(words.get(model, words.get(ANY_MODEL, ""))) for words in (said.get(name, {}) for name in RULES)
    )
    pairs: Any = tuple(tuple(name.strip() for name in pair.split("+")) for pair in not_together)
    named = dict(_parse_pair(pair) for pair in adapters)
    return RewriteRules(server or find_server(policy), overrule, lacks, pairs, hints=hints, adapters=named)


def _parse_pair(said: str) -> tuple[str, str]:
    name, colon, served = said.partition(":")
    if not colon:
        raise InvalidInput("adapters", "NAME:SERVED, several with commas between", said)
    return name.strip(), served.strip()


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())
