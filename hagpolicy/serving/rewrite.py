"""`rewrite`: the body of a request with a policy's decision in it, and what became of every field.

A key that stands in the body, null included, is the caller's; an absent one is the policy's, which chooses among the
configs that agree with the caller's and that the server can be sent. Where none does, the body goes out as it came.
So it is with the keys of an object in the body, such as `chat_template_kwargs`: what the caller has in it stays.
Nothing here reads or writes anything: the transport, the middleware and the proxy are ends of this one function.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy.config.adapters import ServedAdapters, check_adapters
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import ASK, MASK, RETRY, Constraint
from hagpolicy.config.endpoints import EndpointAddress
from hagpolicy.config.fields import FIELDS, NEUTRAL, split_pin
from hagpolicy.config.render import Receipt, fill_hint, merge_objects, render_as, takes_hint
from hagpolicy.config.servers import SERVERS
from hagpolicy.config.slots import describe_slots
from hagpolicy.engines.constraints.attempts import make_attempt_config
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.decision import find_allowed
from hagpolicy.policy.dial import MAX_COUNT
from hagpolicy.serving.attempts import find_obstacle
from hagpolicy.serving.constraints import UNMET, ConstraintWriter, check_form
from hagpolicy.serving.endpoints import Endpoint, find_endpoint
from hagpolicy.serving.exploration import Draw, Exploration
from hagpolicy.serving.routing import check_upstreams

if TYPE_CHECKING:
    from hagpolicy.config.space import DecodingSpace
    from hagpolicy.policy.decision import Decision
    from hagpolicy.policy.policy import Policy

__all__ = ["RequestReceipt", "RewriteRules", "Rewriter", "find_server", "rewrite"]

# What a value of the caller's is that no configuration can have: null, a word, out of range.
_UNKNOWN = object()
# What stands at a path where there is nothing.
_ABSENT = object()
Path = tuple[str, ...]


@dataclass(frozen=True)
class RewriteRules:
    """How requests to one model of one server are rewritten.

    Attributes:
        server: a name in `SERVERS`.
        overrule: fields that the policy decides whatever the client sends, by our names, or "all"; what the client
            sent stands in the receipt.
        lacks: further fields that this model refuses at any value but its own: configs that set them are not chosen,
            and they are never sent.
        not_together: pairs of fields that this model refuses together: of configs that set both none is chosen.
        send_neutral: fields at their neutral value are sent too, so that no default of server or model takes their
            place. None: where the server is not known to do the same without (`Server.neutral_unsent`).
        hints: configs that add a hint to the prompt may be chosen.
        adapters: what the server calls each adapter, by the name that configs have for it: of llama.cpp's server its
            number, of others the model that it is served as. A config that names another one is not chosen.
        endpoints: the servers that configs name as their `endpoint`, of the same kind as `server`: "URL", "URL#MODEL"
            where the model has another name there, or {"url": …, "key_env": variable with its key}. A config that
            names another one is not chosen.

    Raises:
        InvalidInput: an unknown server or field, or what names no adapter or endpoint.
    """

    server: str = "compatible"
    overrule: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    not_together: tuple[tuple[str, str], ...] = ()
    send_neutral: bool | None = None
    hints: bool = True
    adapters: Mapping[str, str] = field(default_factory=dict, hash=False)
    endpoints: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        entry = SERVERS[self.server]
        object.__setattr__(self, "adapters", check_adapters(self.adapters, self.server))
        object.__setattr__(self, "endpoints", check_upstreams(self.endpoints))
        if "all" in self.overrule:
            object.__setattr__(self, "overrule", tuple(FIELDS))
        pairs = [name for pair in self.not_together for name in pair]
        if wrong := [pair for pair in self.not_together if len(pair) != 2]:
            raise InvalidInput("not_together", "pairs of fields", "+".join(wrong[0]))
        for what, names in (("overrule", self.overrule), ("lacks", self.lacks), ("not_together", pairs)):
            if unknown := [name for name in names if name not in NEUTRAL]:
                raise InvalidInput(what, f"fields of a configuration ({', '.join(FIELDS)})", unknown[0])
        if self.send_neutral is None:
            object.__setattr__(self, "send_neutral", not entry.neutral_unsent)


@dataclass(frozen=True)
class RequestReceipt:
    """What became of one request.

    Attributes:
        reason: of the decision (`Decision.reason`), or "skipped", "other_path", "other_model", "not_json", "encoded",
            "too_large", "failed", "experiment_default" where none was made.
        decision: the policy's; None where none was made.
        changed: the body is not as it came.
        applied: keys that were set, with the values sent.
        dropped: fields of the chosen config that cannot be sent, with the values that were wanted.
        overruled: fields that the client had set and the policy decided, with the client's values.
        kept: fields that the client set.
        hinted: a hint was added to the prompt.
        notes: how the server's meaning of an applied field differs from ours, by field; of a hint what became of its
            slots.
        fixed: fields that were not the policy's to decide, with their values.
        draw: how the config came to be chosen where it could have been drawn; None where nothing is drawn.
        request_id: of the call, by which a reward names it; "" where nothing is logged.
        arm: of an experiment, "policy" or "default"; "" outside of one.
        by_request: the arm was drawn for this request alone, since it named no unit.
        chosen: the config of the policy's space that was chosen, as it stands there, without what the client fixed;
            None where none of them was.
        fields: by the keys of `applied` (OBJECT.KEY within one) the field of ours that each sets; one that only
            switches off what the server would do besides sets none.
        constraint: how that of the request is to be met, "ask", "mask" or "retry"; "none" where nothing is done about
            it, "" where there is none. What it says, and what is sent for it, is in no receipt.
        endpoint: the server that the request goes to; None: the one that it was for.
    """

    reason: str
    decision: Decision | None = None
    changed: bool = False
    applied: Mapping[str, Any] = field(default_factory=dict)
    dropped: Mapping[str, Any] = field(default_factory=dict)
    overruled: Mapping[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    hinted: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    draw: Draw | None = None
    request_id: str = ""
    arm: str = ""
    by_request: bool = False
    chosen: DecodingConfig | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    constraint: str = ""
    endpoint: EndpointAddress | None = None


class Rewriter:
    """Rewrites the requests to one endpoint under one policy.

    Args:
        endpoint: of the requests.
        policy: that decides.
        rules: of model and server.
    """

    def __init__(self, endpoint: Endpoint, policy: Policy, rules: RewriteRules) -> None:
        self.endpoint, self.policy, self.rules = endpoint, policy, rules
        self.dialect = endpoint.find_dialect(rules.server)
        self._packed, own = SERVERS[rules.server].packed, SERVERS[rules.server].dialect.settings
        self._packs = bool(self._packed) and endpoint.settings is None
        names = set(self.dialect.settings) - set(rules.lacks)
        self._keys = {name: self._list_keys(name) for name in FIELDS if name in names}
        self._rendered: dict[int, tuple[dict[str, Any], Receipt]] = {}
        settings = own if self._packs else self.dialect.settings
        self._fields = {path: name for name, setting in settings.items() for path in setting.paths}
        self._unpacked = {own[name].key: keys[0][-1] for name, keys in self._keys.items() if name in own}
        self._adapters = ServedAdapters(rules.adapters, rules.server, policy.space)
        self._constraints = ConstraintWriter(self.dialect, policy.space)
        self._objects = {setting.under for setting in self.dialect.settings.values() if setting.under}

    def rewrite(
        self,
        body: Mapping[str, Any],
        fixed: Mapping[str, Any] | None = None,
        *,
        price: float | None = None,
        task: str | None = None,
        explore: Exploration | None = None,
        constraint: Constraint | None = None,
        routed: bool = True,
    ) -> tuple[Mapping[str, Any], RequestReceipt]:
        """The body to send and what became of it; see `rewrite`. A body beside a constraint passes `check_form`. Where
        a request cannot be `routed` to another server, configs that name an endpoint are not chosen."""
        stated, overruled, asked = self._read_settings(body)
        unmet = "" if constraint is None else UNMET
        if stated is None or not self._read_adapter(body, stated, asked):
            return body, RequestReceipt("no_config_agrees", kept=tuple(asked), constraint=unmet)
        content = self.endpoint.read(body)
        dial: dict[str, Any] = {"task": task} | ({} if price is None else {"price": price})
        if self.policy.dial.argument == "n":
            dial["n"] = _read_count(body)
        hints = self._takes_words(content)
        # What stands in the body is what the server gets, whatever the header says of the same field.
        held = self.policy.space.pin({**(fixed or {}), **stated})
        among = self._can if hints else self._can & self._unhinted
        among = among if routed else among & self._unrouted
        if constraint is not None:
            able = self._constraints.find_able(constraint, words=hints)
            once = able & self._once if find_obstacle(body) else able
            # Nobody reads a stream to send it again: another way is chosen where there is one.
            among = among & (once if (among & once).any() else able)
        decision = self.policy.decide("" if content is None else content, held, among=among, **dial)
        if decision.reason == "no_config_agrees":
            return body, RequestReceipt(decision.reason, decision, kept=tuple(asked), fixed=held, constraint=unmet)
        draw = None
        if explore is not None and decision.index is not None:
            allowed = find_allowed(self.policy.space, held, among)
            draw = explore.draw(decision.index, among if allowed is None else allowed)
            decision = _follow(decision, draw, self.policy.space, held)
        sent, receipt = self._apply(
            body,
            replace(decision, overruled=overruled) if overruled else decision,
            tuple(asked),
            hints=hints,
            constraint=constraint,
        )
        chosen = None if decision.index is None else self.policy.space[decision.index]
        return sent, replace(receipt, chosen=chosen, fixed=held, draw=draw)

    def rewrite_again(
        self, body: Mapping[str, Any], receipt: RequestReceipt, constraint: Constraint
    ) -> Mapping[str, Any]:
        """The body of a later attempt at an answer that meets the request's constraint: see `make_attempt_config`.

        Args:
            body: of the request.
            receipt: of its first attempt, with a decision.
            constraint: of the request.
        """
        decision = receipt.decision
        assert decision is not None
        again = replace(decision, config=make_attempt_config(decision.config), index=None)
        hints = self._takes_words(self.endpoint.read(body))
        return self._apply(body, again, receipt.kept, hints=hints, constraint=constraint)[0]

    def _takes_words(self, content: Any) -> bool:
        """Whether words of ours may follow those of a prompt."""
        return self.rules.hints and content is not None and takes_hint(content)

    @cached_property
    def _can(self) -> np.ndarray:
        """bool (n_configs,): configs that can be sent as they are."""
        return np.array([self._can_send(config) for config in self.policy.space])

    @cached_property
    def _unhinted(self) -> np.ndarray:
        return np.array([not config.hint for config in self.policy.space])

    @cached_property
    def _once(self) -> np.ndarray:
        """bool (n_configs,): configs whose answer is not tried again."""
        return np.array([config.constrain != RETRY for config in self.policy.space])

    @cached_property
    def _unrouted(self) -> np.ndarray:
        return np.array([not config.endpoint for config in self.policy.space])

    def _find_upstream(self, config: DecodingConfig) -> EndpointAddress | None:
        """The server that a config names; None where it names none, or one that the rules have not."""
        found: EndpointAddress | None = self.rules.endpoints.get(split_pin(config.endpoint)[0])
        return found

    def _can_send(self, config: DecodingConfig) -> bool:
        own = config.canonical().to_dict()
        set_fields = {name for name, value in own.items() if value != NEUTRAL[name]}
        if not set_fields.isdisjoint(self.rules.lacks) or not self._adapters.has(config.adapter):
            return False
        if config.endpoint and self._find_upstream(config) is None:
            return False
        if any(set_fields.issuperset(pair) for pair in self.rules.not_together):
            return False
        receipt = self._render(config)[1]
        return not receipt.dropped and not any(
            not self.dialect.settings[name].takes(asked) for name, (asked, _) in receipt.clamped.items()
        )

    def _render(self, config: DecodingConfig) -> tuple[dict[str, Any], Receipt]:
        """Keys and values of a configuration, and what became of its fields."""
        unsent = set(self.rules.lacks) if self.rules.send_neutral else set(FIELDS)
        title = SERVERS[self.rules.server].title
        there = "" if self._find_upstream(config) is None else config.endpoint
        bare = {**config.fields(), "adapter": "", **({"endpoint": ""} if there else {})}
        made = render_as(self.dialect, bare, title, unsupported="drop", leave_out=unsent)
        if config.adapter:
            made.receipt.applied["adapter"] = config.adapter
        if there:
            made.receipt.applied["endpoint"] = there
        return made.kwargs, made.receipt

    def _render_decision(self, decision: Decision) -> tuple[dict[str, Any], Receipt]:
        """`_render` of what was decided, which is made once for a config of the space."""
        at = decision.index
        if at is None or decision.config is not self.policy.space[at]:
            return self._render(decision.config)
        if at not in self._rendered:
            self._rendered[at] = self._render(decision.config)
        return self._rendered[at]

    def _list_keys(self, name: str) -> tuple[Path, ...]:
        """Where in a body a field is set, each a path of keys, the one that is sent first."""
        own = self.dialect.settings[name].paths
        further = ((key,) for key in self.endpoint.limit) if name == "max_tokens" else ()
        return tuple(dict.fromkeys((*own, *further)))

    def _read_settings(self, body: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any]]:
        """What the client fixed, by field, or None where no configuration can agree with it; what of its settings is
        overruled; and all that it set, as it set it."""
        packed = _unpack(body.get(self._packed)) if self._packed else {}
        if packed is None:
            return None, {}, {}
        said = {self._unpacked.get(key, key): value for key, value in packed.items()} | dict(body)
        found = {name: [_find(said, path) for path in paths] for name, paths in self._keys.items()}
        asked = {name: value for name, values in found.items() for value in values if value is not _ABSENT}
        if said.get("do_sample") is False and "do_sample" in packed:
            asked["temperature"] = 0.0
        overruled = {name: value for name, value in asked.items() if name in self.rules.overrule}
        stated = {}
        for name, value in asked.items():
            if name in overruled:
                continue
            known = self._read_value(name, value)
            if known is not _UNKNOWN:
                stated[name] = known
            elif name in self.policy.space.varying:
                return None, {}, asked
        return stated, overruled, asked

    def _read_adapter(self, body: Mapping[str, Any], stated: dict[str, Any], asked: dict[str, Any]) -> bool:
        """Enter the adapter that a client names among what it fixed; whether some config can agree with it.

        Of `overrule` it is not asked: a client that names an adapter has a model answer that the policy is not for.
        """
        if "adapter" not in self.policy.space.varying or not self._adapters.is_named(body):
            return True
        asked["adapter"] = body[self._adapters.key]
        value = self._adapters.read(body)
        if value is not None:
            stated["adapter"] = value
        return value is not None

    def _read_value(self, name: str, value: Any) -> Any:
        """A client's value as the field's; null asks for what runs today."""
        setting = self.dialect.settings[name]
        if value is None:
            default = self.policy.default_index
            stands = None if default is None else self.policy.space[default]
            return _UNKNOWN if stands is None or stands.unset else getattr(stands, name)
        if setting.off is not ... and value == setting.off:
            return NEUTRAL[name]
        try:
            return getattr(DecodingConfig.from_dict({name: value}), name)
        except InvalidInput:
            return _UNKNOWN

    def _apply(
        self,
        body: Mapping[str, Any],
        decision: Decision,
        asked: tuple[str, ...],
        *,
        hints: bool,
        constraint: Constraint | None = None,
    ) -> tuple[Mapping[str, Any], RequestReceipt]:
        """The body with a decision in it, and how a constraint is met by it."""
        wanted, receipt = self._render_decision(decision)
        overruled = self._find_overruled(decision, wanted)
        decision = replace(decision, overruled=overruled) if overruled != decision.overruled else decision
        sent = _remove(body, [path for name in overruled for path in self._keys[name]])
        packs = self._packs and not decision.config.unset
        added = self._choose_added(sent, {key: wanted[key] for key in wanted if not packs or key in self._objects})
        sent = merge_objects(sent, added)
        there = self._find_upstream(decision.config)
        named = self._name_model(decision.config, sent, there)
        sent |= named
        if packs:
            kept = _unpack(sent.get(self._packed)) or {}
            within = {key: value for key, value in wanted.items() if key not in self._objects | kept.keys()}
            sent[self._packed] = json.dumps({**within, **kept}, sort_keys=True)
            added |= within
        content = self.endpoint.read(body) if hints and decision.config.hint else None
        hint = "" if content is None else fill_hint(content, decision.config.hint)
        told = "" if content is None else describe_slots(decision.config.hint, hint)
        hinted = bool(hint)
        if hinted:
            sent = self.endpoint.append(sent, hint)
        sent, way = self._meet(sent, decision.config, constraint, words=hints)
        unmet = {"constrain": decision.config.constrain} if way == UNMET and decision.config.constrain else {}
        notes = {**receipt.notes, **({"hint": told} if told else {})}
        if constraint is not None:
            notes.pop("constrain", "")  # that there is none
        changed = hinted or sent != body
        return sent if changed else body, RequestReceipt(
            decision.reason,
            decision,
            changed=changed,
            applied={**added, **named},
            fields={
                **{".".join(at): name for at, name in self._fields.items() if _find(added, at) is not _ABSENT},
                **{key: self._name_field(key, decision.config) for key in named},
            },
            endpoint=there,
            dropped={**receipt.dropped, **unmet},
            overruled=overruled,
            kept=tuple(name for name in asked if name not in overruled),
            hinted=hinted,
            notes=notes,
            constraint=way,
        )

    def _name_model(
        self, config: DecodingConfig, body: Mapping[str, Any], there: EndpointAddress | None
    ) -> dict[str, Any]:
        """What a request is sent for the adapter of a config, and for the model's name where it goes to `there`."""
        if self._adapters.is_named(body):
            return {}
        renamed = {"model": there.model} if there is not None and there.model else {}
        return renamed | self._adapters.write(config.adapter, {**body, **renamed})

    def _name_field(self, key: str, config: DecodingConfig) -> str:
        """The field that sets a key of `_name_model`."""
        by_adapter = key == self._adapters.key and (key != "model" or bool(config.adapter))
        return "adapter" if by_adapter else "endpoint"

    def _meet(
        self, body: dict[str, Any], config: DecodingConfig, constraint: Constraint | None, *, words: bool
    ) -> tuple[dict[str, Any], str]:
        """The body by which a config meets a constraint, and how, as receipts say it."""
        if constraint is None:
            return body, ""
        way = self._constraints.find_way(constraint, config.constrain, words=words)
        if way == ASK:
            return self.endpoint.append(body, constraint.describe()), way
        return {**body, **self._constraints.write_mask(constraint)} if way == MASK else body, way

    def _choose_added(self, sent: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
        """What of the wanted keys and values a body does not say itself, under this name or another of the field."""
        said = [paths for paths in self._keys.values() if any(_find(sent, path) is not _ABSENT for path in paths)]
        taken = {path for paths in said for path in paths}
        added: dict[str, Any] = {}
        for key, value in wanted.items():
            if key in self._objects:
                inner = {name: one for name, one in value.items() if (key, name) not in taken}
                inner = {name: one for name, one in inner.items() if _find(sent, (key, name)) is _ABSENT}
                added |= {key: inner} if inner else {}
            elif key not in sent and (key,) not in taken:
                added[key] = value
        return added

    def _find_overruled(self, decision: Decision, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of the client's that give way. A limit stays where the policy has none to put in its place."""
        return {
            name: value
            for name, value in decision.overruled.items()
            if name != "max_tokens" or any(_find(wanted, path) is not _ABSENT for path in self._keys[name])
        }


def rewrite(
    path: str,
    body: Mapping[str, Any],
    policy: Policy,
    rules: RewriteRules | None = None,
    *,
    fixed: Mapping[str, Any] | None = None,
    price: float | None = None,
    task: str | None = None,
    explore: Exploration | None = None,
    constraint: Constraint | None = None,
) -> tuple[Mapping[str, Any], RequestReceipt]:
    """The body to send in place of a request's, and what became of every field; the body itself where nothing changes.

    A pure function of its arguments. What is not of a decoding configuration passes untouched. Whoever rewrites many
    requests keeps a `Rewriter`, which remembers what the server can be sent.

    Args:
        path: of the request, such as "/v1/chat/completions"; see `ENDPOINTS`.
        body: the request's JSON object.
        policy: that decides.
        rules: of model and server; None: a plain OpenAI-compatible server.
        fixed: further fields that the policy may not decide, by our names.
        price: reward that a token or second costs, for a policy fitted with prices.
        task: the kind of the prompt, where it is known.
        explore: draws the config with some probability; None: the policy's own is chosen.
        constraint: what the answer has to be. Only configs that can meet it as they say are chosen; "retry" is for
            whoever reads the answer.

    Raises:
        InvalidInput: a field, price or task that the policy does not have, or a body that says the form of its answer
            itself beside a constraint.
    """
    endpoint = find_endpoint(path)
    if endpoint is None:
        return body, RequestReceipt("other_path")
    if constraint is not None:
        check_form(endpoint.name, body)
    rewriter = Rewriter(endpoint, policy, rules or RewriteRules())
    return rewriter.rewrite(body, fixed, price=price, task=task, explore=explore, constraint=constraint)


def find_server(policy: Policy) -> str:
    """The server, as a name in `SERVERS`, on which the policy's sweep ran; "compatible" where it ran on none."""
    swept = policy.fingerprint
    names = {"openai": swept.get("server", ""), "vllm": "vllm"}
    found = names.get(swept.get("kind", ""), "")
    return found if found in SERVERS else "compatible"


def _follow(decision: Decision, draw: Draw, space: DecodingSpace, fixed: Mapping[str, Any]) -> Decision:
    """The decision for the config that was drawn, which may be the policy's own."""
    if draw.chosen == draw.intended:
        return decision
    config = space[draw.chosen]
    # The graph's values are of its own choice: of another config nothing is promised here.
    return replace(
        decision,
        config=config.replace(**fixed) if fixed else config,
        index=draw.chosen,
        value=None,
        advantage=None,
        cost=None,
        reason="explored",
    )


def _find(body: Mapping[str, Any], path: Path) -> Any:
    """What stands in a body at a path; where something else stands in place of an object on the way, that."""
    at: Any = body
    for key in path:
        if not isinstance(at, Mapping):
            return at
        at = at.get(key, _ABSENT)
        if at is _ABSENT:
            return _ABSENT
    return at


def _remove(body: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """The body without what stands at some paths; an object that is left empty goes too."""
    left = dict(body)
    for first, *rest in paths:
        within = left.get(first)
        if rest and isinstance(within, Mapping):
            left[first] = {key: value for key, value in within.items() if key != rest[0]}
        if not rest or not left.get(first):
            left.pop(first, None)
    return left


def _unpack(packed: Any) -> dict[str, Any] | None:
    """The settings in a JSON string of a whole configuration; empty without one, None where it is none."""
    if packed is None:
        return {}
    try:
        found = json.loads(packed)
    except (TypeError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _read_count(body: Mapping[str, Any]) -> int:
    """How many answers are asked for, as far as a policy can be asked."""
    count = body.get("n")
    return min(count, MAX_COUNT) if isinstance(count, int) and not isinstance(count, bool) and count >= 1 else 1
