"""`wrap`: a policy in front of what is called today."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagpolicy.config.constraints import Constraint
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.artefacts import GivenArtefacts
from hagpolicy.serving.base import warn_of_another_engine
from hagpolicy.serving.handler import ANY_MODEL, RequestHandler
from hagpolicy.serving.live import make_live
from hagpolicy.serving.llm import WrappedLLM, is_llm, warn_of_another_llm
from hagpolicy.serving.model import WrappedModel
from hagpolicy.serving.pipeline import WrappedPipeline
from hagpolicy.serving.rewrite import RequestReceipt, RewriteRules, find_server
from hagpolicy.serving.transport import wrap_http_client

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy


def wrap(
    target: Any,
    policy: Policy,
    *,
    tokenizer: Any = None,
    price: float | None = None,
    task: str | None = None,
    overrule: Collection[str] = (),
    rules: RewriteRules | Mapping[str, RewriteRules] | None = None,
    on_receipt: Callable[[RequestReceipt], object] | None = None,
    log: str | Path | None = None,
    log_text: bool = False,
    explore: float = 0.0,
    experiment: float | None = None,
    artifacts: Mapping[str, Mapping[str, Any]] | None = None,
    learn_drafts: bool = True,
    constraint: Constraint | Mapping[str, Any] | str | None = None,
) -> Any:
    """Put a policy in front of a transformers pipeline or model, vLLM's `LLM`, or a client of the OpenAI API.

    Every call gets its prompt's configuration, chosen among those that agree with what the caller
    sets explicitly, which wins, 0.0 included, but for the fields of `overrule`. Where no configuration agrees, the
    call is sent as it is, and one warning says so where the caller's settings leave nothing to decide. A call may name
    its own `price=` and `task=`, which never reach the model. A model that is not the one the policy was swept on gets
    one warning. A policy fitted for several answers reads how many from `num_return_sequences`.

    A client of the `openai` package (`OpenAI`, `AsyncOpenAI` and their kin) is given an HTTP transport that rewrites
    the bodies of its requests (`serving.rewrite`); everything else of it is its own, and the one that was given is
    left as it is. The receipt of each request is in the headers `x-hag-…` of its response (`with_raw_response`).

    Args:
        target: a text-generation pipeline, a model with `generate`, a `vllm.LLM`, or a client of the `openai` package.
        policy: decides.
        tokenizer: the model's; a pipeline has its own.
        price: reward that a token (or second) costs, for a policy fitted with prices; `.price` of what is
            returned changes it between calls. None: the first price it was fitted for.
        task: the kind of the prompts, where the application knows it; see `Policy.predict`.
        overrule: fields of a configuration, such as "temperature", that the policy decides even where the caller sets
            them; the receipt of a decision's rendering says so.
        rules: for a client: the server behind it, and what its model refuses, or these by model, "*" for all others;
            None: the server that was swept.
        on_receipt: for a client or vLLM: called with the receipt of every request or prompt.
        log: for a client: the file of its decision log, which is made where there is none and which several processes
            may write; the next three need one.
        log_text: prompts are kept in it as they are, which fitting from it needs; else keyed digests of them alone.
        explore: share of the calls whose config is drawn among those that can be had, [0, 1]; probabilities are logged.
        experiment: share of the units (the body's `safety_identifier` or `user`, or the header `x-hag-unit`) whose
            requests the policy decides, (0, 1); those of the others go out as they came. None: no experiment.
        artifacts: for a pipeline or model: folders of what the configs name, by field and name, such as
            {"reference": {"faq": "path"}}; of `soft_prefix`, `reference` and `draft_source`. None: none. Calls of a
            model that is given some, or that is one of PEFT, are made one at a time.
        learn_drafts: whether its memories of drafts learn from each answer that they drafted for, in memory alone:
            `save_draft_memory` of what is returned writes a folder. The texts stay the same, but how long an answer
            takes then depends on what others were answered: False where they must not know of each other.
        constraint: for a pipeline, model or client: what all answers have to be (`Constraint`, its mapping or JSON
            text); the keyword `constraint=` says it of one call, and the header `x-hag-constraint` of one request.
            None: anything.

    Returns:
        `WrappedPipeline`, `WrappedModel` or `WrappedLLM`: used like the target, whose other attributes it passes
        on. The last call's decisions are in `.decisions`, the numbers of all by reason in `.counts`. Of a client, one
        of the same type.

    Raises:
        InvalidInput: something else, a pipeline for another task, a model without its tokenizer, a price
            for a policy without prices, a share that is none or without a log.
        StoreError: the log cannot be written or is none.
    """
    said = Constraint.parse(constraint)
    live = make_live(log, text=log_text, explore=explore, experiment=experiment)
    if artifacts is not None and (is_client(target) or is_llm(target)):
        do = "Leave it out: what a server is given is its own affair."
        raise InvalidInput("artifacts", "None beside what is no model of transformers", type(target).__name__, do)
    if is_client(target):
        by_model = rules if isinstance(rules, Mapping) else {} if rules is None else {ANY_MODEL: rules}
        given = {ANY_MODEL: RewriteRules(find_server(policy)), **by_model}
        given = {model: replace(one, overrule=(*one.overrule, *overrule)) for model, one in given.items()}
        told: dict[str, Any] = {"price": price, "task": task, "constraint": said}
        handler = RequestHandler(policy, given, on_receipt=on_receipt, live=live, **told)
        return target.copy(http_client=wrap_http_client(target._client, handler))
    given_of_clients = {"rules": rules, "on_receipt": None if is_llm(target) else on_receipt, "log": live}
    if name := next((name for name, value in given_of_clients.items() if value is not None), ""):
        raise InvalidInput(name, "None beside what is no client", name, "Leave it out, or wrap a client of `openai`.")
    if is_llm(target):
        if said is not None:
            do = "Ask a server of vLLM by a wrapped client."
            raise InvalidInput("constraint", "None beside vLLM's offline LLM", said.kind, do)
        warn_of_another_llm(policy, target)
        return WrappedLLM(target, policy, price, task, overrule, on_receipt)
    if hasattr(target, "task") and hasattr(target, "model"):
        if target.task != "text-generation":
            raise InvalidInput("target", "a text-generation pipeline", f"a pipeline for {target.task}")
        warn_of_another_engine(policy, target.model, target.tokenizer)
        artefacts = GivenArtefacts(target.model, policy, artifacts, learn_drafts=learn_drafts)
        return WrappedPipeline(target, policy, price, task, overrule, artefacts, said)
    if not callable(getattr(target, "generate", None)):
        expected = "a text-generation pipeline, a model with generate, a vllm.LLM, or a client of the openai package"
        raise InvalidInput("target", expected, type(target).__name__)
    if tokenizer is None:
        raise InvalidInput("tokenizer", "the model's tokenizer", None, "Pass wrap(model, policy, tokenizer=…).")
    warn_of_another_engine(policy, target, tokenizer)
    artefacts = GivenArtefacts(target, policy, artifacts, learn_drafts=learn_drafts)
    return WrappedModel(target, policy, tokenizer, price, task, overrule, artefacts, said)


def is_client(target: Any) -> bool:
    """Whether it is a client of the `openai` package, which need not be installed."""
    kinds = (kind for kind in type(target).__mro__ if kind.__name__ in ("OpenAI", "AsyncOpenAI"))
    return any(kind.__module__.partition(".")[0] == "openai" for kind in kinds)
