"""What a request may say to the policy in its headers, and what a response says of it: `x-hag-…`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hagpolicy._text import shorten
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import Constraint
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.rewrite import RequestReceipt

__all__ = ["PREFIX", "RequestOptions", "describe_receipt", "read_options", "show_config"]

PREFIX = "x-hag-"
# Of a hint, which may be long: whoever needs the whole of it reads the policy's card.
SHOWN_HINT = 60
# Of a header's value: what is longer is ignored. A constraint may be as long as what common gateways let pass.
MOST_CHARACTERS, MOST_OF_CONSTRAINT = 2_000, 8_000
_CONSTRAINT = f"{PREFIX}constraint"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class RequestOptions:
    """What a request asks of the policy.

    Attributes:
        skip: leave the request as it is.
        fixed: fields that the policy may not decide, with their values.
        price: reward that a token or second costs; None: not said.
        task: the kind of the prompt; None: not said.
        unit: whom the request is sent for, as an experiment assigns them; None: not said.
        request_id: names the call in all its attempts; None: not said.
        ignored: names of headers that were unknown, repeated or malformed.
        constraint: what the answer has to be; None: anything.
        says_constraint: whether that was said, for a server or client that has one for all requests.
        refusal: why the request cannot be answered as it asks; "": it can.
    """

    skip: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    price: float | None = None
    task: str | None = None
    unit: str | None = None
    request_id: str | None = None
    ignored: tuple[str, ...] = ()
    constraint: Constraint | None = None
    says_constraint: bool = False
    refusal: str = ""


def read_options(headers: Iterable[tuple[str, str]]) -> RequestOptions:
    """What the headers of a request ask of the policy; whatever cannot be read is ignored and named, never an error.

    But for a constraint: an answer that does not heed one would be taken for one that does, so what cannot be read of
    it is a refusal.

    Args:
        headers: names and values; those of other names are passed over.
    """
    found: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower().startswith(PREFIX):
            found.setdefault(name.lower(), []).append(value)
    options: dict[str, Any] = {}
    ignored = []
    if (said := found.pop(_CONSTRAINT, None)) is not None:
        options |= _read_constraint(said)
    for name, values in found.items():
        what = name.removeprefix(PREFIX)
        try:
            if what not in _READERS or len(values) > 1 or len(values[0]) > MOST_CHARACTERS:
                raise ValueError(name)
            options[what.replace("-", "_")] = _READERS[what](values[0].strip())
        except (ValueError, TypeError, KeyError, RecursionError, InvalidInput):
            ignored.append(name)
    return RequestOptions(**options, ignored=tuple(sorted(ignored)))


def _read_constraint(values: list[str]) -> dict[str, Any]:
    try:
        if len(values) > 1:
            raise InvalidInput(_CONSTRAINT, "one header of that name", f"{len(values)}")
        if len(values[0]) > MOST_OF_CONSTRAINT or not values[0].isascii():
            expected = f"at most {MOST_OF_CONSTRAINT:,} characters of ASCII"
            do = "JSON can write any other as \\uXXXX."
            raise InvalidInput(_CONSTRAINT, expected, f"{len(values[0]):,} characters", do)
        return {"constraint": Constraint.parse(values[0]), "says_constraint": True}
    except InvalidInput as error:
        return {"refusal": str(error)}


def _read_fixed(value: str) -> dict[str, Any]:
    given = json.loads(value)
    known = DecodingConfig.from_dict(given)
    return {name: getattr(known, name) for name in given}


def _read_price(value: str) -> float:
    price = float(value)
    if not math.isfinite(price) or price < 0.0:
        raise ValueError(value)
    return price


def _read_name(value: str) -> str:
    if not value:
        raise ValueError("name")
    return value


def _read_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError("id")
    return value


_READERS: dict[str, Any] = {
    "skip": lambda value: _FLAGS[value.lower()],
    "fixed": _read_fixed,
    "price": _read_price,
    "task": _read_name,
    "unit": _read_name,
    "request-id": _read_id,
}


def describe_receipt(name: str, receipt: RequestReceipt, ignored: Iterable[str], seconds: float) -> dict[str, str]:
    """The headers of a response that say what became of its request; printable ASCII, without text of the prompt.

    Args:
        name: of the policy, with its short digest.
        receipt: of the request.
        ignored: names of its headers that were ignored.
        seconds: that reading, deciding and writing took.
    """
    ignored = tuple(ignored)
    reason = receipt.reason + (f"; ignored {' '.join(map(_clean, ignored))}" if ignored else "")
    said = {
        "policy": _clean(name),
        "reason": reason,
        "applied": ", ".join([*receipt.applied, *(["hint"] if receipt.hinted else [])]),
        "dropped": ", ".join(receipt.dropped),
        "overruled": ", ".join(receipt.overruled),
        "constraint": _describe_constraint(receipt),
        "request-id": receipt.request_id,
        "experiment": f"{receipt.arm}; by {'request' if receipt.by_request else 'unit'}" if receipt.arm else "",
        "overhead-us": str(round(seconds * 1e6)),
    }
    if receipt.decision is not None and receipt.decision.reason != "no_config_agrees":
        said["config"] = show_config(receipt.decision.config)
    return {PREFIX + key: value for key, value in said.items() if value}


def _describe_constraint(receipt: RequestReceipt) -> str:
    """How a constraint is met, and what is to be said of that; "" without one."""
    note = receipt.notes.get("constrain", "") if receipt.constraint else ""
    return f"{receipt.constraint}; {note}" if note else receipt.constraint


@lru_cache(maxsize=256)
def show_config(config: DecodingConfig) -> str:
    """The settings of a configuration that do something, as JSON, a long hint cut."""
    settings = config.canonical().to_dict()
    return json.dumps(settings | ({"hint": shorten(settings["hint"], SHOWN_HINT)} if "hint" in settings else {}))


def _clean(text: str) -> str:
    """Printable ASCII alone: what stands in a header must not end it."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:200])
