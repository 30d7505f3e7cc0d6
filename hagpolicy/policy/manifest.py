"""`PolicyManifest`: what policy.json says, as typed values; read and written here alone.

Format versions: 1 (the first); 2 (a dial: several heads and points, each with its gate); 3 (what ships in two steps:
a point's word for it and its reference). A reader
knows all versions up to its own; each has a fixture under `tests/fixtures`. A version has exactly the keys of
`_CONTENT`: another key is refused, for whoever wrote it meant something that would be lost when the policy is saved
again. To change the format: raise FORMAT_VERSION, change `_CONTENT`, add a step to `_UPGRADES` that makes the new
JSON of an old one, write and commit a fixture.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy._digest import digest
from hagpolicy._files import read_regular
from hagpolicy._text import replace_controls
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import BundleError
from hagpolicy.policy.dial import Dial, compute_weighted_sum
from hagpolicy.policy.forms import MAX_SYSTEMS, Forms, digest_salted
from hagpolicy.policy.inputs import WINDOW_FIELDS
from hagpolicy.policy.reading import Reads
from hagpolicy.policy.schema import (
    flag,
    items,
    mapping,
    matching,
    number,
    one_of,
    optional,
    parse_bounded,
    record,
    refuse,
    text,
    whole,
)
from hagpolicy.results import Ships

FORMAT_VERSION = 3
MANIFEST = "policy.json"
MAX_MANIFEST_BYTES = 32 * 2**20
# A row of the graph's table each.
MAX_TASKS = 1000


@dataclass(frozen=True)
class TrainedOn:
    """Tells whether a prompt was trained on, without holding its text.

    Attributes:
        salt: 32 hex digits; keeps one bundle's digests from being looked up in another's.
        digests: of the training prompts' texts, see `digest_salted`.
        groups: of the groups that they declared.
    """

    salt: str
    digests: tuple[str, ...]
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> TrainedOn:
        """The digests of some prompts and of their groups, under a new salt."""
        salt = secrets.token_hex(16)
        texts = digest_salted((prompt.text for prompt in prompts), salt)
        groups = digest_salted((prompt.group for prompt in prompts if prompt.group is not None), salt)
        return cls(salt, tuple(sorted(texts)), tuple(sorted(set(groups))))

    def has(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """bool (n_prompts,): True for a prompt whose normalised text, or whose declared group, was trained on."""
        texts, groups = set(self.digests), set(self.groups)
        by_text = digest_salted((prompt.text for prompt in prompts), self.salt)
        by_group = digest_salted((prompt.group or "" for prompt in prompts), self.salt)
        marks = zip(prompts, by_text, by_group, strict=True)
        return np.array([t in texts or (p.group is not None and g in groups) for p, t, g in marks], dtype=bool)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back."""
        return {"salt": self.salt, "digests": list(self.digests), "groups": list(self.groups)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainedOn:
        """What `to_json` wrote, checked before by the manifest's own table."""
        return cls(values["salt"], tuple(values["digests"]), tuple(values.get("groups", ())))


@dataclass(frozen=True, eq=False)
class PolicyManifest:
    """What a policy is, beside its graph.

    Attributes:
        space: the configs that compete, n_configs of them.
        dial: what can be turned at call time, and what the gate decided at its points.
        task_best: at every point of the dial, the index of each training task's best config.
        encoder: the encoder's `spec()`: its name and the inputs that it takes.
        learner: name of the learner; "" where unknown.
        carries_vectors: vectors of the training prompts are inside the graph.
        fingerprint: of the engine that was swept; empty where unknown.
        max_tokens: the sweep's own limit on new tokens; None where unknown.
        scorers: name and version of the scorer of each task.
        trained_on: tells which prompts were trained on; None where unknown.
        reads: what is read of a chat, see `hagpolicy.policy.reading`.
        forms: of the training prompts, where system messages or turns are read; None: none is unseen.
        tasks: that may be told, in the order of the graph's input `task`, from 1.
        table: `SweepTable.digest` of what it was fitted on; "" where unknown.
        told_reads: the text is read beside a task that is told; False: such a prompt may be of any kind.

    Raises:
        BundleError: parts that do not fit each other.
    """

    space: DecodingSpace
    dial: Dial
    task_best: tuple[Mapping[str, int], ...]
    encoder: Mapping[str, Any]
    learner: str = ""
    carries_vectors: bool = False
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None
    scorers: Mapping[str, str] = field(default_factory=dict)
    trained_on: TrainedOn | None = None
    reads: Reads = "last_user"
    forms: Forms | None = None
    tasks: tuple[str, ...] = ()
    told_reads: bool = True
    table: str = ""

    def __post_init__(self) -> None:
        if len(set(self.tasks)) < len(self.tasks):
            raise BundleError(f"{MANIFEST}: expected tasks of different names")
        if not self.tasks and any(point.told_ships for point in self.dial.points):
            raise BundleError(f"{MANIFEST}: expected tasks where a policy that is told them is proven")
        if self.dial.means.shape[1] != len(self.space):
            raise BundleError(f"{MANIFEST}: the dial's means do not fit the space")
        numbers = {number for best in self.task_best for number in best.values()}
        if len(self.task_best) != len(self.dial.points) or not numbers <= set(range(len(self.space))):
            raise BundleError(f"{MANIFEST}: the best configs of the tasks fit neither the dial nor the space")
        if self.default is not None and not 0 <= self.default < len(self.space):
            raise BundleError(f"{MANIFEST}: the default is not in the space")

    @property
    def default(self) -> int | None:
        """Index in the space of what runs today; None where unknown."""
        return self.dial.default

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back: policy.json without what tells of the files."""
        return {
            "space": self.space.to_json(),
            "default": self.default,
            "dial": self.dial.to_json(),
            "task_best": [dict(best) for best in self.task_best],
            "encoder": dict(self.encoder),
            "learner": self.learner,
            "carries_vectors": self.carries_vectors,
            "fingerprint": {name: str(value) for name, value in self.fingerprint.items()},
            "max_tokens": self.max_tokens,
            "scorers": {task: str(scorer) for task, scorer in self.scorers.items()},
            "trained_on": None if self.trained_on is None else self.trained_on.to_json(),
            "reads": self.reads,
            "forms": None if self.forms is None else self.forms.to_json(),
            "tasks": list(self.tasks),
            "told_reads": self.told_reads,
            "table": self.table,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PolicyManifest:
        """What `to_json` wrote, of the current format version.

        Raises:
            BundleError: anything else; it names the field, what was expected and what was found.
        """
        try:
            values = _CONTENT("", values)
            trained_on = values.get("trained_on")
            return cls(
                space=DecodingSpace.from_json(values["space"]),
                dial=Dial.from_json(values["dial"], values.get("default")),
                task_best=tuple(values["task_best"]),
                encoder=values["encoder"],
                learner=values.get("learner", ""),
                carries_vectors=values.get("carries_vectors", False),
                fingerprint=values.get("fingerprint", {}),
                max_tokens=values.get("max_tokens"),
                scorers=values.get("scorers", {}),
                trained_on=None if trained_on is None else TrainedOn.from_json(trained_on),
                reads=values["reads"],
                forms=None if values.get("forms") is None else Forms.from_json(values["forms"]),
                tasks=tuple(values.get("tasks", ())),
                told_reads=values["told_reads"],
                table=values.get("table", ""),
            )
        except (BundleError, ValueError) as error:
            said = str(error).removeprefix(f"{MANIFEST}: ")
            raise BundleError(f"{MANIFEST}: expected a policy's manifest: {said}. {_DO}") from error


def encode_manifest(manifest: PolicyManifest, files: Mapping[str, str]) -> bytes:
    """The bytes of policy.json.

    Args:
        manifest: what the policy is.
        files: digests of the bundle's other files by name.

    Raises:
        BundleError: a value that JSON cannot hold, or that `read_manifest` would refuse.
    """
    content = manifest.to_json()
    content |= {name: _printable(content[name]) for name in ("dial", "encoder", "learner")}
    values: dict[str, Any] = {**content, "format_version": FORMAT_VERSION, "files": dict(files)}
    try:
        values["digest"] = digest(values)
        written = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST}: expected values that JSON can hold: {error}") from error
    PolicyManifest.from_json(content)
    # A lone surrogate, which UTF-8 cannot hold, is written as JSON's own escape for it.
    return written.encode("utf-8", "backslashreplace")


def read_manifest(path: Path, data: bytes | None = None) -> tuple[PolicyManifest, dict[str, str]]:
    """The manifest in a policy.json of any format version, and the digests of the bundle's other files by name.

    Args:
        path: of the file.
        data: its bytes, where they were read already.

    Raises:
        BundleError: an unreadable, damaged, changed, foreign or newer file.
    """
    try:
        values = decode_signed(read_regular(path, MAX_MANIFEST_BYTES) if data is None else data)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: expected readable JSON ({error})") from error
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    version = values["format_version"]
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path}: expected format version {FORMAT_VERSION} or older, got {version}: it was written by a newer "
            "hagpolicy: pip install --upgrade hagpolicy"
        )
    content = {name: value for name, value in values.items() if name not in ("format_version", "files", "digest")}
    try:
        for old in range(version, FORMAT_VERSION):
            content = _UPGRADES[old](content)
    except KeyError as error:
        raise BundleError(f"{path}: expected a manifest of format version {old}, got one without {error}") from error
    return PolicyManifest.from_json(content), values["files"]


def decode_signed(data: bytes) -> dict[str, Any]:
    """The values of a policy.json of any version, newer ones too, whose own digest is right and which names its files.

    Raises:
        ValueError: no JSON.
        BundleError: another file, damaged, or changed by hand.
    """
    values: dict[str, Any] = parse_bounded(data)
    version = values.get("format_version") if isinstance(values, dict) else None
    if not is_whole(version, 1):
        raise BundleError("expected a policy's manifest with a format_version, got something else")
    try:
        own = digest({name: value for name, value in values.items() if name != "digest"})
    except (ValueError, RecursionError) as error:  # NaN and infinities, which Python reads and JSON does not have
        raise BundleError(f"expected values that JSON can hold: {error}") from error
    if values.get("digest") != own:
        raise BundleError("its own digest differs: damaged or changed by hand")
    mapping(matching("[0-9a-f]{32}", "a digest, 32 hex digits"), MAX_FILES)("files", values.get("files"))
    if odd := [name for name in values["files"] if not is_plain_name(name)]:
        raise refuse("files", "plain names", odd)
    return values


def is_plain_name(name: str) -> bool:
    """True for the name of a file directly within a bundle's folder, not hidden, that every system can have."""
    plain = 0 < len(name) <= 100 and name != MANIFEST and not name.startswith(".") and not set(name) & set('/\\:*?"<>|')
    return plain and replace_controls(name) == name


def _with_dial(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON of version 2 of one of version 1, which had one objective, with its gate at the top."""
    moved = ("training_means", "sbs", "margin", "ships_sbs", "reason", "evaluation")
    means, _, margin, held, reason = (values[name] for name in moved[:-1])
    point = {"at": 0.0, "name": "reward", "objective": "reward", "weights": [1.0], "margin": margin}
    ships = not held if isinstance(held, bool) else held
    point |= {"ships": ships, "reason": reason, "evaluation": values.get("evaluation")}
    dial = {"argument": "", "unit": "", "heads": ["values"], "scales": [1.0], "means": [means], "points": [point]}
    rest = {name: value for name, value in values.items() if name not in moved}
    return {**rest, "task_best": [values.get("task_best", {})], "dial": dial}


def _with_reference(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON of version 3 of one of version 2, whose points shipped per prompt or not, over the best mean."""
    dial = values["dial"]
    words = {True: "per_prompt", False: "single_best"}
    try:
        means = np.array(dial["means"], dtype=np.float64)
        points = [
            {
                **point,
                "ships": words[point["ships"]] if isinstance(point["ships"], bool) else point["ships"],
                "reference": int(choose_best(compute_weighted_sum(np.array(point["weights"], np.float64), means))),
            }
            for point in dial["points"]
        ]
    except (TypeError, ValueError, OverflowError, AttributeError):  # the table below names what is wrong
        return values
    # All turns were read then.
    return {"reads": "all", "told_reads": True, **values, "dial": {**dial, "points": points}}


# Version -> what makes the JSON of the next version of it.
_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _with_dial, 2: _with_reference}


def _printable(value: Any) -> Any:
    """The value with "?" for control characters in its texts: names and reasons, which are printed."""
    if isinstance(value, str):
        return replace_controls(value)
    if isinstance(value, list):
        return [_printable(one) for one in value]
    return {key: _printable(one) for key, one in value.items()} if isinstance(value, dict) else value


# What was fitted may have any number of prompts; a regular expression at a time is all that a digest is worth.
_is_digest = re.compile("[0-9a-f]{32}").fullmatch


def _digests(place: str, value: Any) -> Any:
    if not isinstance(value, list) or not all(isinstance(one, str) and _is_digest(one) for one in value):
        raise refuse(place, "a list of digests, 32 hex digits each", value)
    return value


def _encoder(place: str, value: Any) -> Any:
    """A check of an encoder's `spec()`: its further keys are its own."""
    known = {"name": text(200, least=1), "inputs": one_of("tokens", "window", "vectors")}
    if isinstance(value, dict):
        known |= {"dim": whole(1, 1_000_000)} if value.get("inputs") == "vectors" else {}
        known |= {"missing": flag} if "missing" in value else {}
        known |= WINDOW_FIELDS if value.get("inputs") == "window" else {}
        record(known)(place, {key: one for key, one in value.items() if key in known})
    else:
        record(known)(place, value)
    return value


def _setting(place: str, value: Any) -> Any:
    """A check of a config's value; the config itself knows its type and range."""
    return value if value is None else (_ANY_TEXT if isinstance(value, str) else number())(place, value)


_DO = "Get the whole folder again from where it was saved, or save the policy again"
MAX_FILES = 16
_ANY_TEXT = text(1_000_000, any_characters=True)
_ESTIMATE = record({"value": number(), "low": number(), "high": number()}, {"reliable": flag})
_ROW = record(
    {
        "name": text(),
        **dict.fromkeys(("value", "low", "high", "gain", "gain_low", "gain_high"), number()),
        "gap_closed": optional(number()),
    },
    {"note": text(), "cost": optional(number()), "over_default": optional(_ESTIMATE), "reliable": flag},
)
_CANDIDATE = record(
    {"name": text(), "gain": _ESTIMATE, "margin": number(0.0), "departing_groups": whole(), "shipped": flag},
    {"over": one_of("default", "single_best")},
)
_EVALUATION = record(
    {
        "rows": items(_ROW, 1000),
        "candidate": optional(_CANDIDATE),
        "sbs_over_default": optional(_ESTIMATE),
        "n_prompts": whole(),
        "n_groups": whole(),
        "warnings": items(text(), 1000),
    },
    {
        "n_left_out": whole(),
        "fallbacks": number(0.0, 1.0),
        "objective": text(),
        "cost_unit": text(),
        "not_fitted": items(text(), 1000),
    },
)
_POINT = record(
    {
        "at": number(),
        "name": text(),
        "objective": text(),
        "weights": items(number(), 64),
        "margin": number(),
        "ships": one_of(*get_args(Ships)),
        "reference": whole(),
        "reason": text(),
        "evaluation": optional(_EVALUATION),
    },
    {"told_ships": flag, "told_margin": number(0.0)},
)
_CONTENT = record(
    {
        "space": items(mapping(_setting, 100), 100_000, least=1),
        "dial": record(
            {
                "argument": one_of("", "price", "n"),
                "unit": one_of("", "token", "second"),
                "heads": items(text(100, least=1), 64, least=1),
                "scales": items(number(), 64),
                "means": items(items(number(), 100_000), 64),
                "points": items(_POINT, 1000, least=1),
            }
        ),
        "task_best": items(mapping(whole(), 1_000_000), 1000),
        "encoder": _encoder,
        "reads": one_of(*get_args(Reads)),
        "told_reads": flag,
    },
    {
        "learner": text(),
        "table": text(32),
        "carries_vectors": flag,
        "default": optional(whole()),
        "fingerprint": mapping(_ANY_TEXT, 1000),
        "max_tokens": optional(whole(1)),
        "scorers": mapping(_ANY_TEXT, 1_000_000),
        "trained_on": optional(
            record({"salt": matching("[0-9a-f]{32}", "32 hex digits"), "digests": _digests}, {"groups": _digests})
        ),
        "forms": optional(
            record(
                {
                    "salt": matching("[0-9a-f]{32}", "32 hex digits"),
                    "systems": items(matching("[0-9a-f]{32}", "a digest, 32 hex digits"), MAX_SYSTEMS),
                    "turns": whole(1),
                }
            )
        ),
        "tasks": items(_ANY_TEXT, MAX_TASKS),
    },
)
