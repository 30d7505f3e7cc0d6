"""The folder a policy is saved as: versioned, digested, and loading it runs no code.

policy.json      what the policy is (`PolicyManifest`); the digest of every other file, and its own
policy.onnx      the one graph
tokenizer.json   where the encoder reads tokens
README.md        the policy card
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hagpolicy._digest import digest_bytes
from hagpolicy._files import new_folder
from hagpolicy.errors import BundleError
from hagpolicy.policy.manifest import MANIFEST, PolicyManifest, encode_manifest, read_manifest
from hagpolicy.policy.onnx_scan import scan

MODEL, CARD = "policy.onnx", "README.md"


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds: the manifest, the ONNX model's bytes, other files by name."""

    manifest: PolicyManifest
    model: bytes
    files: Mapping[str, bytes]


def write_bundle(folder: str | Path, bundle: Bundle, card: str) -> Path:
    """Write a bundle as a whole or not at all; an older bundle in its place is replaced. Returns the folder.

    Raises:
        BundleError: the folder holds something that is no bundle, or it cannot be written; what was
            there before is untouched.
    """
    folder = check_target(folder)
    contents = {MODEL: bundle.model, CARD: card.encode("utf-8"), **bundle.files}
    for name in bundle.files:
        if name != Path(name).name or name in (MANIFEST, MODEL, CARD) or name.startswith("."):
            raise BundleError(f"expected plain file names beside {MODEL}, got {name!r}")
    digests = {name: digest_bytes(data) for name, data in sorted(contents.items())}
    contents[MANIFEST] = encode_manifest(bundle.manifest, digests)
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
    """Manifest, graph and other files of a bundle, all checked; no code of it is run.

    Raises:
        BundleError: a missing, damaged, changed or additional file, a newer format, or a graph that
            reads external data or uses operators beyond ONNX's own.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        got = f"a folder without {MANIFEST}" if folder.is_dir() else "no such folder"
        raise BundleError(f"{folder}: expected the folder of a saved policy, got {got}")
    manifest, names = read_manifest(folder / MANIFEST)
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
