"""A fresh virtual environment with this checkout in it, which knows nothing of the one that runs."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

from benchmarks.tools.claim import ROOT

REPOSITORY = ROOT.parent


class FreshEnvironment:
    """A virtual environment with this checkout and one of its extras.

    Args:
        folder: where it is made; is not there yet.
        extra: such as "cpu".
        torch: where the extra needs torch: "" for pip's default, or the address of an index to take it from; None: not.
    """

    def __init__(self, folder: Path, extra: str, *, torch: str | None = None) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True)
        self._empty = self._size()
        pinned = ["-c", str(REPOSITORY / "constraints.txt")]
        if torch is not None:
            self._install(*(["--index-url", torch] if torch else []), "torch==2.13.0")
        self._install(*pinned, f"{REPOSITORY}[{extra}]")
        self.mib = (self._size() - self._empty) / 2**20

    @property
    def packages(self) -> list[str]:
        """Names of what is installed, in small letters."""
        listed = self.run("-m", "pip", "list", "--format=json")
        return sorted(item["name"].lower() for item in json.loads(listed.stdout))

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Its Python on these arguments, in a folder where this checkout does not lie.

        Raises:
            subprocess.CalledProcessError: it ends with another code than 0.
        """
        # What points Python at a checkout would hide what is missing.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [self.folder / "bin" / "python", *words],
            check=True, capture_output=True, text=True, cwd=self.folder, env=environment,
        )  # fmt: skip

    def _install(self, *words: str) -> None:
        self.run("-m", "pip", "install", "-q", "--disable-pip-version-check", *words)

    def _size(self) -> int:
        """Bytes of all its files; links are not followed."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
