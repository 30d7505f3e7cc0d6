"""Policies on the Hub of Hugging Face: a bundle is the content of a model's repository.

The names and arguments are those of huggingface_hub's `ModelHubMixin`, which is not inherited from: predicting needs
no huggingface_hub, and a class cannot be made without its base.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hagpolicy._extras import require
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.policy.bundle import MAX_ENTRIES, MAX_TOTAL

__all__ = ["is_hub_name", "pull_policy", "push_policy"]

_NAME = re.compile(r"[\w.\-]+/[\w.\-]+", re.ASCII)
_FEATURE = "a policy on the Hub"


def is_hub_name(name: str) -> bool:
    """Whether it is written as the Hub's names are, OWNER/NAME."""
    return _NAME.fullmatch(name) is not None


def push_policy(save: Callable[[Path], Path], repo_id: str, *, private: bool | None, **options: Any) -> str:
    """The address of what was uploaded: the folder that `save` writes and returns; see `Policy.push_to_hub`."""
    hub = require("huggingface_hub", "hub", _FEATURE)
    if not is_hub_name(repo_id):
        raise InvalidInput("repo_id", "OWNER/NAME, a repository of the Hub", repo_id)
    branch, token = options.pop("branch"), options.pop("token")
    with tempfile.TemporaryDirectory() as made:
        folder = save(Path(made) / "policy")
        try:
            api = hub.HfApi(token=token, library_name="hagpolicy")
            api.create_repo(repo_id, private=private, exist_ok=True, repo_type="model")
            # Files of an older bundle that this one lacks would make it no bundle.
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                repo_type="model",
                revision=branch,
                delete_patterns=["*"],
                **options,
            )
        except Exception as error:  # the Hub's errors are of many types, and their words may hold what was sent
            raise BundleError(_describe(repo_id, "uploaded", error)) from error
    return str(done)


@contextlib.contextmanager
def pull_policy(repo_id: str, *, revision: str | None, **options: Any) -> Iterator[Path]:
    """A folder with the visible files of a repository at one revision, until the block ends.

    They are copied out of the Hub's cache, where they are links that lead out of their folder, which a bundle may not
    hold.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        BundleError: it cannot be had, or is larger than a bundle may be.
    """
    hub = require("huggingface_hub", "hub", _FEATURE)
    try:
        found = Path(hub.snapshot_download(repo_id, repo_type="model", revision=revision, **options))
    except Exception as error:
        raise BundleError(_describe(repo_id, "had", error)) from error
    files = [path for path in found.iterdir() if not path.name.startswith(".") and path.is_file()]
    if len(files) > MAX_ENTRIES or sum(path.stat().st_size for path in files) > 2 * MAX_TOTAL:
        raise BundleError(f"{repo_id}: expected a bundle, got a repository of many or large files")
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            shutil.copyfile(path, Path(folder) / path.name)
        yield Path(folder)


def _describe(repo_id: str, done: str, error: Exception) -> str:
    """Why the Hub gave or took nothing, by the type of its error alone."""
    do = "see that it is there, that you may, and that you are logged in (`hf auth login`)"
    return f"{repo_id}: cannot be {done} ({type(error).__name__}): {do}"
