"""The folder a policy is saved as: versioned, digested, and loading it runs no code.

    policy.json      what the policy is: see `Policy`; the digest of every other file, and its own
    policy.onnx      the one graph
    tokenizer.json   where the encoder reads tokens
    README.md        the policy card

Format versions: 1 (the first); 2 (a dial: several heads and points, each with its gate). A reader
knows all versions up to its own; each has a fixture under
`tests/fixtures`. To change the format: raise FORMAT_VERSION, add a step to `_UPGRADES` that makes
the new manifest of an old one, write and commit a fixture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagpolicy._digest import DIGEST_BYTES, digest, digest_bytes
from hagpolicy._files import new_folder
from hagpolicy.data.prompts import normalise
from hagpolicy.errors import BundleError
from hagpolicy.policy.onnx_scan import scan

FORMAT_VERSION = 2
MANIFEST, MODEL, CARD = "policy.json", "policy.onnx", "README.md"


def _with_dial(manifest: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had one objective, mean reward, and its gate at the top of the manifest."""
    moved = ("training_means", "sbs", "margin", "ships_sbs", "reason", "evaluation")
    means, _, margin, held, reason = (manifest[name] for name in moved[:-1])
    point = {"at": 0.0, "name": "reward", "objective": "reward", "weights": [1.0], "margin": margin}
    point |= {"ships": not held, "reason": reason, "evaluation": manifest.get("evaluation")}
    dial = {"argument": "", "unit": "", "heads": ["values"], "scales": [1.0], "means": [means], "points": [point]}
    rest = {name: value for name, value in manifest.items() if name not in moved}
    return {**rest, "task_best": [manifest.get("task_best") or {}], "dial": dial}


# Version -> what makes the manifest of the next version of it.
_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _with_dial}


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds: the manifest, the ONNX model's bytes, other files by name."""

    manifest: dict[str, Any]
    model: bytes
    files: dict[str, bytes]


def write_bundle(folder: str | Path, bundle: Bundle, card: str) -> Path:
    """Write a bundle as a whole or not at all; an older bundle in its place is replaced.

    Returns the folder.

    Raises:
        BundleError: the folder holds something that is no bundle, or it cannot be written; what was
            there before is untouched.
    """
    folder = check_target(folder)
    contents = {MODEL: bundle.model, CARD: card.encode("utf-8"), **bundle.files}
    for name in bundle.files:
        if name != Path(name).name or name in (MANIFEST, MODEL, CARD) or name.startswith("."):
            raise BundleError(f"expected plain file names beside {MODEL}, got {name!r}")
    manifest = {**bundle.manifest, "format_version": FORMAT_VERSION}
    manifest["files"] = {name: digest_bytes(data) for name, data in sorted(contents.items())}
    manifest.pop("digest", None)
    try:
        manifest["digest"] = digest(manifest)
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"{MANIFEST}: expected values that JSON can hold: {error}") from error
    contents[MANIFEST] = text.encode("utf-8")
    try:
        with new_folder(folder, replace=True) as made:
            for name, data in contents.items():
                (made / name).write_bytes(data)
    except OSError as error:
        raise BundleError(f"{folder}: cannot write the bundle ({error}); nothing that was there is lost") from error
    return folder


def check_target(folder: str | Path) -> Path:
    """The folder's absolute path, where a bundle may be written to it.

    Raises:
        BundleError: it holds something that is no bundle.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not _replaceable(folder):
        raise BundleError(f"{folder}: expected a new folder or an older bundle, got something else: give another")
    return folder


def read_bundle(folder: str | Path) -> Bundle:
    """Read and check a bundle; runs no code of it.

    Raises:
        BundleError: a missing, damaged, changed or additional file, a newer format, or a graph that
            reads external data or uses operators beyond ONNX's own.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    names = manifest["files"]
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {MANIFEST}
    if missing := sorted(set(names) - found):
        raise BundleError(f"{folder}: expected the file(s) {', '.join(missing)}, got none: copy the whole folder")
    if extra := sorted(found - set(names)):
        raise BundleError(f"{folder}: expected only {', '.join(sorted(names))}, got {', '.join(extra)} too: remove it")
    contents = {}
    for name, expected in names.items():
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{folder / name}: cannot be read ({error})") from error
        if digest_bytes(contents[name]) != expected:
            raise BundleError(f"{folder / name}: its digest differs from the one in {MANIFEST}: damaged or changed")
    contents.pop(CARD, None)
    if MODEL not in contents:
        raise BundleError(f"{folder}: expected {MODEL} among the files of {MANIFEST}")
    scan(contents[MODEL])
    return Bundle(manifest, contents.pop(MODEL), contents)


def digest_salted(texts: Iterable[str], salt: str) -> list[str]:
    """Digests of normalised texts under a salt of 32 hex digits, 32 hex digits each, in order.

    They tell that a prompt or a group was trained on without holding it; the salt keeps one bundle's
    digests from being looked up in another's.
    """
    key = bytes.fromhex(salt)
    data = (normalise(text).encode("utf-8", "surrogatepass") for text in texts)
    return [hashlib.blake2b(part, digest_size=DIGEST_BYTES, key=key).hexdigest() for part in data]


def _manifest(folder: Path) -> dict[str, Any]:
    """policy.json of the current format version, checked against its own digest."""
    path = folder / MANIFEST
    if not path.is_file():
        got = f"a folder without {MANIFEST}" if folder.is_dir() else "no such folder"
        raise BundleError(f"{folder}: expected the folder of a saved policy, got {got}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: expected readable JSON ({error})") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(f"{path}: expected a policy's manifest with a format_version, got something else")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path}: expected format version {FORMAT_VERSION} or older, got {version}: it was written by a newer "
            "hagpolicy: pip install --upgrade hagpolicy"
        )
    try:
        own = digest({name: value for name, value in manifest.items() if name != "digest"})
    except ValueError as error:  # NaN and infinities, which Python reads and JSON does not have
        raise BundleError(f"{path}: expected values that JSON can hold: {error}") from error
    if manifest.get("digest") != own:
        raise BundleError(f"{path}: its own digest differs: damaged or changed by hand")
    if not isinstance(manifest.get("files"), dict) or not all(
        isinstance(name, str) and name == Path(name).name and isinstance(value, str)
        for name, value in manifest["files"].items()
    ):
        raise BundleError(f"{path}: expected 'files', plain names with digests, got {manifest.get('files')!r}")
    try:
        for old in range(version, FORMAT_VERSION):
            manifest = _UPGRADES[old](manifest)
    except KeyError as error:
        raise BundleError(f"{path}: expected a manifest of format version {old}, got one without {error}") from error
    return manifest


def _replaceable(folder: Path) -> bool:
    """True for an empty folder and for a folder that only a bundle's files are in."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    try:
        listed = set(json.loads((folder / MANIFEST).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return names <= listed | {MANIFEST}
