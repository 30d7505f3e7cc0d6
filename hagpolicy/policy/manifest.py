"""`PolicyManifest`: what policy.json says, as typed values; read and written here alone.

Format versions: 1 (the first); 2 (a dial: several heads and points, each with its gate). A reader
knows all versions up to its own; each has a fixture under `tests/fixtures`. To change the format:
raise FORMAT_VERSION, add a step to `_UPGRADES` that makes the new JSON of an old one, write and commit a fixture.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._digest import DIGEST_BYTES, digest
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt, normalise
from hagpolicy.errors import BundleError
from hagpolicy.policy.dial import Dial

FORMAT_VERSION = 2
MANIFEST = "policy.json"


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
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        bytes.fromhex(values["salt"])
        digests, groups = (tuple(str(one) for one in part) for part in (values["digests"], values.get("groups", ())))
        return cls(values["salt"], digests, groups)


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
        default: index of the engine's default in the space; None where unknown.
        fingerprint: of the engine that was swept; empty where unknown.
        max_tokens: the sweep's own limit on new tokens; None where unknown.
        scorers: name and version of the scorer of each task.
        trained_on: tells which prompts were trained on; None where unknown.

    Raises:
        BundleError: parts that do not fit each other.
    """

    space: DecodingSpace
    dial: Dial
    task_best: tuple[Mapping[str, int], ...]
    encoder: Mapping[str, Any]
    learner: str = ""
    carries_vectors: bool = False
    default: int | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None
    scorers: Mapping[str, str] = field(default_factory=dict)
    trained_on: TrainedOn | None = None

    def __post_init__(self) -> None:
        if self.dial.means.shape[1] != len(self.space):
            raise BundleError(f"{MANIFEST}: the dial's means do not fit the space")
        numbers = {number for best in self.task_best for number in best.values()}
        if len(self.task_best) != len(self.dial.points) or not numbers <= set(range(len(self.space))):
            raise BundleError(f"{MANIFEST}: the best configs of the tasks fit neither the dial nor the space")
        if self.default is not None and not 0 <= self.default < len(self.space):
            raise BundleError(f"{MANIFEST}: the engine's default is not in the space")

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
            "fingerprint": dict(self.fingerprint),
            "max_tokens": self.max_tokens,
            "scorers": dict(self.scorers),
            "trained_on": None if self.trained_on is None else self.trained_on.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PolicyManifest:
        """What `to_json` wrote, of the current format version.

        Raises:
            BundleError: anything else.
        """
        try:
            trained_on = values.get("trained_on")
            return cls(
                space=DecodingSpace.from_json(values["space"]),
                dial=Dial.from_json(values["dial"]),
                task_best=tuple(dict(best) for best in values["task_best"]),
                encoder=dict(values["encoder"]),
                learner=str(values.get("learner", "")),
                carries_vectors=bool(values.get("carries_vectors", False)),
                default=_whole_or_none(values.get("default")),
                fingerprint=dict(values.get("fingerprint") or {}),
                max_tokens=_whole_or_none(values.get("max_tokens")),
                scorers=dict(values.get("scorers") or {}),
                trained_on=None if not trained_on else TrainedOn.from_json(trained_on),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{MANIFEST}: expected a policy's manifest: {type(error).__name__}: {error}") from error


def encode_manifest(manifest: PolicyManifest, files: Mapping[str, str]) -> bytes:
    """The bytes of policy.json.

    Args:
        manifest: what the policy is.
        files: digests of the bundle's other files by name.

    Raises:
        BundleError: a value that JSON cannot hold.
    """
    values: dict[str, Any] = {**manifest.to_json(), "format_version": FORMAT_VERSION, "files": dict(files)}
    try:
        values["digest"] = digest(values)
        text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"{MANIFEST}: expected values that JSON can hold: {error}") from error
    return text.encode("utf-8")


def read_manifest(path: Path) -> tuple[PolicyManifest, dict[str, str]]:
    """The manifest in a policy.json of any format version, and the digests of the bundle's other files by name.

    Raises:
        BundleError: an unreadable, damaged, changed, foreign or newer file.
    """
    values = _read_values(path)
    version = values["format_version"]
    try:
        for old in range(version, FORMAT_VERSION):
            values = _UPGRADES[old](values)
    except KeyError as error:
        raise BundleError(f"{path}: expected a manifest of format version {old}, got one without {error}") from error
    return PolicyManifest.from_json(values), values["files"]


def digest_salted(texts: Iterable[str], salt: str) -> list[str]:
    """Digests of normalised texts under a salt of 32 hex digits, 32 hex digits each, in order."""
    key = bytes.fromhex(salt)
    data = (normalise(text).encode("utf-8", "surrogatepass") for text in texts)
    return [hashlib.blake2b(part, digest_size=DIGEST_BYTES, key=key).hexdigest() for part in data]


def _read_values(path: Path) -> dict[str, Any]:
    """The JSON of a policy.json, checked: a known format version, its own digest, plain file names."""
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: expected readable JSON ({error})") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(f"{path}: expected a policy's manifest with a format_version, got something else")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path}: expected format version {FORMAT_VERSION} or older, got {version}: it was written by a newer "
            "hagpolicy: pip install --upgrade hagpolicy"
        )
    try:
        own = digest({name: value for name, value in values.items() if name != "digest"})
    except ValueError as error:  # NaN and infinities, which Python reads and JSON does not have
        raise BundleError(f"{path}: expected values that JSON can hold: {error}") from error
    if values.get("digest") != own:
        raise BundleError(f"{path}: its own digest differs: damaged or changed by hand")
    if not isinstance(values.get("files"), dict) or not all(
        isinstance(name, str) and name == Path(name).name and isinstance(value, str)
        for name, value in values["files"].items()
    ):
        raise BundleError(f"{path}: expected 'files', plain names with digests, got {values.get('files')!r}")
    return values


def _with_dial(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON of version 2 of one of version 1, which had one objective, with its gate at the top."""
    moved = ("training_means", "sbs", "margin", "ships_sbs", "reason", "evaluation")
    means, _, margin, held, reason = (values[name] for name in moved[:-1])
    point = {"at": 0.0, "name": "reward", "objective": "reward", "weights": [1.0], "margin": margin}
    point |= {"ships": not held, "reason": reason, "evaluation": values.get("evaluation")}
    dial = {"argument": "", "unit": "", "heads": ["values"], "scales": [1.0], "means": [means], "points": [point]}
    rest = {name: value for name, value in values.items() if name not in moved}
    return {**rest, "task_best": [values.get("task_best") or {}], "dial": dial}


# Version -> what makes the JSON of the next version of it.
_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _with_dial}


def _whole_or_none(value: Any) -> int | None:
    """A whole number, or None. Raises TypeError for anything else."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"expected a whole number or null, got {value!r:.40}")
    return value
