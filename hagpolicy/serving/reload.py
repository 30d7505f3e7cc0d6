"""`BundleWatcher`: policies that are loaded again when their bundles change, while requests go on."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hagpolicy.errors import HagError, InvalidInput
from hagpolicy.policy.manifest import MANIFEST
from hagpolicy.policy.policy import load
from hagpolicy.serving.handler import LABEL_DIGITS, RequestHandler

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy
    from hagpolicy.policy.session import Providers
    from hagpolicy.serving.metrics import PolicyMetrics

__all__ = ["BundleWatcher", "stamp_folders"]

logger = logging.getLogger(__name__)

SECONDS = 5.0
Stamp = tuple[int, int, int]


class BundleWatcher:
    """Looks at the folders of policies, and puts what changed there in the place of what a handler decides by.

    A bundle that cannot be loaded changes nothing: the policy that is there stays, which is logged once, and the
    folder is tried again at every look, since it may be in the middle of being written.

    Args:
        handler: whose policies these are.
        folders: of the bundles, by the names under which the handler has their policies.
        seconds: between looks, above 0.
        metrics: count; None: nothing does.
        seen: what `stamp_folders` gave before the policies were loaded, so that what was written meanwhile is not
            missed; None: what is there now was loaded.
        providers: of onnxruntime, that run what is loaded; see `load`.

    Raises:
        InvalidInput: seconds that are none.
    """

    def __init__(
        self,
        handler: RequestHandler,
        folders: Mapping[str, str | os.PathLike[str]],
        seconds: float = SECONDS,
        metrics: PolicyMetrics | None = None,
        seen: Mapping[str, Stamp | None] | None = None,
        providers: Providers = None,
    ) -> None:
        if not seconds > 0.0:
            raise InvalidInput("seconds between looks", "above 0", seconds)
        self.handler, self.folders, self.seconds = handler, dict(folders), seconds
        self._metrics, self._providers = metrics, providers
        self._seen = dict(stamp_folders(folders) if seen is None else seen)
        self._told: set[str] = set()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> list[str]:
        """Names of the policies that were replaced."""
        replaced = []
        for name, folder in self.folders.items():
            stamp = _stamp(folder)
            if stamp != self._seen[name] and self._reload(name, folder):
                self._seen[name] = stamp
                replaced.append(name)
        return replaced

    def start(self) -> None:
        """Begin to look, in a thread of its own that ends with the process or `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="hagpolicy-reload", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Look no more; returns when the thread has ended."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> BundleWatcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        while not self._end.wait(self.seconds):
            self.check()

    def _reload(self, name: str, folder: str | os.PathLike[str]) -> bool:
        try:
            policy: Policy = load(os.fspath(folder), providers=self._providers)
            self.handler.replace_policy(name, policy)
        except Exception as error:
            if name not in self._told:
                self._told.add(name)
                words = str(error) if isinstance(error, HagError) else type(error).__name__
                logger.error("the policy for %s stays as it was, since its bundle cannot be loaded: %s", name, words)
                self._tell(name, failed=True)
            return False
        self._told.discard(name)
        logger.warning("the policy for %s was loaded again and is %s", name, policy.digest[:LABEL_DIGITS])
        self._tell(name, failed=False)
        return True

    def _tell(self, name: str, *, failed: bool) -> None:
        if self._metrics is not None:
            self._metrics.count_reload(name, failed=failed)


def stamp_folders(folders: Mapping[str, str | os.PathLike[str]]) -> dict[str, Stamp | None]:
    """What changes when a bundle is written again, by name of its policy; None where there is none."""
    return {name: _stamp(folder) for name, folder in folders.items()}


def _stamp(folder: str | os.PathLike[str]) -> Stamp | None:
    """What changes when a bundle is written again; None where there is none."""
    try:
        found = os.stat(os.path.join(folder, MANIFEST))
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
