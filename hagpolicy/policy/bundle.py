"""The folder a policy is saved as: versioned, digested, and loading it runs no code.

policy.json      what the policy is (`PolicyManifest`); the digest of every other file, and its own
policy.onnx      the one graph
tokenizer.json   where the encoder reads tokens
README.md        the policy card
training.json    where it was saved to explain decisions: what `TrainingPrompts` holds, and
training.npy     their features
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hagpolicy._digest import digest_bytes
from hagpolicy._files import check_path
from hagpolicy._folders import OpenFolder, new_folder, open_folder
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.policy.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    PolicyManifest,
    decode_signed,
    encode_manifest,
    is_plain_name,
    read_manifest,
)
from hagpolicy.policy.training_prompts import TRAINING_ROWS

MODEL, CARD = "policy.onnx", "README.md"

# A folder mounted by Kubernetes has two hidden entries beside the files.
MAX_ENTRIES = 64
# In bytes; a file of another name may have as many as the last.
MAX_BYTES = {
    MANIFEST: MAX_MANIFEST_BYTES,
    MODEL: 256 * 2**20,
    CARD: 4 * 2**20,
    TRAINING_ROWS: 128 * 2**20,
    "": 32 * 2**20,
}
# In bytes, of all files but the manifest together.
MAX_TOTAL = 320 * 2**20
# A folder that is replaced while it is read is read again; nobody replaces one so often.
_TRIES = 100


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds: the manifest, the ONNX model's bytes, other files by name."""

    manifest: PolicyManifest
    model: bytes
    files: Mapping[str, bytes]


def write_bundle(folder: str | Path, bundle: Bundle, card: str) -> Path:
    """Write a bundle as a whole or not at all; an older bundle in its place is replaced. Returns the folder.

    Whoever reads it meanwhile, and whoever writes it at the same time, meets one whole bundle or the other.

    Raises:
        BundleError: the folder holds something that is no bundle, or it cannot be written; what was
            there before is untouched.
    """
    folder = check_target(folder)
    contents = {MODEL: bundle.model, CARD: card.encode("utf-8"), **bundle.files}
    for name in bundle.files:
        if not is_plain_name(name) or name in (MODEL, CARD):
            raise BundleError(f"expected plain file names beside {MODEL}, got {name!r}")
    digests = {name: digest_bytes(data) for name, data in sorted(contents.items())}
    contents[MANIFEST] = encode_manifest(bundle.manifest, digests)
    for name, data in contents.items():
        if len(data) > _limit(name):
            raise BundleError(f"{folder / name}: expected at most {_limit(name):,} bytes, got {len(data):,}")
    if (total := sum(map(len, contents.values()))) > MAX_TOTAL:
        raise BundleError(f"{folder}: expected files of at most {MAX_TOTAL:,} bytes together, got {total:,}")
    try:
        with new_folder(folder, replaces=_is_replaceable) as made:
            for name, data in contents.items():
                (made / name).write_bytes(data)
    except (OSError, ValueError) as error:  # a path that no system can have is a ValueError
        raise BundleError(f"{folder}: cannot write the bundle ({error}); nothing that was there is lost") from error
    return folder


def _check_folder(folder: str | Path) -> Path:
    """The folder as a path. Raises BundleError."""
    try:
        return check_path(folder, "folder of a policy")
    except InvalidInput as error:
        raise BundleError(str(error)) from error


def check_target(folder: str | Path) -> Path:
    """The folder's absolute path, where a bundle may be written to it.

    Raises:
        BundleError: it holds something that is no bundle, or no more the one that its digests name; or nothing can
            be written there.
    """
    folder = _check_folder(folder).absolute()
    if os.path.lexists(folder) and not _is_replaceable(folder):
        raise BundleError(
            f"{folder}: expected a new folder, or a bundle as it was saved, got something else (a link, other files, "
            "or files that differ from their digests): move it away, or give another folder"
        )
    parent = next(path for path in folder.parents if os.path.exists(path))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BundleError(f"{folder}: cannot write the bundle (nothing can be written to {parent})")
    return folder


def read_bundle(folder: str | Path) -> Bundle:
    """Manifest, graph and other files of a bundle, their digests checked; `Policy` checks the graph itself.

    Nothing outside the folder is read, and nothing of it twice.

    Raises:
        BundleError: a missing, damaged, changed or additional file, one that is no regular file or too large, a link
            out of the folder, or a newer format.
    """
    folder = _check_folder(folder)
    standing = 0
    for _ in range(_TRIES):
        seen = _identify(folder)
        try:
            return _read(folder)
        except BundleError as error:
            # Times have the steps of the system's clock, and numbers of files are used again: seen equal is not proven.
            standing += _identify(folder) == seen
            if not isinstance(error, _Torn):
                raise
            if standing == 3:
                raise BundleError(str(error)) from error
    raise BundleError(f"{folder}: expected a folder that stays for a moment, got one that is replaced all the time")


class _Torn(BundleError):
    """Files that do not fit each other, such as a reader may meet while they are replaced."""


def _read(folder: Path) -> Bundle:
    try:
        with open_folder(folder, MAX_ENTRIES) as opened:
            if MANIFEST not in opened.names:
                raise _Torn(f"{folder}: expected the folder of a saved policy, got a folder without {MANIFEST}")
            manifest, digests = read_manifest(folder / MANIFEST, _read_file(folder, opened, MANIFEST))
            contents = _read_files(folder, opened, digests)
    except (OSError, ValueError) as error:  # a path that no system can have is a ValueError
        got = "no such folder" if isinstance(error, (FileNotFoundError, NotADirectoryError)) else str(error)
        raise _Torn(f"{folder}: expected the folder of a saved policy, got {got}") from error
    contents.pop(CARD, None)
    if MODEL not in contents:
        raise BundleError(f"{folder}: expected {MODEL} among the files of {MANIFEST}")
    return Bundle(manifest, contents.pop(MODEL), contents)


def _read_files(folder: Path, opened: OpenFolder, digests: Mapping[str, str]) -> dict[str, bytes]:
    """The files that a manifest names, with the digests that it gives, and no others in the folder."""
    found = {name for name in opened.names if not name.startswith(".")} - {MANIFEST}
    if missing := sorted(set(digests) - found):
        raise _Torn(f"{folder}: expected the file(s) {', '.join(missing)}, got none: copy the whole folder")
    if extra := sorted(found - set(digests)):
        names = ", ".join(map(ascii, extra))
        raise _Torn(f"{folder}: expected only {', '.join(sorted(digests))}, got {names} too: remove it")
    contents: dict[str, bytes] = {}
    left = MAX_TOTAL
    for name, expected in digests.items():
        contents[name] = _read_file(folder, opened, name, left)
        left -= len(contents[name])
        if digest_bytes(contents[name]) != expected:
            raise _Torn(f"{folder / name}: its digest differs from the one in {MANIFEST}: damaged or changed")
    return contents


def _read_file(folder: Path, opened: OpenFolder, name: str, left: int = MAX_TOTAL) -> bytes:
    try:
        return opened.read(name, min(_limit(name), left))
    except OSError as error:
        raise _Torn(f"{folder / name}: cannot be read ({error})") from error


def _limit(name: str) -> int:
    return MAX_BYTES.get(name, MAX_BYTES[""])


def _identify(folder: Path) -> object:
    """What differs once the folder, or what its links lead to, was replaced."""
    try:
        manifest, status = (folder / MANIFEST).stat(), folder.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, manifest.st_dev, manifest.st_ino, manifest.st_ctime_ns


def _is_replaceable(folder: Path) -> bool:
    """True for an empty folder, and for a bundle of any version: the files that its own digests name, no links, and
    nothing else, hidden files included."""
    if folder.is_symlink():
        return False
    try:
        with open_folder(folder, MAX_ENTRIES) as opened:
            if not opened.names:
                return True
            if opened.links or MANIFEST not in opened.names:
                return False
            digests = decode_signed(_read_file(folder, opened, MANIFEST))["files"]
            return set(opened.names) == {*digests, MANIFEST} and bool(_read_files(folder, opened, digests))
    except (BundleError, OSError, ValueError):
        return False
